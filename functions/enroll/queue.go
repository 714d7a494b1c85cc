package enroll

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// asks tells whether an order is a node's own, on which nobody has decided.
func (o order) asks() bool {
	return (o.shown != nil || o.claimed != nil && o.replaces == "") && o.approved == nil
}

// entering tells whether an order lets a node in.
func (o order) entering() bool { return o.asks() || o.approved != nil }

// redeem uses up what a node has shown to be let in, and looks once more whether the
// one who vouches for it is still with the organization.
func (o order) redeem(ctx context.Context, tx *store.Tx, now time.Time) error {
	if err := o.redeemProof(ctx, tx, now); err != nil {
		return err
	}
	if o.shown != nil {
		return o.shown.use(ctx, tx, o, now)
	}
	return nil
}

// redeemProof is redeem but for a token, of which coming back takes no use.
func (o order) redeemProof(ctx context.Context, tx *store.Tx, now time.Time) error {
	if o.challenge != nil {
		if err := tx.UseChallenge(ctx, o.key, *o.challenge); err != nil {
			return err
		}
		faultpoint.Hit("enroll/challenge-used")
	}
	var v enrollment.Voucher
	switch {
	case o.claimed != nil:
		v = o.claimed.voucher
		if c := o.claimed.claims; c.Once && c.ID != "" {
			if err := tx.UseProof(ctx, o.key.Org, c.Issuer, c.ID, now, c.ExpiresAt); err != nil {
				return err
			}
			faultpoint.Hit("enroll/proof-used")
		}
	case o.approved != nil:
		v = o.approved.Voucher
	case o.vouched:
		_, gone, err := tx.Voucher(ctx, o.key, o.subject)
		if err == nil && gone {
			err = errOffboarded
		}
		return err
	}
	if !v.IsSet() {
		return nil
	}
	gone, err := tx.Offboarded(ctx, o.key.Org, v.Provider, v.Claimant)
	if err == nil && gone {
		err = errOffboarded
	}
	return err
}

// settle keeps, beside a certificate, who vouched for its node and that the node waits
// no more.
func (o order) settle(ctx context.Context, tx *store.Tx, c authority.Certificate) error {
	v := enrollment.Vouched{Key: o.key, Subject: o.subject}
	switch {
	case o.claimed != nil:
		v.Voucher = o.claimed.voucher
	case o.approved != nil:
		v.Voucher = o.approved.Voucher
		a := *o.approved
		a.Serial = c.Serial
		if err := tx.DecideApplication(ctx, a); err != nil {
			return err
		}
		faultpoint.Hit("approve/decided")
	}
	if !v.IsSet() {
		return nil
	}
	return tx.PutVoucher(ctx, v)
}

// record keeps a decision of the policy, so that another policy can be asked the same.
func (o order) record(ctx context.Context, tx *store.Tx, now time.Time) error {
	if o.claimed == nil || !o.claimed.decided {
		return nil
	}
	return tx.RecordDecision(ctx, o.key.Org, policy.Record{At: store.Precise(now), Claims: o.claimed.claims, Request: o.claimed.request, Decision: o.claimed.decision})
}

// decidedBy is what is told of a decision on a node.
func decidedBy(o order, outcome string) event.EnrollmentData {
	d := event.EnrollmentData{
		Org: o.key.Org, App: o.key.App, Outcome: outcome, NodeID: o.node, PublicKey: hex.EncodeToString(o.subject), Rule: o.rule,
	}
	if o.claimed != nil {
		d.Provider = o.claimed.voucher.Provider
		if o.claimed.decision.Rule != "" {
			d.Rule = "policy:" + o.claimed.decision.Rule
		}
	}
	if o.approved != nil {
		d.Enrollment, d.Provider = o.approved.ID, o.approved.Voucher.Provider
	}
	return d
}

// decidedOn is what is told of a node that was let in.
func decidedOn(o order, c authority.Certificate) event.EnrollmentData {
	d := decidedBy(o, event.EnrollmentApproved)
	d.Serial = c.Serial
	return d
}

// queue has a node wait for an administrator. Nothing is signed. A node that comes
// back, with a newer proof of the same key, is told how it stands with what it applied
// for before: it may have lost the answer, and a message of peat-mesh has no other way
// to ask.
func (f *Function) queue(ctx context.Context, formation tenant.Formation, o order) (outcome, error) {
	secret, err := enrollment.PollKind.New(f.Random)
	if err != nil {
		return outcome{}, err
	}
	shown, err := json.Marshal(said(o))
	if err != nil {
		return outcome{}, err
	}
	now := store.Precise(f.Now())
	a := enrollment.Application{
		Key: o.key, ID: ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy()).String(), Subject: o.subject, NodeID: o.node, ProvedAt: store.Precise(o.proof.At),
		Standing: enrollment.Waiting, Grant: o.grant, Validity: o.validity, Credentials: o.credentials, Rule: o.rule, AdmittedBy: o.admittedBy,
		Evidence: shown, Secret: f.Tokens.Hash(secret.Reveal()), CreatedAt: now, ExpiresAt: now.Add(enrollment.ApplicationLife),
	}
	if o.claimed != nil {
		a.Voucher = o.claimed.voucher
	}
	var kept enrollment.Application
	if err := f.Store.InTxOn(ctx, o.key, func(tx *store.Tx) error {
		if _, err := tx.LockLedger(ctx, o.key); err != nil {
			return err
		}
		var err error
		kept, err = f.apply(ctx, tx, o, a)
		return err
	}); err != nil {
		return outcome{}, err
	}
	faultpoint.Hit("queue/committed")
	f.Notify()
	switch kept.At(now) {
	case enrollment.Accepted:
		return f.granted(ctx, formation, kept)
	case enrollment.Rejected:
		return outcome{}, errRejected(kept)
	}
	return outcome{waiting: &kept, secret: secret.Reveal()}, nil
}

// errRejected is what a node is told that an administrator has turned away.
func errRejected(a enrollment.Application) error {
	if a.Note == "" {
		return fault.Forbidden.New("an administrator has denied the enrollment")
	}
	return fault.Forbidden.New("an administrator has denied the enrollment: %s", a.Note)
}

// apply keeps a node's application, or returns the one that it has.
func (f *Function) apply(ctx context.Context, tx *store.Tx, o order, a enrollment.Application) (enrollment.Application, error) {
	before, err := tx.ApplicationOf(ctx, o.key, o.subject)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return a, err
	}
	if err == nil && before.NodeID == a.NodeID && before.AdmittedBy == a.AdmittedBy && f.stands(before) {
		if !a.ProvedAt.After(before.ProvedAt) {
			return a, fault.Conflict.New("the proof was used already, or a newer one was")
		}
		if err := o.redeemProof(ctx, tx, f.Now()); err != nil {
			return a, err
		}
		before.Secret, before.ProvedAt = a.Secret, a.ProvedAt
		return before, tx.SetApplicationSecret(ctx, o.key, before.ID, a.Secret, a.ProvedAt)
	}
	if err := o.redeem(ctx, tx, f.Now()); err != nil {
		return a, err
	}
	// Whoever could have no certificate as things are need not wait for one.
	standing, err := tx.Admission(ctx, o.key, "", o.node, o.subject)
	if err != nil {
		return a, err
	}
	standing.Signer, standing.Formation.Policy = authority.Active, tenant.Controlled
	if err := o.decide(standing, a.CreatedAt); err != nil {
		return a, err
	}
	if err := tx.AddApplication(ctx, a); err != nil {
		return a, err
	}
	faultpoint.Hit("queue/kept")
	if err := o.record(ctx, tx, f.Now()); err != nil {
		return a, err
	}
	detail := said(o)
	detail["rule"], detail["admitted_by"] = a.Rule, a.AdmittedBy
	if err := tx.AppendAudit(ctx, f.audit(o.act, o.key, "enrollment.pending", string(o.key.App)+"/"+a.ID, detail)); err != nil {
		return a, err
	}
	told := decidedBy(o, event.EnrollmentPending)
	told.Enrollment = a.ID
	return a, tx.Enqueue(ctx, event.EnrollmentDecided(told, f.Now()))
}

// stands tells whether an application is still what its node has to go by: it waits,
// or it was decided within the time for which it would have waited.
func (f *Function) stands(a enrollment.Application) bool { return f.Now().Before(a.ExpiresAt) }

// granted is the outcome for a node whose application was approved.
func (f *Function) granted(ctx context.Context, formation tenant.Formation, a enrollment.Application) (out outcome, err error) {
	if out.certificate, err = f.Store.Certificate(ctx, a.Key, a.Serial); err != nil {
		return outcome{}, err
	}
	if standing := out.certificate.Standing(f.now()); standing != authority.Good {
		return outcome{}, fault.Forbidden.New("the certificate that was issued is %s", standing)
	}
	if !a.Credentials {
		return out, nil
	}
	if err := issuing(formation); err != nil {
		return outcome{}, err
	}
	out.credentials, err = f.membership(ctx, formation)
	return out, err
}
