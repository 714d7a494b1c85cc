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

// KeyProvider wraps data keys with one key that only it knows. An implementation
// is safe for concurrent use and passes envelopetest.Run.
//
// What it wraps is bound to the Record where the key service can do that (an
// encryption context, for instance). The empty Record means no binding: so were
// the keys in envelopes of version 1 wrapped.
//
// Its errors are ErrTampered, ErrKeyRefused and ErrUnavailable, with a cause or
// without; and that of the context, as it is.
type KeyProvider interface {
	// KeyID names the key, never its material, in up to 255 characters of
	// printable ASCII without spaces: "local:3f9c…", "awskms:arn:…". It is written
	// into every envelope and must always mean the same key.
	KeyID() string
	// Wrap returns dek so that only Unwrap can read it: at most 65535 bytes. It
	// keeps no reference to dek, which the caller wipes afterwards.
	Wrap(ctx context.Context, rec Record, dek []byte) ([]byte, error)
	// Unwrap returns what was given to Wrap for the same record, or ErrTampered if
	// wrapped did not come from there. The caller wipes the result.
	Unwrap(ctx context.Context, rec Record, wrapped []byte) ([]byte, error)
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
	// ErrKeyRefused means that the key may not be used: it is revoked, disabled or
	// scheduled for deletion, or access to it is denied. What it sealed stays shut
	// until its owner changes that; trying again does not help.
	ErrKeyRefused = errors.New("envelope: the key may not be used")
	// ErrUnavailable means that the key service gave no answer. Trying again may help.
	ErrUnavailable = errors.New("envelope: the key service does not answer")
)

const (
	magic    = "PENV"
	version1 = 1 // no associated data
	version2 = 2 // bound to a Record, and names the key

	minSize   = len(magic) + 1 + 2 // magic, version, a length: what any version begins with
	keySize   = 32                 // AES-256
	nonceSize = 12
	tagSize   = 16
)

// Seal protects plaintext for rec, always in the newest version.
func Seal(ctx context.Context, provider KeyProvider, rec Record, plaintext []byte) ([]byte, error) {
	if rec.Org == "" || rec.Kind == "" {
		return nil, errors.New("envelope: a record needs an organization and a kind")
	}
	keyID := provider.KeyID()
	if !validKeyID(keyID) {
		return nil, errors.New("envelope: the key's id does not fit")
	}
	dek := make([]byte, keySize)
	defer clear(dek)
	rand.Read(dek) // never fails: crypto/rand ends the program instead
	aead, err := newAEAD(dek)
	if err != nil {
		return nil, err
	}
	wrapped, err := provider.Wrap(ctx, rec, dek)
	if err != nil {
		return nil, fmt.Errorf("wrap data key: %w", err)
	}
	if len(wrapped) > 0xffff {
		return nil, fmt.Errorf("envelope: wrapped data key of %d bytes does not fit", len(wrapped))
	}
	blob := make([]byte, 0, minSize+1+len(keyID)+len(wrapped)+aead.Overhead()+len(plaintext))
	blob = append(blob, magic...)
	blob = append(blob, version2, byte(len(keyID)))
	blob = append(blob, keyID...)
	blob = binary.LittleEndian.AppendUint16(blob, uint16(len(wrapped)))
	blob = append(blob, wrapped...)
	return aead.Seal(blob, nil, plaintext, rec.associatedData(version2, keyID)), nil
}

// Open returns what was sealed for rec. See the package's errors for why not.
//
// rec does not matter for an envelope of version 1; NeedsReseal tells whether
// blob is one. One of version 2 opens only with the key that it names.
func Open(ctx context.Context, provider KeyProvider, rec Record, blob []byte) ([]byte, error) {
	p, err := split(blob)
	if err != nil {
		return nil, err
	}
	var associated []byte
	switch {
	case p.Version == version1:
		rec = Record{} // it was wrapped without
	case p.KeyID != provider.KeyID():
		return nil, ErrTampered
	default:
		associated = rec.associatedData(version2, p.KeyID)
	}
	dek, err := provider.Unwrap(ctx, rec, p.wrapped)
	if errors.Is(err, ErrTampered) {
		return nil, ErrTampered // at which of the two layers is nobody's business either
	}
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
	plaintext, err := aead.Open(nil, nil, p.sealed, associated)
	if err != nil {
		return nil, ErrTampered
	}
	return plaintext, nil
}

// IsEnvelope tells whether blob begins like an envelope of any version.
func IsEnvelope(blob []byte) bool {
	return len(blob) >= minSize && string(blob[:len(magic)]) == magic
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
func (r Record) associatedData(version byte, keyID string) []byte {
	out := append([]byte(domain), 0, version)
	for _, part := range []string{r.Org, r.App, r.Kind, r.ID, keyID} {
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
