package orgs

import (
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func (f *Function) postOrg(w http.ResponseWriter, r *http.Request) error {
	var in orgRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	id, err := tenant.ParseOrgID(in.ID)
	if err != nil {
		return err
	}
	name, err := tenant.ParseDisplayName(in.DisplayName)
	if err != nil {
		return err
	}
	quotas, err := in.Quotas.over(tenant.DefaultQuotas())
	if err != nil {
		return err
	}
	org := tenant.Org{ID: id, DisplayName: name, Quotas: quotas, CreatedAt: store.Precise(f.Now()), Revision: 1}
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := tx.CreateOrg(r.Context(), org); err != nil {
			return err
		}
		if err := tx.AppendAudit(r.Context(), f.audit(r, id, "org.create", in.ID, map[string]any{"after": map[string]any{"display_name": name, "quotas": org.Quotas}})); err != nil {
			return err
		}
		return tx.Enqueue(r.Context(), event.OrgCreated(org, f.Now()))
	}); err != nil {
		return err
	}
	f.Notify()
	w.Header().Set("Location", event.OrgSource(id))
	web.SetETag(w, tag(org.Revision))
	return web.WriteJSON(w, http.StatusCreated, wireOrg(org, store.Usage{}))
}

func (f *Function) listOrgs(w http.ResponseWriter, r *http.Request) error {
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	orgs, err := f.Store.Orgs(r.Context(), tenant.OrgID(page.After), page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(orgs, page, func(o tenant.Org) string { return string(o.ID) })
	usages := map[tenant.OrgID]store.Usage{}
	if n := len(list.Items); n > 0 {
		if usages, err = f.Store.Usages(r.Context(), list.Items[0].ID, list.Items[n-1].ID, f.Now()); err != nil {
			return err
		}
	}
	out := web.MapList(list, func(o tenant.Org) orgWire { return wireOrg(o, usages[o.ID]) })
	return web.WriteJSON(w, http.StatusOK, out)
}

func (f *Function) getOrg(w http.ResponseWriter, r *http.Request) error {
	id, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	org, err := f.Store.Org(r.Context(), id)
	if err != nil {
		return err
	}
	return f.writeOrg(w, r, org)
}

func (f *Function) writeOrg(w http.ResponseWriter, r *http.Request, org tenant.Org) error {
	usage, err := f.Store.Usage(r.Context(), org.ID, f.Now())
	if err != nil {
		return err
	}
	web.SetETag(w, tag(org.Revision))
	return web.WriteJSON(w, http.StatusOK, wireOrg(org, usage))
}

func (f *Function) patchOrg(w http.ResponseWriter, r *http.Request) error {
	id, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	var in orgPatch
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	var org tenant.Org
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		// Locked, so that two patches of different fields both count.
		if org, err = tx.LockOrg(r.Context(), id); err != nil {
			return err
		}
		if err := web.IfMatch(r, tag(org.Revision)); err != nil {
			return err
		}
		before := org
		if in.DisplayName != nil {
			if org.DisplayName, err = tenant.ParseDisplayName(*in.DisplayName); err != nil {
				return err
			}
		}
		if org.Quotas, err = in.Quotas.over(org.Quotas); err != nil {
			return err
		}
		if err := tx.UpdateOrg(r.Context(), org); err != nil {
			return err
		}
		org.Revision++
		detail := map[string]any{
			"before": map[string]any{"display_name": before.DisplayName, "quotas": before.Quotas},
			"after":  map[string]any{"display_name": org.DisplayName, "quotas": org.Quotas},
		}
		if err := tx.AppendAudit(r.Context(), f.audit(r, id, "org.update", string(id), detail)); err != nil {
			return err
		}
		return tx.Enqueue(r.Context(), event.OrgUpdated(org, f.Now()))
	}); err != nil {
		return err
	}
	f.Notify()
	return f.writeOrg(w, r, org)
}

// deleteOrg removes an organization that has no formations left: destroying a
// formation destroys keys, which is worth an act of its own.
func (f *Function) deleteOrg(w http.ResponseWriter, r *http.Request) error {
	id, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		org, err := tx.LockOrg(r.Context(), id)
		if err != nil {
			return err
		}
		if err := web.IfMatch(r, tag(org.Revision)); err != nil {
			return err
		}
		if err := tx.DeleteOrg(r.Context(), id); err != nil {
			return err
		}
		detail := map[string]any{"before": map[string]any{"display_name": org.DisplayName, "quotas": org.Quotas}}
		if err := tx.AppendAudit(r.Context(), f.audit(r, id, "org.delete", string(id), detail)); err != nil {
			return err
		}
		return tx.Enqueue(r.Context(), event.OrgDeleted(org, f.Now()))
	}); err != nil {
		return err
	}
	f.Notify()
	return web.NoContent(w)
}
