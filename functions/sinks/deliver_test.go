package sinks

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func wantGot(t *testing.T, w *world, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.Fields(want), w.driver.take()); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
}

// failing answers o for the events named, and delivers the others.
func failing(o driver.Outcome, names ...string) func(driver.Event) driver.Outcome {
	return func(it driver.Event) driver.Outcome {
		for _, n := range names {
			if n == name(it) || n == it.Document {
				return o
			}
		}
		return driver.Outcome{Verdict: driver.Delivered}
	}
}

var (
	bad  = driver.Outcome{Verdict: driver.Refused, Reason: "400", Excerpt: "no"}
	busy = driver.Outcome{Verdict: driver.Retry, Reason: "500"}
	down = driver.Outcome{Verdict: driver.Retry, Reason: "down", Unreachable: true}
)

func TestEverythingInOrder(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.write("a", "b", "a", "a")
	w.deliver()
	wantGot(t, w, "a/1 b/1 a/2 a/3")
	w.write("b")
	w.deliver()
	wantGot(t, w, "b/2")
	w.deliver()
	if len(w.driver.take()) != 0 || len(w.driver.sizes) != 2 {
		t.Errorf("delivered again: %v", w.driver.sizes)
	}
}

func TestLongLogInBatches(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.write(slices.Repeat([]string{"a"}, 2*batchEvents+1)...)
	w.deliver()
	if diff := cmp.Diff([]int{batchEvents, batchEvents, 1}, w.driver.sizes); diff != "" {
		t.Error(diff)
	}
}

func TestPoisonParksOnlyItsDocument(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(bad, "a/2")
	w.write("a", "b", "a", "a", "b")
	w.deliver()
	wantGot(t, w, "a/1 b/1 b/2")
	w.write("a", "b")
	w.deliver()
	wantGot(t, w, "b/3")
	h := w.held()["a"]
	if h.State != delivery.Parked || h.FromSeq != 2 || h.Attempts != 1 || h.LastError != "400" || h.Excerpt != "no" || h.Hash != hashOf("a", 2) {
		t.Errorf("%+v", h)
	}
	out, err := w.store.Outbox(t.Context(), 10)
	if err != nil || len(out) != 1 || out[0].Event.Type() != event.DeadLetterParkedType || w.lost != 1 {
		t.Errorf("%v %v, notified %d times", out, err, w.lost)
	}
	if s := w.sink(); s.State != delivery.Active {
		t.Errorf("the sink is %s", s.State)
	}
	// Later, from the same place, in order, up to what was written meanwhile.
	w.driver.answer = nil
	w.redrive("a", false)
	w.write("a")
	w.deliver()
	wantGot(t, w, "a/2 a/3 a/4 a/5")
	if len(w.held()) != 0 {
		t.Error("still held")
	}
}

func TestRedriveThatIsRefusedAgainParksAgain(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(bad, "a/1")
	w.write("a", "a")
	w.deliver()
	id := w.held()["a"].ID
	w.redrive("a", false)
	w.deliver()
	wantGot(t, w, "")
	if h := w.held()["a"]; h.State != delivery.Parked || h.ID != id {
		t.Errorf("%+v", h)
	}
}

func TestSkipLeavesAMarker(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(bad, "a/2")
	w.write("a", "a", "a")
	w.deliver()
	w.redrive("a", true)
	w.deliver()
	wantGot(t, w, "a/1 a/2! a/3")
	if len(w.held()) != 0 {
		t.Error("still held")
	}
}

func TestRefusedMarkerIsDropped(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(bad, "a/1", "a/1!")
	w.write("a", "a", "a")
	w.deliver()
	w.redrive("a", true)
	for range 3 { // a driver sends nothing behind what was refused, so it takes another pass
		w.deliver()
	}
	wantGot(t, w, "a/2 a/3")
	if len(w.held()) != 0 {
		t.Errorf("still held: %v", w.held())
	}
}

func TestMarkerThatCannotBeSentNowIsTriedAgain(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(bad, "a/1")
	w.write("a", "a")
	w.deliver()
	w.redrive("a", true)
	w.driver.answer = failing(busy, "a/1!")
	w.deliver()
	wantGot(t, w, "")
	w.driver.answer = nil
	w.clock.advance(time.Minute)
	w.deliver()
	wantGot(t, w, "a/1! a/2")
}

func TestDocumentIsTriedAgainByTheLadder(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(busy, "a")
	w.write("a", "b", "a")
	if p := w.deliver(); p.next.Before(start.Add(4*time.Second)) || p.next.After(start.Add(6*time.Second)) {
		t.Errorf("due at %s", p.next)
	}
	wantGot(t, w, "b/1")
	w.write("b", "a")
	w.deliver()
	wantGot(t, w, "b/2")
	w.clock.advance(6 * time.Second)
	w.deliver()
	if h := w.held()["a"]; h.Attempts != 2 || h.State != delivery.Retrying {
		t.Errorf("%+v", h)
	}
	w.driver.answer = nil
	w.clock.advance(34 * time.Second)
	w.deliver()
	wantGot(t, w, "a/1 a/2 a/3")
}

func TestReceiverMayAskForPatience(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(driver.Outcome{Verdict: driver.Retry, NotBefore: start.Add(10 * time.Minute)}, "a")
	w.write("a", "b")
	w.deliver()
	if h := w.held()["a"]; !h.NextAttemptAt.Equal(start.Add(10 * time.Minute)) {
		t.Errorf("due at %s", h.NextAttemptAt)
	}
}

func TestSpentLadderParks(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(busy, "a/2")
	w.write("a", "a", "b", "a")
	w.deliver()
	for hours := 0; w.held()["a"].State == delivery.Retrying; hours++ {
		if hours > 60 {
			t.Fatal("tried for ever")
		}
		w.clock.advance(time.Hour)
		w.deliver()
	}
	wantGot(t, w, "a/1 b/1")
	if h := w.held()["a"]; h.Attempts < 10 || h.State != delivery.Parked || w.clock.now().Sub(start) < 22*time.Hour {
		t.Errorf("after %s: %+v", w.clock.now().Sub(start), h)
	}
	// Redriven, the ladder is climbed from its first step.
	w.redrive("a", false)
	w.deliver()
	if h := w.held()["a"]; h.State != delivery.Retrying || h.Attempts != 1 {
		t.Errorf("%+v", h)
	}
}

func TestDownForAMomentRepeatsNothing(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(down, "b", "c")
	w.write("a", "b", "c", "a", "b", "a")
	p := w.deliver()
	wantGot(t, w, "a/1 a/2 a/3")
	if s := w.sink(); s.State != delivery.Failing || s.Reason != "down" || !p.next.After(start) {
		t.Errorf("%s %q, due %s", s.State, s.Reason, p.next)
	}
	if c, err := w.store.Cursor(t.Context(), w.pair.key, w.pair.sink); err != nil || c.Attempts != 1 || c.LastError != "down" {
		t.Errorf("%+v %v", c, err)
	}
	w.write("c")
	w.deliver()
	wantGot(t, w, "") // not before it is due
	w.clock.advance(10 * time.Second)
	w.driver.answer = nil
	w.deliver()
	got := w.driver.take()
	if diff := cmp.Diff(map[string]int{"b/1": 1, "b/2": 1, "c/1": 1, "c/2": 1}, count(got)); diff != "" {
		t.Errorf("%v %s", got, diff)
	}
	if s := w.sink(); s.State != delivery.Active || s.Reason != "" || len(w.held()) != 0 {
		t.Errorf("%+v", s)
	}
}

func count(names []string) map[string]int {
	out := map[string]int{}
	for _, n := range names {
		out[n]++
	}
	return out
}

func TestSinkThatIsDownUsesUpNoLadder(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(busy, "x")
	w.write("x", "a")
	w.deliver()
	wantGot(t, w, "a/1")
	w.driver.answer = func(driver.Event) driver.Outcome { return down }
	w.write("a", "b", "c")
	for range 200 { // two days
		w.clock.advance(15 * time.Minute)
		w.deliver()
	}
	if h := w.held(); len(h) != 1 || h["x"].State != delivery.Retrying || h["x"].Attempts != 1 {
		t.Errorf("%+v", h)
	}
	w.driver.answer = nil
	w.clock.advance(2 * time.Minute)
	w.deliver()
	wantGot(t, w, "x/1 a/2 b/1 c/1")
}

func TestManyDocumentsFailingTogetherAreTheSinksFault(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = func(driver.Event) driver.Outcome { return busy }
	w.write("a", "b", "c", "d")
	w.deliver()
	if len(w.held()) != 0 || w.sink().State != delivery.Failing {
		t.Errorf("%v %s", w.held(), w.sink().State)
	}
	w.driver.answer = nil
	w.clock.advance(time.Minute)
	w.deliver()
	wantGot(t, w, "a/1 b/1 c/1 d/1")
}

func TestTimeIsUpInTheMiddle(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(driver.Outcome{}, "b")
	w.write("a", "b", "a", "b", "c", "b")
	p, err := w.d.pass(t.Context(), w.pair, time.Now())
	if err != nil || !p.more {
		t.Fatalf("%+v %v", p, err)
	}
	wantGot(t, w, "a/1 a/2 c/1")
	w.driver.answer = nil
	w.deliver()
	wantGot(t, w, "b/1 b/2 b/3")
}

func TestCrashBetweenDeliveryAndCursorRepeats(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.write("a", "b", "a")
	w.driver.after = func([]driver.Event) { panic("crash") }
	func() {
		defer func() { _ = recover() }()
		w.deliver()
	}()
	first := len(w.driver.got)
	w.driver.after = nil
	w.restart()
	w.deliver()
	got := w.driver.got
	wantGot(t, w, "a/1 b/1 a/2 a/1 b/1 a/2")
	for i := range first {
		if got[i].ID != got[first+i].ID {
			t.Errorf("another id for a repeat: %s, %s", got[i].ID, got[first+i].ID)
		}
	}
}

func TestLostLeaseWritesNothing(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.write("a", "b")
	w.driver.after = func([]driver.Event) {
		w.driver.after = nil
		if _, err := w.store.TakeLease(t.Context(), w.pair.lease(), "other", "", w.clock.now().Add(time.Hour), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.d.pass(t.Context(), w.pair, time.Now().Add(time.Minute)); !errors.Is(err, fault.Stale) {
		t.Fatal(err)
	}
	var elsewhere *store.HeldError
	if _, err := w.d.pass(t.Context(), w.pair, time.Now().Add(time.Minute)); !errors.As(err, &elsewhere) {
		t.Fatal(err)
	}
	if c, err := w.store.Cursor(t.Context(), w.pair.key, w.pair.sink); err != nil || c.Position != 0 {
		t.Errorf("%+v %v", c, err)
	}
}

func TestReceiverThatIsGoneDisablesTheSink(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(driver.Outcome{Verdict: driver.Retry, Gone: true, Reason: "410 Gone"}, "b")
	w.write("a", "b", "c")
	w.deliver()
	w.clock.advance(time.Hour)
	w.deliver()
	wantGot(t, w, "a/1 c/1")
	if s := w.sink(); s.State != delivery.Disabled || s.Reason != "410 Gone" {
		t.Errorf("%+v", s)
	}
	if w.driver.closed == 0 {
		t.Error("the connection is still open")
	}
	ctx := context.Background()
	w.tx(func(tx *store.Tx) error {
		return errors.Join(tx.SetSinkState(ctx, key.Org, w.pair.sink, delivery.Active, ""), tx.WakeSink(ctx, key.Org, w.pair.sink))
	})
	w.driver.answer = nil
	w.deliver()
	wantGot(t, w, "b/1")
}

func TestPausedSinkGetsNothing(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.tx(func(tx *store.Tx) error {
		return tx.SetSinkState(context.Background(), key.Org, w.pair.sink, delivery.Paused, "")
	})
	w.write("a")
	w.deliver()
	wantGot(t, w, "")
}

// TestSuspendedFormationIsNotDelivered: not what came before, not when a bell rings;
// and all of it once it is resumed.
func TestSuspendedFormationIsNotDelivered(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.write("a", "b")
	move := func(to tenant.State) {
		w.tx(func(tx *store.Tx) error {
			f, err := tx.Formation(context.Background(), key)
			if err != nil {
				return err
			}
			f.State = to
			return tx.UpdateFormation(context.Background(), f)
		})
	}
	move(tenant.Suspended)
	w.deliver()
	wantGot(t, w, "")
	lag, err := w.store.Lag(t.Context(), w.sink(), w.clock.now())
	if err != nil || len(lag) != 1 || lag[0].Events != 2 {
		t.Errorf("the lag does not count on: %+v %v", lag, err)
	}
	if behind, err := w.store.Behind(t.Context(), w.clock.now()); err != nil || len(behind) != 0 {
		t.Errorf("rung for in vain: %v %v", behind, err)
	}
	move(tenant.Active)
	resumed := event.FormationResumed(tenant.Formation{Org: key.Org, App: key.App}, start)
	if err := bus.Dispatch(t.Context(), w.d.Events(), resumed); err != nil {
		t.Fatal(err)
	}
	wantGot(t, w, "a/1 b/1")
}

func TestFormationMadeAnewBeginsAnew(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.write("a", "b", "c")
	w.driver.after = func([]driver.Event) {
		w.driver.after = nil
		w.tx(func(tx *store.Tx) error { return tx.DestroyFormation(context.Background(), key) })
		w.clock.advance(time.Second)
		w.seqs = map[string]uint64{}
		w.addFormation(key)
		w.write("z")
	}
	if _, err := w.d.pass(t.Context(), w.pair, time.Now().Add(time.Minute)); !errors.Is(err, fault.Stale) {
		t.Errorf("what became of the old log was recorded in the new one: %v", err)
	}
	w.driver.take()
	w.deliver()
	wantGot(t, w, "z/1")
}
