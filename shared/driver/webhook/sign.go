package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"strconv"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// Prefixes by the Standard Webhooks specification.
const publicPrefix = "whpk_"

// PublicKey writes a public key as receivers read it.
func PublicKey(key ed25519.PublicKey) string {
	return publicPrefix + base64.StdEncoding.EncodeToString(key)
}

// signature makes one of the signatures of a request, until it ends.
type signature struct {
	make  func(dst, message []byte) []byte
	until time.Time // zero: for good
}

// signer signs by Standard Webhooks 1.0, with several keys while one replaces another.
type signer struct {
	signatures []signature // the newest first
	now        func() time.Time
}

func newSigner(c webhookConfig, s webhookSecrets, o driver.Opening) (*signer, error) {
	out := &signer{now: o.Now}
	if c.Signing == signEd25519 {
		for _, k := range o.Signing {
			out.signatures = append(out.signatures, signature{signsV1a(k.Private), k.NotAfter})
		}
		if len(o.Signing) == 0 {
			return nil, errors.New("the organization has no key to sign with")
		}
		return out, nil
	}
	for _, p := range append([]previous{{Secret: s.Secret}}, s.Previous...) {
		key, err := keyOf(p.Secret)
		if err != nil {
			return nil, err
		}
		out.signatures = append(out.signatures, signature{signsV1(key), p.Until})
	}
	return out, nil
}

func signsV1(key []byte) func(dst, message []byte) []byte {
	// A hash that was reset keeps what it derived from the key.
	pool := sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}
	return func(dst, message []byte) []byte {
		mac := pool.Get().(hash.Hash)
		defer pool.Put(mac)
		mac.Reset()
		mac.Write(message)
		var sum [sha256.Size]byte
		return base64.StdEncoding.AppendEncode(append(dst, "v1,"...), mac.Sum(sum[:0]))
	}
}

func signsV1a(key ed25519.PrivateKey) func(dst, message []byte) []byte {
	return func(dst, message []byte) []byte {
		return base64.StdEncoding.AppendEncode(append(dst, "v1a,"...), ed25519.Sign(key, message))
	}
}

// message is what is signed: id.timestamp.body.
type message struct {
	stamp string
	text  []byte
	body  int // where the body begins
}

// begin starts a message. size is how long its body will be, as far as known.
func (s *signer) begin(id string, size int) message {
	m := message{stamp: strconv.FormatInt(s.now().Unix(), 10)}
	m.text = append(make([]byte, 0, len(id)+len(m.stamp)+2+size), id...)
	m.text = append(append(append(m.text, '.'), m.stamp...), '.')
	m.body = len(m.text)
	return m
}

// sign returns the value of the header webhook-signature: each signature that is
// good now, with spaces between.
func (s *signer) sign(m message) string {
	now := s.now()
	dst := make([]byte, 0, 96)
	for _, sig := range s.signatures {
		if !sig.until.IsZero() && !now.Before(sig.until) {
			continue
		}
		if len(dst) > 0 {
			dst = append(dst, ' ')
		}
		dst = sig.make(dst, m.text)
	}
	return string(dst)
}
