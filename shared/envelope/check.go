package envelope

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
)

// ErrUnbound means a key that forgets what it was told to bind to.
var ErrUnbound = errors.New("envelope: what the key wraps is not bound to its record")

// Check has a provider wrap a key for rec that is thrown away, and makes sure that it
// comes back, and only for rec. A key service that knows nothing of bindings takes
// them and forgets them; this is how that is noticed. ErrUnbound, or an error of the
// provider: ErrTampered also if something else comes back.
func Check(ctx context.Context, provider KeyProvider, rec Record) error {
	dek := make([]byte, keySize)
	defer clear(dek)
	rand.Read(dek)
	wrapped, err := provider.Wrap(ctx, rec, dek)
	if err != nil {
		return fmt.Errorf("wrap: %w", err)
	}
	back, err := provider.Unwrap(ctx, rec, wrapped)
	defer clear(back)
	if err == nil && subtle.ConstantTimeCompare(dek, back) != 1 {
		err = ErrTampered
	}
	if err != nil {
		return fmt.Errorf("unwrap: %w", err)
	}
	other := rec
	other.ID += "-other"
	switch again, err := provider.Unwrap(ctx, other, wrapped); {
	case err == nil:
		clear(again)
		return ErrUnbound
	case !errors.Is(err, ErrTampered):
		return fmt.Errorf("unwrap for another record: %w", err)
	}
	return nil
}
