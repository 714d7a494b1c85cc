package federation

import (
	"context"
	"net/http"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func (f *Function) tokenRoutes() []web.Route {
	const tokens = "/orgs/{org}/formations/{app}/enrollment/tokens"
	return []web.Route{
		{Pattern: "POST " + tokens, Need: web.OrgAdmin, Once: true, Handle: f.postToken},
		{Pattern: "GET " + tokens, Need: web.Viewer, Handle: f.listTokens},
		{Pattern: "GET " + tokens + "/{token}", Need: web.Viewer, Handle: f.getToken},
		{Pattern: "POST " + tokens + "/{token}/revoke", Need: web.OrgAdmin, Handle: f.revokeToken},
		{Pattern: "DELETE " + tokens + "/{token}", Need: web.OrgAdmin, Handle: f.deleteToken},
	}
}

// postToken makes an enrollment token. It is shown this once; only its hash is kept.
func (f *Function) postToken(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	var in tokenRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	now := store.Precise(f.Now())
	t, err := enrollment.TokenRequest{
		Label: in.Label, MaxUses: in.MaxUses, ExpiresAt: store.Precise(value(in.ExpiresAt)), Tier: value(in.Tier), Permissions: value(in.Permissions),
	}.Token(now)
	if err != nil {
		return err
	}
	secret, err := enrollment.TokenKind.New(f.Random)
	if err != nil {
		return err
	}
	id, err := ulid.New(ulid.Timestamp(now), f.Random)
	if err != nil {
		return err
	}
	t.Org, t.App, t.ID, t.Hash, t.CreatedBy = key.Org, key.App, id.String(), f.Tokens.Hash(secret.Reveal()), access.FromContext(r.Context()).Name
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := f.roomForToken(r.Context(), tx, key.Org); err != nil {
			return err
		}
		if err := tx.CreateEnrollmentToken(r.Context(), t); err != nil {
			return err
		}
		detail := map[string]any{"after": wireToken(t, now)}
		return tx.AppendAudit(r.Context(), f.act(r, key.Org, "enrollment_token.create", target(key, t.ID), detail))
	}); err != nil {
		return err
	}
	out := wireToken(t, now)
	out.Token = secret.Reveal()
	w.Header().Set("Location", r.URL.EscapedPath()+"/"+t.ID)
	return web.WriteJSON(w, http.StatusCreated, out)
}

// roomForToken refuses one more token than the organization may have. The lock
// keeps others from taking the last place meanwhile.
func (f *Function) roomForToken(ctx context.Context, tx *store.Tx, org tenant.OrgID) error {
	o, err := tx.LockOrg(ctx, org)
	if err != nil {
		return err
	}
	n, err := tx.CountTokens(ctx, org, f.Now())
	if err != nil {
		return err
	}
	if n >= o.Quotas.MaxTokens {
		return tenant.Exceeded(tenant.MaxTokens, o.Quotas.MaxTokens)
	}
	return nil
}

func (f *Function) listTokens(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	tokens, err := f.Store.EnrollmentTokens(r.Context(), key, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	now := f.Now()
	list := web.NewList(tokens, page, func(t enrollment.Token) string { return t.ID })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, func(t enrollment.Token) tokenWire { return wireToken(t, now) }))
}

func (f *Function) getToken(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	id, err := web.Path(r, "token", ulid.ParseStrict)
	if err != nil {
		return err
	}
	t, err := f.Store.EnrollmentToken(r.Context(), key, id.String())
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireToken(t, f.Now()))
}

// revokeToken ends a token, also one that is used up: what it admitted can be
// revoked with it at any time.
func (f *Function) revokeToken(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	id, err := web.Path(r, "token", ulid.ParseStrict)
	if err != nil {
		return err
	}
	var in revocation
	if err := web.ReadOptionalJSON(r, &in); err != nil {
		return err
	}
	if in.Reason != "" {
		if _, err := tenant.ParseDisplayName(in.Reason); err != nil {
			detail := fault.Of(err).Fields[0].Detail
			return &fault.Error{Kind: fault.Invalid, Message: "reason " + detail, Fields: []fault.Field{{Pointer: "/reason", Detail: detail}}}
		}
	}
	now, actor := store.Precise(f.Now()), access.FromContext(r.Context()).Name
	var out tokenWire
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		before, err := tx.EnrollmentToken(r.Context(), key, id.String())
		if err != nil {
			return err
		}
		if in.Certificates {
			// Whoever enrolls locks the ledger and then the token; the other way round they
			// would wait for each other.
			if _, err := tx.LockLedger(r.Context(), key); err != nil {
				return err
			}
		}
		if err := tx.RevokeEnrollmentToken(r.Context(), key, before.ID, in.Reason, now); err != nil {
			return err
		}
		after, err := tx.EnrollmentToken(r.Context(), key, before.ID)
		if err != nil {
			return err
		}
		out = wireToken(after, now)
		detail := map[string]any{"before": before.State(now), "after": after.State(now), "reason": in.Reason, "uses": after.Uses}
		if in.Certificates {
			n, err := tx.RevokeAdmitted(r.Context(), key, after.Rule(), now, actor, in.Reason)
			if err != nil {
				return err
			}
			out.CertificatesRevoked, detail["certificates_revoked"] = &n, n
		}
		return tx.AppendAudit(r.Context(), f.act(r, key.Org, "enrollment_token.revoke", target(key, before.ID), detail))
	}); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

// deleteToken forgets a token. What it admitted stays.
func (f *Function) deleteToken(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	id, err := web.Path(r, "token", ulid.ParseStrict)
	if err != nil {
		return err
	}
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		before, err := tx.EnrollmentToken(r.Context(), key, id.String())
		if err != nil {
			return err
		}
		if err := tx.DeleteEnrollmentToken(r.Context(), key, before.ID); err != nil {
			return err
		}
		detail := map[string]any{"before": wireToken(before, f.Now())}
		return tx.AppendAudit(r.Context(), f.act(r, key.Org, "enrollment_token.delete", target(key, before.ID), detail))
	}); err != nil {
		return err
	}
	return web.NoContent(w)
}

// target names a token of a formation in the audit trail.
func target(key tenant.Key, id string) string { return string(key.App) + "/" + id }
