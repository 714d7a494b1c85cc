package oidc

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
)

func FuzzKeySet(f *testing.F) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		set, err := json.Marshal(map[string]any{"keys": []any{identitytest.NewKey(f, "k", algorithm).JWK()}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(set)
	}
	for _, s := range []string{``, `{}`, `{"keys":[{}]}`, `{"keys":[{"kty":"oct","k":"AA"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`, `{"keys":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := parseKeys(body)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxKeys {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			for _, a := range k.algorithms {
				if strings.HasPrefix(a, "HS") || a == "none" || only(Algorithms, a) == nil {
					t.Errorf("a key for %s", a)
				}
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	k := identitytest.NewKey(f, "k", "EdDSA")
	for _, header := range []any{map[string]any{"alg": "EdDSA", "kid": "k"}, `{}`, `null`, `[]`, `{"alg":1}`, `{"alg":"none","crit":["a"]}`} {
		f.Add(identitytest.Compact(header, `{}`, k.Sign))
	}
	v := &verifier{}
	f.Fuzz(func(t *testing.T, token string) {
		h, err := readHeader(token)
		if err == nil && v.acceptable(h) == nil && only(Algorithms, h.Algorithm) == nil {
			t.Errorf("%q is accepted", h.Algorithm)
		}
	})
}

// FuzzClaims is about what the two kinds do with claims that a signature or a provider
// vouches for: whatever they hold, what comes out is sound.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{
		`{"iss":"https://a","sub":"s","aud":"a","exp":1800000000}`, `{"iss":"https://a","sub":"s","aud":["a"],"exp":1800000000.5,"groups":["b","a"],"amr":"x","x":{"y":[1]}}`,
		`{}`, `null`, `{"exp":1e400}`, `{"sub":"s","sub":"t"}`,
	} {
		f.Add([]byte(s))
	}
	var r tokenclaims.Rules
	if err := r.Prepare(); err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_799_999_000, 0).UTC()
	f.Fuzz(func(t *testing.T, payload []byte) {
		set, err := tokenclaims.Decode(payload)
		if err != nil {
			return
		}
		c, err := r.Judge(set, tokenclaims.Case{Issuer: "https://a", Audiences: []string{"a"}}, now)
		if err != nil {
			return
		}
		if c.Issuer != "https://a" || c.Subject == "" || !c.ExpiresAt.After(now) {
			t.Errorf("%+v", c)
		}
		if _, err := json.Marshal(c.Attributes); err != nil {
			t.Error(err)
		}
	})
}
