package enroll

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// byRenewal is the rule by which a node gets a certificate for one that it has.
const byRenewal = "renewal"

// postRenew gives a node a new certificate for the same key: it says what the old
// one says, and lasts as long. Asked again, it gives the same one, so that an
// answer that was lost does no harm and one that was overheard gains nothing.
func (f *Function) postRenew(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	serial, err := serialOf(r)
	if err != nil {
		return err
	}
	var in renewRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	formation, err := f.Store.Formation(r.Context(), key)
	if err != nil {
		return err
	}
	old, err := f.Store.Certificate(r.Context(), key, serial)
	if err != nil {
		return err
	}
	proof, err := in.Proof.check(authority.Possession{
		Purpose: authority.ForRenewal, Key: key, MeshID: formation.MeshID, NodeID: old.NodeID, Subject: old.Subject, Serial: serial,
	}, f.Now())
	if err != nil {
		return err
	}
	// Nothing is said of the certificate's state to one who has not its key.
	if formation.State != tenant.Active {
		return fault.Conflict.New("the formation is %s: it issues no certificates", formation.State)
	}
	err = renewable(old, f.now())
	status, c := http.StatusCreated, authority.Certificate{}
	if err == nil {
		c, err = f.renewed(r, formation, old, proof, in.Identity)
	}
	var already renewed
	if errors.As(err, &already) {
		status = http.StatusOK
		c, err = f.Store.Certificate(r.Context(), key, already.to)
	}
	if err != nil {
		return err
	}
	return f.issued(w, status, c)
}

// renewed gives a node that may renew a certificate its new one. What is refused on
// the strength of what a provider says is written down.
func (f *Function) renewed(r *http.Request, formation tenant.Formation, old authority.Certificate, proof authority.Possession, in *identityRequest) (authority.Certificate, error) {
	ctx := r.Context()
	shown, err := f.evidence(r, in)
	if err != nil {
		return authority.Certificate{}, err
	}
	o := renewal(old.Key, formation.MeshID, old)
	o.act, o.proof, o.address = act{"node:" + old.NodeID, web.RequestID(ctx)}, proof, f.address(r)
	if err := f.recheck(ctx, &o, formation, old, shown); err != nil {
		return authority.Certificate{}, f.denied(ctx, o, err)
	}
	return f.issue(ctx, o)
}

// renewable returns why a certificate cannot be renewed now, if it cannot.
func renewable(c authority.Certificate, now time.Time) error {
	switch s := c.Standing(now); {
	case s == authority.Revoked:
		return fault.Forbidden.New("the certificate was revoked")
	case c.ReplacedBy != "":
		return renewed{c.ReplacedBy}
	case s == authority.Expired:
		return fault.Forbidden.New("the certificate has expired: the node needs to enroll again")
	case now.Before(c.RenewAfter):
		return fault.RetryIn(fault.Conflict.New("the certificate may be renewed from %s on", c.RenewAfter.Format(time.RFC3339)), c.RenewAfter.Sub(now))
	}
	return nil
}

// stillRenewable is renewable under the ledger's lock.
func stillRenewable(ctx context.Context, tx *store.Tx, o order, now time.Time) error {
	old, err := tx.Certificate(ctx, o.key, o.replaces)
	if err != nil {
		return err
	}
	return renewable(old, now)
}
