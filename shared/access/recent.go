package access

import (
	"sync"
	"time"
)

// recent remembers values for a while, and never more than twice so many as fit.
// It forgets by the generation: what came in the one before is dropped together,
// when this one is full or old.
type recent[V any] struct {
	fit  int
	life time.Duration

	mu        sync.Mutex
	began     time.Time // of this generation
	now, past map[[32]byte]V
}

func newRecent[V any](fit int, life time.Duration) *recent[V] {
	return &recent[V]{fit: fit, life: life, now: map[[32]byte]V{}}
}

func (r *recent[V]) get(key [32]byte) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.now[key]; ok {
		return v, true
	}
	v, ok := r.past[key]
	return v, ok
}

func (r *recent[V]) put(key [32]byte, v V, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.now[key]; !again && len(r.now) >= r.fit || at.Sub(r.began) > r.life {
		r.past, r.now, r.began = r.now, map[[32]byte]V{}, at
	}
	r.now[key] = v
}

func (r *recent[V]) drop(key [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.now, key)
	delete(r.past, key)
}

// allowance is how often something may be done: rate times a second on average,
// burst times at once.
type allowance struct {
	rate, burst float64

	mu   sync.Mutex
	left float64
	asOf time.Time
}

func newAllowance(rate, burst float64) *allowance {
	return &allowance{rate: rate, burst: burst, left: burst}
}

// take tells whether it may be done now once more.
func (a *allowance) take(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if passed := now.Sub(a.asOf); passed > 0 {
		a.left = min(a.burst, a.left+a.rate*passed.Seconds())
		a.asOf = now
	}
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
