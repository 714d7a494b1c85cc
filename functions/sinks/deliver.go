package sinks

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
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

// Bounds of what goes to a driver at once. That it was delivered is written down
// before the next is sent, so a crash repeats at most one.
const (
	batchEvents = 256
	batchBytes  = 8 << 20
	allBytes    = 64 << 20 // of all sinks' chunks together, about
	leastBytes  = 64 << 10
	passChunks  = 32 // after so many the sink is looked at anew: it may be paused
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
	bytes     int // of a chunk
	filter    *filter.Filter
	ladder    delivery.Ladder
	perSecond int // bytes that the organization may send; 0: no limit
	memory    *memory
	halted    bool // the formation was suspended meanwhile

	wg sync.WaitGroup // reads ahead

	unwritten map[string]completeness.Receipt // see postpone
	waiting   int                             // chunks whose receipts are among them
}

// progress says how to go on after a pass.
type progress struct {
	more bool      // there is more to do now
	next time.Time // when there will be something to do; zero: when somebody rings
}

// pass delivers what is held and due, then a stretch of the log, then of a replay.
// The order of its steps is explained in DESIGN.md.
func (d *Delivery) pass(ctx context.Context, p pair, until time.Time) (progress, error) {
	r := &run{Delivery: d, pair: p}
	defer r.wg.Wait()
	if err := r.open(ctx); err != nil {
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
	if next := d.pace.Until(string(p.key.Org)); next.After(d.Now()) {
		return progress{next: next}, nil
	}
	k := sinkKey{p.key.Org, p.sink}
	if next := d.breakers.admit(k, d.Now()); !next.IsZero() {
		return progress{next: next}, nil
	}
	defer func() { d.breakers.report(k, r.cursor.NextAttemptAt) }()
	conn, done, err := d.connections.use(ctx, r.sink)
	if err != nil {
		d.Log.ErrorContext(ctx, "sink cannot be opened", "org", p.key.Org, "sink", p.sink, "err", err)
		if errors.Is(err, errFilter) {
			return r.stop(ctx, &driver.Outcome{Verdict: driver.Retry, Gone: true, Reason: errFilter.Error()})
		}
		return r.stop(ctx, &driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: "the sink's configuration, filter or secrets cannot be opened"})
	}
	defer done()
	r.driver, r.filter = conn.driver, conn.filter
	return r.batches(ctx, until)
}

// open gets everything a pass looks at.
func (r *run) open(ctx context.Context) error {
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
	org, err := r.Store.Org(ctx, r.key.Org)
	if err != nil {
		return err
	}
	r.perSecond = org.Quotas.MaxCDCBytesPerSecond
	r.bytes = r.share()
	r.ladder = r.sink.LadderOf(r.Settings.Ladder)
	r.memory = r.recall(r.pair, r.lease, r.sink.Revision)
	held, err := r.Store.Held(ctx, r.key, r.pair.sink)
	r.held = make(map[string]delivery.Held, len(held))
	for _, h := range held {
		r.held[h.Document] = h
	}
	if err != nil {
		return err
	}
	return r.recoverReceipts(ctx)
}

// share is what a chunk may weigh: less the more sinks are being served, so that a
// thousand that hang do not hold a thousand full ones in memory.
func (d *Delivery) share() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(leastBytes, min(batchBytes, allBytes/(2*max(1, len(d.working)))))
}

func (r *run) batches(ctx context.Context, until time.Time) (progress, error) {
	moreHeld, err := r.deliverHeld(ctx, until)
	if err != nil || r.cursor.NextAttemptAt.After(r.Now()) || ctx.Err() != nil {
		return progress{next: r.cursor.NextAttemptAt}, err
	}
	if r.halted {
		return progress{}, nil
	}
	// However long the held ones took, the others get their turn.
	moreLog, err := r.deliverLog(ctx, later(until, time.Now().Add(r.Settings.Budget/4)))
	if err != nil || r.cursor.NextAttemptAt.After(r.Now()) || ctx.Err() != nil {
		return progress{next: r.cursor.NextAttemptAt}, err
	}
	if r.halted {
		return progress{}, nil
	}
	replay, err := r.deliverReplay(ctx, until)
	if err != nil || r.cursor.NextAttemptAt.After(r.Now()) {
		return progress{next: r.cursor.NextAttemptAt}, err
	}
	p := progress{more: moreHeld || moreLog || replay.more, next: replay.next}
	for _, h := range r.held {
		if h.State != delivery.Parked && (p.next.IsZero() || h.NextAttemptAt.Before(p.next)) {
			p.next = h.NextAttemptAt
			p.more = p.more || !p.next.After(r.Now())
		}
	}
	return p, nil
}

// deliverLog delivers the log behind the cursor, chunk by chunk. The next chunk is
// read and encoded while the driver has one and while what became of that one is
// being written down.
func (r *run) deliverLog(ctx context.Context, until time.Time) (more bool, err error) {
	next := r.fetch(ctx, r.cursor.Position)
	for n := 1; next != nil; n++ {
		began := time.Now()
		c, err := next.wait()
		next = nil
		if err != nil || len(c.log) == 0 {
			return false, errors.Join(err, r.writeReceipts(ctx))
		}
		if c.full && n < passChunks {
			next = r.fetch(ctx, c.end)
		}
		for i, o := range r.send(ctx, c.batch, until) {
			c.outs[c.places[i]] = o
		}
		s := r.settleLog(c)
		clean := s.cursor.Position == c.end && len(s.hold) == 0 && s.trouble == nil
		if !clean && next != nil {
			_, _ = next.wait() // it looks at what is about to change, and is not needed
		}
		r.postpone(&s, clean && next != nil && time.Now().Before(until) && ctx.Err() == nil)
		if err := r.save(ctx, s); err != nil {
			return false, err
		}
		more = c.full || !clean
		if !clean || r.halted || !time.Now().Before(until) || ctx.Err() != nil || r.pace.Until(string(r.key.Org)).After(r.Now()) {
			break // what is being read is read again
		}
		if !c.full {
			r.courtesy.note(r.key.Org, time.Now())
		} else {
			r.courtesy.rest(ctx, r.key.Org, time.Since(began))
		}
	}
	return more, r.writeReceipts(ctx)
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
		if h.PurgeTo >= h.FromSeq {
			// What is given up may lie behind the cursor yet: the document stays held
			// until the cursor is past all of it.
			passed, err := r.Store.DocumentChanges(ctx, r.key, h.Document, h.PurgeTo, r.cursor.Position, 1, 1)
			if err != nil {
				return false, err
			}
			if len(passed) == 0 {
				continue
			}
			q.purged = h.FromSeq
			q.held.FromSeq, q.held.PurgeTo, q.held.SkipSeq = h.PurgeTo+1, 0, 0
		}
		share := r.bytes / limitedShare(len(due))
		q.log, err = r.Store.DocumentChanges(ctx, r.key, h.Document, q.held.FromSeq, r.cursor.Position, limit, share)
		if err == nil {
			err = r.memory.learn(ctx, r.Store, r.pair, q.log)
		}
		if err != nil {
			return false, err
		}
		q.complete = len(q.log) < limit && weigh(q.log) < share
		q.outs = make([]driver.Outcome, len(q.log))
		for n, c := range q.log {
			it, wanted, err := r.item(c, q.held.SkipSeq)
			if err != nil {
				return false, err
			}
			if !wanted {
				q.outs[n].Verdict = filtered
				continue
			}
			batch, q.places = append(batch, it), append(q.places, n)
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

// send hands a batch to the driver.
func (r *run) send(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	if len(batch) == 0 {
		return nil
	}
	bytes := 0
	for _, it := range batch {
		bytes += it.Size()
	}
	r.pace.Pay(string(r.key.Org), bytes, r.perSecond, r.Now())
	ctx, span := r.span(ctx, batch)
	outs := r.driver.Deliver(ctx, batch, until)
	r.observe(span, batch, outs)
	return outs
}

// stop backs off from a sink that could not even be tried.
func (r *run) stop(ctx context.Context, o *driver.Outcome) (progress, error) {
	s := settlement{cursor: r.cursor, trouble: o}
	s.breaker(nil, r.ladder, r.clock())
	err := r.save(ctx, s)
	return progress{next: r.cursor.NextAttemptAt}, err
}

// clock is the time as the store keeps it.
func (r *run) clock() time.Time { return store.Precise(r.Now()) }
