package keyring

import (
	"context"
	"errors"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Default names the key of every organization that has none of its own.
func (k *Keyring) Default() string { return k.deps.Default }

// Probe tells whether a key would do as an organization's own, by wrapping and
// unwrapping something with it (envelope.Check): fault.Invalid if it would not, fault.Unavailable if
// it gives no answer. An organization must not be locked out by a slip of the pen.
func (k *Keyring) Probe(ctx context.Context, org tenant.OrgID, id string) error {
	rec := envelope.Record{Org: string(org), Kind: "probe"}
	c, err := k.key(rec, id)
	if err != nil {
		return invalidKey(err, "is not among the keys that the operator lets this organization use")
	}
	err = envelope.Check(ctx, c.KeyProvider, rec) // asked now, whatever it said before
	switch {
	case err == nil:
		c.heed(string(org), nil)
		return nil
	case errors.Is(err, envelope.ErrTampered):
		return invalidKey(err, "does not unwrap what it has wrapped")
	case errors.Is(err, envelope.ErrUnbound):
		return invalidKey(err, "is in a key service that cannot bind what it wraps to what it is for")
	case errors.Is(err, envelope.ErrKeyRefused):
		return invalidKey(err, "may not be used by the gateway; it has to be allowed to encrypt and to decrypt with it")
	}
	return trouble(err, "")
}

func invalidKey(cause error, detail string) error {
	return &fault.Error{
		Kind: fault.Invalid, Message: "key_id " + detail, Cause: cause,
		Fields: []fault.Field{{Pointer: "/key_id", Detail: detail}},
	}
}
