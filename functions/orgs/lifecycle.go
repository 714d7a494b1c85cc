package orgs

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
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

// suspend stops issue, capture and delivery. Nothing is lost by it: peers keep what
// they wrote until they may connect again, and sinks go on from their cursors. What
// is kept may still be read.
func (f *Function) suspend(w http.ResponseWriter, r *http.Request) error {
	return f.move(w, r, tenant.Suspended, "formation.suspend", event.FormationSuspended)
}

// resume is the reverse of suspend.
func (f *Function) resume(w http.ResponseWriter, r *http.Request) error {
	return f.move(w, r, tenant.Active, "formation.resume", event.FormationResumed)
}

func (f *Function) move(w http.ResponseWriter, r *http.Request, to tenant.State, action string, tell func(tenant.Formation, time.Time) cloudevents.Event) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	return f.change(w, r, key, action, func(formation *tenant.Formation) (e cloudevents.Event, err error) {
		if formation.State, err = formation.State.Move(to); err != nil {
			return e, err
		}
		return tell(*formation, f.Now()), nil
	})
}

// deleteFormation destroys a formation: keys, certificates, log and all. What remains
// is the audit trail, and a record that the formation's own authority signs with the
// last use of its key.
//
// A key that cannot be opened any more must not keep a formation from being
// destroyed: asked to, this does without the signature.
func (f *Function) deleteFormation(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	unsigned := false
	switch r.URL.Query().Get("unsigned") {
	case "", "false":
	case "true":
		unsigned = true
	default:
		return fault.Malformed.New("unsigned must be true or false")
	}
	last, root, err := f.root(r.Context(), key)
	if err != nil && !(unsigned && errors.Is(err, fault.NotFound) && last.PublicKey != nil) {
		return err
	}
	used := false
	if err == nil {
		err = f.Keys.Sign(r.Context(), root, func(private ed25519.PrivateKey) error {
			used = true
			return f.destroy(r, key, last, private)
		})
	}
	if err != nil && !used && unsigned {
		f.Log.WarnContext(r.Context(), "destroyed without a signature", "formation", key.String(), "err", err)
		err = f.destroy(r, key, last, nil)
	}
	if err != nil {
		return err
	}
	faultpoint.Hit("destroy/committed")
	f.Notify()
	return web.NoContent(w)
}

// root is the authority that signs for a formation now, and where its key is. The
// authority is returned also if its key is not there.
func (f *Function) root(ctx context.Context, key tenant.Key) (authority.Authority, keyring.Root, error) {
	if _, err := f.Store.Formation(ctx, key); err != nil {
		return authority.Authority{}, keyring.Root{}, err
	}
	a, err := f.Store.ActiveAuthority(ctx, key)
	if err != nil {
		return a, keyring.Root{}, err
	}
	root := keyring.Root{Record: keyring.OfAuthority(key, a.ID), Sealed: a.Sealed, PublicKey: a.PublicKey}
	if a.Sealed == nil {
		root.Record = keyring.OfGenesis(key)
		root.Sealed, err = f.Store.Genesis(ctx, key)
	}
	return a, root, err
}

// destroy ends a formation in one transaction. The key is open already: there is
// nothing in here that waits for anybody.
func (f *Function) destroy(r *http.Request, key tenant.Key, last authority.Authority, private ed25519.PrivateKey) error {
	ctx := r.Context()
	faultpoint.Hit("destroy/opened")
	return f.Store.InTx(ctx, func(tx *store.Tx) error {
		formation, err := tx.LockFormation(ctx, key)
		if err != nil {
			return err
		}
		faultpoint.Hit("destroy/locked")
		if err := web.IfMatch(r, tag(formation.Revision)); err != nil {
			return err
		}
		if _, err := formation.State.Move(tenant.Destroyed); err != nil {
			return err
		}
		if now, err := tx.ActiveAuthority(ctx, key); err != nil || !bytes.Equal(now.PublicKey, last.PublicKey) {
			return errors.Join(err, fault.Conflict.New("the formation's authority was just replaced; try again"))
		}
		record, err := f.record(ctx, tx, r, formation, last)
		if err != nil {
			return err
		}
		id := ulid.MustNew(ulid.Timestamp(record.At), ulid.DefaultEntropy()).String()
		signed := record.Unsigned(id)
		if private != nil {
			signed = record.Sign(private, id)
		}
		if err := tx.AddDestruction(ctx, key.Org, signed); err != nil {
			return err
		}
		faultpoint.Hit("destroy/recorded")
		if err := tx.DestroyFormation(ctx, key); err != nil {
			return err
		}
		faultpoint.Hit("destroy/erased")
		detail := map[string]any{"mesh_id": formation.MeshID, "destruction_id": id, "certificates_revoked": record.Certificates, "signed": private != nil}
		if err := tx.AppendAudit(ctx, f.audit(r, key.Org, "formation.delete", string(key.App), detail)); err != nil {
			return err
		}
		faultpoint.Hit("destroy/audited")
		if err := tx.Enqueue(ctx, event.FormationDeleted(formation, f.Now())); err != nil {
			return err
		}
		faultpoint.Hit("destroy/told")
		return nil
	})
}

func (f *Function) record(ctx context.Context, tx *store.Tx, r *http.Request, formation tenant.Formation, last authority.Authority) (tenant.Destruction, error) {
	key := tenant.Key{Org: formation.Org, App: formation.App}
	now := store.Precise(f.Now())
	position, err := tx.Position(ctx, key)
	if err != nil {
		return tenant.Destruction{}, err
	}
	hanging, err := tx.Hanging(ctx, key, now)
	if err != nil {
		return tenant.Destruction{}, err
	}
	act := f.audit(r, key.Org, "", "", nil)
	d := tenant.Destruction{
		Key: key, MeshID: formation.MeshID, Authority: last.PublicKey, CreatedAt: formation.CreatedAt, At: now,
		By: act.Actor, RequestID: act.RequestID, Position: position,
	}
	for _, n := range hanging {
		d.Certificates += uint64(n)
	}
	return d, nil
}

// onDeleted sweeps what is left of a formation that was just destroyed.
func (f *Function) onDeleted(ctx context.Context, e cloudevents.Event) error {
	var data event.FormationData
	if err := e.DataAs(&data); err != nil {
		return fault.Malformed.New("event data: %v", err)
	}
	return f.sweep(ctx, tenant.Key{Org: data.Org, App: data.App}, time.Now().Add(sweepBudget))
}

// onPing sweeps what is left of any: whoever began it may have died. Requests that
// need not be remembered any more go too.
func (f *Function) onPing(ctx context.Context, _ cloudevents.Event) error {
	until := time.Now().Add(sweepBudget)
	left, err := f.Store.Destroyed(ctx, maxSwept)
	for _, key := range left {
		err = errors.Join(err, f.sweep(ctx, key, until))
	}
	return errors.Join(err, f.Store.InTx(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.ForgetClaims(ctx, f.Now()), tx.ForgetChallenges(ctx, f.Now()))
	}))
}

// Bounds of one sweep: what it does not get done, the next does.
const (
	sweepBudget = 20 * time.Second
	maxSwept    = 100
)

// sweep removes what is left of a destroyed formation, piece by piece, so that nobody
// else waits for more than a piece.
func (f *Function) sweep(ctx context.Context, key tenant.Key, until time.Time) error {
	for done := false; !done && time.Now().Before(until) && ctx.Err() == nil; {
		if err := f.Store.InTx(ctx, func(tx *store.Tx) (err error) {
			done, err = tx.Sweep(ctx, key)
			return err
		}); err != nil {
			return err
		}
		faultpoint.Hit("destroy/swept")
	}
	return nil
}

// listDestructions shows what was destroyed since the organization was made.
func (f *Function) listDestructions(w http.ResponseWriter, r *http.Request) error {
	id, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	org, err := f.Store.Org(r.Context(), id)
	if err != nil {
		return err
	}
	found, err := f.Store.Destructions(r.Context(), id, org.CreatedAt, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(d tenant.SignedDestruction) string { return d.ID })
	out := web.List[destructionWire]{Items: make([]destructionWire, len(list.Items)), Next: list.Next}
	for i, d := range list.Items {
		if out.Items[i], err = wireDestruction(d); err != nil {
			return err
		}
	}
	return web.WriteJSON(w, http.StatusOK, out)
}
