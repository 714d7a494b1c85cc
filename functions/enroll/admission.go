package enroll

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// renewed means that somebody else renewed the certificate first.
type renewed struct{ to string }

func (renewed) Error() string { return "enroll: renewed already" }

// keep decides on a signed certificate and keeps it with its audit entry and its
// event, or keeps nothing. Whoever decides at the same time waits for the ledger.
func (f *Function) keep(ctx context.Context, tx *store.Tx, o order, c authority.Certificate) (authority.Certificate, error) {
	ledger, err := tx.LockLedger(ctx, o.key)
	if err != nil {
		return c, err
	}
	if err := o.redeem(ctx, tx, f.Now()); err != nil {
		return c, err
	}
	a, err := tx.Admission(ctx, o.key, c.Authority, o.node, o.subject)
	if err != nil {
		return c, err
	}
	if err := o.decide(a, c.IssuedAt); err != nil {
		return c, err
	}
	if o.replaces != "" {
		if err := stillRenewable(ctx, tx, o, c.IssuedAt); err != nil {
			return c, err
		}
	}
	if err := f.bind(ctx, tx, o, c, a, &ledger); err != nil {
		return c, err
	}
	if o.replaces == "" {
		if err := tx.TakeEnrollment(ctx, o.key.Org, c.IssuedAt); err != nil {
			return c, err
		}
	}
	ledger.Issued++
	c.Number = ledger.Issued
	if err := tx.AddCertificate(ctx, c); err != nil {
		return c, err
	}
	faultpoint.Hit("issue/certificate-kept")
	if o.replaces != "" {
		if err := tx.ReplaceCertificate(ctx, o.key, o.replaces, c.Serial); err != nil {
			return c, err
		}
	}
	if err := tx.SetLedger(ctx, o.key, ledger); err != nil {
		return c, err
	}
	if err := o.settle(ctx, tx, c); err != nil {
		return c, err
	}
	return c, f.tell(ctx, tx, o, c)
}

// tell writes what was done into the audit trail and the outbox.
func (f *Function) tell(ctx context.Context, tx *store.Tx, o order, c authority.Certificate) error {
	entry, e := f.account(o, c)
	if err := tx.AppendAudit(ctx, entry); err != nil {
		return err
	}
	faultpoint.Hit("issue/audited")
	if err := o.record(ctx, tx, f.Now()); err != nil {
		return err
	}
	if o.entering() {
		if err := tx.Enqueue(ctx, event.EnrollmentDecided(decidedOn(o, c), f.Now())); err != nil {
			return err
		}
	}
	return tx.Enqueue(ctx, e)
}

// account is what is told of a certificate.
func (f *Function) account(o order, c authority.Certificate) (store.Audit, cloudevents.Event) {
	action, kind := "certificate.issue", event.CertificateIssuedType
	detail := map[string]any{
		"node_id": c.NodeID, "public_key": hex.EncodeToString(c.Subject), "tier": enrollment.TierName(o.grant.Tier),
		"permissions": enrollment.PermissionNames(o.grant.Permissions), "expires_at": c.ExpiresAt, "authority_id": c.Authority, "rule": c.Rule,
	}
	for name, text := range map[string]string{"why": c.Why, "admitted_by": c.AdmittedBy, "replaces": c.Replaces} {
		if text != "" {
			detail[name] = text
		}
	}
	if o.replaces != "" {
		action, kind = "certificate.renew", event.CertificateRenewedType
	}
	if o.claimed != nil {
		detail["identity"] = o.claimed.shown()
	}
	if !o.grace.IsZero() {
		detail["grace_until"] = o.grace
	}
	return f.audit(o.act, o.key, action, c.Serial, detail), event.Certificate(kind, eventOf(c), f.Now())
}

// decide returns why the order is refused, if it is.
func (o order) decide(a store.Admission, now time.Time) error {
	switch n := a.Node; {
	case a.Formation.State != tenant.Active:
		return fault.Conflict.New("the formation is %s: it issues no certificates", a.Formation.State)
	case o.asks() && a.Formation.Policy == tenant.Strict:
		return errStrict
	case !a.Signer.Trusted():
		return errSigner
	case a.Revoked:
		return fault.Conflict.New("a certificate of this key was revoked: the node needs a new key")
	case n != nil && now.Before(n.Until) && !bytes.Equal(n.Subject, o.subject):
		return fault.Conflict.New("the node id belongs to another key until that one's certificates are revoked or have expired")
	case a.Other != nil && now.Before(a.Other.Until):
		return fault.Conflict.New("the key has a certificate under another node id")
	case n != nil && o.replaces == "" && bytes.Equal(n.Subject, o.subject) && !o.proof.At.After(n.ProvedAt):
		return fault.Conflict.New("the proof was used already, or a newer one was")
	}
	return nil
}

// bind makes the node id the key's own and keeps the formation's quota.
func (f *Function) bind(ctx context.Context, tx *store.Tx, o order, c authority.Certificate, a store.Admission, ledger *authority.Ledger) error {
	if a.Other != nil { // a name that the key had once
		if err := tx.FreeNode(ctx, o.key, a.Other.ID); err != nil {
			return err
		}
		ledger.Nodes--
	}
	if a.Node == nil {
		ledger.Nodes++
		if ledger.Nodes > a.Quotas.MaxPeersPerFormation {
			// Only now is it worth looking whose time has passed.
			freed, err := tx.FreeExpiredNodes(ctx, o.key, c.IssuedAt, c.IssuedAt.Add(-authority.ProofWindow))
			if err != nil {
				return err
			}
			if ledger.Nodes -= freed; ledger.Nodes > a.Quotas.MaxPeersPerFormation {
				return tenant.Exceeded(tenant.MaxPeersPerFormation, a.Quotas.MaxPeersPerFormation)
			}
		}
	}
	if err := tx.BindNode(ctx, o.key, binding(o, c, a.Node)); err != nil {
		return fmt.Errorf("bind node: %w", err)
	}
	faultpoint.Hit("issue/node-bound")
	return nil
}

// binding is what becomes of a node id that was so far as old says, if it was
// anybody's.
func binding(o order, c authority.Certificate, old *authority.Node) authority.Node {
	n := authority.Node{ID: o.node, Subject: o.subject, Until: c.ExpiresAt, ProvedAt: store.Precise(o.proof.At)}
	if old != nil && bytes.Equal(old.Subject, o.subject) && old.Until.After(n.Until) {
		n.Until = old.Until // an older certificate of the key lasts longer
	}
	return n
}
