package sinks

import (
	"context"
	"errors"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// ofTrail returns what of a request means nothing for an audit trail, which is one
// sequence of one organization and leaves nothing out.
func ofTrail(sc scope, in sinkRequest) error {
	switch {
	case sc.app != "":
		return driver.Invalid("source", "must be changes here: the audit trail is the organization's")
	case in.Formations != nil:
		return driver.Invalid("formations", "mean nothing for the audit trail")
	case !in.Filter.IsZero():
		return driver.Invalid("filter", "cannot be: an audit trail leaves nothing out")
	case in.Format != "":
		return driver.Invalid("format", "means nothing for the audit trail")
	}
	return nil
}

// trailOf is the pair that stands for a sink in its organization's audit trail.
func trailOf(s delivery.Sink) pair { return pair{tenant.Key{Org: s.Org}, s.ID} }

func (p pair) isTrail() bool { return p.key.App == "" }

// ringTrails rings for the audit trails that are behind, or due again.
func (a *Admin) ringTrails(ctx context.Context) error {
	orgs, err := a.Store.TrailsBehind(ctx, a.Now())
	for _, org := range orgs {
		err = errors.Join(err, a.Bus.Publish(ctx, event.AuditLinked(org, a.Now())))
	}
	return err
}

func (d *Delivery) onAuditLinked(ctx context.Context, e cloudevents.Event) error {
	var data event.AuditData
	if err := read(e, &data); err != nil {
		return err
	}
	sinks, err := allSinks(ctx, d.Store, data.Org)
	if err != nil {
		return err
	}
	var pairs []pair
	for _, s := range sinks {
		if s.Source == delivery.AuditTrail && d.serves(s.Kind) && s.State.Served() {
			pairs = append(pairs, trailOf(s))
		}
	}
	return d.start(ctx, pairs)
}

// trailUndone reports whether an audit trail has something to do now.
func (d *Delivery) trailUndone(p pair) (bool, error) {
	cursor, err := d.Store.AuditCursor(d.ctx, p.key.Org, p.sink)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil || cursor.NextAttemptAt.After(d.Now()) {
		return false, err
	}
	lag, err := d.Store.TrailLag(d.ctx, p.key.Org, p.sink, d.Now())
	return lag.Events > 0, err
}

// trail is one pass over a sink's part of an audit trail.
type trail struct {
	*Delivery
	pair
	sink   delivery.Sink
	lease  store.Lease
	cursor delivery.AuditCursor
}

// passTrail delivers the audit trail behind a sink's cursor. An entry that the sink
// does not take holds up those after it, by the steps of its ladder and then by the
// last of them for as long as it takes: it is never left out.
func (d *Delivery) passTrail(ctx context.Context, p pair, until time.Time) (progress, error) {
	t := &trail{Delivery: d, pair: p}
	if err := t.open(ctx); errors.Is(err, fault.NotFound) {
		return progress{}, nil // deleted meanwhile; nobody waits for it
	} else if err != nil {
		return progress{}, err
	}
	k := sinkKey{p.key.Org, p.sink}
	if !t.sink.State.Served() {
		d.connections.drop(k)
		return progress{}, nil
	}
	if t.cursor.NextAttemptAt.After(d.Now()) {
		return progress{next: t.cursor.NextAttemptAt}, nil
	}
	if next := d.pace.Until(string(p.key.Org)); next.After(d.Now()) {
		return progress{next: next}, nil
	}
	conn, done, err := d.connections.use(ctx, t.sink)
	if err != nil {
		d.Log.ErrorContext(ctx, "sink cannot be opened", "org", p.key.Org, "sink", p.sink, "err", err)
		err := t.save(ctx, 0, &driver.Outcome{Verdict: driver.Retry, Reason: "the sink's configuration or secrets cannot be opened"})
		return progress{next: t.cursor.NextAttemptAt}, err
	}
	defer done()
	for range passChunks {
		more, err := t.deliver(ctx, conn.driver, until)
		if err != nil || !more {
			return progress{next: t.cursor.NextAttemptAt}, err
		}
		if !time.Now().Before(until) {
			break
		}
	}
	return progress{more: true}, nil
}

func (t *trail) open(ctx context.Context) error {
	var err error
	if t.lease, err = t.leases.take(ctx, t.pair); err != nil {
		return err
	}
	if t.sink, err = t.Store.Sink(ctx, t.key.Org, t.pair.sink); err != nil {
		return err
	}
	t.cursor, err = t.Store.AuditCursor(ctx, t.key.Org, t.pair.sink)
	return err
}

// deliver sends a stretch of the trail and writes down how far it got.
func (t *trail) deliver(ctx context.Context, to driver.Driver, until time.Time) (more bool, err error) {
	entries, err := t.Store.ChainEntries(ctx, t.key.Org, t.cursor.Seq, t.Delivery.batch)
	if err != nil || len(entries) == 0 {
		return false, err
	}
	batch, err := auditEvents(entries)
	if err != nil {
		return false, err
	}
	sent, failed := 0, (*driver.Outcome)(nil)
	for _, o := range to.Deliver(ctx, batch, until) {
		if o.Verdict == driver.Retry || o.Verdict == driver.Refused {
			failed = &o
		}
		if o.Verdict != driver.Delivered {
			break
		}
		sent++
	}
	if err := t.save(ctx, sent, failed); err != nil {
		return false, err
	}
	return failed == nil && sent > 0 && t.sink.State.Served(), nil
}

// auditEvents encodes a stretch of a trail, within the bounds of a chunk.
func auditEvents(entries []audit.Entry) ([]driver.Event, error) {
	batch := make([]driver.Event, 0, len(entries))
	size := 0
	for _, e := range entries {
		encoded, err := event.EncodeAudit(e)
		if err != nil {
			return nil, err
		}
		if size += encoded.Size(); size > batchBytes && len(batch) > 0 {
			break
		}
		batch = append(batch, driver.Event{
			ID: encoded.Attribute("id"), Key: tenant.Key{Org: e.Org, App: driver.AuditApp}, Document: driver.AuditDocument, Encoded: encoded,
		})
	}
	return batch, nil
}

// save moves the cursor past what was delivered, under the lease, and says what
// became of the entry after it. A shutdown does not keep it from that: what is
// delivered and not recorded is delivered twice.
func (t *trail) save(ctx context.Context, sent int, failed *driver.Outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveLimit)
	defer cancel()
	now := store.Precise(t.Now())
	next := t.cursor
	next.Seq += uint64(sent)
	state, reason := t.sink.State, t.sink.Reason
	if sent > 0 {
		next.Attempts, next.NextAttemptAt, next.LastError = 0, time.Time{}, ""
		state, reason = delivery.Active, ""
	}
	if failed != nil {
		next.Attempts++
		next.LastError = failed.Reason
		next.NextAttemptAt = later(now.Add(t.sink.LadderOf(t.Settings.Ladder).Breaker(next.Attempts)), failed.NotBefore)
		state, reason = delivery.Failing, failed.Reason
		if failed.Gone {
			state = delivery.Disabled
		}
	}
	moves := state != t.sink.State || reason != t.sink.Reason
	if next == t.cursor && !moves {
		return nil
	}
	err := t.Store.InTx(ctx, func(tx *store.Tx) error { return t.write(ctx, tx, next, state, reason, moves, now) })
	if err != nil {
		t.leases.drop(t.pair, err)
		return err
	}
	if moves && state == delivery.Disabled {
		t.Notify()
	}
	t.cursor, t.sink.State, t.sink.Reason = next, state, reason
	if sent > 0 {
		t.Metrics.Delivered(string(t.sink.Kind), sent)
	}
	if failed != nil {
		t.Metrics.Retried(string(t.sink.Kind))
	}
	return nil
}

func (t *trail) write(ctx context.Context, tx *store.Tx, next delivery.AuditCursor, state delivery.State, reason string, moves bool, now time.Time) error {
	if err := tx.Guard(ctx, t.lease); err != nil {
		return err
	}
	sink, err := tx.Sink(ctx, t.key.Org, t.sink.ID)
	if err != nil {
		return err
	}
	if sink.Revision != t.sink.Revision {
		return fault.Stale.New("sink %q was changed", sink.ID)
	}
	if err := tx.SaveAuditCursor(ctx, next); err != nil || !moves {
		return err
	}
	if err := tx.MarkSink(ctx, t.key.Org, t.sink.ID, state, reason); err != nil || state != delivery.Disabled {
		return err
	}
	return tx.Enqueue(ctx, event.Sink(event.SinkChangedType, sinkData(t.sink), now))
}
