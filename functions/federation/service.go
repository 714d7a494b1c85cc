package federation

import (
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// keepDead is how long a service token is listed that nobody can use any more.
const keepDead = 30 * 24 * time.Hour

func (f *Function) serviceRoutes() []web.Route {
	const tokens = "/orgs/{org}/tokens"
	return []web.Route{
		{Pattern: "POST " + tokens, Need: web.OrgAdmin, Once: true, Handle: f.postServiceToken},
		{Pattern: "GET " + tokens, Need: web.Viewer, Handle: f.listServiceTokens},
		{Pattern: "GET " + tokens + "/{token}", Need: web.Viewer, Handle: f.getServiceToken},
		{Pattern: "POST " + tokens + "/{token}/revoke", Need: web.OrgAdmin, Handle: f.revokeServiceToken},
	}
}

// postServiceToken makes a service token. It is shown this once; only its hash is
// kept. To rotate one is to make another and to revoke the first when all use the
// new one.
func (f *Function) postServiceToken(w http.ResponseWriter, r *http.Request) error {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return err
	}
	var in serviceRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	now := store.Precise(f.Now())
	t, err := access.ServiceRequest{
		Label: in.Label, Role: in.Role, Formations: value(in.Formations), Scopes: value(in.Scopes), ExpiresAt: store.Precise(value(in.ExpiresAt)),
	}.Token(now)
	if err != nil {
		return err
	}
	secret, err := access.ServiceKind.New(f.Random)
	if err != nil {
		return err
	}
	id, err := ulid.New(ulid.Timestamp(now), f.Random)
	if err != nil {
		return err
	}
	t.Org, t.ID, t.Hash, t.CreatedBy = org, id.String(), f.Tokens.Hash(secret.Reveal()), access.FromContext(r.Context()).Name
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := f.roomForToken(r.Context(), tx, org); err != nil {
			return err
		}
		if err := tx.DeleteDeadServiceTokens(r.Context(), org, now.Add(-keepDead)); err != nil {
			return err
		}
		if err := tx.CreateServiceToken(r.Context(), t); err != nil {
			return err
		}
		detail := map[string]any{"after": wireService(t, now)}
		return tx.AppendAudit(r.Context(), f.act(r, org, "service_token.create", t.ID, detail))
	}); err != nil {
		return err
	}
	out := wireService(t, now)
	out.Token = secret.Reveal()
	w.Header().Set("Location", r.URL.EscapedPath()+"/"+t.ID)
	return web.WriteJSON(w, http.StatusCreated, out)
}

func (f *Function) listServiceTokens(w http.ResponseWriter, r *http.Request) error {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	tokens, err := f.Store.ServiceTokens(r.Context(), org, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	now := f.Now()
	list := web.NewList(tokens, page, func(t access.ServiceToken) string { return t.ID })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, func(t access.ServiceToken) serviceWire { return wireService(t, now) }))
}

func (f *Function) getServiceToken(w http.ResponseWriter, r *http.Request) error {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return err
	}
	id, err := web.Path(r, "token", ulid.ParseStrict)
	if err != nil {
		return err
	}
	t, err := f.Store.ServiceToken(r.Context(), org, id.String())
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireService(t, f.Now()))
}

// revokeServiceToken ends a token. Everywhere it stops to be taken within
// access.Freshness.
func (f *Function) revokeServiceToken(w http.ResponseWriter, r *http.Request) error {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return err
	}
	id, err := web.Path(r, "token", ulid.ParseStrict)
	if err != nil {
		return err
	}
	now := store.Precise(f.Now())
	var after access.ServiceToken
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		before, err := tx.ServiceToken(r.Context(), org, id.String())
		if err != nil {
			return err
		}
		if err := tx.RevokeServiceToken(r.Context(), org, before.ID, now); err != nil {
			return err
		}
		if after, err = tx.ServiceToken(r.Context(), org, before.ID); err != nil {
			return err
		}
		detail := map[string]any{"before": before.State(now), "after": after.State(now)}
		return tx.AppendAudit(r.Context(), f.act(r, org, "service_token.revoke", before.ID, detail))
	}); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireService(after, now))
}
