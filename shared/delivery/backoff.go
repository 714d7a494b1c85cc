package delivery

import (
	"math/rand/v2"
	"time"
)

// Ladder says how long to wait after each failure of one document.
type Ladder struct {
	Steps []time.Duration // after the 1st failure, the 2nd …; the last step repeats
	For   time.Duration   // failures go on at most this long in all, then the document is parked
}

// DefaultLadder is 5 s, 30 s, 5 min, 30 min, then hourly up to 24 h.
func DefaultLadder() Ladder {
	return Ladder{
		Steps: []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, time.Hour},
		For:   24 * time.Hour,
	}
}

// After returns the wait after the attempts-th failure (1, 2, 3 …), or false
// when the ladder, climbed since the given time, is spent.
func (l Ladder) After(attempts int, since, now time.Time) (time.Duration, bool) {
	if attempts < 1 || len(l.Steps) == 0 {
		return 0, false
	}
	wait := l.Steps[min(attempts, len(l.Steps))-1]
	return jitter(wait), !now.Add(wait).After(since.Add(l.For))
}

// breakerMax bounds the wait for a sink that does not answer at all: it is tried
// for as long as it exists, since the log keeps everything meanwhile.
const breakerMax = time.Minute

// Breaker returns the wait after the attempts-th failure in a row of a whole
// sink: it begins at the ladder's first step and doubles up to a minute.
func (l Ladder) Breaker(attempts int) time.Duration {
	if len(l.Steps) == 0 {
		return breakerMax
	}
	wait := l.Steps[0]
	for range attempts - 1 {
		if wait *= 2; wait >= breakerMax {
			break
		}
	}
	return jitter(min(wait, max(breakerMax, l.Steps[0])))
}

// jitter spreads retries by a tenth either way, so that sinks that failed
// together do not come back together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
