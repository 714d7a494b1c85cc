package httptarget

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// Deliver sends each event by itself, the documents side by side. An answer that
// speaks for all events (nothing gets through, the receiver is gone) ends it: what
// was not begun is untried.
func (t *Target) Deliver(ctx context.Context, batch []driver.Event, until time.Time, post func(ctx context.Context, e driver.Event) driver.Outcome) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	t.Lanes(ctx, driver.ByDocument(batch), until, func(ctx context.Context, places []int, turn Turn) {
		for _, i := range places {
			if !turn(func() driver.Outcome {
				outs[i] = post(ctx, batch[i])
				return outs[i]
			}) || outs[i].Verdict != driver.Delivered {
				return
			}
		}
	})
	return outs
}

// Turn sends one request when there is room for it, and reports whether there was.
// There is none once time is up or the target as a whole has failed.
type Turn func(send func() driver.Outcome) bool

// Lanes works lists of events side by side, as many as the receiver seems to bear.
// Those of one list are sent one after the other.
func (t *Target) Lanes(ctx context.Context, lanes [][]int, until time.Time, work func(ctx context.Context, places []int, turn Turn)) {
	var over atomic.Bool
	var pressed atomic.Bool
	wait, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	turn := func(send func() driver.Outcome) bool {
		weight := t.pace.weight.Load()
		if over.Load() || t.pace.room.Acquire(wait, weight) != nil {
			return false
		}
		defer t.pace.room.Release(weight)
		if over.Load() || wait.Err() != nil {
			return false
		}
		out := send()
		if out.Verdict == driver.Retry {
			if out.Unreachable || out.Gone {
				over.Store(true)
			}
			if out.Status == "" || out.Status == "429" || out.Status == "503" {
				pressed.Store(true)
			}
		}
		return true
	}
	next := make(chan []int)
	var wg sync.WaitGroup
	workers := min(t.pace.atOnce(), len(lanes))
	for range workers {
		wg.Go(func() {
			for places := range next {
				work(ctx, places, turn)
			}
		})
	}
	for _, places := range lanes {
		next <- places
	}
	close(next)
	wg.Wait()
	t.pace.adapt(pressed.Load(), workers)
}

// How many requests are under way to one receiver.
const (
	maxAtOnce   = 64
	firstAtOnce = 16
)

// pace is how many requests a receiver bears at once, all formations together. It
// doubles while all goes well and halves when the receiver asks for less or answers
// nothing. A request takes 64/n of 64 places, so n is a power of two.
type pace struct {
	room   *semaphore.Weighted
	weight atomic.Int64
}

func newPace() *pace {
	p := &pace{room: semaphore.NewWeighted(maxAtOnce)}
	p.weight.Store(maxAtOnce / firstAtOnce)
	return p
}

func (p *pace) atOnce() int { return maxAtOnce / int(p.weight.Load()) }

// adapt learns from what so many workers have seen.
func (p *pace) adapt(pressed bool, workers int) {
	w := p.weight.Load()
	switch {
	case pressed && w < maxAtOnce:
		p.weight.CompareAndSwap(w, 2*w)
	case !pressed && w > 1 && workers >= maxAtOnce/int(w):
		p.weight.CompareAndSwap(w, w/2)
	}
}
