package sinks

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// queued is the verdict on a change that no driver was asked about: its document
// is held already.
const queued driver.Verdict = -1

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
	cursor  delivery.Cursor
	hold    []delivery.Held // new or changed
	release []delivery.Held
	trouble *driver.Outcome // of the sink as a whole; nil if it answers

	delivered, retried int
}

// settleLog decides over a stretch of the log that follows the cursor. outs
// answers for each of its changes; those of held documents are queued.
//
// The cursor moves past everything that has a fate: delivered, held, or queued
// behind what is held. It stops before what still can be sent in its turn.
func settleLog(c delivery.Cursor, log []change.Settled, outs []driver.Outcome, t *driver.Outcome, ladder delivery.Ladder, now time.Time) settlement {
	s := settlement{cursor: c, trouble: t}
	s.breaker(outs, ladder, now)
	stuck := map[string]int{} // document → its first change that was not delivered
	end := 0                  // as far as the cursor must move
	for i, o := range outs {
		switch o.Verdict {
		case queued:
			continue
		case driver.Delivered:
			s.delivered++
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
	behind := func(i int) bool {
		first, ok := stuck[log[i].Document]
		return outs[i].Verdict == queued || ok && first < end
	}
	for end < len(log) && behind(end) {
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

// settleHeld decides over changes of a document that is held already, from
// FromSeq on. complete says that no more of them lie before the cursor.
func (s *settlement) settleHeld(h delivery.Held, log []change.Settled, outs []driver.Outcome, complete bool, ladder delivery.Ladder, now time.Time) {
	n := 0
	for n < len(outs) && outs[n].Verdict == driver.Delivered {
		n++
	}
	s.delivered += n
	if n > 0 {
		// Another change is the first now; what the one before it went through is over.
		h.FromSeq, h.Attempts, h.LastError, h.Excerpt = log[n-1].Seq+1, 0, "", ""
		if h.SkipSeq < h.FromSeq {
			h.SkipSeq = 0
		}
	}
	switch {
	case n == 0 && len(outs) > 0 && outs[0].Verdict == driver.Untried:
		// Time was up before its turn; it is as due as it was.
	case n < len(outs):
		h.Hash = log[n].Hash
		s.fail(h, outs[n], ladder, now)
	case complete:
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
		park(&h, o, now)
	case o.Verdict == driver.Retry && s.trouble == nil:
		if h.Attempts == 0 {
			h.Since = now
		}
		h.Attempts++
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
