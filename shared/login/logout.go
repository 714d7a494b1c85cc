package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// EndSession is where a browser goes to log out at the provider too; empty if it has
// no such place. With the token of the login the provider need not ask.
func (l *Login) EndSession(ctx context.Context, token env.Secret) (string, error) {
	m, err := l.Client.Metadata(ctx)
	if err != nil {
		return "", err
	}
	to, err := url.Parse(m.EndSession)
	if err != nil || m.EndSession == "" {
		return "", nil
	}
	q := to.Query()
	q.Set("client_id", l.Client.ID)
	q.Set("post_logout_redirect_uri", l.Address("/"))
	if token.IsSet() {
		q.Set("id_token_hint", token.Reveal())
	}
	to.RawQuery = q.Encode()
	return to.String(), nil
}

// Notice is a provider's word that somebody has logged out (OpenID Connect Back-Channel
// Logout 1.0): of one session there, or of all of a subject.
type Notice struct {
	ID      string
	Subject string
	Session string // empty: all of the subject
	Until   time.Time
}

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// maxNotice is how long after its making a notice is taken. It is sent at once.
const maxNotice = 10 * time.Minute

// errNotice is all that is said of a notice that is none.
var errNotice = fault.Malformed.New("the logout token is not accepted")

// Notice checks a logout token. That it comes only once, the caller sees to.
func (l *Login) Notice(ctx context.Context, token string) (Notice, error) {
	now := l.Now()
	claims, err := l.Verifier.Verify(ctx, identity.Proof{Token: token, Expect: identity.Expect{Audiences: []string{l.Client.ID}}}, now)
	if errors.Is(err, fault.Unavailable) {
		return Notice{}, err
	}
	if err != nil {
		return Notice{}, fault.Malformed.Wrap(err, "%s", errNotice.Error())
	}
	return readNotice(token, claims, now)
}

// readNotice reads a token whose signature and audience are known to be good. The
// verifier's claims leave out what only notices have.
func readNotice(token string, claims identity.Claims, now time.Time) (Notice, error) {
	bad := func(why string) (Notice, error) {
		return Notice{}, fault.Malformed.Wrap(errors.New(why), "%s", errNotice.Error())
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return bad("it is no JWT")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var said struct {
		ID      string                     `json:"jti"`
		Session string                     `json:"sid"`
		Nonce   json.RawMessage            `json:"nonce"`
		At      float64                    `json:"iat"`
		Events  map[string]json.RawMessage `json:"events"`
	}
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	if err != nil {
		return bad("its claims cannot be read")
	}
	at := time.Unix(int64(min(max(said.At, 0), 1e11)), 0)
	switch event := said.Events[logoutEvent]; {
	case len(event) == 0 || event[0] != '{':
		return bad("it tells of no log-out") // such as an ID token
	case said.Nonce != nil:
		return bad("it has a nonce, as only ID tokens have")
	case said.ID == "" || len(said.ID) > 256:
		return bad("it has no id, and so could come twice")
	case claims.Subject == "" && said.Session == "":
		return bad("it does not say who has logged out")
	case at.After(now.Add(maxNotice)) || now.Sub(at) > maxNotice:
		return bad("it was made at another time")
	}
	return Notice{ID: said.ID, Subject: claims.Subject, Session: said.Session, Until: at.Add(2 * maxNotice)}, nil
}
