package envelope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
)

// forgetful is a key service that takes a binding and forgets it, as a Transit
// engine from before associated data.
type forgetful struct{ envelope.KeyProvider }

func (f forgetful) Wrap(ctx context.Context, _ envelope.Record, dek []byte) ([]byte, error) {
	return f.KeyProvider.Wrap(ctx, envelope.Record{}, dek)
}

func (f forgetful) Unwrap(ctx context.Context, _ envelope.Record, wrapped []byte) ([]byte, error) {
	return f.KeyProvider.Unwrap(ctx, envelope.Record{}, wrapped)
}

// mixedUp gives back another key than it was given.
type mixedUp struct{ envelope.KeyProvider }

func (m mixedUp) Unwrap(ctx context.Context, rec envelope.Record, wrapped []byte) ([]byte, error) {
	dek, err := m.KeyProvider.Unwrap(ctx, rec, wrapped)
	if err == nil {
		dek[0]++
	}
	return dek, err
}

func TestCheck(t *testing.T) {
	good := local(t, newKEK())
	if err := envelope.Check(t.Context(), good, genesisOf("acme")); err != nil {
		t.Error(err)
	}
	for name, tc := range map[string]struct {
		key  envelope.KeyProvider
		want error
	}{
		"one that forgets the record": {forgetful{good}, envelope.ErrUnbound},
		"one that mixes keys up":      {mixedUp{good}, envelope.ErrTampered},
		"one that does not answer":    {scripted{err: envelope.ErrUnavailable}, envelope.ErrUnavailable},
		"one that may not be used":    {scripted{err: envelope.ErrKeyRefused}, envelope.ErrKeyRefused},
	} {
		if err := envelope.Check(t.Context(), tc.key, genesisOf("acme")); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
