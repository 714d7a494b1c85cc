package federation

import (
	"sync"
	"time"
)

// minute counts what happens in a minute, so that whoever likes to cause it cannot do
// so without end.
type minute struct {
	mu      sync.Mutex
	since   time.Time
	taken   int
	dropped int
}

// take tells whether it may happen once more now, and how often it did before and was
// not let.
func (m *minute) take(now time.Time, most int) (ok bool, missing int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.since).Abs() >= time.Minute {
		missing = m.dropped
		m.since, m.taken, m.dropped = now, 0, 0
	}
	if m.taken++; m.taken > most {
		m.dropped++
		return false, 0
	}
	return true, missing
}
