package sinks

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestWhatANewSinkGets(t *testing.T) {
	three := uint64(3)
	second := start.Add(time.Minute)
	for name, tc := range map[string]struct {
		start delivery.Start
		want  string
	}{
		"from now on":        {delivery.Start{}, "b/2 a/4"},
		"the beginning":      {delivery.Start{Beginning: true}, "a/1 b/1 a/2 c/1 a/3 b/2 a/4"},
		"after a position":   {delivery.Start{Position: &three}, "c/1 a/3 b/2 a/4"},
		"since a time":       {delivery.Start{Time: &second}, "a/2 c/1 a/3 b/2 a/4"},
		"what heads lack":    {delivery.Start{Heads: map[string][]change.Hash{"a": {hashOf("a", 2)}, "c": {hashOf("c", 1)}}}, "b/1 a/3 b/2 a/4"},
		"heads of no change": {delivery.Start{Heads: map[string][]change.Hash{"a": {{1}}}}, "a/1 b/1 a/2 c/1 a/3 b/2 a/4"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sqlite(t))
			w.write("a", "b")
			w.clock.advance(time.Minute)
			w.write("a", "c", "a")
			w.anew(tc.start, filter.Spec{})
			w.write("b", "a")
			w.deliver()
			wantGot(t, w, tc.want)
		})
	}
}

// Two authors, apart: the receiver has one branch and lacks the other, which
// comes first in the log. What it has after that comes once more.
func TestHeadsOnABranchGetTheOtherOne(t *testing.T) {
	w := newWorld(t, sqlite(t))
	var log []change.Settled
	for i, deps := range [][]change.Hash{nil, {hashOf("a", 1)}, {hashOf("a", 1)}, {hashOf("a", 3)}} {
		seq := uint64(i + 1)
		s := change.Follow(change.Change{Hash: hashOf("a", seq), Deps: deps, Actor: "aa", Raw: []byte("r"), Patches: []byte("[]")}, "a", seq, nil)
		s.ReceivedAt, s.Origin = start, change.Sync
		log = append(log, s)
	}
	w.tx(func(tx *store.Tx) error {
		_, err := tx.AppendChanges(t.Context(), key, log)
		return err
	})
	w.anew(delivery.Start{Heads: map[string][]change.Hash{"a": {hashOf("a", 3)}}}, filter.Spec{})
	w.deliver()
	wantGot(t, w, "a/2 a/3 a/4")
}

func TestPrevIsTheLastEventThatTheSinkGot(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.anew(delivery.Start{Beginning: true}, filter.Spec{Where: "event.seq != 2 && event.seq != 4"})
	w.d.batch = 2
	w.write("a", "b", "a", "a", "a", "a")
	w.deliver()
	type got struct {
		Seq  uint64
		Prev *change.Hash
	}
	h := func(seq uint64) *change.Hash { v := hashOf("a", seq); return &v }
	read := func() (out []got) {
		for _, it := range w.driver.got {
			var d event.DocumentData
			if err := json.Unmarshal(it.Data, &d); err != nil {
				t.Fatal(err)
			}
			if d.Document == "a" {
				out = append(out, got{d.Seq, d.Prev})
			}
		}
		w.driver.got = nil
		return out
	}
	if diff := cmp.Diff([]got{{1, nil}, {3, h(1)}, {5, h(3)}}, read()); diff != "" {
		t.Error(diff)
	}
	c, err := w.store.Cursor(t.Context(), key, w.pair.sink)
	if err != nil || c.Position != 6 {
		t.Errorf("%+v %v", c, err)
	}
	// Also in another process, and over what is refused and redriven.
	w.restart()
	w.driver.answer = failing(bad, "a/6")
	w.write("a", "a")
	w.deliver()
	w.driver.answer = nil
	w.redrive("a", false)
	w.deliver()
	if diff := cmp.Diff([]got{{6, h(5)}, {7, h(6)}}, read()); diff != "" {
		t.Error(diff)
	}
}

func TestAFilterThatFailsDeliversAndCounts(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.anew(delivery.Start{Beginning: true}, filter.Spec{Where: `patches[0].action == "put"`})
	m := &unjudged{}
	w.d.Metrics = m
	w.write("a", "b")
	w.deliver()
	wantGot(t, w, "a/1 b/1")
	if m.n != 2 {
		t.Errorf("%d counted", m.n)
	}
}

// A release may refuse what the one before took.
func TestAFilterThatDoesNotCompileAnyMoreDisablesItsSink(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.anew(delivery.Start{Beginning: true}, filter.Spec{Where: "event.colour == 'red'"})
	w.write("a")
	w.deliver()
	wantGot(t, w, "")
	if s := w.sink(); s.State != delivery.Disabled || s.Reason != errFilter.Error() {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	w.setFilter(filter.Spec{})
	w.tx(func(tx *store.Tx) error {
		if err := tx.WakeSink(t.Context(), key.Org, w.pair.sink); err != nil {
			return err
		}
		return tx.SetSinkState(t.Context(), key.Org, w.pair.sink, delivery.Active, "")
	})
	if err := w.d.onSink(t.Context(), sinkEvent(w)); err != nil {
		t.Fatal(err)
	}
	wantGot(t, w, "a/1")
}

func TestPaceKeepsTheAverage(t *testing.T) {
	w := newWorld(t, sqlite(t))
	const perSecond = 1000
	w.tx(func(tx *store.Tx) error {
		org, err := tx.Org(t.Context(), key.Org)
		org.Quotas.MaxCDCBytesPerSecond = perSecond
		if err != nil {
			return err
		}
		return tx.UpdateOrg(t.Context(), org)
	})
	w.d.batch = 1
	for range 20 {
		w.write("a")
	}
	bytes := 0
	w.driver.before = func(batch []driver.Event) {
		// Everything that was sent before is paid for.
		if allowed := int(w.clock.now().Sub(start).Seconds() * perSecond); bytes > allowed+1 {
			t.Errorf("%d bytes were sent in %s", bytes, w.clock.now().Sub(start))
		}
		for _, it := range batch {
			bytes += it.Size()
		}
	}
	rounds := 0
	for ; rounds < 1000; rounds++ {
		p := w.deliver()
		if p.next.IsZero() {
			break
		}
		w.clock.advance(p.next.Sub(w.clock.now()))
	}
	if got := w.driver.take(); len(got) != 20 || rounds < 19 {
		t.Errorf("%d delivered in %d rounds", len(got), rounds)
	}
	if took := w.clock.now().Sub(start).Seconds() * perSecond; int(took) > bytes+1 {
		t.Errorf("%d bytes took as long as %d may", bytes, int(took))
	}
}

// TestAllKindsShareThePace: what the sinks of one kind have sent counts for those of
// another, which have a delivery of their own in the same process.
func TestAllKindsShareThePace(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.tx(func(tx *store.Tx) error {
		org, err := tx.Org(t.Context(), key.Org)
		org.Quotas.MaxCDCBytesPerSecond = 1000
		if err != nil {
			return err
		}
		return tx.UpdateOrg(t.Context(), org)
	})
	other := NewDelivery(DeliveryDeps{Kinds: []delivery.Kind{delivery.CloudEvents}, Shared: w.d.Shared, Deps: w.d.Deps})
	defer func() { _ = other.Close() }()
	got := &script{}
	other.connections.open = func(context.Context, delivery.Sink) (driver.Driver, error) { return got, nil }
	second := pair{key, w.addSink(delivery.CloudEvents, `{}`)}
	w.write("a", "b", "c")
	w.deliver()
	p, err := other.pass(t.Context(), second, drivertest.Soon())
	if err != nil || len(got.got) > 0 || p.next.IsZero() {
		t.Errorf("%d were sent at once, next at %s, %v", len(got.got), p.next, err)
	}
	w.clock.advance(p.next.Sub(w.clock.now()))
	if _, err := other.pass(t.Context(), second, drivertest.Soon()); err != nil || len(got.got) != 3 {
		t.Errorf("%d were sent in their time, %v", len(got.got), err)
	}
}

func TestABreakerLetsOneAskAtATime(t *testing.T) {
	b := &breakers{open: map[sinkKey]*breaker{}}
	k, other := sinkKey{"acme", "s"}, sinkKey{"acme", "t"}
	now := start
	if !b.admit(k, now).IsZero() {
		t.Error("nobody said that it does not answer")
	}
	until := now.Add(time.Minute)
	b.report(k, until)
	if got := b.admit(k, now); !got.Equal(until) {
		t.Errorf("come again at %s", got)
	}
	if !b.admit(other, now).IsZero() {
		t.Error("another sink waits too")
	}
	now = until
	if !b.admit(k, now).IsZero() {
		t.Error("nobody may ask")
	}
	for range 100 {
		if b.admit(k, now).IsZero() {
			t.Fatal("two ask at once")
		}
	}
	b.report(k, time.Time{})
	for range 2 {
		if !b.admit(k, now).IsZero() {
			t.Error("it answers, and somebody waits")
		}
	}
}

func TestADeadSinkIsNotAskedForEachFormation(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = func(driver.Event) driver.Outcome { return down }
	pairs := []pair{w.pair}
	for _, app := range []string{"f1", "f2", "f3", "f4"} {
		p := pair{key, w.pair.sink}
		p.key.App = tenant.AppID(app)
		w.addFormation(p.key)
		pairs = append(pairs, p)
	}
	for _, p := range pairs {
		w.pair.key, w.seqs = p.key, map[string]uint64{}
		w.write("a")
	}
	round := func() int {
		before := len(w.driver.sizes)
		for _, p := range pairs {
			w.pair = p
			w.deliver()
		}
		return len(w.driver.sizes) - before
	}
	if n := round(); n != 1 {
		t.Errorf("%d attempts", n)
	}
	for range 5 {
		w.clock.advance(2 * time.Minute) // longer than any interval
		if n := round(); n != 1 {
			t.Errorf("%d attempts in an interval", n)
		}
	}
	// Whoever resumes it means now.
	w.driver.answer = nil
	w.tx(func(tx *store.Tx) error { return tx.WakeSink(t.Context(), key.Org, w.pair.sink) })
	if err := w.d.onSink(t.Context(), sinkEvent(w)); err != nil {
		t.Fatal(err)
	}
	if got := w.driver.take(); len(got) != len(pairs) {
		t.Errorf("%v", got)
	}
}
