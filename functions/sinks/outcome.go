package sinks

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// manyDocuments is from how many documents on that fail together, while none is
// delivered, the sink is taken to be the cause and not the documents.
const manyDocuments = 3

// trouble returns the outcome that speaks for the sink as a whole, or nil if
// only single documents have trouble.
func trouble(documents []string, outs []driver.Outcome) *driver.Outcome {
	var first *driver.Outcome
	failing := map[string]bool{}
	anything := false
	for i := range outs {
		switch o := &outs[i]; {
		case o.Unreachable || o.Gone:
			return o
		case o.Verdict == driver.Delivered:
			anything = true
		case o.Verdict == driver.Retry:
			failing[documents[i]] = true
			if first == nil {
				first = o
			}
		}
	}
	if anything || len(failing) < manyDocuments {
		return nil
	}
	return first
}

// settlement is what the outcomes of a batch come down to: what to write, in one
// transaction.
type settlement struct {
	cursor   delivery.Cursor
	hold     []delivery.Held // new or changed
	release  []delivery.Held
	attempts []delivery.Attempt
	receipts []completeness.Receipt
	omitted  []completeness.Omission
	replay   *delivery.Replay
	trouble  *driver.Outcome // of the sink as a whole; nil if it answers

	delivered []change.Settled
	retried   int
}

// settleLog decides over a stretch of the log that follows the cursor, and
// remembers what the sink acknowledged.
func (r *run) settleLog(c chunk) settlement {
	documents := make([]string, len(c.log))
	for i, change := range c.log {
		documents[i] = change.Document
	}
	s := settleLog(r.cursor, c.log, c.outs, trouble(documents, c.outs), r.ladder, r.clock())
	s.receipts = r.memory.acknowledge(s.delivered)
	return s
}

// settleLog decides over a stretch of the log that follows the cursor. outs
// answers for each of its changes; those of held documents are queued.
//
// The cursor moves past everything that has a fate: delivered, not wanted, held,
// or queued behind what is held. It stops before what still can be sent in its turn.
func settleLog(c delivery.Cursor, log []change.Settled, outs []driver.Outcome, t *driver.Outcome, ladder delivery.Ladder, now time.Time) settlement {
	s := settlement{cursor: c, trouble: t}
	s.breaker(outs, ladder, now)
	stuck := map[string]int{} // document → its first change that was not delivered
	end := 0                  // as far as the cursor must move
	for i, o := range outs {
		switch o.Verdict {
		case queued, filtered:
			continue
		case driver.Delivered:
			s.delivered = append(s.delivered, log[i])
			end = i + 1
			continue
		case driver.Refused:
			end = i + 1
		case driver.Retry:
			if s.trouble == nil {
				end = i + 1
			}
		}
		if _, ok := stuck[log[i].Document]; !ok {
			stuck[log[i].Document] = i
		}
	}
	passed := func(i int) bool {
		first, ok := stuck[log[i].Document]
		return outs[i].Verdict == queued || outs[i].Verdict == filtered && !ok || ok && first < end
	}
	for end < len(log) && passed(end) {
		end++
	}
	if end > 0 {
		s.cursor.Position = log[end-1].Position
	}
	for i := range end {
		if first, ok := stuck[log[i].Document]; !ok || first != i {
			continue
		}
		h := delivery.Held{
			Org: c.Org, Sink: c.Sink, App: c.App, Document: log[i].Document,
			ID:      newID(now),
			FromSeq: log[i].Seq, Hash: log[i].Hash, State: delivery.Retrying, Since: now,
		}
		s.fail(h, outs[i], ladder, now)
	}
	return s
}

// settleQueues decides over what was sent of documents that are held.
func (r *run) settleQueues(queues []queue, outs []driver.Outcome) settlement {
	s := settlement{cursor: r.cursor}
	for _, q := range queues {
		for n, i := range q.places {
			o := &outs[q.at+n]
			if q.log[i].Seq == q.held.SkipSeq && o.Verdict == driver.Refused {
				// The marker is a courtesy; what was skipped must not park its document again.
				o.Verdict = driver.Delivered
			}
			// These documents are known to have trouble of their own, however many
			// they are: only what no event could pass counts against the sink.
			if o.Unreachable || o.Gone {
				s.trouble = o
			}
			q.outs[i] = *o
		}
	}
	now := r.clock()
	s.breaker(outs, r.ladder, now)
	for _, q := range queues {
		s.settleHeld(q, r.ladder, now)
	}
	s.receipts = r.memory.acknowledge(s.delivered)
	return s
}

// settleHeld decides over changes of a document that is held already, from
// FromSeq on. complete says that no more of them lie before the cursor.
func (s *settlement) settleHeld(q queue, ladder delivery.Ladder, now time.Time) {
	h, log, outs := q.held, q.log, q.outs
	if q.purged != 0 {
		s.omitted = append(s.omitted, completeness.Omission{Document: h.Document, From: q.purged, To: h.FromSeq - 1, Kind: completeness.Purge, At: now})
		h.Attempts, h.LastError, h.Excerpt = 0, "", ""
	}
	n := 0
	for ; n < len(outs) && (outs[n].Verdict == driver.Delivered || outs[n].Verdict == filtered); n++ {
		if outs[n].Verdict == filtered {
			continue
		}
		s.delivered = append(s.delivered, log[n])
		if log[n].Seq == h.SkipSeq {
			s.omitted = append(s.omitted, completeness.Omission{Document: h.Document, From: h.SkipSeq, To: h.SkipSeq, Kind: completeness.Skip, At: now})
		}
	}
	if n > 0 {
		// Another change is the first now; what the one before it went through is over.
		h.FromSeq, h.Attempts, h.LastError, h.Excerpt = log[n-1].Seq+1, 0, "", ""
		if h.SkipSeq < h.FromSeq {
			h.SkipSeq = 0
		}
	}
	switch {
	case n < len(outs) && n == 0 && outs[0].Verdict == driver.Untried:
		// Time was up before its turn; it is as due as it was.
		if q.purged != 0 {
			s.hold = append(s.hold, h)
		}
	case n < len(outs):
		h.Hash = log[n].Hash
		s.fail(h, outs[n], ladder, now)
	case q.complete:
		s.release = append(s.release, h)
	default:
		h.NextAttemptAt = now // behind those that wait for longer
		s.hold = append(s.hold, h)
	}
}

// fail holds a document, or keeps it held, for what became of its first change.
func (s *settlement) fail(h delivery.Held, o driver.Outcome, ladder delivery.Ladder, now time.Time) {
	switch {
	case o.Verdict == driver.Refused:
		h.Attempts++
		s.attempt(h, o, now)
		park(&h, o, now)
	case o.Verdict == driver.Retry && s.trouble == nil:
		if h.Attempts == 0 {
			h.Since = now
		}
		h.Attempts++
		s.attempt(h, o, now)
		s.retried++
		wait, ok := ladder.After(h.Attempts, h.Since, now)
		if !ok {
			park(&h, o, now)
			break
		}
		h.State, h.LastError, h.Excerpt = delivery.Retrying, o.Reason, o.Excerpt
		h.NextAttemptAt = later(now.Add(wait), o.NotBefore)
	case o.Verdict == driver.Retry:
		// The sink's failure, not the document's: no step of its ladder is used up.
		h.NextAttemptAt = s.cursor.NextAttemptAt
	}
	s.hold = append(s.hold, h)
}

func (s *settlement) attempt(h delivery.Held, o driver.Outcome, now time.Time) {
	s.attempts = append(s.attempts, delivery.Attempt{Held: h.ID, Seq: h.FromSeq, At: now, Status: o.Status, Error: o.Reason, Excerpt: o.Excerpt})
}

func park(h *delivery.Held, o driver.Outcome, now time.Time) {
	h.State, h.LastError, h.Excerpt, h.NextAttemptAt, h.Since = delivery.Parked, o.Reason, o.Excerpt, time.Time{}, now
}

// breaker moves the sink's own back-off.
func (s *settlement) breaker(outs []driver.Outcome, ladder delivery.Ladder, now time.Time) {
	answered := false
	for _, o := range outs {
		answered = answered || o.Verdict == driver.Delivered || o.Verdict == driver.Refused
	}
	if answered {
		s.cursor.Attempts, s.cursor.NextAttemptAt, s.cursor.LastError = 0, time.Time{}, ""
	}
	if s.trouble != nil {
		s.cursor.Attempts++
		s.cursor.LastError = s.trouble.Reason
		s.cursor.NextAttemptAt = later(now.Add(ladder.Breaker(s.cursor.Attempts)), s.trouble.NotBefore)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// newID is a key that sorts by time.
func newID(now time.Time) string {
	return ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy()).String()
}
