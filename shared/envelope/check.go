package envelope

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Check has a provider wrap a key that is thrown away, and makes sure that it comes
// back, and only for its record. A key service that knows nothing of bindings takes
// them and forgets them; this is how that is noticed.
func Check(ctx context.Context, provider KeyProvider) error {
	dek := make([]byte, keySize)
	rand.Read(dek)
	mine := Record{Org: "peat-gateway", Kind: "check", ID: "1"}
	wrapped, err := provider.Wrap(ctx, mine, dek)
	if err != nil {
		return fmt.Errorf("wrap: %w", err)
	}
	back, err := provider.Unwrap(ctx, mine, wrapped)
	if err != nil {
		return fmt.Errorf("unwrap: %w", err)
	}
	if subtle.ConstantTimeCompare(dek, back) != 1 {
		return errors.New("what was wrapped came back as something else")
	}
	theirs := mine
	theirs.ID = "2"
	switch _, err := provider.Unwrap(ctx, theirs, wrapped); {
	case err == nil:
		return errors.New("the key service does not bind what it wraps to its record")
	case !errors.Is(err, ErrTampered):
		return fmt.Errorf("unwrap for another record: %w", err)
	}
	return nil
}
