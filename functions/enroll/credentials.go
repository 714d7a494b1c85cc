package enroll

import (
	"context"

	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// membership opens what a member of a formation shares with the others. The authority
// and the policy are those of now; what derives from the seed never changes.
func (f *Function) membership(ctx context.Context, formation tenant.Formation) (*genesis.Credentials, error) {
	key := tenant.Key{Org: formation.Org, App: formation.App}
	sealed, err := f.Store.Sealed(ctx, keyring.OfGenesis(key))
	if err != nil {
		return nil, err
	}
	c, err := f.Keys.Credentials(ctx, key, sealed)
	if err != nil {
		return nil, err
	}
	c.AuthorityPublicKey, c.Policy = formation.AuthorityPublicKey, formation.Policy
	return &c, nil
}
