package federation

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// rotateProviderSecret gives a provider a new secret: the one that the request brings,
// or, where the gateway makes them, one that it makes now.
func (f *Function) rotateProviderSecret(w http.ResponseWriter, r *http.Request) error {
	p, err := f.findProvider(r)
	if err != nil {
		return err
	}
	var in struct {
		ClientSecret string `json:"client_secret,omitempty"`
	}
	if err := web.ReadOptionalJSON(r, &in); err != nil {
		return err
	}
	before := p
	if p.Kind == identity.Introspection {
		if in.ClientSecret == "" || in.ClientSecret == identity.Sealed {
			return identity.Invalid("client_secret", "is missing: the provider has made it, and must say it")
		}
		patch, err := json.Marshal(in)
		if err != nil {
			return err
		}
		if err := f.reconfigure(r.Context(), &p, patch); err != nil {
			return err
		}
		return f.changeProvider(w, r, before, p, true, "rotate-secret")
	}
	if in.ClientSecret != "" {
		return identity.Invalid("client_secret", "is nothing that this kind of provider has")
	}
	prior, err := f.unsealProvider(r.Context(), p)
	if err != nil {
		return err
	}
	defer clear(prior)
	made, err := f.Providers.Rotate(p, prior)
	if err != nil {
		return err
	}
	if err := f.take(r.Context(), &p, made); err != nil {
		return err
	}
	return f.changeProvider(w, r, before, p, true, "rotate-secret")
}

// checkProvider looks at what a provider depends on, now, enabled or not.
func (f *Function) checkProvider(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	p, err := f.findProvider(r)
	if err != nil {
		return err
	}
	report, err := f.Providers.Check(ctx, p)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fault.Unavailable):
		return err // our own key service: it says nothing of the provider
	case err != nil:
		f.Log.ErrorContext(ctx, "identity provider cannot be opened", "org", p.Org, "provider", p.ID, "err", err)
		report = identity.Report{Findings: []identity.Finding{{Name: "open", Detail: "the provider's configuration or secrets cannot be opened"}}}
	}
	out := reportWire{OK: report.OK, Findings: []findingWire{}}
	for _, one := range report.Findings {
		out.Findings = append(out.Findings, findingWire(one))
	}
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		return tx.AppendAudit(ctx, f.act(r, p.Org, "identity_provider.check", p.ID, map[string]any{"kind": p.Kind, "ok": out.OK}))
	}); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, out)
}
