// Package rate limits how often each of many parties does something. What it
// remembers is bounded: where there are more parties than it can tell apart, those
// that it does not know share what is one party's.
package rate

import (
	"hash/maphash"
	"sync"
	"time"
)

// MaxParties is how many parties a limit tells apart.
const MaxParties = 16_384

// Limit is how often a party may do something. Make one with New; nil is no limit.
type Limit struct {
	perMinute int
	seed      maphash.Seed

	mu    sync.Mutex
	free  map[uint64]time.Time // when a party has nothing to wait for any more
	swept time.Time
}

// New returns a limit of so many times a minute, which may all be in one moment. Zero
// or less is no limit.
func New(perMinute int) *Limit {
	if perMinute <= 0 {
		return nil
	}
	return &Limit{perMinute: perMinute, seed: maphash.MakeSeed(), free: map[uint64]time.Time{}}
}

// PerMinute is what the limit was made with.
func (l *Limit) PerMinute() int { return l.perMinute }

// Take notes that a party does something now, and returns zero; or how long it must
// wait before it may, and then nothing is noted.
func (l *Limit) Take(party string, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	id := maphash.String(l.seed, party)
	each := time.Minute / time.Duration(l.perMinute)
	l.mu.Lock()
	defer l.mu.Unlock()
	free, known := l.free[id]
	if !known && len(l.free) >= MaxParties {
		l.sweep(now)
		if len(l.free) >= MaxParties {
			id = 0
			free = l.free[id]
		}
	}
	if free.Before(now) {
		free = now
	}
	// All of a minute may be used in one moment, and the next one when its share of
	// the minute has passed.
	if wait := free.Add(each).Sub(now) - time.Minute; wait > 0 {
		return wait
	}
	l.free[id] = free.Add(each)
	return 0
}

// sweep forgets those that have nothing to wait for. It looks at all, so that it does
// so once a second only.
func (l *Limit) sweep(now time.Time) {
	if now.Sub(l.swept).Abs() < time.Second {
		return
	}
	l.swept = now
	for id, free := range l.free {
		if !free.After(now) {
			delete(l.free, id)
		}
	}
}
