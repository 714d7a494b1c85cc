package sinks

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/webhook"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// newSigningKey makes a key pair. Sealing may take a service far away, so it is not
// for inside a transaction.
func (d Deps) newSigningKey(ctx context.Context, org tenant.OrgID) (delivery.SigningKey, error) {
	now := d.Now()
	k := delivery.SigningKey{Org: org, ID: newID(now), CreatedAt: store.Precise(now)}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return k, fmt.Errorf("make a signing key: %w", err)
	}
	seed := private.Seed()
	defer clear(private)
	defer clear(seed)
	k.Public = public
	k.Sealed, err = d.Keys.Seal(ctx, keyring.OfSigningKey(org, k.ID), seed)
	return k, err
}

// haveSigningKeys returns the organization's keys, and makes the first one if there
// is none.
func (d Deps) haveSigningKeys(ctx context.Context, org tenant.OrgID) ([]delivery.SigningKey, error) {
	have, err := d.Store.SigningKeys(ctx, org, d.Now())
	if err != nil || len(have) > 0 {
		return have, err
	}
	made, err := d.newSigningKey(ctx, org)
	if err != nil {
		return nil, err
	}
	err = d.Store.InTx(ctx, func(tx *store.Tx) error {
		if _, err := tx.LockOrg(ctx, org); err != nil {
			return err
		}
		if have, err = tx.SigningKeys(ctx, org, d.Now()); err != nil || len(have) > 0 {
			return err // somebody else was first
		}
		have = []delivery.SigningKey{made}
		return tx.ReplaceSigningKey(ctx, made, made.CreatedAt)
	})
	return have, err
}

// openSigningKeys returns the organization's keys ready to sign.
func (d Deps) openSigningKeys(ctx context.Context, org tenant.OrgID) ([]driver.SigningKey, error) {
	have, err := d.haveSigningKeys(ctx, org)
	if err != nil {
		return nil, err
	}
	var out []driver.SigningKey
	for _, k := range have {
		seed, err := d.Keys.Open(ctx, keyring.OfSigningKey(org, k.ID), k.Sealed)
		if err != nil {
			return nil, err
		}
		if len(seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("the signing key %s cannot be read", k.ID)
		}
		out = append(out, driver.SigningKey{Private: ed25519.NewKeyFromSeed(seed), NotAfter: k.RetiresAt})
		clear(seed)
	}
	return out, nil
}

// keysMaxAge is how long a receiver may remember the keys. It must be less than a
// day, which is how long a key is published, by default, after it was replaced.
const keysMaxAge = 5 * time.Minute

// listSigningKeys tells the world by which keys receivers know an organization.
func (a *Admin) listSigningKeys(w http.ResponseWriter, r *http.Request) error {
	sc, err := scopeOf(r)
	if err != nil {
		return err
	}
	if err := a.exists(r.Context(), sc); err != nil {
		return err
	}
	keys, err := a.Store.SigningKeys(r.Context(), sc.org, a.Now())
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(keysMaxAge.Seconds())))
	return web.WriteJSON(w, http.StatusOK, wireSigningKeys(keys))
}

// rotateSigningKeys makes a new key pair. Those before it sign beside it until the
// overlap ends.
func (a *Admin) rotateSigningKeys(w http.ResponseWriter, r *http.Request) error {
	sc, err := scopeOf(r)
	if err != nil {
		return err
	}
	overlap, err := readOverlap(r)
	if err != nil {
		return err
	}
	if err := a.exists(r.Context(), sc); err != nil {
		return err
	}
	made, err := a.newSigningKey(r.Context(), sc.org)
	if err != nil {
		return err
	}
	var keys []delivery.SigningKey
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if _, err := tx.LockOrg(r.Context(), sc.org); err != nil {
			return err
		}
		if keys, err = tx.SigningKeys(r.Context(), sc.org, made.CreatedAt); err != nil {
			return err
		}
		if len(keys) > maxSigningKeys && overlap > 0 {
			return fault.Conflict.New("three earlier keys are still good; an overlap of 0s ends them all")
		}
		if err := tx.ReplaceSigningKey(r.Context(), made, store.Precise(made.CreatedAt.Add(overlap))); err != nil {
			return err
		}
		if keys, err = tx.SigningKeys(r.Context(), sc.org, made.CreatedAt); err != nil {
			return err
		}
		return tx.AppendAudit(r.Context(), store.Audit{
			Org: sc.org, At: a.Now(), Actor: access.FromContext(r.Context()).Name, Action: "signing-key.rotate", Target: made.ID,
			RequestID: web.RequestID(r.Context()), Detail: map[string]any{"overlap": overlap.String()},
		})
	}); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireSigningKeys(keys))
}

// maxSigningKeys bounds the signatures of one request: the newest, and so many
// before it.
const maxSigningKeys = 3

type signingKeyWire struct {
	ID        string     `json:"key_id"`
	Algorithm string     `json:"algorithm"`
	PublicKey string     `json:"public_key"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
}

func wireSigningKeys(keys []delivery.SigningKey) web.List[signingKeyWire] {
	out := web.List[signingKeyWire]{Items: []signingKeyWire{}}
	for _, k := range keys {
		w := signingKeyWire{ID: k.ID, Algorithm: "ed25519", PublicKey: webhook.PublicKey(k.Public)}
		if !k.RetiresAt.IsZero() {
			w.NotAfter = &k.RetiresAt
		}
		out.Items = append(out.Items, w)
	}
	return out
}
