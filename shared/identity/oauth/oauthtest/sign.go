package oauthtest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"
)

const kid = "k1"

// Sign makes a JWT with the provider's key. What the claims leave out is as in a
// token for the client; null takes a claim out.
func (p *Provider) Sign(claims map[string]any) string {
	return p.sign(map[string]any{"alg": "ES256", "kid": kid, "typ": "JWT"}, p.claims(claims))
}

// LogoutToken makes a token that tells of a log-out, with these claims beside those
// that it must have; null takes one out.
func (p *Provider) LogoutToken(claims map[string]any) string {
	all := map[string]any{
		"jti": rand.Text(), "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		"exp": p.Now().Add(2 * time.Minute).Unix(),
	}
	for k, v := range claims {
		all[k] = v
	}
	return p.sign(map[string]any{"alg": "ES256", "kid": kid, "typ": "logout+jwt"}, p.claims(all))
}

func (p *Provider) sign(header, claims map[string]any) string {
	p.t.Helper()
	for k, v := range claims {
		if v == nil {
			delete(claims, k)
		}
	}
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			p.t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		p.t.Error(err)
		return ""
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}
