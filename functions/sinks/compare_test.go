package sinks

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// compare compares everything, and each document by itself: they must agree.
func (w *world) compare() completeness.Result {
	w.t.Helper()
	until := time.Now().Add(time.Minute)
	all, err := w.d.compare(w.t.Context(), w.pair, "", until)
	if err != nil {
		w.t.Fatal(err)
	}
	var apart completeness.Result
	for document := range w.seqs {
		one, err := w.d.compare(w.t.Context(), w.pair, document, until)
		if err != nil {
			w.t.Fatal(err)
		}
		apart.Found += one.Found
		apart.Events += one.Events
		apart.Held += one.Held
	}
	if apart.Found != all.Found || apart.Events != all.Events || apart.Held != all.Held {
		w.t.Errorf("all together %+v, one by one %+v", all, apart)
	}
	return all
}

// anew gives the world's pair another sink.
func (w *world) anew(s delivery.Start, f filter.Spec) {
	w.t.Helper()
	id := newID(time.Now())
	w.tx(func(tx *store.Tx) error {
		return tx.CreateSink(w.t.Context(), delivery.Sink{ID: id, Org: key.Org, Kind: delivery.Webhook, Formations: []string{string(key.App)},
			Config: []byte(`{}`), Format: delivery.Patches, Start: s, Filter: f, State: delivery.Active, CreatedAt: w.clock.now()})
	})
	w.pair.sink = id
}

func TestWhatIsComplete(t *testing.T) {
	two := uint64(2)
	for name, tc := range map[string]struct {
		play    func(w *world)
		events  uint64
		held    uint64
		omitted uint64
	}{
		"everything": {func(w *world) {
			w.write("a", "b", "a")
			w.deliver()
		}, 3, 0, 0},
		"not all yet": {func(w *world) {
			w.write("a", "b")
			w.deliver()
			w.write("a")
		}, 2, 0, 0},
		"through faults": {func(w *world) {
			n := 0
			w.driver.answer = func(driver.Event) driver.Outcome {
				if n++; n%3 == 0 {
					return busy
				}
				return driver.Outcome{Verdict: driver.Delivered}
			}
			w.write(slices.Repeat([]string{"a", "b", "c"}, 9)...)
			for range 200 {
				w.deliver()
				w.clock.advance(time.Hour)
			}
		}, 27, 0, 0},
		"what is held": {func(w *world) {
			w.driver.answer = failing(bad, "a/2")
			w.write("a", "a", "b", "a")
			w.deliver()
		}, 2, 2, 0},
		"what was skipped": {func(w *world) {
			w.driver.answer = failing(bad, "a/2")
			w.write("a", "a", "b", "a")
			w.deliver()
			w.redrive("a", true)
			w.deliver()
		}, 4, 0, 1},
		"what was purged": {func(w *world) {
			w.driver.answer = failing(bad, "a/2")
			w.write("a", "a", "b", "a")
			w.deliver()
			w.write("a")
			w.decide("a", delivery.Purge)
			w.write("a")
			w.deliver()
		}, 3, 0, 3},
		"behind a filter": {func(w *world) {
			w.anew(delivery.Start{Beginning: true}, filter.Spec{Documents: []string{"!b"}, Where: "event.seq != 2"})
			w.write("a", "b", "a", "a")
			w.deliver()
		}, 2, 0, 0},
		"behind a filter that fails": {func(w *world) {
			w.anew(delivery.Start{Beginning: true}, filter.Spec{Where: "patches[0].action == 'put'"})
			w.write("a", "b")
			w.deliver()
		}, 2, 0, 0},
		"a filter that was changed": {func(w *world) {
			w.driver.answer = failing(bad, "c/1")
			w.write("a", "b", "c", "a")
			w.deliver()
			w.setFilter(filter.Spec{Documents: []string{"b", "c"}})
			w.write("a", "b", "c")
			w.deliver()
			w.setFilter(filter.Spec{})
			w.write("a", "b")
			w.deliver()
		}, 2, 2, 0},
		"a start now": {func(w *world) {
			w.write("a", "b")
			w.anew(delivery.Start{}, filter.Spec{})
			w.write("a")
			w.deliver()
		}, 1, 0, 0},
		"a start at a position": {func(w *world) {
			w.write("a", "b", "a")
			w.anew(delivery.Start{Position: &two}, filter.Spec{})
			w.deliver()
		}, 1, 0, 0},
		"a start at heads": {func(w *world) {
			w.write("a", "b", "a", "a")
			w.anew(delivery.Start{Heads: map[string][]change.Hash{"a": {hashOf("a", 2)}}}, filter.Spec{})
			w.deliver()
		}, 2, 0, 0},
		"a replay changes nothing": {func(w *world) {
			w.write("a", "b", "a")
			w.deliver()
			w.replay(nil)
			w.deliver()
		}, 3, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sqlite(t))
			tc.play(w)
			r := w.compare()
			if !r.Complete || r.Events != tc.events || r.Held != tc.held || r.Omitted != tc.omitted {
				t.Errorf("%+v", r)
			}
		})
	}
}

// moveCursor is what a fault in delivery would do.
func (w *world) moveCursor(to uint64) {
	w.t.Helper()
	w.tx(func(tx *store.Tx) error {
		c, err := tx.Cursor(w.t.Context(), w.pair.key, w.pair.sink)
		c.Position = to
		return errors.Join(err, tx.SaveCursor(w.t.Context(), c))
	})
	w.restart()
}

func TestACursorThatSkippedAnEventIsFound(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.write("a", "b", "a")
	w.deliver()
	w.write("a") // position 4
	w.moveCursor(4)
	r := w.compare()
	want := completeness.Finding{Document: "a", Kind: completeness.Missing, Seq: 3}
	if r.Complete || len(r.Findings) != 1 {
		t.Fatalf("%+v", r)
	}
	r.Findings[0].Detail = ""
	if diff := cmp.Diff(want, r.Findings[0]); diff != "" {
		t.Error(diff)
	}
	// And still if later ones arrive.
	w.write("a", "b")
	w.deliver()
	if r = w.compare(); r.Complete || r.Findings[0].Document != "a" || r.Findings[0].Kind != completeness.Missing {
		t.Errorf("%+v", r)
	}
}

func TestALogTooLongForTheTime(t *testing.T) {
	w := delivered(t, "a", "b")
	r, err := w.d.compare(t.Context(), w.pair, "", time.Now().Add(-time.Second))
	if !errors.Is(err, errUnfinished) || r.Through != 0 || r.Complete {
		t.Errorf("%+v %v", r, err)
	}
	if _, err = w.d.compare(t.Context(), w.pair, "a", time.Now().Add(-time.Second)); !errors.Is(err, errUnfinished) {
		t.Errorf("%v", err)
	}
}

func TestCompletenessIsAskedFor(t *testing.T) {
	o := newOffice(t)
	o.write("a", "b", "a")
	o.deliver()
	o.write("a")
	o.moveCursor(4)
	path := "/" + o.pair.sink + "/completeness"
	var got comparedWire
	o.call("GET", ofFormation+path, "", 200, &got)
	if !got.Finished || got.Complete == nil || *got.Complete || got.Through != 4 || got.Found != 1 || got.Findings[0].Document != "a" {
		t.Errorf("%+v", got)
	}
	o.call("GET", ofOrg+path+"?formation=logistics&document=b", "", 200, &got)
	if !*got.Complete || got.Documents != 1 || got.Through != 4 {
		t.Errorf("%+v", got)
	}
	o.call("GET", ofOrg+path, "", 422, nil) // of which formation?
	o.call("GET", ofOrg+path+"?formation=nothing", "", 404, nil)
	o.call("GET", ofFormation+path+"?document=%00", "", 422, nil)
}

type incompletes struct {
	noMetrics
	n map[string]int
}

func (i *incompletes) Incomplete(kind string, n int) { i.n[kind] = n }

func TestEverySinkIsComparedOnceADay(t *testing.T) {
	o := newOffice(t)
	m := &incompletes{n: map[string]int{}}
	a := New(Deps{Store: o.store, Bus: o.bus, Now: o.clock.now, Metrics: m})
	sweep := func() *nightlyWire {
		t.Helper()
		if err := a.onPing(t.Context(), event.LogAppended(key, 0, start)); err != nil {
			t.Fatal(err)
		}
		var got sinkWire
		o.call("GET", ofFormation+"/"+o.pair.sink, "", 200, &got)
		return got.Completeness
	}
	if got := sweep(); got != nil {
		t.Errorf("before anything was delivered: %+v", got)
	}
	o.write("a", "b")
	o.deliver()
	first := sweep()
	if first == nil || !first.Complete || first.Through != 2 || first.Formations != 1 || m.n["webhook"] != 0 {
		t.Fatalf("%+v", first)
	}
	o.write("a")
	o.moveCursor(3)
	if got := sweep(); !got.At.Equal(first.At) || !got.Complete {
		t.Errorf("too early: %+v", got)
	}
	o.clock.advance(compareEach)
	got := sweep()
	if got.Complete || got.Found != 1 || got.Findings[0].App != key.App || got.Findings[0].Document != "a" || m.n["webhook"] != 1 {
		t.Errorf("%+v, gauge %v", got, m.n)
	}
	if text := o.call("GET", ofOrg, "", 200, nil); strings.Contains(text, "completeness") {
		t.Error("a list compares nothing")
	}
}
