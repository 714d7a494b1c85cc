package sinks

import (
	"context"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
)

// deliverReplay sends the next batch of the replay that runs, if one does. It
// works between batches of what is new, in the same goroutine, and sends only what
// the cursor is past and no document is held before: so what is new never has to
// come after it.
func (r *run) deliverReplay(ctx context.Context, until time.Time) (progress, error) {
	p, ok, err := r.Store.RunningReplay(ctx, r.key, r.sink.ID)
	if err != nil || !ok {
		return progress{}, err
	}
	if next := later(p.NextAttemptAt, r.pace.Until(string(r.key.Org))); next.After(r.Now()) {
		return progress{next: next}, nil
	}
	began := time.Now()
	limit := r.batch
	if p.Rate > 0 {
		limit = min(limit, p.Rate)
	}
	log, err := r.Store.ReplayChanges(ctx, p, limit, r.bytes)
	if err != nil {
		return progress{}, err
	}
	t := repeat{log: log, last: len(log) < limit && weigh(log) < r.bytes}
	r.encode(&t, p.ID)
	t.outs = r.send(ctx, t.batch, until)
	s := settlement{cursor: r.cursor, replay: &p}
	s.settleReplay(t, r.ladder, r.clock())
	if err := r.save(ctx, s); err != nil {
		return progress{}, err
	}
	if !t.last {
		r.courtesy.rest(ctx, r.key.Org, time.Since(began))
	}
	if p.State != delivery.Running {
		return progress{more: true}, nil // another one may wait
	}
	return progress{more: !p.NextAttemptAt.After(r.Now()), next: p.NextAttemptAt}, nil
}

// repeat is a stretch of a replay on its way to the driver.
type repeat struct {
	log    []change.Settled
	last   bool // nothing of the replay comes after it
	batch  []driver.Event
	places []int // of each of batch, in log
	outs   []driver.Outcome
}

// encode makes the events of a replay. What the filter leaves out is left out
// here too.
func (r *run) encode(t *repeat, replay string) {
	for i, c := range t.log {
		wanted, err := r.filter.Match(r.key, c)
		if err != nil {
			r.Metrics.Unjudged(string(r.sink.Kind))
			wanted = true
		}
		if !wanted {
			continue
		}
		it := driver.Event{Key: r.key, Document: c.Document, Encoded: event.EncodeChange(r.key, c, r.sink.Format, &event.Occasion{Replay: replay})}
		it.ID = it.Attribute("id")
		t.batch, t.places = append(t.batch, it), append(t.places, i)
	}
}

// settleReplay moves a replay over what is through: delivered, not wanted, or
// refused, since an event that was taken before and is not now holds up nothing.
// It stops before the first that may be taken later; whatever was delivered after
// that is sent again.
func (s *settlement) settleReplay(t repeat, ladder delivery.Ladder, now time.Time) {
	p := s.replay
	documents := make([]string, len(t.outs))
	for n, i := range t.places {
		documents[n] = t.log[i].Document
	}
	s.trouble = trouble(documents, t.outs)
	s.breaker(t.outs, ladder, now)
	end, sent := len(t.log), 0
	wait := time.Time{}
	for n, o := range t.outs {
		if o.Verdict != driver.Untried {
			sent++
		}
		if end < len(t.log) {
			continue
		}
		switch {
		case o.Verdict == driver.Delivered:
			s.delivered = append(s.delivered, t.log[t.places[n]])
			p.Delivered++
			p.Attempts = 0
		case o.Verdict == driver.Refused || o.Verdict == driver.Retry && s.trouble == nil && p.Attempts >= len(ladder.Steps):
			p.Refused++
			p.Attempts = 0
			p.LastError = o.Reason
		default:
			end = t.places[n]
			wait = s.postponed(o, ladder, now)
		}
	}
	if end > 0 {
		p.Position = t.log[end-1].Position
	}
	p.NextAttemptAt = wait
	if p.Rate > 0 && sent > 0 {
		p.NextAttemptAt = later(wait, now.Add(time.Duration(float64(sent)/float64(p.Rate)*float64(time.Second))))
	}
	if t.last && end == len(t.log) {
		p.State, p.Position, p.EndedAt, p.NextAttemptAt = delivery.Done, p.To, now, time.Time{}
	}
}

// postponed is when a replay goes on that could not pass an event.
func (s *settlement) postponed(o driver.Outcome, ladder delivery.Ladder, now time.Time) time.Time {
	p := s.replay
	switch {
	case o.Verdict == driver.Untried:
		return time.Time{} // time was up, or the driver was broken off
	case s.trouble != nil:
		// The sink's failure: no attempt on the event.
		p.LastError = s.trouble.Reason
		return s.cursor.NextAttemptAt
	}
	p.Attempts++
	p.LastError = o.Reason
	wait, _ := ladder.After(p.Attempts, now, now)
	return later(now.Add(wait), o.NotBefore)
}
