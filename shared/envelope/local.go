package envelope

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// Local is a KeyProvider that holds the key encryption key in memory. Its
// wrapped keys look like those of peat-gateway 0.1: nonce, then AES-256-GCM, 60
// bytes; new ones are bound to their record by associated data.
type Local struct {
	id   string
	aead cipher.AEAD
}

// NewLocal returns a provider that wraps with kek.
func NewLocal(kek KEK) (*Local, error) {
	if !kek.IsSet() {
		return nil, errors.New("envelope: no key encryption key")
	}
	aead, err := newAEAD([]byte(*kek.key))
	if err != nil {
		return nil, err
	}
	return &Local{id: kek.ID(), aead: aead}, nil
}

// ID names the key without telling it: "local:" and the beginning of a hash. A
// key so has the same id wherever it is kept, and no other can take its place
// under it.
func (k KEK) ID() string {
	if !k.IsSet() {
		return ""
	}
	sum := sha256.Sum256([]byte("peat-gateway/kek-id\x00" + *k.key))
	return "local:" + hex.EncodeToString(sum[:8])
}

// KeyID implements KeyProvider.
func (l *Local) KeyID() string { return l.id }

// Wrap implements KeyProvider. It ignores the context: there is nothing to wait for.
func (l *Local) Wrap(_ context.Context, rec Record, dek []byte) ([]byte, error) {
	return l.aead.Seal(nil, nil, dek, l.binding(rec)), nil
}

// Unwrap implements KeyProvider.
func (l *Local) Unwrap(_ context.Context, rec Record, wrapped []byte) ([]byte, error) {
	dek, err := l.aead.Open(nil, nil, wrapped, l.binding(rec))
	if err != nil {
		return nil, ErrTampered
	}
	return dek, nil
}

// binding is apart from the associated data of an envelope: version 0 is none.
func (l *Local) binding(rec Record) []byte {
	if rec == (Record{}) {
		return nil
	}
	return rec.associatedData(0, l.id)
}
