package envelope

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

// KeyProvider wraps data keys with a key that only it knows. An implementation
// is safe for concurrent use and passes envelopetest.Run.
type KeyProvider interface {
	// Wrap returns dek so that only Unwrap can read it: at most 65535 bytes. It
	// keeps no reference to dek, which the caller wipes afterwards.
	Wrap(ctx context.Context, dek []byte) ([]byte, error)
	// Unwrap returns what was given to Wrap, or ErrTampered if wrapped did not
	// come from there. Other errors mean that trying again may help.
	Unwrap(ctx context.Context, wrapped []byte) ([]byte, error)
}

// Record is the place a secret belongs to, and the only one where it opens.
type Record struct {
	Org  string // organization
	App  string // formation; empty for what belongs to the whole organization
	Kind string // what the secret is, such as "genesis" or "sink"
	ID   string // which one, if there are many of this kind; may be empty
}

// The reasons to refuse an envelope.
var (
	// ErrNotEnvelope means the bytes do not even begin like an envelope. They
	// are never passed through as if they had been protected.
	ErrNotEnvelope = errors.New("envelope: these bytes are not an envelope")
	// ErrVersion means a version this program does not read.
	ErrVersion = errors.New("envelope: unsupported version")
	// ErrTruncated means the bytes end before the envelope does.
	ErrTruncated = errors.New("envelope: truncated")
	// ErrTampered says no more: why decryption failed (wrong key, wrong record,
	// changed bytes) is of use only to an attacker.
	ErrTampered = errors.New("envelope: not ours or not intact")
)

const (
	magic    = "PENV"
	version1 = 1 // no associated data
	version2 = 2 // bound to a Record

	headerSize = len(magic) + 1 + 2 // magic, version, length of the wrapped key
	keySize    = 32                 // AES-256
	nonceSize  = 12
	tagSize    = 16
)

// Seal protects plaintext for rec, always in the newest version.
func Seal(ctx context.Context, provider KeyProvider, rec Record, plaintext []byte) ([]byte, error) {
	if rec.Org == "" || rec.Kind == "" {
		return nil, errors.New("envelope: a record needs an organization and a kind")
	}
	dek := make([]byte, keySize)
	defer clear(dek)
	rand.Read(dek) // never fails: crypto/rand ends the program instead
	aead, err := newAEAD(dek)
	if err != nil {
		return nil, err
	}
	wrapped, err := provider.Wrap(ctx, dek)
	if err != nil {
		return nil, fmt.Errorf("wrap data key: %w", err)
	}
	if len(wrapped) > 0xffff {
		return nil, fmt.Errorf("envelope: wrapped data key of %d bytes does not fit", len(wrapped))
	}
	blob := make([]byte, 0, headerSize+len(wrapped)+aead.Overhead()+len(plaintext))
	blob = append(blob, magic...)
	blob = append(blob, version2)
	blob = binary.LittleEndian.AppendUint16(blob, uint16(len(wrapped)))
	blob = append(blob, wrapped...)
	return aead.Seal(blob, nil, plaintext, rec.associatedData(version2)), nil
}

// Open returns what was sealed for rec. See the package's errors for why not.
//
// rec does not matter for an envelope of version 1; NeedsReseal tells whether
// blob is one.
func Open(ctx context.Context, provider KeyProvider, rec Record, blob []byte) ([]byte, error) {
	if !IsEnvelope(blob) {
		return nil, ErrNotEnvelope
	}
	var associated []byte
	switch version := blob[len(magic)]; version {
	case version1:
	case version2:
		associated = rec.associatedData(version2)
	default:
		return nil, fmt.Errorf("%w %d", ErrVersion, version)
	}
	rest := blob[headerSize:]
	n := int(binary.LittleEndian.Uint16(blob[len(magic)+1:]))
	if len(rest) < n+nonceSize+tagSize {
		return nil, ErrTruncated
	}
	dek, err := provider.Unwrap(ctx, rest[:n:n])
	if err != nil {
		return nil, fmt.Errorf("unwrap data key: %w", err)
	}
	defer clear(dek)
	if len(dek) != keySize {
		return nil, ErrTampered
	}
	aead, err := newAEAD(dek)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, rest[n:], associated)
	if err != nil {
		return nil, ErrTampered
	}
	return plaintext, nil
}

// IsEnvelope tells whether blob begins like an envelope of any version.
func IsEnvelope(blob []byte) bool {
	return len(blob) >= headerSize && string(blob[:len(magic)]) == magic
}

// NeedsReseal tells whether blob is an envelope of an older version, which
// opens but is not bound to its record.
func NeedsReseal(blob []byte) bool {
	return IsEnvelope(blob) && blob[len(magic)] < version2
}

// domain keeps the associated data of envelopes apart from any other use that
// a data key might ever be put to.
const domain = "peat-gateway/envelope"

// associatedData has the length before each part, so that no two records give
// the same bytes ("ab"+"c" is not "a"+"bc").
func (r Record) associatedData(version byte) []byte {
	out := append([]byte(domain), 0, version)
	for _, part := range []string{r.Org, r.App, r.Kind, r.ID} {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return out
}

// newAEAD returns AES-256-GCM that makes its nonce itself and writes it before
// the ciphertext, which is just how both layers of the format have it.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
