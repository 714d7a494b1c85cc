package enroll

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// DefaultGrace is how long renewals go on while a provider does not answer.
const DefaultGrace = 24 * time.Hour

// checker tells whether a provider answers now.
type checker interface {
	Check(ctx context.Context, p identity.Provider) (identity.Report, error)
}

// How long it is believed that a provider does not answer, or does, and of how many
// that is remembered.
const (
	outageFor  = 30 * time.Second
	maxOutages = 1024
)

// outages are what providers were last found to be. While one of them is down, its
// nodes come by the thousand.
type outages struct {
	mu    sync.Mutex
	found map[identity.Key]outage
}

type outage struct {
	at  time.Time
	why error // nil: it answers
}

// last returns what was found of a provider of late.
func (o *outages) last(p identity.Key, now time.Time) (outage, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, ok := o.found[p]
	return was, ok && now.Sub(was.at).Abs() < outageFor
}

func (o *outages) note(p identity.Key, was outage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found == nil || len(o.found) >= maxOutages {
		o.found = map[identity.Key]outage{}
	}
	o.found[p] = was
}

// errDue is the refusal of a renewal for which the provider has to vouch again.
var errDue = fault.Forbidden.New("the organization's identity provider must vouch for the node again: renew with a proof of identity")

// recheck has o, a renewal of old, be what may be given on the strength of what an
// identity provider said: for as long as it is believed without asking again, what the
// old certificate gives; with a fresh proof, what the policy gives now. While a
// provider that must be asked again does not answer, what it said last goes on, within
// bounds.
func (f *Function) recheck(ctx context.Context, o *order, formation tenant.Formation, old authority.Certificate, shown *identity.Proof) error {
	v, gone, err := f.Store.Voucher(ctx, o.key, old.Subject)
	switch {
	case err != nil:
		return err
	case !v.IsSet() && shown != nil:
		return invalid("/identity", "is not for a node that nobody vouched for: it renews by its certificate alone")
	case !v.IsSet():
		return nil
	case gone:
		return errOffboarded
	}
	o.vouched = true
	now := f.now()
	if shown == nil {
		if life, ok := upTo(v.RefreshAt, now, old); ok {
			o.validity = life
			return nil
		}
		return f.indulge(ctx, o, v, old, f.isDown(ctx, o.key.Org, v.Provider))
	}
	// A renewal has no challenge. What a node has that nobody else renews by, and that is
	// another each time, is its old certificate.
	c, err := f.vouch(ctx, o.key.Org, answering(*shown, old.Serial))
	switch {
	case errors.Is(err, fault.Unavailable):
		if life, ok := upTo(v.RefreshAt, now, old); ok {
			o.validity = life
			return nil
		}
		return f.indulge(ctx, o, v, old, err)
	case err != nil:
		return err
	case !c.voucher.Same(v):
		return identity.Refused(fault.Unauthenticated.New("the proof is of another identity than the one that the node was let in for"))
	}
	if err := f.judge(ctx, c, policy.Request{
		Key: o.key, Enrollment: formation.Policy, NodeID: o.node, Wants: o.grant, Address: o.address, Renewal: true,
	}); err != nil {
		o.claimed = c
		return err
	}
	// An administrator who had to agree has done so, and would be asked for ever.
	o.claimed = c
	o.grant, o.validity, o.rule = c.decision.Grant, c.decision.Validity, "policy:"+c.decision.Rule
	return nil
}

// upTo is the life of a certificate in the place of old that ends by a time, or that
// there would be none: who has one that lasts until then already is given nothing by
// another. The zero time is no bound.
func upTo(end, now time.Time, old authority.Certificate) (time.Duration, bool) {
	life := old.ExpiresAt.Sub(old.IssuedAt)
	if end.IsZero() {
		return life, true
	}
	left := end.Sub(now).Truncate(time.Millisecond)
	return min(life, left), left >= minValidity && end.Sub(old.ExpiresAt) >= time.Second
}

// isDown returns why a provider does not answer, or nil if it does. One that was
// deleted or disabled does not vouch for anybody any more, and that is no outage.
func (f *Function) isDown(ctx context.Context, org tenant.OrgID, id string) error {
	asked, ok := f.Identities.(checker)
	if !ok {
		return nil
	}
	if was, ok := f.outages.last(identity.Key{Org: org, ID: id}, f.Now()); ok {
		return was.why
	}
	p, err := f.Store.Provider(ctx, org, id)
	if err != nil || !p.Enabled {
		return nil
	}
	report, err := asked.Check(ctx, p)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil && !report.OK {
		err = fault.Unavailable.New("the identity provider does not answer")
	}
	f.outages.note(p.Key, outage{f.Now(), err})
	return err
}

// indulge lets a renewal go on although its provider should be asked again, because it
// does not answer, for no longer than the grace.
func (f *Function) indulge(ctx context.Context, o *order, v enrollment.Voucher, old authority.Certificate, down error) error {
	if down == nil {
		return errDue
	}
	until := v.RefreshAt.Add(f.Grace)
	life, ok := upTo(until, f.now(), old)
	if f.Grace <= 0 || !ok {
		return fault.Unavailable.Wrap(down, "the organization's identity provider must vouch for the node again, and does not answer")
	}
	o.validity, o.grace = life, until
	f.Log.WarnContext(ctx, "a node is renewed although its identity provider does not answer", "org", o.key.Org, "app", o.key.App,
		"provider_id", v.Provider, "node_id", o.node, "grace_until", until, "request_id", o.request)
	return nil
}

// renewal is the order of a certificate that says what the old one says.
func renewal(key tenant.Key, meshID string, old authority.Certificate) order {
	return order{
		key: key, meshID: meshID, node: old.NodeID, subject: old.Subject,
		grant:    enrollment.Grant{Tier: cert.Tier(old.Tier), Permissions: cert.Permission(old.Permissions)},
		validity: old.ExpiresAt.Sub(old.IssuedAt), rule: byRenewal, admittedBy: old.AdmittedBy, replaces: old.Serial,
	}
}
