package nats

import "github.com/defenseunicorns/peat-gateway/shared/driver"

// What may be under way at once.
const (
	windowEvents = 256
	windowBytes  = 8 << 20
)

// queue is what of a batch is still to be sent.
type queue struct {
	batch    []driver.Event
	left     []int // places, in order
	document []int // by place: a number for its document
	stuck    []bool
	repeats  bool  // some document has more than one event
	last     []int // by document: the window that took it last
	open     []int // by document: the window after which some of it was left
	wave     int   // windows until now
}

func newQueue(batch []driver.Event) *queue {
	q := &queue{batch: batch, left: make([]int, len(batch)), document: make([]int, len(batch))}
	for n, g := range driver.ByDocument(batch) {
		q.repeats = q.repeats || len(g) > 1
		for _, i := range g {
			q.document[i] = n
		}
		q.stuck, q.last, q.open = append(q.stuck, false), append(q.last, 0), append(q.open, 0)
	}
	for i := range q.left {
		q.left[i] = i
	}
	return q
}

func (q *queue) empty() bool { return len(q.left) == 0 }

// window takes what goes next: in order, and without a chain no document twice.
func (q *queue) window(chained bool) []int {
	q.wave++
	weight := 0
	var out []int
	for _, i := range q.left {
		doc := q.document[i]
		if !chained && q.last[doc] == q.wave {
			continue
		}
		weight += q.batch[i].Size() + headerRoom
		if len(out) == windowEvents || len(out) > 0 && weight > windowBytes {
			break
		}
		q.last[doc] = q.wave
		out = append(out, i)
	}
	return out
}

// settle leaves out what has an answer, and what is behind an event that failed.
// What was stored behind an event that has no answer goes again with it.
func (q *queue) settle(outs []driver.Outcome) {
	left := q.left[:0]
	for _, i := range q.left {
		doc := q.document[i]
		switch {
		case q.stuck[doc]:
			outs[i] = driver.Outcome{}
			continue
		case outs[i].Verdict == driver.Untried || q.open[doc] == q.wave:
			outs[i], q.open[doc] = driver.Outcome{}, q.wave
			left = append(left, i)
		case outs[i].Verdict != driver.Delivered:
			q.stuck[doc] = true
		}
	}
	q.left = left
}
