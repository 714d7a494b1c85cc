package sinks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// TestWhateverHappens lets chance write changes, answer for the receiver, crash
// the process and act for the administrator, and then lets everything calm down.
// PEAT_TEST_SEED repeats one run.
func TestWhateverHappens(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": sqlite, "postgres": testenv.Postgres} {
		t.Run(name, func(t *testing.T) {
			seed, runs := uint64(time.Now().UnixNano()), 15
			if testing.Short() || name == "postgres" {
				runs = 5
			}
			if s := os.Getenv("PEAT_TEST_SEED"); s != "" {
				one, err := strconv.ParseUint(s, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				seed, runs = one, 1
			}
			database := url(t)
			for i := range uint64(runs) {
				c := &chance{rng: rand.New(rand.NewPCG(seed+i, 1)), skipped: map[string]bool{}, purged: map[string]bool{}, crashed: map[string]bool{}}
				if name == "sqlite" {
					database = sqlite(t)
				}
				if i > 0 && name == "postgres" {
					database = url(t)
				}
				c.play(t, newWorld(t, database))
				if t.Failed() {
					t.Fatalf("repeat with PEAT_TEST_SEED=%d", seed+i)
				}
			}
		})
	}
}

type crash struct{}

// chance is one run.
type chance struct {
	rng     *rand.Rand
	calm    bool
	skipped map[string]bool // changes that an administrator skipped
	purged  map[string]bool
	crashed map[string]bool // events that were in a batch when the process crashed

	suspended bool // the formation is
	chunks    int  // sent since then
}

func (c *chance) play(t *testing.T, w *world) {
	w.driver.answer = c.answer
	w.driver.before = func(batch []driver.Event) {
		if c.suspended {
			// One may have been on its way, and another ready, as it was suspended.
			if c.chunks++; c.chunks > 2 {
				t.Errorf("%d chunks were sent to a formation that is suspended", c.chunks)
			}
		}
		if !c.calm && !c.suspended && c.rng.IntN(30) == 0 {
			c.suspend(w, true)
		}
		c.mayCrash(w, batch, 40)
	}
	w.driver.after = func(batch []driver.Event) { c.mayCrash(w, batch, 20) }
	w.d.batch = 1 + c.rng.IntN(12)
	documents := 1 + c.rng.IntN(8)
	for range 40 + c.rng.IntN(60) {
		switch c.rng.IntN(6) {
		case 0, 1:
			var docs []string
			for range 1 + c.rng.IntN(12) {
				docs = append(docs, fmt.Sprintf("d%d", c.rng.IntN(documents)))
			}
			if !c.suspended {
				w.write(docs...)
			}
		case 2:
			w.clock.advance(time.Duration(c.rng.IntN(120)) * time.Second)
		case 3:
			c.administrate(w)
		default:
			c.pass(t, w)
		}
	}
	c.calm = true
	c.suspend(w, false)
	w.tx(func(tx *store.Tx) error {
		return tx.SetSinkState(context.Background(), key.Org, w.pair.sink, delivery.Active, "")
	})
	for rounds := 0; !c.done(t, w); rounds++ {
		if rounds > 1000 {
			t.Errorf("it never ends: %+v", w.held())
			break
		}
		w.clock.advance(2 * time.Hour)
		c.pass(t, w)
		for doc, h := range w.held() {
			if h.State == delivery.Parked {
				w.redrive(doc, false)
			}
		}
	}
	c.judge(t, w)
	if r := w.compare(); !r.Complete || r.Held != 0 {
		t.Errorf("not complete: %+v", r)
	}
}

// done asks the log itself, not what delivery says of it.
func (c *chance) done(t *testing.T, w *world) bool {
	lag, err := w.store.Lag(context.Background(), w.sink(), w.clock.now())
	if err != nil || len(lag) != 1 {
		t.Fatal(lag, err)
	}
	return lag[0].Events == 0
}

// answer is what the receiver does with an event.
func (c *chance) answer(it driver.Event) driver.Outcome {
	if c.calm {
		return driver.Outcome{Verdict: driver.Delivered}
	}
	switch n := c.rng.IntN(100); {
	case n < 4:
		return driver.Outcome{Verdict: driver.Refused, Reason: "400"}
	case n < 14:
		return driver.Outcome{Verdict: driver.Retry, Reason: "500"}
	case n < 16:
		return driver.Outcome{Verdict: driver.Retry, Reason: "down", Unreachable: true}
	case n < 18:
		return driver.Outcome{}
	}
	return driver.Outcome{Verdict: driver.Delivered}
}

func (c *chance) mayCrash(w *world, batch []driver.Event, oneIn int) {
	if c.calm || c.rng.IntN(oneIn) > 0 {
		return
	}
	for _, it := range batch {
		c.crashed[it.ID] = true
	}
	panic(crash{})
}

func (c *chance) pass(t *testing.T, w *world) {
	defer func() {
		if p := recover(); p != nil {
			if p != (crash{}) {
				panic(p)
			}
			batch := w.d.batch
			w.restart()
			w.d.batch = batch
		}
	}()
	c.chunks = 0
	if c.suspended {
		c.chunks = 2 // nothing is on its way
	}
	if _, err := w.d.pass(context.Background(), w.pair, time.Now().Add(time.Minute)); err != nil && !errors.Is(err, fault.Stale) {
		t.Error(err)
	}
}

// suspend suspends the formation, or resumes it.
func (c *chance) suspend(w *world, suspended bool) {
	c.suspended = suspended
	w.tx(func(tx *store.Tx) error {
		f, err := tx.Formation(context.Background(), key)
		if err != nil {
			return err
		}
		f.State = tenant.Active
		if suspended {
			f.State = tenant.Suspended
		}
		return tx.UpdateFormation(context.Background(), f)
	})
}

func (c *chance) administrate(w *world) {
	ctx := context.Background()
	if c.rng.IntN(4) == 0 || c.suspended {
		c.suspend(w, !c.suspended)
		return
	}
	for doc, h := range w.held() {
		if h.State == delivery.Parked {
			if c.rng.IntN(4) == 0 {
				for seq := h.FromSeq; seq <= w.seqs[doc]; seq++ {
					c.purged[fmt.Sprintf("%s/%d", doc, seq)] = true
				}
				w.decide(doc, delivery.Purge)
				return
			}
			skip := c.rng.IntN(3) == 0
			w.redrive(doc, skip)
			if skip {
				c.skipped[fmt.Sprintf("%s/%d", doc, h.FromSeq)] = true
			}
			return
		}
	}
	state := delivery.Paused
	if c.rng.IntN(2) == 0 {
		state = delivery.Active
	}
	w.tx(func(tx *store.Tx) error {
		return errors.Join(tx.SetSinkState(ctx, key.Org, w.pair.sink, state, ""), tx.WakeSink(ctx, key.Org, w.pair.sink))
	})
}

// judge looks only at what the receiver got and what was written.
func (c *chance) judge(t *testing.T, w *world) {
	ids := map[string]string{}     // event → id
	reached := map[string]uint64{} // document → highest seq seen
	times := map[string]int{}
	for _, it := range w.driver.got {
		n := strings.TrimSuffix(name(it), "!")
		times[name(it)]++
		if id, ok := ids[name(it)]; ok && id != it.ID {
			t.Errorf("%s came with two ids", name(it))
		}
		ids[name(it)] = it.ID
		if times[name(it)] > 1 && !c.crashed[it.ID] {
			t.Errorf("%s came twice without a crash", name(it))
		}
		seq, _ := strconv.ParseUint(n[strings.LastIndexByte(n, '/')+1:], 10, 64)
		switch r := reached[it.Document]; {
		case seq == r+1:
			reached[it.Document] = seq
		case seq > r+1:
			if !c.allSkipped(it.Document, r+1, seq-1) {
				t.Errorf("%s came after %d", n, r)
			}
			reached[it.Document] = seq
		}
	}
	for doc, last := range w.seqs {
		for seq := uint64(1); seq <= last; seq++ {
			n := fmt.Sprintf("%s/%d", doc, seq)
			if times[n]+times[n+"!"] == 0 && !c.skipped[n] && !c.purged[n] {
				t.Errorf("%s never came", n)
			}
			if times[n] > 0 && c.purged[n] && !c.crashed[ids[n]] {
				t.Errorf("%s came, and was given up", n)
			}
			if times[n+"!"] > 0 && !c.skipped[n] {
				t.Errorf("%s was skipped by nobody", n)
			}
		}
	}
}

func (c *chance) allSkipped(doc string, from, to uint64) bool {
	for seq := from; seq <= to; seq++ {
		if n := fmt.Sprintf("%s/%d", doc, seq); !c.skipped[n] && !c.purged[n] {
			return false
		}
	}
	return true
}
