package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// Chance is a text that nobody can guess, of 43 characters: a state, a nonce, or a
// verifier of RFC 7636.
func Chance() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it cannot fail
	return base64.RawURLEncoding.EncodeToString(b)
}

// Challenge is what is shown of a verifier before the verifier itself is (RFC 7636, S256).
func Challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
