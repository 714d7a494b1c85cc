package envelope

import (
	"context"
	"crypto/cipher"
	"errors"
)

// Local is a KeyProvider that holds the key encryption key in memory. Its
// wrapped keys are those of peat-gateway 0.1: nonce, then AES-256-GCM, 60 bytes.
type Local struct {
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
	return &Local{aead: aead}, nil
}

// Wrap implements KeyProvider. It ignores the context: there is nothing to wait for.
func (l *Local) Wrap(_ context.Context, dek []byte) ([]byte, error) {
	return l.aead.Seal(nil, nil, dek, nil), nil
}

// Unwrap implements KeyProvider.
func (l *Local) Unwrap(_ context.Context, wrapped []byte) ([]byte, error) {
	dek, err := l.aead.Open(nil, nil, wrapped, nil)
	if err != nil {
		return nil, ErrTampered
	}
	return dek, nil
}
