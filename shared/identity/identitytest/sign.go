package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
)

// Key is a key that signs tokens.
type Key struct {
	ID, Algorithm string
	private       crypto.Signer
}

// NewKey makes one. The algorithm is RS256, PS256, ES256 or EdDSA.
func NewKey(t testing.TB, id, algorithm string) Key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case "RS256", "PS256":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no keys for %s", algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Key{id, algorithm, private}
}

// Public is the public half.
func (k Key) Public() crypto.PublicKey { return k.private.Public() }

// JWK is the public half as it is published.
func (k Key) JWK() map[string]any {
	out := map[string]any{"kid": k.ID, "alg": k.Algorithm, "use": "sig"}
	switch p := k.Public().(type) {
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", b64(p.N.Bytes()), "AQAB"
	case *ecdsa.PublicKey:
		raw, err := p.Bytes()
		if err != nil {
			panic(err) // of a key made by NewKey
		}
		out["kty"], out["crv"], out["x"], out["y"] = "EC", "P-256", b64(raw[1:33]), b64(raw[33:])
	case ed25519.PublicKey:
		out["kty"], out["crv"], out["x"] = "OKP", "Ed25519", b64(p)
	}
	return out
}

// Sign signs for the algorithm.
func (k Key) Sign(message []byte) []byte {
	digest := sha256.Sum256(message)
	var out []byte
	var err error
	switch p := k.private.(type) {
	case *rsa.PrivateKey:
		if k.Algorithm == "PS256" {
			out, err = rsa.SignPSS(rand.Reader, p, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			out, err = rsa.SignPKCS1v15(rand.Reader, p, crypto.SHA256, digest[:])
		}
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, p, digest[:])
		if err = signErr; err == nil {
			out = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	case ed25519.PrivateKey:
		out = ed25519.Sign(p, message)
	}
	if err != nil {
		panic(fmt.Sprintf("sign: %v", err)) // of a key made by NewKey
	}
	return out
}

// Token is a JWT of the claims, signed with the key, whose header says so.
func (k Key) Token(claims any) string {
	return Compact(map[string]any{"alg": k.Algorithm, "kid": k.ID, "typ": "JWT"}, claims, k.Sign)
}

// Compact is a JWT with any header, any payload and any signature.
func Compact(header, payload any, sign func([]byte) []byte) string {
	message := b64(text(header)) + "." + b64(text(payload))
	return message + "." + b64(sign([]byte(message)))
}

// text is JSON, or what is given as text.
func text(v any) []byte {
	if s, ok := v.(string); ok {
		return []byte(s)
	}
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // a test's own values
	}
	return out
}

func unsigned([]byte) []byte { return nil }

func withHMAC(secret []byte) func([]byte) []byte {
	return func(message []byte) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write(message)
		return mac.Sum(nil)
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
