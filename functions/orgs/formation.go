package orgs

import (
	"fmt"
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// postFormation makes a formation with its root of trust. Row, sealed genesis,
// audit entry and event are kept together or not at all.
func (f *Function) postFormation(w http.ResponseWriter, r *http.Request) error {
	org, err := orgOf(r)
	if err != nil {
		return err
	}
	var in formationRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	app, err := tenant.ParseAppID(in.ID)
	if err != nil {
		return err
	}
	policy := tenant.Controlled
	if in.Policy != nil {
		if policy, err = tenant.ParseEnrollmentPolicy(*in.Policy); err != nil {
			return err
		}
	}
	// Asked first, so that a mistake in the path does not cost a key.
	if _, err := f.Store.Org(r.Context(), org); err != nil {
		return err
	}
	now := store.Precise(f.Now())
	root, err := genesis.New(string(app), policy, now, f.Random)
	if err != nil {
		return fmt.Errorf("make genesis: %w", err)
	}
	plain, err := root.Encode()
	if err != nil {
		return fmt.Errorf("encode genesis: %w", err)
	}
	// Before the transaction: the key may be in a service far away.
	sealed, err := f.Keys.Seal(r.Context(), keyring.OfGenesis(tenant.Key{Org: org, App: app}), plain)
	clear(plain)
	if err != nil {
		return err
	}
	formation := tenant.Formation{
		Org: org, App: app, MeshID: root.MeshID(), Policy: policy, State: tenant.Active,
		AuthorityPublicKey: root.AuthorityPublicKey(), CreatedAt: now,
	}
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error { return f.keep(tx, r, formation, sealed) }); err != nil {
		return err
	}
	f.Notify()
	w.Header().Set("Location", event.FormationSource(org, app))
	return web.WriteJSON(w, http.StatusCreated, wireFormation(formation))
}

func (f *Function) keep(tx *store.Tx, r *http.Request, formation tenant.Formation, sealed []byte) error {
	ctx, key := r.Context(), tenant.Key{Org: formation.Org, App: formation.App}
	// Locked, so that two requests cannot both take the last place.
	org, err := tx.LockOrg(ctx, key.Org)
	if err != nil {
		return err
	}
	if err := tx.CreateFormation(ctx, formation); err != nil {
		return err
	}
	usage, err := tx.Usage(ctx, key.Org)
	if err != nil {
		return err
	}
	if usage.Formations > org.Quotas.MaxFormations {
		return fault.Exhausted.New("the organization's quota max_formations is %d", org.Quotas.MaxFormations)
	}
	if err := tx.PutGenesis(ctx, key, sealed); err != nil {
		return err
	}
	detail := map[string]any{"mesh_id": formation.MeshID, "enrollment_policy": formation.Policy}
	if err := tx.AppendAudit(ctx, f.audit(r, key.Org, "formation.create", string(key.App), detail)); err != nil {
		return err
	}
	return tx.Enqueue(ctx, event.FormationCreated(formation, f.Now()))
}

func (f *Function) listFormations(w http.ResponseWriter, r *http.Request) error {
	org, err := orgOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	formations, err := f.Store.Formations(r.Context(), org, tenant.AppID(page.After), page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(formations, page, func(f tenant.Formation) string { return string(f.App) })
	out := web.MapList(list, wireFormation)
	if err := f.showSealed(r, org, out.Items); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

func (f *Function) getFormation(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	formation, err := f.Store.Formation(r.Context(), key)
	if err != nil {
		return err
	}
	out := []formationWire{wireFormation(formation)}
	if err := f.showSealed(r, key.Org, out); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, out[0])
}

// showSealed marks those of an organization's formations, in their order, that are
// known to be sealed.
func (f *Function) showSealed(r *http.Request, org tenant.OrgID, formations []formationWire) error {
	if len(formations) == 0 {
		return nil
	}
	sealed, err := f.Store.Shut(r.Context(), org, formations[0].App, formations[len(formations)-1].App)
	for i := range formations {
		formations[i].Sealed = sealed[formations[i].App]
	}
	return err
}

// deleteFormation destroys a formation: keys, log and all. Its name may be used
// again; what is made under it then inherits nothing.
func (f *Function) deleteFormation(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		formation, err := tx.Formation(r.Context(), key)
		if err != nil {
			return err
		}
		if _, err := formation.State.Move(tenant.Destroyed); err != nil {
			return err
		}
		if err := tx.DestroyFormation(r.Context(), key); err != nil {
			return err
		}
		detail := map[string]any{"mesh_id": formation.MeshID}
		if err := tx.AppendAudit(r.Context(), f.audit(r, key.Org, "formation.delete", string(key.App), detail)); err != nil {
			return err
		}
		return tx.Enqueue(r.Context(), event.FormationDeleted(formation, f.Now()))
	}); err != nil {
		return err
	}
	f.Notify()
	return web.NoContent(w)
}
