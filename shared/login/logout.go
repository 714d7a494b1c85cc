package login

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
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
func errNotice(why error) error {
	return fault.Malformed.Wrap(why, "the logout token is not accepted")
}

// Notice checks a logout token. That it comes only once, the caller sees to.
func (l *Login) Notice(ctx context.Context, token string) (Notice, error) {
	now := l.Now()
	claims, err := l.Events.Event(ctx, token, now)
	if errors.Is(err, fault.Unavailable) {
		return Notice{}, err
	}
	if err != nil {
		return Notice{}, errNotice(err)
	}
	n, err := readNotice(claims, l.Client.Issuer, l.Client.ID, now)
	if err != nil {
		return Notice{}, errNotice(err)
	}
	return n, nil
}

// readNotice reads the claims of a token that the provider has signed.
func readNotice(claims tokenclaims.Set, issuer, client string, now time.Time) (Notice, error) {
	var said struct {
		issuer, id, subject, session string
		audience                     audience
		at                           float64
		end                          *float64
		events                       map[string]json.RawMessage
	}
	for name, to := range map[string]any{
		"iss": &said.issuer, "jti": &said.id, "sub": &said.subject, "sid": &said.session,
		"aud": &said.audience, "iat": &said.at, "exp": &said.end, "events": &said.events,
	} {
		if text, ok := claims[name]; ok && json.Unmarshal(text, to) != nil {
			return Notice{}, errors.New("its claims cannot be read")
		}
	}
	_, nonce := claims["nonce"]
	var why string
	at := second(said.at)
	switch event := said.events[logoutEvent]; {
	case said.issuer != issuer:
		why = "it is of another issuer"
	case !slices.Contains(said.audience, client):
		why = "it is for another client"
	case len(event) == 0 || event[0] != '{':
		why = "it tells of no log-out" // such as an ID token
	case nonce:
		why = "it has a nonce, as only ID tokens have"
	case said.id == "" || len(said.id) > maxName:
		why = "it has no id, and so could come twice"
	case said.subject == "" && said.session == "" || len(said.subject) > maxName || len(said.session) > maxName:
		why = "it does not say who has logged out"
	case at.After(now.Add(noticeSkew)) || now.Sub(at) > maxNotice:
		why = "it was made at another time"
	case said.end != nil && !now.Before(second(*said.end).Add(noticeSkew)):
		why = "it has expired"
	}
	if why != "" {
		return Notice{}, errors.New(why)
	}
	return Notice{ID: said.id, Subject: said.subject, Session: said.session, Until: at.Add(2 * maxNotice)}, nil
}

// maxName is how long a notice's names may be; noticeSkew how far the provider's clock
// may be ahead or behind.
const (
	maxName    = 512
	noticeSkew = 30 * time.Second
)

// second is a time in a token. What is no time is long ago, or long ahead.
func second(n float64) time.Time { return time.Unix(int64(min(max(n, 0), 1e11)), 0) }

// audience is whom a token is for: one, or a list.
type audience []string

// UnmarshalJSON reads either form.
func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}
