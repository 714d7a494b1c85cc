package sinks

import (
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// pace keeps each organization within its bytes per second: what was sent is paid
// for before more is. It knows of this process only.
type pace struct {
	mu   sync.Mutex
	next map[tenant.OrgID]time.Time
}

// until returns when an organization may send again.
func (p *pace) until(org tenant.OrgID) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next[org]
}

// pay notes that an organization sends bytes now, of so many that it may per second.
func (p *pace) pay(org tenant.OrgID, bytes, perSecond int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if perSecond <= 0 {
		delete(p.next, org)
		return
	}
	p.next[org] = later(now, p.next[org]).Add(time.Duration(float64(bytes) / float64(perSecond) * float64(time.Second)))
}
