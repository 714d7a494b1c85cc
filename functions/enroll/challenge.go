package enroll

import (
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// postChallenge gives anybody what their proof must answer. Nothing is kept of it.
func (f *Function) postChallenge(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	formation, err := f.Store.Formation(r.Context(), key)
	if err != nil {
		return err
	}
	if err := f.limitAddress(f.address(r)); err != nil {
		return f.unheard(r.Context(), key, f.address(r), tooOften, err)
	}
	c, err := enrollment.NewChallenge(f.Tokens, key, formation.MeshID, f.Now(), f.Random)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusCreated, challengeWire{c.Text, c.ExpiresAt, formation.MeshID})
}

// answered opens the challenge that a node's proof answers.
func (f *Function) answered(d device, formation tenant.Formation) (*enrollment.Challenge, error) {
	if d.challenge == "" {
		return nil, nil
	}
	c, err := enrollment.OpenChallenge(f.Tokens, d.challenge, tenant.Key{Org: formation.Org, App: formation.App}, formation.MeshID, f.Now())
	if err != nil {
		return nil, invalid("/challenge", "is not one that this formation gave out within 5 minutes")
	}
	return &c, nil
}
