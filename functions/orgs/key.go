package orgs

import (
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// keyWire is which key seals for an organization. There is no key in it.
type keyWire struct {
	ID    string     `json:"key_id"`
	Own   bool       `json:"own"` // false: that of the gateway, as for everybody who has none
	SetAt *time.Time `json:"set_at,omitempty"`
}

type keyRequest struct {
	ID string `json:"key_id"`
}

func (f *Function) getKey(w http.ResponseWriter, r *http.Request) error {
	org, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	if _, err := f.Store.Org(r.Context(), org); err != nil {
		return err
	}
	return f.writeKey(w, r, org)
}

func (f *Function) writeKey(w http.ResponseWriter, r *http.Request, org tenant.OrgID) error {
	id, since, err := f.Store.OrgKey(r.Context(), org)
	if err != nil {
		return err
	}
	out := keyWire{ID: id, Own: true, SetAt: &since}
	if id == "" {
		out = keyWire{ID: f.Keys.Default()}
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

// putKey gives an organization a key of its own. What is sealed from now on is
// sealed with it; what was sealed before stays as it is until it is re-wrapped.
func (f *Function) putKey(w http.ResponseWriter, r *http.Request) error {
	org, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	var in keyRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	if _, err := f.Store.Org(r.Context(), org); err != nil {
		return err
	}
	// Before the transaction: the key may be in a service far away.
	if err := f.Keys.Probe(r.Context(), org, in.ID); err != nil {
		return err
	}
	if err := f.setKey(r, org, in.ID); err != nil {
		return err
	}
	return f.writeKey(w, r, org)
}

// deleteKey goes back to the gateway's key.
func (f *Function) deleteKey(w http.ResponseWriter, r *http.Request) error {
	org, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	if err := f.setKey(r, org, ""); err != nil {
		return err
	}
	return web.NoContent(w)
}

func (f *Function) setKey(r *http.Request, org tenant.OrgID, id string) error {
	ctx := r.Context()
	return f.Store.InTx(ctx, func(tx *store.Tx) error {
		if _, err := tx.LockOrg(ctx, org); err != nil {
			return err
		}
		before, _, err := tx.OrgKey(ctx, org)
		if err != nil || before == id {
			return err
		}
		if err := tx.SetOrgKey(ctx, org, id, store.Precise(f.Now())); err != nil {
			return err
		}
		detail := map[string]any{"before": map[string]any{"key_id": before}, "after": map[string]any{"key_id": id}}
		return tx.AppendAudit(ctx, f.audit(r, org, "org.key", string(org), detail))
	})
}
