package enroll

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/gather"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Orders of one organization queue for its count of enrollments anyway. Those that
// wait are decided on and kept in one transaction, with a few statements for all:
//
//	lock the ledgers, then the organization
//	read what is known of all node ids and keys
//	decide on each; nothing is written before
//	write the counts, the bindings, the certificates, their entries and events
//
// An order that is refused is no trouble to the others, for nothing was written for
// it. One that needs more than this to decide on goes alone: see errAlone.

// maxTogether bounds how long an order waits for those before it.
const maxTogether = 48

// patience is how long an order waits for others, where there were others just now.
// It is about what a commit takes.
const patience = 2 * time.Millisecond

// errAlone sends an order to keep, by itself.
var errAlone = errors.New("enroll: the order is decided on alone")

// signed is an order and the certificate that waits to be kept.
type signed struct {
	order
	made  authority.Certificate
	audit store.Audit
	event cloudevents.Event
}

type orders = gather.Group[tenant.OrgID, signed, authority.Certificate]

type ordered = gather.Call[signed, authority.Certificate]

// commit keeps a signed certificate, with others if it can.
func (f *Function) commit(ctx context.Context, o order, c authority.Certificate) (authority.Certificate, error) {
	if o.plain {
		a, e := f.account(o, c)
		kept, err := f.orders.Do(ctx, o.key.Org, signed{o, c, a, bus.InTrace(ctx, e)})
		if !errors.Is(err, errAlone) {
			return kept, err
		}
	}
	err := f.Store.InTxOn(ctx, o.key, func(tx *store.Tx) error {
		var err error
		c, err = f.keep(ctx, tx, o, c)
		return err
	})
	return c, err
}

// keepTogether is the work of a Function's orders.
func (f *Function) keepTogether(ctx context.Context, org tenant.OrgID, calls []*ordered) {
	err := f.Store.InTxOn(ctx, tenant.Key{Org: org}, func(tx *store.Tx) error {
		for _, c := range calls {
			c.Out, c.Err = c.In.made, nil // it may be tried more than once
		}
		return f.decideTogether(ctx, tx, org, calls)
	})
	if err == nil {
		return
	}
	if len(calls) > 1 && store.Refused(err) {
		err = errAlone // one of them is to blame, and the others are not to suffer for it
	}
	for _, c := range calls {
		c.Err = err
	}
}

func (f *Function) decideTogether(ctx context.Context, tx *store.Tx, org tenant.OrgID, calls []*ordered) error {
	formations, err := lockAll(ctx, tx, calls)
	if err != nil {
		return err
	}
	o, err := tx.LockOrg(ctx, org)
	if err != nil {
		return err
	}
	calls = distinct(calls, formations)
	applicants := make([]store.Applicant, len(calls))
	for i, c := range calls {
		applicants[i] = store.Applicant{App: c.In.key.App, Node: c.In.node, Subject: c.In.subject}
	}
	standings, err := tx.Standings(ctx, org, applicants)
	if err != nil {
		return err
	}
	var batch store.Batch
	var admitted []*ordered
	var last time.Time
	for i, c := range calls {
		in, s := formations[c.In.key.App], standings[i]
		c.Err = c.In.decide(store.Admission{Formation: in.Formation, Quotas: o.Quotas, Signer: authority.Active, Node: s.Node, Revoked: s.Revoked}, c.Out.IssuedAt)
		switch {
		case s.Other, s.Node == nil && in.Ledger.Nodes >= o.Quotas.MaxPeersPerFormation:
			c.Err = errAlone // a name is freed first, if one can be
		case c.Err == nil:
			if s.Node == nil {
				in.Ledger.Nodes++
			}
			in.Ledger.Issued++
			c.Out.Number = in.Ledger.Issued
			batch.Add(c.Out, binding(c.In.order, c.Out, s.Node), c.In.audit, c.In.event)
			admitted = append(admitted, c)
			if c.Out.IssuedAt.After(last) {
				last = c.Out.IssuedAt
			}
		}
	}
	if len(admitted) == 0 {
		return nil
	}
	if taken, err := tx.TakeEnrollments(ctx, o, last, len(admitted)); err != nil || !taken {
		for _, c := range admitted {
			c.Err = errAlone // some of them may have room, and the others learn when there is
		}
		return err
	}
	return f.write(ctx, tx, org, batch, formations)
}

// lockAll locks the formations of the orders. One that is not there is left out.
func lockAll(ctx context.Context, tx *store.Tx, calls []*ordered) (map[tenant.AppID]*store.Issuing, error) {
	out := map[tenant.AppID]*store.Issuing{}
	for _, c := range calls {
		out[c.In.key.App] = nil
	}
	for _, app := range slices.Sorted(maps.Keys(out)) {
		in, err := tx.LockIssuing(ctx, tenant.Key{Org: calls[0].In.key.Org, App: app})
		switch {
		case err == nil:
			out[app] = &in
		case errors.Is(err, fault.NotFound):
			delete(out, app)
		default:
			return nil, fmt.Errorf("lock formation: %w", err)
		}
	}
	return out, nil
}

// distinct returns the orders that can be decided on without regard to each other:
// each node id and each key is there once, and signed by the authority that signs
// now. The others go alone.
func distinct(calls []*ordered, formations map[tenant.AppID]*store.Issuing) []*ordered {
	type named struct {
		app  tenant.AppID
		name string
	}
	nodes, subjects := map[named]bool{}, map[named]bool{}
	var out []*ordered
	for _, c := range calls {
		app := c.In.key.App
		node, subject := named{app, c.In.node}, named{app, string(c.In.subject)}
		in := formations[app]
		if in == nil || in.Authority != c.Out.Authority || nodes[node] || subjects[subject] {
			c.Err = errAlone
			continue
		}
		nodes[node], subjects[subject] = true, true
		out = append(out, c)
	}
	return out
}

// write keeps what was decided.
func (f *Function) write(ctx context.Context, tx *store.Tx, org tenant.OrgID, b store.Batch, formations map[tenant.AppID]*store.Issuing) error {
	if err := tx.BindNodes(ctx, org, b); err != nil {
		return fmt.Errorf("bind nodes: %w", err)
	}
	faultpoint.Hit("issue/node-bound")
	if err := tx.AddCertificates(ctx, org, b); err != nil {
		return fmt.Errorf("keep certificates: %w", err)
	}
	faultpoint.Hit("issue/certificate-kept")
	for _, app := range slices.Sorted(maps.Keys(formations)) {
		if err := tx.SetLedger(ctx, tenant.Key{Org: org, App: app}, formations[app].Ledger); err != nil {
			return fmt.Errorf("keep ledger: %w", err)
		}
	}
	if err := tx.AppendAudits(ctx, org, b); err != nil {
		return fmt.Errorf("keep audit entries: %w", err)
	}
	faultpoint.Hit("issue/audited")
	if err := tx.EnqueueAll(ctx, b); err != nil {
		return fmt.Errorf("keep events: %w", err)
	}
	return nil
}
