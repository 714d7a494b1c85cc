// Package keyring seals and opens secrets with the key of the organization that
// they belong to, and opens a formation's authority for one signature.
//
// Every organization has a key: its own, if it was given one, or the gateway's.
// What one organization's key does, being slow or refusing, is felt by nobody else.
// Data keys that were unwrapped are kept for a short time, so that a signature
// does not cost a call of a key service each; that time is also how long an
// organization whose key is revoked goes on working.
//
//	keyring.go    sealing and opening
//	authority.go  a formation's authority, opened for one signature
//	record.go     what is sealed, and what it is bound to
//	cache.go      data keys, for a time
//	reference.go  which keys the operator allows to whom
//
// What is not here: the format and the key services (shared/envelope), and where
// sealed records are kept (shared/store).
package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Deps is everything a keyring needs. Lookups may be nil, where it says so.
type Deps struct {
	// Default names the key of every organization that has none of its own.
	Default string
	// Provider returns the key of an id. It is asked once for each that it has.
	Provider func(id string) (envelope.KeyProvider, error)
	// Old lists keys that envelopes of version 1, which name none, may have been
	// sealed with.
	Old []string
	// Allowed tells whether the operator lets an organization use a key. It is asked
	// at every use: whoever can write to the database must not be able to choose
	// one's key for another. nil allows every key that there is.
	Allowed func(org tenant.OrgID, id string) bool
	// KeyOf returns the key that an organization was given, empty for none; nil is
	// none for all.
	KeyOf func(ctx context.Context, org tenant.OrgID) (string, error)
	// Root returns where the authority is that signs for a formation now. It may be
	// nil in a process that signs nothing.
	Root func(ctx context.Context, key tenant.Key) (Root, error)
	// Mark keeps whether a formation's root was seen to be shut. It may be nil.
	Mark func(ctx context.Context, key tenant.Key, shut bool) error

	CacheFor  time.Duration // how long a data key is kept; 0 keeps none
	CacheSize int           // how many are kept of each key
}

// Keyring opens and seals. It is safe for concurrent use.
type Keyring struct {
	deps Deps
	mu   sync.Mutex
	keys map[string]*cached // by id, those that were asked for
}

// New returns a keyring. It asks no key service for anything.
func New(d Deps) *Keyring {
	return &Keyring{deps: d, keys: map[string]*cached{}}
}

// Single returns a keyring that has one key, for everybody.
func Single(key envelope.KeyProvider) *Keyring {
	return New(Deps{
		Default: key.KeyID(), Old: []string{key.KeyID()},
		Provider: func(id string) (envelope.KeyProvider, error) {
			if id != key.KeyID() {
				return nil, errNoKey
			}
			return key, nil
		},
	})
}

// errNoKey means a key that is not there for the organization.
var errNoKey = errors.New("keyring: no such key")

// Seal protects plaintext for a record, with the key of its organization.
// fault.Sealed if that key is refused, fault.Unavailable if it gives no answer.
func (k *Keyring) Seal(ctx context.Context, rec envelope.Record, plaintext []byte) ([]byte, error) {
	id, err := k.keyOf(ctx, rec)
	if err != nil {
		return nil, err
	}
	key, err := k.key(rec, id)
	if err != nil {
		return nil, trouble(err, sealedOff)
	}
	blob, err := envelope.Seal(ctx, key, rec, plaintext)
	return blob, trouble(err, sealedOff)
}

// keyOf returns the id of the key that an organization seals with now.
func (k *Keyring) keyOf(ctx context.Context, rec envelope.Record) (string, error) {
	if k.deps.KeyOf == nil {
		return k.deps.Default, nil
	}
	id, err := k.deps.KeyOf(ctx, tenant.OrgID(rec.Org))
	if err != nil {
		return "", fmt.Errorf("key of %q: %w", rec.Org, err)
	}
	if id == "" {
		id = k.deps.Default
	}
	return id, nil
}

// Open returns what was sealed for a record; the caller wipes it. fault.Sealed if
// it does not open, whatever the reason, and fault.Unavailable if its key gives no
// answer now.
func (k *Keyring) Open(ctx context.Context, rec envelope.Record, blob []byte) ([]byte, error) {
	plaintext, err := k.open(ctx, rec, blob)
	return plaintext, trouble(err, closed(rec))
}

func (k *Keyring) open(ctx context.Context, rec envelope.Record, blob []byte) ([]byte, error) {
	header, err := envelope.ReadHeader(blob)
	if err != nil {
		return nil, err
	}
	ids := []string{header.KeyID}
	if header.KeyID == "" {
		ids = k.deps.Old
	}
	err = errNoKey
	for _, id := range ids {
		key, keyErr := k.key(rec, id)
		if keyErr != nil {
			err = keyErr
			continue
		}
		var plaintext []byte
		if plaintext, err = envelope.Open(ctx, key, rec, blob); !errors.Is(err, envelope.ErrTampered) {
			return plaintext, err
		}
	}
	return nil, err
}

// key returns the key of an id, if the record's organization may use it.
func (k *Keyring) key(rec envelope.Record, id string) (*cached, error) {
	if k.deps.Allowed != nil && !k.deps.Allowed(tenant.OrgID(rec.Org), id) {
		return nil, fmt.Errorf("%w: %q may not use %q", errNoKey, rec.Org, id)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.keys[id]; key != nil {
		return key, nil
	}
	key, err := k.deps.Provider(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", errNoKey, id, err)
	}
	c := newCached(key, k.deps.CacheFor, k.deps.CacheSize)
	k.keys[id] = c
	return c, nil
}

// Close wipes the data keys that are kept. The keyring goes on working, and keeps
// none any more.
func (k *Keyring) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.deps.CacheFor = 0
	for _, c := range k.keys {
		c.close()
	}
	return nil
}

// What the caller is told does not depend on why; the log has the cause.
const sealedOff = "the organization is sealed off: nothing new can be sealed for it"

func closed(rec envelope.Record) string { return "the " + rec.Kind + " is sealed and cannot be opened" }

// trouble classifies an error of the envelope.
func trouble(err error, message string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case slices.ContainsFunc(final, func(target error) bool { return errors.Is(err, target) }):
		return fault.Sealed.Wrap(err, "%s", message)
	}
	return fault.Unavailable.Wrap(err, "the key service does not answer")
}

// final are the errors that trying again does not mend.
var final = []error{
	envelope.ErrNotEnvelope, envelope.ErrVersion, envelope.ErrTruncated, envelope.ErrTampered, envelope.ErrKeyRefused, errNoKey,
}
