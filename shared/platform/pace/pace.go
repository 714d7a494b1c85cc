// Package pace keeps parties within so many bytes per second each. What was sent is
// paid for before more is, so that anything can be sent, however large, and still
// the average holds. It knows of one process.
package pace

import (
	"sync"
	"time"
)

// Pace knows who may send again when. Make one with New.
type Pace struct {
	mu   sync.Mutex
	next map[string]time.Time
}

// New returns a pace at which everybody may send.
func New() *Pace { return &Pace{next: map[string]time.Time{}} }

// Until returns when a party may send again; a time that is past is now.
func (p *Pace) Until(party string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next[party]
}

// Pay notes that a party sends bytes now, of so many that it may per second. Zero
// per second is no limit.
func (p *Pace) Pay(party string, bytes, perSecond int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if perSecond <= 0 {
		delete(p.next, party)
		return
	}
	from := now
	if next := p.next[party]; next.After(now) {
		from = next
	}
	p.next[party] = from.Add(time.Duration(float64(bytes) / float64(perSecond) * float64(time.Second)))
}
