package orgs

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Import is a formation's genesis as peat-gateway 0.1 kept it.
type Import struct {
	Key         tenant.Key
	Genesis     []byte
	Unprotected bool   // take one that was never sealed
	DryRun      bool   // open and check it, and write nothing
	Actor       string // for the audit trail
	RunID       string // for the audit trail
}

// Import makes the formation of a genesis that has one already somewhere else: its
// mesh and its authority stay what they are. The genesis is sealed anew, with the
// key of its organization and for its place; an envelope of version 1 is for none,
// so the operator vouches for the place, and the name in it has to fit.
//
// It returns false if the very formation is there already, and fault.Conflict if
// another is there under this name.
func (f *Function) Import(ctx context.Context, in Import) (bool, error) {
	rec := keyring.OfGenesis(in.Key)
	plain, err := f.openImport(ctx, rec, in)
	if err != nil {
		return false, err
	}
	defer clear(plain)
	g, err := genesis.Decode(plain)
	if err != nil {
		return false, fault.Invalid.Wrap(err, "what was sealed is no genesis")
	}
	defer func() { clear(g.Seed[:]); clear(g.AuthoritySecret[:]) }()
	again, err := g.Encode()
	defer clear(again)
	switch {
	case err != nil || !bytes.Equal(plain, again):
		return false, fault.Invalid.New("what was sealed is a genesis and something else")
	case g.Name != string(in.Key.App):
		return false, fault.Invalid.New("the genesis is that of a mesh of another name")
	}
	formation := tenant.Formation{
		Org: in.Key.Org, App: in.Key.App, MeshID: g.MeshID(), Policy: g.Policy, State: tenant.Active,
		AuthorityPublicKey: g.AuthorityPublicKey(), CreatedAt: store.Precise(f.Now()),
	}
	switch there, err := f.Store.Formation(ctx, in.Key); {
	case err == nil && there.MeshID == formation.MeshID && bytes.Equal(there.AuthorityPublicKey, formation.AuthorityPublicKey):
		return false, nil
	case err == nil:
		return false, fault.Conflict.New("there is another formation of this name")
	case !errors.Is(err, fault.NotFound):
		return false, err
	}
	if in.DryRun {
		_, err := f.Store.Org(ctx, in.Key.Org)
		return err == nil, err
	}
	sealed, err := f.sealImport(ctx, rec, plain)
	if err != nil {
		return false, err
	}
	err = f.Store.InTx(ctx, func(tx *store.Tx) error { return f.keepImport(ctx, tx, formation, sealed, in) })
	if err == nil {
		f.Notify()
	}
	return err == nil, err
}

func (f *Function) openImport(ctx context.Context, rec envelope.Record, in Import) ([]byte, error) {
	if envelope.IsEnvelope(in.Genesis) {
		return f.Keys.Open(ctx, rec, in.Genesis)
	}
	if !in.Unprotected {
		return nil, fault.Invalid.New("it is not sealed; if it never was, that has to be said")
	}
	return bytes.Clone(in.Genesis), nil
}

// sealImport opens what it has sealed before it trusts it: what comes in may be the
// only copy there is.
func (f *Function) sealImport(ctx context.Context, rec envelope.Record, plain []byte) ([]byte, error) {
	sealed, err := f.Keys.Seal(ctx, rec, plain)
	if err != nil {
		return nil, err
	}
	again, err := f.Keys.Open(ctx, rec, sealed)
	defer clear(again)
	if err == nil && !bytes.Equal(plain, again) {
		err = errors.New("what was sealed anew opens to something else")
	}
	return sealed, err
}

func (f *Function) keepImport(ctx context.Context, tx *store.Tx, formation tenant.Formation, sealed []byte, in Import) error {
	org, err := tx.LockOrg(ctx, in.Key.Org)
	if err != nil {
		return err
	}
	if err := tx.CreateFormation(ctx, formation); err != nil {
		return err
	}
	n, err := tx.CountFormations(ctx, in.Key.Org)
	if err != nil {
		return err
	}
	if n > org.Quotas.MaxFormations {
		return tenant.Exceeded(tenant.MaxFormations, org.Quotas.MaxFormations)
	}
	if err := tx.PutGenesis(ctx, in.Key, sealed); err != nil {
		return err
	}
	if err := tx.AppendAudit(ctx, store.Audit{
		Org: in.Key.Org, At: f.Now(), Actor: in.Actor, Action: "formation.import", Target: string(in.Key.App), RequestID: in.RunID,
		Detail: map[string]any{"mesh_id": formation.MeshID, "enrollment_policy": formation.Policy},
	}); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return tx.Enqueue(ctx, event.FormationCreated(formation, f.Now()))
}
