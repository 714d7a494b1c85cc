package sinks

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// hanger takes a batch and holds on to it until it is let go or broken off.
type hanger struct {
	entered chan struct{}
	release chan struct{}
	once    sync.Once
	batches atomic.Int32
}

func newHanger() *hanger {
	return &hanger{entered: make(chan struct{}), release: make(chan struct{})}
}

func (h *hanger) Deliver(ctx context.Context, batch []driver.Event, _ time.Time) []driver.Outcome {
	h.batches.Add(1)
	h.once.Do(func() { close(h.entered) })
	select {
	case <-ctx.Done():
		return make([]driver.Outcome, len(batch))
	case <-h.release:
		return driver.All(batch)
	}
}

func (h *hanger) Close() error { return nil }

func (w *world) ring(t *testing.T) {
	t.Helper()
	if err := w.d.onLogAppended(t.Context(), event.LogAppended(w.pair.key, 0, start)); err != nil {
		t.Error(err)
	}
}

func TestOneHangingSink(t *testing.T) {
	w := newWorld(t, sqlite(t))
	drivers := map[string]driver.Driver{}
	h := newHanger()
	drivers[w.pair.sink] = h
	var healthy []*script
	for range 5 {
		s := &script{}
		healthy = append(healthy, s)
		drivers[w.addSink(delivery.Webhook, `{}`)] = s
	}
	w.d.connections.open = func(_ context.Context, s delivery.Sink) (driver.Driver, error) { return drivers[s.ID], nil }
	w.write("a", "b")

	first := make(chan struct{})
	go func() {
		defer close(first)
		w.ring(t)
	}()
	<-h.entered
	// The first ring still waits for the sink that hangs. Later ones do not, and
	// the other sinks get everything.
	for range 10 {
		w.write("a")
		w.ring(t)
	}
	for i, s := range healthy {
		deadline := time.Now().Add(10 * time.Second)
		for s.len() < 12 && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		if s.len() != 12 {
			t.Errorf("sink %d got %d of 12", i, s.len())
		}
	}
	select {
	case <-first:
		t.Error("the first ring did not wait for what it started")
	default:
	}
	// The rings in the meantime were not forgotten.
	close(h.release)
	<-first
	c, err := w.store.Cursor(t.Context(), key, w.pair.sink)
	if err != nil || c.Position != 12 || h.batches.Load() != 2 {
		t.Errorf("%+v %v after %d batches", c, err, h.batches.Load())
	}
}

func (s *script) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func TestRingThatGivesUpWaitingStopsNothing(t *testing.T) {
	w := newWorld(t, sqlite(t))
	h := newHanger()
	w.d.connections.open = func(context.Context, delivery.Sink) (driver.Driver, error) { return h, nil }
	w.write("a")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-h.entered
		cancel()
	}()
	if err := w.d.onLogAppended(ctx, event.LogAppended(key, 0, start)); err != nil {
		t.Error(err)
	}
	close(h.release)
	w.quiet(t)
	if c, err := w.store.Cursor(t.Context(), key, w.pair.sink); err != nil || c.Position != 1 {
		t.Errorf("%+v %v", c, err)
	}
}

// quiet waits until nothing is worked.
func (w *world) quiet(t *testing.T) {
	t.Helper()
	for range 1000 {
		w.d.mu.Lock()
		n := len(w.d.working)
		w.d.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("still working")
}

func TestCloseBreaksOffAndGivesTheLeaseBack(t *testing.T) {
	w := newWorld(t, sqlite(t))
	h := newHanger()
	w.d.connections.open = func(context.Context, delivery.Sink) (driver.Driver, error) { return h, nil }
	w.write("a")
	go func() {
		<-h.entered
		_ = w.d.Close()
	}()
	w.ring(t)
	_ = w.d.Close()
	if _, err := w.store.TakeLease(t.Context(), w.pair.lease(), "other", "", w.clock.now(), time.Minute); err != nil {
		t.Error(err)
	}
	if err := w.d.onLogAppended(t.Context(), event.LogAppended(key, 0, start)); err == nil {
		t.Error("a closed delivery took a ring")
	}
}

func TestSpentBudgetRingsAgain(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.d.Settings.Budget = 30 * time.Millisecond
	w.d.batch = 1
	w.driver.before = func([]driver.Event) { time.Sleep(10 * time.Millisecond) }
	for i := range 30 {
		w.write(fmt.Sprint("d", i))
	}
	w.ring(t)
	if n := w.driver.len(); n == 0 || n == 30 {
		t.Errorf("%d delivered within the budget", n)
	}
	if len(w.bus.rings) != 1 || w.bus.rings[0].Type() != event.LogAppendedType {
		t.Errorf("%v", w.bus.rings)
	}
}

func TestWaitsWithinItsBudgetForWhatIsDueSoon(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.d.Now = time.Now
	w.d.leases.now = time.Now
	w.d.Settings.Ladder = delivery.Ladder{Steps: []time.Duration{50 * time.Millisecond}, For: time.Minute}
	tries := 0
	w.driver.answer = func(driver.Event) driver.Outcome {
		if tries++; tries < 4 {
			return busy
		}
		return driver.Outcome{Verdict: driver.Delivered}
	}
	w.write("a", "a")
	w.ring(t)
	wantGot(t, w, "a/1 a/2")
}

func TestWakesUpForAResume(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.d.Now, w.d.leases.now = time.Now, time.Now
	var fixed atomic.Bool
	w.driver.answer = func(driver.Event) driver.Outcome {
		if fixed.Load() {
			return driver.Outcome{Verdict: driver.Delivered}
		}
		return down
	}
	w.write("a")
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		w.ring(t)
	}()
	for w.sink().State != delivery.Failing {
		time.Sleep(5 * time.Millisecond)
	}
	fixed.Store(true)
	w.tx(func(tx *store.Tx) error { return tx.WakeSink(context.Background(), key.Org, w.pair.sink) })
	data := event.SinkData{Org: key.Org, Sink: w.pair.sink, Kind: string(delivery.Webhook)}
	if err := w.d.onSink(t.Context(), event.Sink(event.SinkResumedType, data, start)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-finished:
	case <-time.After(3 * time.Second):
		t.Fatal("still waiting")
	}
	wantGot(t, w, "a/1")
}

func TestTakesOverWhatAnotherReplicaLeaves(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.d.Now, w.d.leases.now = time.Now, time.Now
	lease, err := w.store.TakeLease(t.Context(), w.pair.lease(), "other", "", time.Now(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	w.write("a")
	time.AfterFunc(200*time.Millisecond, func() { _ = w.store.ReleaseLease(context.Background(), lease) })
	w.ring(t)
	wantGot(t, w, "a/1")
}

func TestConnectionsAreKeptAndDropped(t *testing.T) {
	w := newWorld(t, sqlite(t))
	opened := 0
	w.d.connections.open = func(context.Context, delivery.Sink) (driver.Driver, error) {
		opened++
		return w.driver, nil
	}
	for range 3 {
		w.write("a")
		w.deliver()
	}
	if opened != 1 || w.driver.closed != 0 {
		t.Errorf("opened %d, closed %d", opened, w.driver.closed)
	}
	w.d.connections.tidy(time.Now().Add(time.Second))
	if w.driver.closed != 1 {
		t.Errorf("closed %d", w.driver.closed)
	}
}
