package sinks

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// replay asks for everything up to the cursor once more.
func (w *world) replay(change func(*delivery.Replay)) string {
	w.t.Helper()
	c, err := w.store.Cursor(w.t.Context(), w.pair.key, w.pair.sink)
	if err != nil {
		w.t.Fatal(err)
	}
	p := delivery.Replay{Org: w.pair.key.Org, App: w.pair.key.App, Sink: w.pair.sink, ID: newID(time.Now()), From: 1, To: c.Position,
		State: delivery.Running, CreatedAt: w.clock.now()}
	if change != nil {
		change(&p)
	}
	p.Position = p.From - 1
	if p.Total, err = w.store.CountReplay(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
	w.tx(func(tx *store.Tx) error { return tx.CreateReplay(w.t.Context(), p) })
	return p.ID
}

func (w *world) replayed(id string) delivery.Replay {
	w.t.Helper()
	p, err := w.store.Replay(w.t.Context(), w.pair.key.Org, w.pair.sink, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// delivered is a world that has delivered what was written, and forgotten it.
func delivered(t *testing.T, documents ...string) *world {
	t.Helper()
	w := newWorld(t, sqlite(t))
	w.write(documents...)
	w.deliver()
	w.driver.take()
	return w
}

func TestAReplaySendsTheSameEventsAgain(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.write("a", "b", "a")
	w.deliver()
	first := slices.Clone(w.driver.got)
	w.driver.take()
	id := w.replay(nil)
	w.deliver()
	for i, it := range w.driver.got {
		if it.ID != first[i].ID || it.Attribute("replayid") != id || string(it.Data) != string(first[i].Data) || first[i].Attribute("replayid") != "" {
			t.Errorf("%s came as %s", first[i].Structured(), it.Structured())
		}
	}
	wantGot(t, w, "a/1 b/1 a/2")
	if p := w.replayed(id); p.State != delivery.Done || p.Total != 3 || p.Delivered != 3 || p.Position != 3 || !p.EndedAt.Equal(w.clock.now()) {
		t.Errorf("%+v", p)
	}
	w.deliver()
	wantGot(t, w, "")
}

func TestWhatAReplaySends(t *testing.T) {
	for name, tc := range map[string]struct {
		filter filter.Spec
		ask    func(*delivery.Replay)
		want   string
		total  uint64
	}{
		"a range":                  {ask: func(p *delivery.Replay) { p.From, p.To = 2, 4 }, want: "b/1 a/2 c/1", total: 3},
		"a document":               {ask: func(p *delivery.Replay) { p.Document = "a" }, want: "a/1 a/2 a/3", total: 3},
		"an author":                {ask: func(p *delivery.Replay) { p.Actor = "aa" }, want: "a/1 b/1 a/2 c/1 a/3", total: 5},
		"an author who wrote none": {ask: func(p *delivery.Replay) { p.Actor = "bb" }},
		"an empty range":           {ask: func(p *delivery.Replay) { p.From, p.To = 4, 3 }},
		"what the sink wants":      {filter: filter.Spec{Documents: []string{"!a"}}, want: "b/1 c/1", total: 5},
	} {
		t.Run(name, func(t *testing.T) {
			w := delivered(t, "a", "b", "a", "c", "a")
			if !tc.filter.IsZero() {
				w.setFilter(tc.filter)
			}
			w.d.batch = 2
			id := w.replay(tc.ask)
			w.deliver()
			wantGot(t, w, tc.want)
			if p := w.replayed(id); p.State != delivery.Done || p.Total != tc.total || p.Delivered != uint64(len(strings.Fields(tc.want))) {
				t.Errorf("%+v", p)
			}
		})
	}
}

type unjudged struct {
	noMetrics
	n int
}

func (u *unjudged) Unjudged(string) { u.n++ }

func TestAReplayCountsWhatTheFilterCannotJudge(t *testing.T) {
	w := delivered(t, "a", "a")
	w.setFilter(filter.Spec{Where: `patches[0].action == "put"`}) // there are no patches
	m := &unjudged{}
	w.d.Metrics = m
	w.replay(nil)
	w.deliver()
	wantGot(t, w, "a/1 a/2")
	if m.n != 2 {
		t.Errorf("%d counted", m.n)
	}
}

func TestAReplayRunsBesideWhatIsNew(t *testing.T) {
	w := delivered(t, slices.Repeat([]string{"a", "b"}, 5)...)
	w.d.batch = 2
	id := w.replay(nil)
	var live, again []string
	for range 20 {
		w.write("a", "c")
		if _, err := w.d.pass(t.Context(), w.pair, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for _, it := range w.driver.got {
		if it.Attribute("replayid") == id {
			again = append(again, name(it))
		} else {
			live = append(live, name(it))
		}
	}
	if diff := cmp.Diff(strings.Fields("a/1 b/1 a/2 b/2 a/3 b/3 a/4 b/4 a/5 b/5"), again); diff != "" {
		t.Error(diff)
	}
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("a/", 6+i), fmt.Sprint("c/", 1+i))
	}
	if diff := cmp.Diff(want, live); diff != "" {
		t.Error(diff)
	}
	if first := w.driver.got[3].Attribute("replayid"); first == "" {
		t.Error("the replay waited for the log to end")
	}
}

func TestAReplayLeavesOutWhatIsHeld(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(bad, "a/2")
	w.write("a", "b", "a", "a")
	w.deliver()
	w.driver.take()
	id := w.replay(nil)
	w.deliver()
	wantGot(t, w, "a/1 b/1")
	if p := w.replayed(id); p.Total != 2 || p.State != delivery.Done {
		t.Errorf("%+v", p)
	}
}

func TestAReplayIsAsFastAsItMayBe(t *testing.T) {
	w := delivered(t, slices.Repeat([]string{"a"}, 25)...)
	w.replay(func(p *delivery.Replay) { p.Rate = 10 })
	var got []int
	for range 4 {
		next := w.deliver().next
		got = append(got, len(w.driver.take()))
		if len(got) < 3 && !next.Equal(w.clock.now().Add(time.Second)) {
			t.Errorf("goes on at %s", next)
		}
		w.clock.advance(999 * time.Millisecond)
		if w.deliver(); len(w.driver.take()) != 0 {
			t.Error("too early")
		}
		w.clock.advance(time.Millisecond)
	}
	if diff := cmp.Diff([]int{10, 10, 5, 0}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWasSentInPartIsPaidFor(t *testing.T) {
	w := delivered(t, "a", "b", "a", "b")
	id := w.replay(func(p *delivery.Replay) { p.Rate = 4 })
	w.driver.answer = failing(driver.Outcome{}, "a/2", "b/2") // time was up
	p, err := w.d.pass(t.Context(), w.pair, time.Now().Add(time.Minute))
	if err != nil || !p.next.Equal(w.clock.now().Add(500*time.Millisecond)) || w.replayed(id).Position != 2 {
		t.Errorf("%+v %v %+v", p, err, w.replayed(id))
	}
}

func TestARefusedEventHoldsUpNoReplay(t *testing.T) {
	w := delivered(t, "a", "b", "a")
	id := w.replay(nil)
	w.driver.answer = failing(bad, "a/1")
	w.deliver() // a/2 is untried at first
	wantGot(t, w, "b/1 a/2")
	if p := w.replayed(id); p.State != delivery.Done || p.Delivered != 2 || p.Refused != 1 || p.LastError != "400" {
		t.Errorf("%+v", p)
	}
	if len(w.held()) != 0 {
		t.Error("a replay parked a document")
	}
}

func TestAReplayClimbsTheLadderAndGoesOn(t *testing.T) {
	w := delivered(t, "a", "b")
	id := w.replay(nil)
	w.driver.answer = failing(busy, "a/1")
	steps := len(delivery.DefaultLadder().Steps)
	for i := range steps {
		w.deliver()
		if p := w.replayed(id); p.Attempts != i+1 || p.Position != 0 || p.State != delivery.Running || !p.NextAttemptAt.After(w.clock.now()) {
			t.Fatalf("after %d: %+v", i+1, p)
		}
		w.clock.advance(2 * time.Hour)
	}
	w.driver.take()
	w.deliver()
	wantGot(t, w, "b/1")
	if p := w.replayed(id); p.State != delivery.Done || p.Refused != 1 || p.Delivered != 1 || p.Attempts != 0 {
		t.Errorf("%+v", p)
	}
	if s := w.sink(); s.State != delivery.Active {
		t.Errorf("the sink is %s", s.State)
	}
}

func TestAReplayToASinkThatDoesNotAnswerBacksOff(t *testing.T) {
	w := delivered(t, "a", "b")
	id := w.replay(nil)
	w.driver.answer = failing(down, "a", "b")
	first := w.deliver()
	if s := w.sink(); s.State != delivery.Failing || s.Reason != "down" || !first.next.After(w.clock.now()) {
		t.Errorf("%s %s, next %s", s.State, s.Reason, first.next)
	}
	for range 3 {
		w.clock.advance(2 * time.Minute)
		w.deliver()
	}
	c, err := w.store.Cursor(t.Context(), w.pair.key, w.pair.sink)
	if p := w.replayed(id); err != nil || p.Attempts != 0 || p.Position != 0 || c.Attempts != 4 || p.LastError != "down" {
		t.Errorf("%+v %+v", p, c)
	}
	w.driver.answer = nil
	w.clock.advance(2 * time.Minute)
	w.deliver()
	wantGot(t, w, "a/1 b/1")
	if c, err = w.store.Cursor(t.Context(), w.pair.key, w.pair.sink); err != nil || c.Attempts != 0 || w.sink().State != delivery.Active {
		t.Errorf("it answers again: %+v %s", c, w.sink().State)
	}
}

func TestManyDocumentsThatFailTogetherAreNotTheReplays(t *testing.T) {
	w := delivered(t, "a", "b", "c")
	id := w.replay(nil)
	w.driver.answer = failing(busy, "a", "b", "c")
	w.deliver()
	if p := w.replayed(id); p.Attempts != 0 || w.sink().State != delivery.Failing {
		t.Errorf("%+v, the sink is %s", p, w.sink().State)
	}
}

func TestACancelledReplayStops(t *testing.T) {
	w := delivered(t, slices.Repeat([]string{"a"}, 6)...)
	w.d.batch = 2
	id := w.replay(nil)
	cancelled := false
	w.driver.after = func([]driver.Event) {
		if cancelled {
			return
		}
		cancelled = true
		p := w.replayed(id)
		p.State = delivery.Cancelled
		w.tx(func(tx *store.Tx) error { return tx.SaveReplay(t.Context(), p) })
	}
	w.write("b")
	w.deliver()
	w.driver.after = nil
	w.deliver()
	got := w.driver.take()
	if diff := cmp.Diff([]string{"b/1"}, got); diff != "" {
		t.Errorf("what is new, and the replay that was cancelled before: %s", diff)
	}
	// In the middle of a batch: that one is sent, and no other.
	id, cancelled = w.replay(nil), false
	w.driver.after = func([]driver.Event) {
		p := w.replayed(id)
		p.State = delivery.Cancelled
		w.tx(func(tx *store.Tx) error { return tx.SaveReplay(t.Context(), p) })
		w.driver.after = nil
	}
	w.deliver()
	wantGot(t, w, "a/1 a/2")
	if p := w.replayed(id); p.State != delivery.Cancelled {
		t.Errorf("%+v", p)
	}
}

func TestAReplaySurvivesACrash(t *testing.T) {
	w := delivered(t, slices.Repeat([]string{"a"}, 6)...)
	w.d.batch = 2
	id := w.replay(nil)
	batches := 0
	w.driver.after = func([]driver.Event) {
		if batches++; batches == 2 {
			panic(crash{})
		}
	}
	func() {
		defer func() { _ = recover() }()
		w.deliver()
	}()
	w.restart()
	w.deliver()
	wantGot(t, w, "a/1 a/2 a/3 a/4 a/3 a/4 a/5 a/6")
	if p := w.replayed(id); p.State != delivery.Done || p.Delivered != 6 {
		t.Errorf("%+v", p)
	}
}

func TestAPausedSinkIsSentNoReplay(t *testing.T) {
	w := delivered(t, "a")
	w.replay(nil)
	w.tx(func(tx *store.Tx) error {
		return tx.SetSinkState(t.Context(), key.Org, w.pair.sink, delivery.Paused, "")
	})
	w.deliver()
	wantGot(t, w, "")
	w.tx(func(tx *store.Tx) error {
		return tx.SetSinkState(t.Context(), key.Org, w.pair.sink, delivery.Active, "")
	})
	// Nothing of the log is behind, and still the resumed sink has something to do.
	if err := w.d.onSink(t.Context(), sinkEvent(w)); err != nil {
		t.Fatal(err)
	}
	wantGot(t, w, "a/1")
}

func TestAReplayWaitsForTheOneBefore(t *testing.T) {
	w := delivered(t, "a", "b", "a")
	first := w.replay(func(p *delivery.Replay) { p.Rate, p.Document = 1, "a" })
	second := w.replay(nil)
	w.deliver()
	w.deliver()
	wantGot(t, w, "a/1")
	for w.replayed(second).State != delivery.Done {
		w.clock.advance(time.Second)
		w.deliver()
	}
	wantGot(t, w, "a/2 a/1 b/1 a/2")
	if w.replayed(first).State != delivery.Done {
		t.Error("the first did not end")
	}
}

func TestSomebodyElsesLeaseWithAReplayToDo(t *testing.T) {
	w := delivered(t, "a")
	undone := func() bool {
		t.Helper()
		is, err := w.d.undone(w.pair)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	if undone() {
		t.Error("nothing is to be done")
	}
	w.replay(nil)
	if !undone() {
		t.Error("the replay is to be done")
	}
	w.deliver()
	w.driver.answer = failing(bad, "a/2")
	w.write("a")
	w.deliver()
	if undone() {
		t.Error("what is parked waits for an operator")
	}
	w.redrive("a", false)
	if !undone() {
		t.Error("what is redriven is to be done")
	}
}

func TestReplayOfAChangedSinkBeginsItsBatchAnew(t *testing.T) {
	w := delivered(t, "a", "b")
	id := w.replay(nil)
	w.driver.after = func([]driver.Event) {
		w.driver.after = nil
		w.setFilter(filter.Spec{Documents: []string{"b"}})
	}
	if _, err := w.d.pass(t.Context(), w.pair, time.Now().Add(time.Minute)); !errors.Is(err, fault.Stale) {
		t.Errorf("%v", err)
	}
	w.deliver()
	wantGot(t, w, "a/1 b/1 b/1")
	if p := w.replayed(id); p.State != delivery.Done || p.Delivered != 1 {
		t.Errorf("%+v", p)
	}
}
