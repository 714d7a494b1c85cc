package enroll

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// getAuthority shows all authorities of a formation, and how many certificates hang
// on each.
func (f *Function) getAuthority(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	return f.writeAuthorities(w, r, key)
}

func (f *Function) writeAuthorities(w http.ResponseWriter, r *http.Request, key tenant.Key) error {
	all, err := f.Store.Authorities(r.Context(), key)
	if err != nil {
		return err
	}
	hanging, err := f.Store.Hanging(r.Context(), key, f.now())
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireAuthorities(all, hanging))
}

// postPrepare makes the authority that will sign one day. Members can be told of it
// before it does.
func (f *Function) postPrepare(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	// Asked first, so that a mistake in the path does not cost a key.
	if _, err := f.Store.Formation(r.Context(), key); err != nil {
		return err
	}
	made, err := f.newAuthority(r.Context(), key)
	if err != nil {
		return err
	}
	faultpoint.Hit("prepare/sealed")
	return f.rotate(w, r, key, "prepare", func(ctx context.Context, tx *store.Tx, t *turn) error {
		if t.find(authority.Next) != nil {
			return fault.Conflict.New("an authority is prepared already")
		}
		if err := tx.AddAuthority(ctx, made); err != nil {
			return err
		}
		t.changed = append(t.changed, made)
		return nil
	})
}

// newAuthority makes a key pair and seals it. That may take a service far away, so
// it is not for inside a transaction.
func (f *Function) newAuthority(ctx context.Context, key tenant.Key) (authority.Authority, error) {
	now := f.Now()
	a := authority.Authority{
		Key: key, ID: ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy()).String(), State: authority.Next, CreatedAt: store.Precise(now),
	}
	public, private, err := ed25519.GenerateKey(f.Random)
	if err != nil {
		return a, fmt.Errorf("make an authority: %w", err)
	}
	defer clear(private)
	seed := private.Seed()
	defer clear(seed)
	a.PublicKey = public
	a.Sealed, err = f.Keys.Seal(ctx, keyring.OfAuthority(key, a.ID), seed)
	return a, err
}

// postActivate has the prepared authority sign from now on. The one before it signs
// no more, and what it signed is good.
func (f *Function) postActivate(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	return f.rotate(w, r, key, "activate", func(ctx context.Context, tx *store.Tx, t *turn) error {
		next := t.find(authority.Next)
		if next == nil {
			return fault.Conflict.New("no authority is prepared")
		}
		if old := t.find(authority.Active); old != nil {
			old.ReplacedAt = t.now
			if err := t.move(ctx, tx, old, authority.Retiring); err != nil {
				return err
			}
		}
		faultpoint.Hit("activate/replaced")
		return t.activate(ctx, tx, next)
	})
}

// postRetire ends the trust in an authority that was replaced. While certificates
// hang on it, it takes force, which revokes them.
func (f *Function) postRetire(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	var in retireRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	return f.rotate(w, r, key, "retire", func(ctx context.Context, tx *store.Tx, t *turn) error {
		a, err := t.named(in.Authority)
		if err != nil {
			return err
		}
		if _, err := a.State.Move(authority.Retired); err != nil {
			return err
		}
		hanging, err := tx.Hanging(ctx, key, t.now)
		if err != nil {
			return err
		}
		switch n := hanging[a.ID]; {
		case n > 0 && !in.Force:
			return fault.Conflict.New("%d certificates of this authority are good; with force they are revoked", n)
		case n > 0:
			if t.revoked, err = tx.RevokeSigned(ctx, key, a.ID, t.now, t.actor, authority.ByRetirement); err != nil {
				return err
			}
			faultpoint.Hit("retire/revoked")
		}
		a.EndedAt = t.now
		return t.move(ctx, tx, a, authority.Retired)
	})
}

// postTaint ends the trust in an authority whose key somebody else may have:
// whatever it signed is revoked. If it is the one that signs, the prepared one takes
// its place, or one that is made on the spot.
func (f *Function) postTaint(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	var in taintRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	if _, err := tenant.ParseDisplayName(in.Reason); err != nil || len(in.Reason) > maxWhyBytes {
		return invalid("/reason", "must be text of 1 to 256 bytes")
	}
	if _, err := f.Store.Formation(r.Context(), key); err != nil {
		return err
	}
	spare, err := f.newAuthority(r.Context(), key)
	if err != nil {
		return err
	}
	faultpoint.Hit("taint/sealed")
	return f.rotate(w, r, key, "taint", func(ctx context.Context, tx *store.Tx, t *turn) error {
		a, err := t.named(in.Authority)
		if err != nil {
			return err
		}
		signs := a.State == authority.Active
		a.Reason, a.EndedAt = in.Reason, t.now
		if err := t.move(ctx, tx, a, authority.Tainted); err != nil {
			return err
		}
		faultpoint.Hit("taint/tainted")
		if t.revoked, err = tx.RevokeSigned(ctx, key, a.ID, t.now, t.actor, authority.ByTaint); err != nil {
			return err
		}
		faultpoint.Hit("taint/revoked")
		if !signs {
			return nil
		}
		next := t.find(authority.Next)
		if next == nil {
			next = &spare
			if err := tx.AddAuthority(ctx, spare); err != nil {
				return err
			}
		}
		return t.activate(ctx, tx, next)
	})
}

// turn is one change of a formation's authorities, under the ledger's lock.
type turn struct {
	act
	now     time.Time
	all     []authority.Authority
	changed []authority.Authority
	revoked int
}

// find returns the newest authority in a state; nil if there is none.
func (t *turn) find(s authority.State) *authority.Authority {
	i := slices.IndexFunc(t.all, func(a authority.Authority) bool { return a.State == s })
	if i < 0 {
		return nil
	}
	return &t.all[i]
}

func (t *turn) named(id string) (*authority.Authority, error) {
	i := slices.IndexFunc(t.all, func(a authority.Authority) bool { return a.ID == id })
	if i < 0 {
		return nil, invalid("/authority_id", "is not an authority of this formation")
	}
	return &t.all[i], nil
}

// move brings an authority into another state, with what else was changed of it.
func (t *turn) move(ctx context.Context, tx *store.Tx, a *authority.Authority, to authority.State) (err error) {
	if a.State, err = a.State.Move(to); err != nil {
		return err
	}
	t.changed = append(t.changed, *a)
	return tx.SetAuthority(ctx, *a)
}

func (t *turn) activate(ctx context.Context, tx *store.Tx, a *authority.Authority) error {
	a.ActivatedAt = t.now
	return t.move(ctx, tx, a, authority.Active)
}

// rotate runs one change, keeps it with audit entry and events, and answers with
// how things stand then.
func (f *Function) rotate(w http.ResponseWriter, r *http.Request, key tenant.Key, what string, change func(context.Context, *store.Tx, *turn) error) error {
	ctx := r.Context()
	if err := f.Store.InTxOn(ctx, key, func(tx *store.Tx) error {
		t := &turn{act: actOf(r), now: store.Precise(f.Now())}
		if _, err := tx.LockLedger(ctx, key); err != nil {
			return err
		}
		var err error
		if t.all, err = tx.Authorities(ctx, key); err != nil {
			return err
		}
		if err := change(ctx, tx, t); err != nil {
			return err
		}
		faultpoint.Hit("rotation/changed")
		return f.tellRotation(ctx, tx, key, what, t)
	}); err != nil {
		return err
	}
	faultpoint.Hit("rotation/committed")
	f.Notify()
	return f.writeAuthorities(w, r, key)
}

func (f *Function) tellRotation(ctx context.Context, tx *store.Tx, key tenant.Key, what string, t *turn) error {
	states := map[string]any{}
	for _, a := range t.changed {
		states[a.ID] = a.State
	}
	if len(t.changed) == 0 {
		return errors.New("enroll: a change of authority that changed none")
	}
	detail := map[string]any{"states": states, "revoked_certificates": t.revoked}
	if reason := t.changed[0].Reason; reason != "" {
		detail["reason"] = reason
	}
	if err := tx.AppendAudit(ctx, f.audit(t.act, key, "authority."+what, t.changed[0].ID, detail)); err != nil {
		return err
	}
	faultpoint.Hit("rotation/audited")
	for _, a := range t.changed {
		if err := tx.Enqueue(ctx, event.Authority(eventOfAuthority(a), t.now)); err != nil {
			return err
		}
	}
	return nil
}
