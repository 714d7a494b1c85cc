package sinks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// pair is one sink in one formation: what has a cursor.
type pair struct {
	key  tenant.Key
	sink string
}

func (p pair) lease() string {
	return "deliver/" + string(p.key.Org) + "/" + p.sink + "/" + string(p.key.App)
}

// Bounds of one batch.
const (
	batchEvents = 256
	batchBytes  = 8 << 20
)

// run is one pass over a pair: what was read, and what is written back.
type run struct {
	*Delivery
	pair
	sink      delivery.Sink
	formation tenant.Formation
	lease     store.Lease
	cursor    delivery.Cursor
	held      map[string]delivery.Held
	driver    driver.Driver
}

// progress says how to go on after a pass.
type progress struct {
	more bool      // there is more to do now
	next time.Time // when there will be something to do; zero: when somebody rings
}

// pass delivers one batch of what is held and due, and one batch of the log. The
// order of its steps is explained in DESIGN.md.
func (d *Delivery) pass(ctx context.Context, p pair, until time.Time) (progress, error) {
	r := &run{Delivery: d, pair: p}
	if err := r.read(ctx); err != nil {
		if errors.Is(err, fault.NotFound) {
			return progress{}, nil // deleted meanwhile; nobody waits for it
		}
		return progress{}, err
	}
	if !r.sink.State.Served() || !r.sink.Covers(p.key.App) || r.formation.State != tenant.Active {
		d.connections.drop(sinkKey{p.key.Org, p.sink})
		return progress{}, nil
	}
	if r.cursor.NextAttemptAt.After(d.Now()) {
		return progress{next: r.cursor.NextAttemptAt}, nil
	}
	drv, done, err := d.connections.use(ctx, r.sink)
	if err != nil {
		d.Log.ErrorContext(ctx, "sink cannot be opened", "org", p.key.Org, "sink", p.sink, "err", err)
		return r.stop(ctx, &driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: "the sink's configuration or secrets cannot be opened"})
	}
	defer done()
	r.driver = drv
	return r.batches(ctx, until)
}

// read gets everything a pass looks at.
func (r *run) read(ctx context.Context) error {
	var err error
	if r.lease, err = r.leases.take(ctx, r.pair); err != nil {
		return err
	}
	if r.sink, err = r.Store.Sink(ctx, r.key.Org, r.pair.sink); err != nil {
		return err
	}
	if r.formation, err = r.Store.Formation(ctx, r.key); err != nil {
		return err
	}
	if r.cursor, err = r.Store.Cursor(ctx, r.key, r.pair.sink); err != nil {
		return err
	}
	held, err := r.Store.Held(ctx, r.key, r.pair.sink)
	r.held = make(map[string]delivery.Held, len(held))
	for _, h := range held {
		r.held[h.Document] = h
	}
	return err
}

func (r *run) batches(ctx context.Context, until time.Time) (progress, error) {
	moreHeld, err := r.deliverHeld(ctx, until)
	if err != nil || r.cursor.NextAttemptAt.After(r.Now()) || ctx.Err() != nil {
		return progress{next: r.cursor.NextAttemptAt}, err
	}
	// However long the held ones took, the others get their turn.
	moreLog, err := r.deliverLog(ctx, later(until, time.Now().Add(r.Settings.Budget/4)))
	if err != nil || r.cursor.NextAttemptAt.After(r.Now()) {
		return progress{next: r.cursor.NextAttemptAt}, err
	}
	p := progress{more: moreHeld || moreLog}
	for _, h := range r.held {
		if h.State != delivery.Parked && (p.next.IsZero() || h.NextAttemptAt.Before(p.next)) {
			p.next = h.NextAttemptAt
			p.more = p.more || !p.next.After(r.Now())
		}
	}
	return p, nil
}

// deliverLog delivers the next stretch of the log, without the documents that are held.
func (r *run) deliverLog(ctx context.Context, until time.Time) (more bool, err error) {
	log, err := r.Store.ChangesAfter(ctx, r.key, r.cursor.Position, r.batch, batchBytes)
	if err != nil || len(log) == 0 {
		return false, err
	}
	outs := make([]driver.Outcome, len(log))
	var batch []driver.Event
	var places []int
	for i, c := range log {
		if _, ok := r.held[c.Document]; ok {
			outs[i].Verdict = queued
			continue
		}
		it, err := r.item(c, 0)
		if err != nil {
			return false, err
		}
		batch, places = append(batch, it), append(places, i)
	}
	documents := make([]string, len(log))
	for i, o := range r.send(ctx, batch, until) {
		outs[places[i]] = o
	}
	for i, c := range log {
		documents[i] = c.Document
	}
	s := settleLog(r.cursor, log, outs, trouble(documents, outs), r.Settings.Ladder, r.clock())
	more = len(log) == r.batch || weigh(log) >= batchBytes || s.cursor.Position != log[len(log)-1].Position
	return more, r.save(ctx, s)
}

// deliverHeld delivers what is queued of the documents that are due again, up to
// the cursor. What lies behind the cursor is deliverLog's as soon as they are
// released, and both run in this one goroutine.
func (r *run) deliverHeld(ctx context.Context, until time.Time) (more bool, err error) {
	due := r.due()
	var queues []queue
	var batch []driver.Event
	for i, h := range due {
		if len(batch) >= r.batch {
			more = true
			break
		}
		limit := max(min(8, r.batch), (r.batch-len(batch))/(len(due)-i))
		q := queue{held: h, at: len(batch)}
		q.log, err = r.Store.DocumentChanges(ctx, r.key, h.Document, h.FromSeq, r.cursor.Position, limit, batchBytes/limitedShare(len(due)))
		if err != nil {
			return false, err
		}
		q.complete = len(q.log) < limit && weigh(q.log) < batchBytes/limitedShare(len(due))
		for _, c := range q.log {
			it, err := r.item(c, h.SkipSeq)
			if err != nil {
				return false, err
			}
			batch = append(batch, it)
		}
		more = more || !q.complete
		queues = append(queues, q)
	}
	if len(queues) == 0 {
		return false, nil
	}
	outs := r.send(ctx, batch, until)
	s := r.settleQueues(queues, outs)
	return more, r.save(ctx, s)
}

// queue is what a held document has before the cursor, or the beginning of it.
type queue struct {
	held     delivery.Held
	log      []change.Settled
	at       int // where it begins in the batch
	complete bool
}

// limitedShare divides a batch's bytes among at most eight documents, so that
// many small ones do not get next to nothing.
func limitedShare(documents int) int { return min(max(1, documents), 8) }

// due are the held documents whose time has come, those that wait longest first.
func (r *run) due() []delivery.Held {
	now := r.Now()
	var out []delivery.Held
	for _, h := range r.held {
		if h.State != delivery.Parked && !h.NextAttemptAt.After(now) {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b delivery.Held) int {
		if c := a.NextAttemptAt.Compare(b.NextAttemptAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

func (r *run) settleQueues(queues []queue, outs []driver.Outcome) settlement {
	s := settlement{cursor: r.cursor}
	for _, q := range queues {
		for i, c := range q.log {
			o := &outs[q.at+i]
			if c.Seq == q.held.SkipSeq && o.Verdict == driver.Refused {
				// The marker is a courtesy; what was skipped must not park its document again.
				o.Verdict = driver.Delivered
			}
			// These documents are known to have trouble of their own, however many
			// they are: only what no event could pass counts against the sink.
			if o.Unreachable || o.Gone {
				s.trouble = o
			}
		}
	}
	now := r.clock()
	s.breaker(outs, r.Settings.Ladder, now)
	for _, q := range queues {
		s.settleHeld(q.held, q.log, outs[q.at:q.at+len(q.log)], q.complete, r.Settings.Ladder, now)
	}
	return s
}

// item makes the event of a change. The change that was skipped leaves as a marker.
func (r *run) item(c change.Settled, skip uint64) (driver.Event, error) {
	it := driver.Event{Key: r.key, Document: c.Document}
	if skip != 0 && c.Seq == skip {
		marker, err := event.Encode(event.ChangeSkipped(r.key, r.sink.ID, c))
		if err != nil {
			return it, fmt.Errorf("encode the marker of position %d: %w", c.Position, err)
		}
		it.Encoded = marker
	} else {
		it.Encoded = event.EncodeChange(r.key, c, r.sink.Format, nil)
	}
	it.ID = it.Attribute("id")
	return it, nil
}

// send hands a batch to the driver.
func (r *run) send(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	if len(batch) == 0 {
		return nil
	}
	return r.driver.Deliver(ctx, batch, until)
}

// stop backs off from a sink that could not even be tried.
func (r *run) stop(ctx context.Context, o *driver.Outcome) (progress, error) {
	s := settlement{cursor: r.cursor, trouble: o}
	s.breaker(nil, r.Settings.Ladder, r.clock())
	err := r.save(ctx, s)
	return progress{next: r.cursor.NextAttemptAt}, err
}

// clock is the time as the store keeps it.
func (r *run) clock() time.Time { return store.Precise(r.Now()) }

func weigh(log []change.Settled) int {
	n := 0
	for _, c := range log {
		n += len(c.Raw) + len(c.Patches)
	}
	return n
}
