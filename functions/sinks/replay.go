package sinks

import (
	"context"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// deliverReplay sends the next batch of the replay that runs, if one does. It
// works between batches of what is new, in the same goroutine, and repeats only
// what the sink has had: so no document is ever out of order.
func (r *run) deliverReplay(ctx context.Context, until time.Time) (progress, error) {
	p, ok, err := r.Store.RunningReplay(ctx, r.key, r.sink.ID)
	if err != nil || !ok {
		return progress{}, err
	}
	if p.NextAttemptAt.After(r.Now()) {
		return progress{next: p.NextAttemptAt}, nil
	}
	limit := r.batch
	if p.Rate > 0 {
		limit = min(limit, p.Rate)
	}
	log, err := r.Store.ReplayChanges(ctx, p, limit, batchBytes)
	if err != nil {
		return progress{}, err
	}
	batch, places, err := r.replayed(p, log)
	if err != nil {
		return progress{}, err
	}
	outs := r.send(ctx, batch, until)
	t := r.settleReplay(&p, log, places, outs, len(log) < limit && weigh(log) < batchBytes)
	if err := r.saveReplay(ctx, p, t); err != nil {
		if errors.Is(err, fault.Stale) {
			return progress{more: true}, nil // cancelled, or the pass has to begin anew
		}
		return progress{}, err
	}
	if p.State != delivery.Running {
		return progress{more: true}, nil // another one may wait
	}
	return progress{more: !p.NextAttemptAt.After(r.Now()), next: p.NextAttemptAt}, nil
}

// replayed makes the events of a replay. What the filter leaves out is left out
// here too.
func (r *run) replayed(p delivery.Replay, log []change.Settled) (batch []driver.Event, places []int, err error) {
	for i, c := range log {
		if wanted, err := r.filter.Match(r.key, c); err == nil && !wanted {
			continue
		}
		it := driver.Event{Key: r.key, Document: c.Document, Encoded: event.EncodeChange(r.key, c, r.sink.Format, &event.Occasion{Replay: p.ID})}
		it.ID = it.Attribute("id")
		batch, places = append(batch, it), append(places, i)
	}
	return batch, places, nil
}

// settleReplay moves a replay over what is through: delivered, or refused, since
// an event that was taken before and is not now holds up nothing. It returns what
// speaks for the sink as a whole.
func (r *run) settleReplay(p *delivery.Replay, log []change.Settled, places []int, outs []driver.Outcome, last bool) *driver.Outcome {
	now := r.clock()
	var sink *driver.Outcome
	next, stopped := 0, false // of the log, after what is through
	p.LastError = ""
	for n := range outs {
		o := &outs[n]
		if o.Unreachable || o.Gone {
			sink = o
		}
		if stopped {
			continue
		}
		switch o.Verdict {
		case driver.Delivered:
			p.Delivered++
		case driver.Refused:
			p.Refused++
			p.LastError = o.Reason
		default:
			stopped = true
			p.LastError = o.Reason
			p.NextAttemptAt = later(now, o.NotBefore)
			if o.Verdict == driver.Retry {
				p.NextAttemptAt = later(now.Add(r.ladder.Breaker(1)), o.NotBefore)
			}
			continue
		}
		next = places[n] + 1
	}
	if !stopped {
		next = len(log)
		p.NextAttemptAt = time.Time{}
		if p.Rate > 0 {
			p.NextAttemptAt = now.Add(time.Duration(float64(len(outs)) / float64(p.Rate) * float64(time.Second)))
		}
	}
	if next > 0 {
		p.Position = log[next-1].Position
	}
	if last && !stopped {
		p.State, p.EndedAt = delivery.Done, now
	}
	return sink
}

func (r *run) saveReplay(ctx context.Context, p delivery.Replay, trouble *driver.Outcome) error {
	s := settlement{cursor: r.cursor, trouble: trouble}
	s.breaker(nil, r.ladder, r.clock())
	if trouble != nil {
		if err := r.save(ctx, s); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveLimit)
	defer cancel()
	return r.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := r.still(ctx, tx); err != nil {
			return err
		}
		return tx.SaveReplay(ctx, p)
	})
}
