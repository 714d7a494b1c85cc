package introspection

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/backchannel"
	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

const (
	// atOnce is how many requests one provider gets at the same time.
	atOnce = 16
	// noExpiry is how long a token is good of which the provider does not say when it ends.
	noExpiry = time.Hour
	// clockOff is how far a provider's clock may be from ours before that is worth a word.
	clockOff = 30 * time.Second
)

var errUnreadable = errors.New("the provider's configuration cannot be read")

// verifier implements identity.Verifier.
type verifier struct {
	config Config
	own    string // the provider's issuer
	secret string
	client *backchannel.Client
	now    func() time.Time
	room   *semaphore.Weighted
	known  remembered
}

// Open makes a verifier ready; see identity.Open.
func Open(o identity.Opening) (identity.Verifier, error) {
	var c Config
	var own secrets
	if err := o.Read(&c, &own); err != nil {
		return nil, err
	}
	if _, err := c.prepare(o.Settings); err != nil {
		return nil, err
	}
	client, err := backchannel.New(c.TLS, o.Settings)
	if err != nil {
		return nil, err
	}
	return &verifier{config: c, own: c.issuer(), secret: own.ClientSecret, client: client, now: o.Now, room: semaphore.NewWeighted(atOnce)}, nil
}

// Close implements identity.Verifier.
func (v *verifier) Close() error {
	v.client.Close()
	return nil
}

var errInactive = fault.Unauthenticated.New("the provider says that the token is not active")

// Verify implements identity.Verifier.
func (v *verifier) Verify(ctx context.Context, p identity.Proof, now time.Time) (identity.Claims, error) {
	switch {
	case p.Token == "":
		return identity.Claims{}, fault.Unauthenticated.New("this provider vouches by a token, and none was shown")
	case len(p.Token) > identity.MaxTokenBytes:
		return identity.Claims{}, fault.Unauthenticated.New("the token is longer than %d bytes", identity.MaxTokenBytes)
	case strings.ContainsFunc(p.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return identity.Claims{}, fault.Unauthenticated.New("the token holds characters that no token has")
	}
	a, err := v.answer(ctx, p.Token, now)
	if err != nil {
		return identity.Claims{}, err
	}
	if a.claims == nil {
		return identity.Claims{}, errInactive
	}
	c := tokenclaims.Case{Audiences: v.config.Audiences, Nonce: p.Expect.Nonce, NoExpiry: noExpiry}
	if len(p.Expect.Audiences) > 0 {
		c.Audiences = p.Expect.Audiences
	}
	if _, named := a.claims["iss"]; named && v.config.Issuer != "" {
		c.Issuer = v.config.Issuer
	}
	claims, err := v.config.Judge(a.claims, c, now)
	if err != nil {
		return identity.Claims{}, err
	}
	if claims.Issuer == "" {
		claims.Issuer = v.own
	}
	claims.Kind = identity.Introspection
	return claims, nil
}

// answer is what the provider says of a token, or has said lately.
func (v *verifier) answer(ctx context.Context, token string, now time.Time) (answer, error) {
	if a, ok := v.known.get(token, now); ok {
		return a, nil
	}
	if err := v.room.Acquire(ctx, 1); err != nil {
		return answer{}, err
	}
	defer v.room.Release(1)
	if a, ok := v.known.get(token, now); ok { // somebody else has asked meanwhile
		return a, nil
	}
	claims, err := v.ask(ctx, token)
	if err != nil {
		return answer{}, err
	}
	a := answer{claims: claims, at: now, until: now.Add(v.config.cache)}
	if claims == nil {
		a.until = now.Add(min(unknownFor, v.config.cache))
	}
	v.known.put(token, a)
	return a, nil
}

// ask introspects a token. No claims: it is not active.
func (v *verifier) ask(ctx context.Context, token string) (tokenclaims.Set, error) {
	limited, cancel := v.client.Limit(ctx)
	defer cancel()
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if v.config.Auth == post {
		form.Set("client_id", v.config.ClientID)
		form.Set("client_secret", v.secret)
	}
	r, err := http.NewRequestWithContext(limited, http.MethodPost, v.config.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errUnreadable
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if v.config.Auth != post {
		// RFC 6749, 2.3.1: each is encoded as in a form before they are put together.
		r.SetBasicAuth(url.QueryEscape(v.config.ClientID), url.QueryEscape(v.secret))
	}
	resp, err := v.client.Do(r)
	if err != nil {
		return nil, v.trouble(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, v.trouble(ctx, err)
	}
	return read(body)
}

var errNoAnswer = fault.Unavailable.New("the provider's answer about the token cannot be read")

// read reads an answer about a token.
func read(body []byte) (tokenclaims.Set, error) {
	set, err := tokenclaims.Decode(body)
	if err != nil {
		return nil, errNoAnswer
	}
	switch string(set["active"]) {
	case "true":
		return set, nil
	case "false":
		return nil, nil
	}
	return nil, errNoAnswer
}

// trouble says why the provider could not be asked. Nothing of what it answered is in
// it, nor what it was sent.
func (v *verifier) trouble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var status backchannel.StatusError
	if errors.As(err, &status) && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		return fault.Unavailable.New("the provider does not let the gateway ask about tokens: %s; look at the client's id and secret", status)
	}
	return fault.Unavailable.New("the provider cannot be asked about the token: %s", backchannel.Describe(err))
}

// madeUp is a token that no provider has given to anybody.
const madeUp = "peat-gateway-asks-whether-it-may-ask"

// Check implements identity.Verifier. It asks about a token that is nobody's.
func (v *verifier) Check(ctx context.Context) (identity.Report, error) {
	claims, err := v.ask(ctx, madeUp)
	if ctx.Err() != nil {
		return identity.Report{}, ctx.Err()
	}
	asked := identity.Finding{Name: "introspection", OK: err == nil && claims == nil, Detail: "the provider answers"}
	switch {
	case err != nil:
		asked.Detail = fault.Of(err).Message
	case claims != nil:
		asked.Detail = "the provider calls a made-up token active: it would let everybody in"
	}
	out := identity.Report{OK: asked.OK, Findings: []identity.Finding{asked}}
	if err == nil {
		f := identity.Finding{Name: "clock", OK: v.client.Ahead().Abs() <= clockOff, Detail: "agrees with the gateway's"}
		if !f.OK {
			f.Detail = "is " + v.client.Ahead().Round(time.Second).String() + " ahead of the gateway's"
		}
		out.Findings = append(out.Findings, f)
	}
	return out, nil
}
