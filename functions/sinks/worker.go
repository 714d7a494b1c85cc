package sinks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/pace"
	"github.com/defenseunicorns/peat-gateway/shared/platform/turn"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// DeliveryDeps is everything that delivery needs.
type DeliveryDeps struct {
	Deps
	Kinds   []delivery.Kind // which sinks to serve
	*Shared                 // with the deliveries of other kinds in this process; may be nil
}

// Shared is what all deliveries of a process keep together: an organization is one,
// whatever kinds of sinks it has.
type Shared struct {
	pace     *pace.Pace
	courtesy *courtesy
	turns    *turn.Queue // of organizations, to write
}

// NewShared returns what nobody shares yet.
func NewShared() *Shared {
	return &Shared{pace: pace.New(), courtesy: &courtesy{fresh: map[tenant.OrgID]time.Time{}}, turns: turn.New(writers)}
}

// Delivery serves the sinks of some kinds.
type Delivery struct {
	DeliveryDeps
	connections *connections
	leases      *leases
	breakers    *breakers
	batch       int // events; batchEvents but in tests

	ctx  context.Context // of all work; ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	working  map[pair]*worker
	memories map[pair]*memory
}

// worker is one pair being worked.
type worker struct {
	wake chan struct{} // rings; a second ring before it is heard is the same ring
	done chan struct{}
}

func (w *worker) ring() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// NewDelivery returns the delivery of some kinds of sinks, ready to hear. Close ends it.
func NewDelivery(d DeliveryDeps) *Delivery {
	d.Deps = d.withDefaults()
	if d.Shared == nil {
		d.Shared = NewShared()
	}
	ctx, stop := context.WithCancel(context.Background())
	out := &Delivery{
		DeliveryDeps: d, ctx: ctx, stop: stop, working: map[pair]*worker{}, batch: batchEvents,
		memories: map[pair]*memory{}, breakers: &breakers{open: map[sinkKey]*breaker{}},
		connections: &connections{
			open: d.openSink, check: d.stillOpens, life: d.Settings.SecretsFor,
			kept: map[sinkKey]*connection{}, opening: map[sinkKey]chan struct{}{},
		},
		leases: &leases{store: d.Store, holder: d.Settings.Holder, now: d.Now, held: map[pair]*heldLease{}},
	}
	out.wg.Go(out.tidy)
	return out
}

// Close breaks off what is under way, gives back the leases and returns when all
// of it has ended.
func (d *Delivery) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	d.wg.Wait()
	d.connections.close()
	ctx, cancel := context.WithTimeout(context.Background(), saveLimit)
	defer cancel()
	d.leases.release(ctx, time.Now().Add(time.Hour))
	return nil
}

// start works each pair that nobody works yet, rings for the others, and waits
// for those it started: a process that scales to zero lives as long as its
// requests. It does not wait for what others started, so that a sink that hangs
// holds up neither other sinks nor later doorbells.
func (d *Delivery) start(ctx context.Context, pairs []pair) error {
	var started []*worker
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return fault.Unavailable.New("delivery is shutting down")
	}
	for _, p := range pairs {
		if w := d.working[p]; w != nil {
			w.ring()
			continue
		}
		w := &worker{wake: make(chan struct{}, 1), done: make(chan struct{})}
		d.working[p] = w
		started = append(started, w)
		d.wg.Go(func() { d.run(p, w) })
	}
	d.mu.Unlock()
	for _, w := range started {
		select {
		case <-w.done:
		case <-ctx.Done():
			return nil // the work goes on by itself until its budget is spent
		}
	}
	return nil
}

// run works a pair until there is nothing to do or the budget is spent; then it
// rings for itself, if there is more.
func (d *Delivery) run(p pair, w *worker) {
	until := time.Now().Add(d.Settings.Budget)
	again := false
	for {
		more, err := d.work(p, w, until)
		if err != nil && d.ctx.Err() == nil {
			d.Log.Error("delivery stopped; the next ring goes on", "org", p.key.Org, "app", p.key.App, "sink", p.sink, "err", err)
		}
		again = again || more
		d.mu.Lock()
		select {
		case <-w.wake:
			if err == nil && d.ctx.Err() == nil && time.Now().Before(until) {
				d.mu.Unlock()
				continue
			}
			again = true
		default:
		}
		// Under the same lock as the last look at the bell: a ring is either seen
		// above or finds nobody working and starts a new worker.
		delete(d.working, p)
		d.mu.Unlock()
		break
	}
	// The ring comes before the end of the request that may be all that keeps this
	// process running; and not after long, since some brokers answer only when the
	// ring has been worked.
	defer close(w.done)
	if again && d.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(d.ctx, ringLimit)
		defer cancel()
		ring := event.LogAppended(p.key, 0, d.Now())
		if p.isTrail() {
			ring = event.AuditLinked(p.key.Org, d.Now())
		}
		if err := d.Bus.Publish(ctx, ring); err != nil {
			d.Log.Warn("doorbell lost; the sweep will ring", "org", p.key.Org, "app", p.key.App, "err", err)
		}
	}
}

// ringLimit bounds the ring for more of the same.
const ringLimit = 5 * time.Second

// heldPoll is how often to look whether another replica has left off with work undone.
const heldPoll = 500 * time.Millisecond

// work passes over a pair again and again until nothing is due before until. It
// reports whether somebody should go on soon.
func (d *Delivery) work(p pair, w *worker, until time.Time) (more bool, err error) {
	defer d.leases.rest(p)
	defer d.leases.keep(d.ctx, p)()
	for d.ctx.Err() == nil {
		pass := d.pass
		if p.isTrail() {
			pass = d.passTrail
		}
		next, err := pass(d.ctx, p, until)
		var elsewhere *store.HeldError
		if errors.As(err, &elsewhere) {
			// Its holder hears this ring only if the broker chose it. So wait until
			// nothing is left to do, or it lets go.
			if undone, err := d.undone(p); !undone || err != nil {
				return false, err
			}
			next, err = progress{next: d.Now().Add(heldPoll)}, nil
		}
		if err != nil {
			return false, fmt.Errorf("deliver: %w", err)
		}
		if next.more {
			if time.Now().Before(until) {
				continue
			}
			return true, nil
		}
		if next.next.IsZero() {
			return false, nil
		}
		if !d.wait(w, next.next, until) {
			return next.next.Before(d.Now().Add(d.Settings.Budget)), nil
		}
	}
	return false, nil
}

// wait returns true at the given time or when somebody rings, and false if the
// budget is spent first.
func (d *Delivery) wait(w *worker, next, until time.Time) bool {
	pause, left := next.Sub(d.Now()), time.Until(until)
	timer := time.NewTimer(max(0, min(pause, left)))
	defer timer.Stop()
	select {
	case <-d.ctx.Done():
		return false
	case <-w.wake:
		return time.Now().Before(until)
	case <-timer.C:
		return pause <= left
	}
}

// undone reports whether a pair has something to do now: the log goes on behind
// its cursor, a document or a replay is due.
func (d *Delivery) undone(p pair) (bool, error) {
	if p.isTrail() {
		return d.trailUndone(p)
	}
	cursor, err := d.Store.Cursor(d.ctx, p.key, p.sink)
	if err != nil || cursor.NextAttemptAt.After(d.Now()) {
		return false, err
	}
	formation, err := d.Store.Formation(d.ctx, p.key)
	if errors.Is(err, fault.NotFound) || err == nil && formation.State != tenant.Active {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	end, err := d.Store.Position(d.ctx, p.key)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil || end > cursor.Position {
		return err == nil, err
	}
	held, err := d.Store.Held(d.ctx, p.key, p.sink)
	if err != nil {
		return false, err
	}
	for _, h := range held {
		if h.State != delivery.Parked && !h.NextAttemptAt.After(d.Now()) {
			return true, nil
		}
	}
	replay, ok, err := d.Store.RunningReplay(d.ctx, p.key, p.sink)
	return ok && !replay.NextAttemptAt.After(d.Now()), err
}

// tidy closes connections and gives back leases that nobody uses.
func (d *Delivery) tidy() {
	ticker := time.NewTicker(leaseLinger / 2)
	defer ticker.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-ticker.C:
			d.connections.tidy(time.Now().Add(-idleConnection))
			d.leases.release(d.ctx, time.Now().Add(-leaseLinger))
		}
	}
}

// writers is how many settlements are written at a time. SQLite writes one anyway;
// the order in which they wait is by organization.
const writers = 4

// idleConnection is how long a connection is kept that nobody uses.
const idleConnection = time.Minute
