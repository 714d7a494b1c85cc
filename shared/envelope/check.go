package envelope

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
)

// ErrUnfit means a key that answers, but not as it was asked.
var ErrUnfit = errors.New("envelope: the key does not do what it should")

// Check has a provider wrap a key for rec that is thrown away, and makes sure that it
// comes back, and only for rec. A key service that knows nothing of bindings takes
// them and forgets them; this is how that is noticed. ErrUnfit, or an error of the
// provider.
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
	switch {
	case errors.Is(err, ErrTampered) || err == nil && subtle.ConstantTimeCompare(dek, back) != 1:
		return fmt.Errorf("%w: what it wrapped does not come back", ErrUnfit)
	case err != nil:
		return fmt.Errorf("unwrap: %w", err)
	}
	other := rec
	other.ID += "-other"
	switch again, err := provider.Unwrap(ctx, other, wrapped); {
	case err == nil:
		clear(again)
		return fmt.Errorf("%w: what it wraps is not bound to its record", ErrUnfit)
	case !errors.Is(err, ErrTampered):
		return fmt.Errorf("unwrap for another record: %w", err)
	}
	return nil
}
