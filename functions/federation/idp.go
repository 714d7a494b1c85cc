package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func (f *Function) providerRoutes() []web.Route {
	const base = "/orgs/{org}/identity-providers"
	return []web.Route{
		{Pattern: "POST " + base, Need: web.OrgAdmin, Once: true, Handle: f.postProvider},
		{Pattern: "GET " + base, Need: web.Viewer, Handle: f.listProviders},
		{Pattern: "GET " + base + "/{provider}", Need: web.Viewer, Handle: f.getProvider},
		{Pattern: "PATCH " + base + "/{provider}", Need: web.OrgAdmin, Handle: f.patchProvider},
		{Pattern: "DELETE " + base + "/{provider}", Need: web.OrgAdmin, Handle: f.deleteProvider},
		{Pattern: "POST " + base + "/{provider}/enable", Need: web.OrgAdmin, Handle: f.switchProvider(true)},
		{Pattern: "POST " + base + "/{provider}/disable", Need: web.OrgAdmin, Handle: f.switchProvider(false)},
		{Pattern: "POST " + base + "/{provider}/rotate-secret", Need: web.OrgAdmin, Handle: f.rotateProviderSecret},
		{Pattern: "POST " + base + "/{provider}/check", Need: web.OrgAdmin, Handle: f.checkProvider},
	}
}

// maxLabel is longer than what anybody calls a thing.
const maxLabel = 200

func parseLabel(s string) (string, error) {
	if s == "" || len(s) > maxLabel || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", identity.Invalid("label", "must be one to 200 bytes, on one line")
	}
	return s, nil
}

// postProvider makes an identity provider. Whether it can be reached is not asked:
// who sets one up before the other end is there may do so, and has check.
func (f *Function) postProvider(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return err
	}
	if _, err := f.Store.Org(ctx, org); err != nil {
		return err
	}
	var in providerRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	now := store.Precise(f.Now())
	id, err := ulid.New(ulid.Timestamp(now), f.Random)
	if err != nil {
		return err
	}
	p := identity.Provider{
		Key: identity.Key{Org: org, ID: id.String()}, Kind: in.Kind, Enabled: in.Enabled == nil || *in.Enabled, Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	if p.Label, err = parseLabel(in.Label); err != nil {
		return err
	}
	made, err := f.Providers.Parse(p.Kind, in.Config, nil)
	if err != nil {
		return err
	}
	// Before the transaction: the key may be in a service far away.
	if err := f.take(ctx, &p, made); err != nil {
		return err
	}
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		if _, err := tx.LockOrg(ctx, org); err != nil { // so that nobody else takes the last place
			return err
		}
		all, err := tx.Providers(ctx, org)
		if err != nil {
			return err
		}
		if len(all) >= identity.MaxProviders {
			return tenant.Exceeded("max_identity_providers", identity.MaxProviders)
		}
		if err := tx.CreateProvider(ctx, p); err != nil {
			return err
		}
		return f.noteProvider(tx, r, nil, &p, "create")
	}); err != nil {
		return err
	}
	f.announce(org)
	w.Header().Set("Location", r.URL.EscapedPath()+"/"+p.ID)
	return f.showProvider(w, http.StatusCreated, p)
}

// announce says that an organization's providers are others now.
func (f *Function) announce(org tenant.OrgID) {
	f.Providers.Forget(org)
	f.Notify()
}

// take makes a configuration that was checked the provider's, its secrets sealed.
func (f *Function) take(ctx context.Context, p *identity.Provider, made identity.Config) (err error) {
	p.Issuer = made.Issuer
	if p.Config, err = json.Marshal(made.Public); err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	p.Sealed = nil
	if made.Secrets == nil {
		return nil
	}
	plain, err := json.Marshal(made.Secrets)
	if err != nil {
		return errors.New("the secrets cannot be encoded") // and no more: the error may quote them
	}
	defer clear(plain)
	p.Sealed, err = f.Keys.Seal(ctx, keyring.OfProvider(p.Org, p.ID), plain)
	return err
}

// findProvider returns the identity provider of the path.
func (f *Function) findProvider(r *http.Request) (identity.Provider, error) {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return identity.Provider{}, err
	}
	id, err := web.Path(r, "provider", ulid.ParseStrict)
	if err != nil {
		return identity.Provider{}, err
	}
	return f.Store.Provider(r.Context(), org, id.String())
}

func (f *Function) showProvider(w http.ResponseWriter, status int, p identity.Provider) error {
	web.SetETag(w, fmt.Sprint(p.Version))
	return web.WriteJSON(w, status, wireProvider(p))
}

func (f *Function) getProvider(w http.ResponseWriter, r *http.Request) error {
	p, err := f.findProvider(r)
	if err != nil {
		return err
	}
	return f.showProvider(w, http.StatusOK, p)
}

func (f *Function) listProviders(w http.ResponseWriter, r *http.Request) error {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	if _, err := f.Store.Org(r.Context(), org); err != nil {
		return err
	}
	found, err := f.Store.ProvidersAfter(r.Context(), org, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(p identity.Provider) string { return p.ID })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, wireProvider))
}

func (f *Function) deleteProvider(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	p, err := f.findProvider(r)
	if err != nil {
		return err
	}
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		now, err := tx.LockProvider(ctx, p.Org, p.ID)
		if err != nil {
			return err
		}
		if err := web.IfMatch(r, fmt.Sprint(now.Version)); err != nil {
			return err
		}
		if err := tx.DeleteProvider(ctx, p.Org, p.ID); err != nil {
			return err
		}
		return f.noteProvider(tx, r, &now, nil, "delete")
	}); err != nil {
		return err
	}
	f.announce(p.Org)
	return web.NoContent(w)
}

// noteProvider writes the audit entry and the event of an act on a provider, as it was before and is
// after; either is nil if there was or is none.
func (f *Function) noteProvider(tx *store.Tx, r *http.Request, before, after *identity.Provider, action string) error {
	p := after
	if p == nil {
		p = before
	}
	detail := map[string]any{"kind": p.Kind}
	if before != nil {
		detail["before"] = toldProvider(*before)
	}
	if after != nil {
		detail["after"] = toldProvider(*after)
	}
	if err := tx.AppendAudit(r.Context(), f.act(r, p.Org, "identity_provider."+action, p.ID, detail)); err != nil {
		return err
	}
	eventType := event.ProviderChangedType
	switch {
	case before == nil:
		eventType = event.ProviderCreatedType
	case after == nil:
		eventType = event.ProviderDeletedType
	}
	return tx.Enqueue(r.Context(), event.Provider(eventType, event.ProviderData{Org: p.Org, Provider: p.ID, Kind: string(p.Kind), Enabled: p.Enabled}, f.Now()))
}

// toldProvider is what the audit trail says of a provider. Its secrets are in an
// envelope, of which there is nothing to say but whether there is one.
func toldProvider(p identity.Provider) map[string]any {
	return map[string]any{"label": p.Label, "issuer": p.Issuer, "enabled": p.Enabled, "config": p.Config, "has_secrets": p.Sealed != nil}
}
