package keyring

import (
	"context"
	"errors"

	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Credentials opens a formation's sealed genesis for what its members share. Nothing
// of what makes an authority leaves here.
func (k *Keyring) Credentials(ctx context.Context, key tenant.Key, sealed []byte) (genesis.Credentials, error) {
	plaintext, err := k.Open(ctx, OfGenesis(key), sealed)
	if err != nil {
		return genesis.Credentials{}, err
	}
	defer clear(plaintext)
	g, err := genesis.Decode(plaintext)
	if err == nil && g.Name != string(key.App) {
		err = errors.New("keyring: the genesis of another formation")
	}
	if err != nil {
		return genesis.Credentials{}, fault.Sealed.Wrap(err, "%s", closed(OfGenesis(key)))
	}
	defer func() { clear(g.Seed[:]); clear(g.AuthoritySecret[:]) }()
	return g.Credentials(), nil
}
