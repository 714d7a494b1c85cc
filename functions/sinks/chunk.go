package sinks

import (
	"context"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
)

// Verdicts on changes that no driver was asked about.
const (
	queued   driver.Verdict = -1 // its document is held already
	filtered driver.Verdict = -2 // the sink does not want it, or its receiver had it before
)

// chunk is a stretch of a log on its way to the driver.
type chunk struct {
	log    []change.Settled
	outs   []driver.Outcome // for each of log; what needs no driver is judged already
	batch  []driver.Event   // what the driver gets
	places []int            // of each of batch, in log
	full   bool             // there may be more of the log behind it
	end    uint64           // the position it reaches to
}

// ahead is a chunk that is being read and encoded.
type ahead struct {
	done chan struct{}
	chunk
	err error
}

// wait returns the chunk once it is there.
func (a *ahead) wait() (chunk, error) {
	<-a.done
	return a.chunk, a.err
}

// fetch begins to read and encode the stretch of the log after a position. One is
// under way at a time, and somebody waits for it.
func (r *run) fetch(ctx context.Context, after uint64) *ahead {
	a := &ahead{done: make(chan struct{})}
	r.wg.Go(func() {
		defer close(a.done)
		a.chunk, a.err = r.read(ctx, after)
	})
	return a
}

func (r *run) read(ctx context.Context, after uint64) (chunk, error) {
	limit := r.batch
	if r.courtesy.others(r.key.Org, time.Now()) {
		limit = min(limit, courteousEvents)
	}
	log, err := r.Store.ChangesAfter(ctx, r.key, after, limit, r.bytes)
	if err != nil || len(log) == 0 {
		return chunk{}, err
	}
	if err := r.memory.learn(ctx, r.Store, r.pair, log); err != nil {
		return chunk{}, err
	}
	c := chunk{log: log, outs: make([]driver.Outcome, len(log)), end: log[len(log)-1].Position,
		full: len(log) == limit || weigh(log) >= r.bytes}
	for i, change := range log {
		if _, ok := r.held[change.Document]; ok {
			c.outs[i].Verdict = queued
			continue
		}
		it, wanted, err := r.item(change, 0)
		if err != nil {
			return chunk{}, err
		}
		if !wanted {
			c.outs[i].Verdict = filtered
			continue
		}
		c.batch, c.places = append(c.batch, it), append(c.places, i)
	}
	return c, nil
}

// item makes the event of a change, if the sink wants it. The change that was
// skipped leaves as a marker.
func (r *run) item(c change.Settled, skip uint64) (it driver.Event, wanted bool, err error) {
	it = driver.Event{Key: r.key, Document: c.Document}
	if skip != 0 && c.Seq == skip {
		as := c
		if r.filter != nil {
			as.Prev = r.memory.prev(c.Document)
		}
		marker, err := event.Encode(event.ChangeSkipped(r.key, r.sink.ID, as))
		if err != nil {
			return it, false, fmt.Errorf("encode the marker of position %d: %w", c.Position, err)
		}
		it.Encoded = marker
		it.ID = it.Attribute("id")
		r.memory.sent(c)
		return it, true, nil
	}
	if c.Seq <= r.memory.floor(c.Document) {
		return it, false, nil
	}
	var occasion *event.Occasion
	if r.filter != nil {
		wanted, err := r.filter.Match(r.key, c)
		if err != nil {
			// Nothing is lost by a filter that fails.
			r.Metrics.Unjudged(string(r.sink.Kind))
			wanted = true
		}
		if !wanted {
			return it, false, nil
		}
		occasion = &event.Occasion{Prev: r.memory.prev(c.Document)}
	}
	it.Encoded = event.EncodeChange(r.key, c, r.sink.Format, occasion)
	it.ID = it.Attribute("id")
	r.memory.sent(c)
	return it, true, nil
}

func weigh(log []change.Settled) int {
	n := 0
	for _, c := range log {
		n += len(c.Raw) + len(c.Patches)
	}
	return n
}

// queue is what a held document has before the cursor, or the beginning of it.
type queue struct {
	held     delivery.Held
	log      []change.Settled
	outs     []driver.Outcome // as in a chunk
	at       int              // where it begins in the batch
	places   []int
	complete bool
	purged   uint64 // held began here before it was purged; 0: it was not
}
