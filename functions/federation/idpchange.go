package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

func (f *Function) patchProvider(w http.ResponseWriter, r *http.Request) error {
	p, err := f.findProvider(r)
	if err != nil {
		return err
	}
	var in providerPatch
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	before := p
	if in.Label != nil {
		if p.Label, err = parseLabel(*in.Label); err != nil {
			return err
		}
	}
	if in.Config != nil {
		if err := f.reconfigure(r.Context(), &p, in.Config); err != nil {
			return err
		}
	}
	return f.changeProvider(w, r, before, p, in.Config != nil, "update")
}

// reconfigure merges a patch into a provider's configuration. Secrets that it does not
// mention stay what they were; a kind that sends them somewhere sees to it that they
// go nowhere else.
func (f *Function) reconfigure(ctx context.Context, p *identity.Provider, patch json.RawMessage) error {
	merged, ok := web.MergePatch(p.Config, patch)
	if !ok {
		return identity.Invalid("config", "must be an object")
	}
	prior, err := f.unsealProvider(ctx, *p)
	if err != nil {
		return err
	}
	defer clear(prior)
	made, err := f.Providers.Parse(p.Kind, merged, prior)
	if err != nil {
		return err
	}
	return f.take(ctx, p, made)
}

// unsealProvider opens a provider's secrets; nil if it has none.
func (f *Function) unsealProvider(ctx context.Context, p identity.Provider) ([]byte, error) {
	if p.Sealed == nil {
		return nil, nil
	}
	return f.Keys.Open(ctx, keyring.OfProvider(p.Org, p.ID), p.Sealed)
}

// changeProvider writes down what a provider is from now on, if it is still what the
// caller means, and answers with it. secrets says that they were sealed anew.
func (f *Function) changeProvider(w http.ResponseWriter, r *http.Request, before, after identity.Provider, secrets bool, action string) error {
	ctx := r.Context()
	after.UpdatedAt = store.Precise(f.Now())
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		now, err := tx.LockProvider(ctx, before.Org, before.ID)
		if err != nil {
			return err
		}
		if err := web.IfMatch(r, fmt.Sprint(now.Version)); err != nil {
			return err
		}
		update := tx.UpdateProvider
		if secrets {
			update = tx.UpdateProviderAndSecrets
		}
		changed, err := update(ctx, after)
		if errors.Is(err, fault.Stale) {
			return fault.Conflict.New("identity provider %q was changed by somebody else meanwhile; look at it again", before.ID)
		}
		if err != nil {
			return err
		}
		if err := f.noteProvider(tx, r, &before, &changed, action); err != nil {
			return err
		}
		after.Version = changed.Version
		return nil
	}); err != nil {
		return err
	}
	f.announce(after.Org)
	return f.showProvider(w, http.StatusOK, after)
}

// switchProvider has a provider vouch, or not any more. What it vouched for before
// stays as it is.
func (f *Function) switchProvider(on bool) func(http.ResponseWriter, *http.Request) error {
	action := map[bool]string{true: "enable", false: "disable"}[on]
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := f.findProvider(r)
		if err != nil {
			return err
		}
		after := p
		after.Enabled = on
		return f.changeProvider(w, r, p, after, false, action)
	}
}
