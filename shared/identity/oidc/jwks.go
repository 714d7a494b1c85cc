package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"

	"github.com/go-jose/go-jose/v4"
)

// Limits of a published key set.
const (
	maxKeys = 100
	minRSA  = 2048
	maxRSA  = 8192 // larger ones cost whoever checks a signature too much
	// maxTried is how many keys are tried on one token.
	maxTried = 4
)

// key is a published key that signatures may be checked with.
type key struct {
	id         string
	algorithms []string // that it can be for
	public     any
}

// parseKeys reads a key set. What cannot be used here is left out, as RFC 7517 asks:
// keys of other kinds or for encryption, and also symmetric and private ones, which
// nobody should publish.
func parseKeys(body []byte) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil || set.Keys == nil {
		return nil, errors.New("the key set cannot be read")
	}
	if len(set.Keys) > maxKeys {
		return nil, errors.New("the key set has more than 100 keys")
	}
	var out []key
	for _, raw := range set.Keys {
		var j jose.JSONWebKey
		if json.Unmarshal(raw, &j) != nil || !j.Valid() || !j.IsPublic() || j.Use != "" && j.Use != "sig" {
			continue
		}
		algorithms := algorithmsOf(j.Key)
		if j.Algorithm != "" {
			algorithms = only(algorithms, j.Algorithm)
		}
		if len(algorithms) > 0 {
			out = append(out, key{j.KeyID, algorithms, j.Key})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the key set has no key that can be used")
	}
	return out, nil
}

// algorithmsOf are those that a key can be for; none for one that is too weak or too
// large.
func algorithmsOf(public any) []string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA || k.E < 3 || k.E%2 == 0 {
			return nil
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		return map[int][]string{256: {"ES256"}, 384: {"ES384"}, 521: {"ES512"}}[k.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}

func only(list []string, one string) []string {
	for _, s := range list {
		if s == one {
			return []string{one}
		}
	}
	return nil
}

// matching are the keys that a token with this header may be signed with.
func matching(keys []key, id, algorithm string) []key {
	var out []key
	for _, k := range keys {
		if (id == "" || k.id == id) && only(k.algorithms, algorithm) != nil {
			out = append(out, k)
		}
	}
	return out
}
