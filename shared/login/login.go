// Package login logs people in at the gateway's identity provider: OpenID Connect,
// authorization code with PKCE. What they are then, package access says.
//
//	login.go   to the provider and back
//	flow.go    what is remembered meanwhile, by the browser
//	logout.go  log-outs, ours at the provider and the provider's here
package login

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Login is how people get in. It is used by many at once.
type Login struct {
	Client   *oauth.Client
	Verifier identity.Verifier
	Events   Events
	Public   *url.URL // of the gateway, as browsers reach it
	Scopes   []string
	Now      func() time.Time
}

// Events tells the provider's word on something that happened from others'. A verifier
// of identities takes no such token: it is nobody's.
type Events interface {
	// Event returns the claims of a token that the provider has signed, unjudged.
	Event(ctx context.Context, token string, now time.Time) (tokenclaims.Set, error)
}

// CallbackPath is where the provider sends people back to.
const CallbackPath = "/auth/callback"

func (l *Login) callback() string { return l.Public.JoinPath(CallbackPath).String() }

// Begin begins a login that leads to a place on the gateway. It returns what has to be
// remembered, and the address at the provider to go to.
func (l *Login) Begin(ctx context.Context, place string) (Flow, string, error) {
	m, err := l.Client.Metadata(ctx)
	if err != nil {
		return Flow{}, "", err
	}
	to, err := url.Parse(m.Authorization)
	if err != nil || m.Authorization == "" {
		return Flow{}, "", fault.Unavailable.Wrap(errors.New("no authorization endpoint"), "the identity provider lets nobody log in")
	}
	f := Flow{State: oauth.Chance(), Nonce: oauth.Chance(), Verifier: oauth.Chance(), Place: place, Until: l.Now().Add(FlowLife).Truncate(time.Second)}
	q := to.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": l.Client.ID, "redirect_uri": l.callback(), "scope": strings.Join(append([]string{"openid"}, l.Scopes...), " "),
		"state": f.State, "nonce": f.Nonce, "code_challenge": oauth.Challenge(f.Verifier), "code_challenge_method": "S256",
	} {
		q.Set(name, value)
	}
	to.RawQuery = q.Encode()
	return f, to.String(), nil
}

// maxCode is how long a code may be.
const maxCode = 4096

// errNotBegun is all that is said of an answer to nothing.
var errNotBegun = fault.Unauthenticated.New("this login was not begun in this browser, or too long ago; begin again")

// Answers tells whether what the browser brings back answers the flow. Nothing is asked
// of the provider.
func (l *Login) Answers(f Flow, q url.Values) error {
	if subtle.ConstantTimeCompare([]byte(one(q, "state")), []byte(f.State)) != 1 || f.State == "" || !l.Now().Before(f.Until) {
		return errNotBegun
	}
	return nil
}

// Finish ends a login with what the browser brings back: who has logged in, and the
// token that says so. What another provider has answered, or for another flow, is
// refused.
func (l *Login) Finish(ctx context.Context, f Flow, q url.Values) (identity.Claims, env.Secret, error) {
	if err := l.Answers(f, q); err != nil {
		return identity.Claims{}, env.Secret{}, err
	}
	m, err := l.Client.Metadata(ctx)
	if err != nil {
		return identity.Claims{}, env.Secret{}, err
	}
	// RFC 9207: a code of one provider is not to be sent to another.
	if iss, sent := q["iss"]; m.NamesIssuer && !sent || sent && (len(iss) != 1 || iss[0] != m.Issuer) {
		return refuse(errors.New("the answer is of another provider"))
	}
	if no, is := q["error"]; is {
		return denied(no)
	}
	code := one(q, "code")
	if code == "" || len(code) > maxCode {
		return refuse(errors.New("there is no code in the answer"))
	}
	tokens, err := l.Client.Ask(ctx, m, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {l.callback()}, "code_verifier": {f.Verifier},
	})
	if _, no := errors.AsType[*oauth.Refusal](err); no {
		return refuse(err)
	}
	if err != nil {
		return identity.Claims{}, env.Secret{}, err
	}
	if !tokens.ID.IsSet() {
		return refuse(errors.New("the provider gives no ID token"))
	}
	proof := identity.Proof{Token: tokens.ID.Reveal(), Expect: identity.Expect{Nonce: f.Nonce, Audiences: []string{l.Client.ID}}}
	claims, err := l.Verifier.Verify(ctx, proof, l.Now())
	if err != nil && !errors.Is(err, fault.Unavailable) {
		return refuse(err)
	}
	return claims, tokens.ID, err
}

// refuse ends a login. Why is for the audit trail.
func refuse(why error) (identity.Claims, env.Secret, error) {
	return identity.Claims{}, env.Secret{}, fault.Unauthenticated.Wrap(why, "the identity provider's answer is not accepted; begin again")
}

// denied passes on that the provider did not let somebody in, in none of its words.
func denied(codes []string) (identity.Claims, env.Secret, error) {
	why := errors.New("the provider refuses, in no known words")
	if len(codes) == 1 && len(codes[0]) <= 64 && strings.Trim(codes[0], "abcdefghijklmnopqrstuvwxyz_") == "" {
		why = &oauth.Refusal{Code: codes[0]}
	}
	return identity.Claims{}, env.Secret{}, fault.Forbidden.Wrap(why, "the identity provider did not let you in")
}

// one is the value of a parameter that is there once.
func one(q url.Values, name string) string {
	if values := q[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}
