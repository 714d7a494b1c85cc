package orgs

import (
	"fmt"
	"net/http"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// postFormation makes a formation with its root of trust. Row, sealed genesis,
// audit entry and event are kept together or not at all.
func (f *Function) postFormation(w http.ResponseWriter, r *http.Request) error {
	org, err := access.OrgOf(r)
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
	faultpoint.Hit("create/sealed")
	formation := tenant.Formation{
		Org: org, App: app, MeshID: root.MeshID(), Policy: policy, State: tenant.Active,
		AuthorityPublicKey: root.AuthorityPublicKey(), CreatedAt: now, Revision: 1,
	}
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error { return f.keep(tx, r, formation, sealed) }); err != nil {
		return err
	}
	faultpoint.Hit("create/committed")
	f.Notify()
	w.Header().Set("Location", event.FormationSource(org, app))
	web.SetETag(w, tag(formation.Revision))
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
	faultpoint.Hit("create/row")
	n, err := tx.CountFormations(ctx, key.Org)
	if err != nil {
		return err
	}
	if n > org.Quotas.MaxFormations {
		return tenant.Exceeded(tenant.MaxFormations, org.Quotas.MaxFormations)
	}
	if err := tx.PutGenesis(ctx, key, sealed); err != nil {
		return err
	}
	faultpoint.Hit("create/genesis")
	detail := map[string]any{"mesh_id": formation.MeshID, "enrollment_policy": formation.Policy}
	if err := tx.AppendAudit(ctx, f.audit(r, key.Org, "formation.create", string(key.App), detail)); err != nil {
		return err
	}
	faultpoint.Hit("create/audited")
	if err := tx.Enqueue(ctx, event.FormationCreated(formation, f.Now())); err != nil {
		return err
	}
	faultpoint.Hit("create/told")
	return nil
}

func (f *Function) listFormations(w http.ResponseWriter, r *http.Request) error {
	org, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	state, err := stateOf(r)
	if err != nil {
		return err
	}
	formations, err := f.Store.Formations(r.Context(), org, state, tenant.AppID(page.After), page.Limit+1)
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

// stateOf is which formations a list is to show; empty for all.
func stateOf(r *http.Request) (tenant.State, error) {
	switch s := tenant.State(r.URL.Query().Get("state")); s {
	case "", tenant.Active, tenant.Suspended:
		return s, nil
	}
	return "", fault.Malformed.New("state must be active or suspended")
}

func (f *Function) getFormation(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	formation, err := f.Store.Formation(r.Context(), key)
	if err != nil {
		return err
	}
	return f.writeFormation(w, r, formation)
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

func (f *Function) writeFormation(w http.ResponseWriter, r *http.Request, formation tenant.Formation) error {
	usage, err := f.Store.FormationUsage(r.Context(), tenant.Key{Org: formation.Org, App: formation.App}, f.Now())
	if err != nil {
		return err
	}
	out := []formationWire{wireFormation(formation)}
	if err := f.showSealed(r, formation.Org, out); err != nil {
		return err
	}
	out[0].Usage = &usage
	web.SetETag(w, tag(formation.Revision))
	return web.WriteJSON(w, http.StatusOK, out[0])
}

// patchFormation changes who may join. The genesis goes on telling the policy that
// the formation was made with: it is that of the mesh's own members, sealed and
// signed for good, and the gateway decides by the row.
func (f *Function) patchFormation(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	var in formationPatch
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	return f.change(w, r, key, "formation.update", func(formation *tenant.Formation) (cloudevents.Event, error) {
		if in.Policy != nil {
			if formation.Policy, err = tenant.ParseEnrollmentPolicy(*in.Policy); err != nil {
				return cloudevents.Event{}, err
			}
		}
		return event.FormationUpdated(*formation, f.Now()), nil
	})
}

// change changes a formation as to says, and tells it.
func (f *Function) change(w http.ResponseWriter, r *http.Request, key tenant.Key, action string, to func(*tenant.Formation) (cloudevents.Event, error)) error {
	var formation tenant.Formation
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		var err error
		if formation, err = tx.LockFormation(r.Context(), key); err != nil {
			return err
		}
		if err := web.IfMatch(r, tag(formation.Revision)); err != nil {
			return err
		}
		before := formation
		told, err := to(&formation)
		if err != nil {
			return err
		}
		if err := tx.UpdateFormation(r.Context(), formation); err != nil {
			return err
		}
		formation.Revision++
		detail := map[string]any{
			"before": map[string]any{"enrollment_policy": before.Policy, "state": before.State},
			"after":  map[string]any{"enrollment_policy": formation.Policy, "state": formation.State},
		}
		if err := tx.AppendAudit(r.Context(), f.audit(r, key.Org, action, string(key.App), detail)); err != nil {
			return err
		}
		return tx.Enqueue(r.Context(), told)
	}); err != nil {
		return err
	}
	f.Notify()
	return f.writeFormation(w, r, formation)
}
