package sinks

import (
	"sync"
	"time"
)

// breakers keep a sink that does not answer from being asked for each of its
// formations: after it was found not to answer one asks, and the others wait for
// what becomes of that. What is waited for is in the store, by cursor; this only
// spares attempts, and knows of this process only.
type breakers struct {
	mu   sync.Mutex
	open map[sinkKey]*breaker
}

type breaker struct {
	until time.Time
	asked bool // somebody asks now
}

// admit returns the zero time if the caller may send, and then must report; else
// when to come again.
func (b *breakers) admit(k sinkKey, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.open[k]
	switch {
	case o == nil:
		return time.Time{}
	case now.Before(o.until):
		return o.until
	case o.asked:
		return now.Add(heldPoll)
	}
	o.asked = true
	return time.Time{}
}

// report says how a sink was found: not to be asked before the given time, or
// answering (the zero time).
func (b *breakers) report(k sinkKey, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until.IsZero() {
		delete(b.open, k)
	} else {
		b.open[k] = &breaker{until: until}
	}
}
