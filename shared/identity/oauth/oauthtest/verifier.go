package oauthtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Verifier tells the provider's tokens from others, without asking it. It checks what
// the flows depend on, and leaves the rest of what a token can have wrong to the
// verifiers that are not for tests.
func (p *Provider) Verifier() Verifier { return Verifier{p} }

// Verifier implements identity.Verifier, and tells of events beside.
type Verifier struct{ *Provider }

func (v Verifier) Close() error { return nil }

func (v Verifier) Check(context.Context) (identity.Report, error) {
	return identity.Report{OK: true}, nil
}

func (v Verifier) Verify(_ context.Context, proof identity.Proof, now time.Time) (identity.Claims, error) {
	all, err := v.open(proof.Token)
	if err != nil {
		return identity.Claims{}, fault.Unauthenticated.Wrap(err, "the token is not accepted")
	}
	text := func(name string) string { s, _ := all[name].(string); return s }
	number := func(name string) time.Time { n, _ := all[name].(float64); return time.Unix(int64(n), 0).UTC() }
	audiences := proof.Expect.Audiences
	if audiences == nil {
		audiences = []string{v.ClientID}
	}
	switch {
	case text("iss") != v.URL:
		err = errors.New("another issuer")
	case !slices.Contains(audiences, text("aud")):
		err = errors.New("for somebody else")
	case !now.Before(number("exp")):
		err = errors.New("expired")
	case proof.Expect.Nonce != "" && text("nonce") != proof.Expect.Nonce:
		err = errors.New("another nonce")
	case text("sub") == "":
		err = errors.New("of nobody")
	case all["events"] != nil:
		err = errors.New("of an event")
	}
	if err != nil {
		return identity.Claims{}, fault.Unauthenticated.Wrap(err, "the token is not accepted")
	}
	c := identity.Claims{Kind: identity.OIDC, Issuer: v.URL, Subject: text("sub"), Session: text("sid"), ID: text("jti"), ExpiresAt: number("exp")}
	c.Groups, c.Roles = list(all["groups"]), list(all["roles"])
	c.Attributes = maps.Clone(all)
	delete(c.Attributes, "nonce")
	return c, nil
}

// Event returns the claims of a token that the provider has signed.
func (v Verifier) Event(_ context.Context, token string, _ time.Time) ([]byte, error) {
	all, err := v.open(token)
	if err != nil {
		return nil, fault.Unauthenticated.Wrap(err, "the token is not accepted")
	}
	return json.Marshal(all)
}

func (v Verifier) open(token string) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("no JWT")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		return nil, errors.New("no signature")
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(&v.key.PublicKey, sum[:], r, s) {
		return nil, errors.New("a bad signature")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var all map[string]any
	return all, json.Unmarshal(text, &all)
}

func list(v any) []string {
	var out []string
	items, _ := v.([]any)
	for _, item := range items {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}
