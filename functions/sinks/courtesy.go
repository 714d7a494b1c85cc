package sinks

import (
	"context"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// courtesy keeps an organization that has much to catch up with from slowing the
// others: while one of them gets changes as they are made, whoever is behind works
// a quarter of the time only, and in small pieces, since nobody can interrupt one.
// Alone it works all the time.
type courtesy struct {
	mu    sync.Mutex
	fresh map[tenant.OrgID]time.Time // when an organization last had caught up and got something
}

const (
	freshFor    = 2 * time.Second
	restTimes   = 3 // as long as the work before it
	longestRest = 200 * time.Millisecond

	courteousEvents = 32 // of a chunk, while others want to go first
)

// note says that an organization's sink got what is new, and is not behind.
func (c *courtesy) note(org tenant.OrgID, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other, at := range c.fresh {
		if now.Sub(at) > freshFor {
			delete(c.fresh, other)
		}
	}
	c.fresh[org] = now
}

// others reports whether another organization gets what is new just now.
func (c *courtesy) others(org tenant.OrgID, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other, at := range c.fresh {
		if other != org && now.Sub(at) <= freshFor {
			return true
		}
	}
	return false
}

// rest waits after work that took so long, if somebody else is to have the machine.
func (c *courtesy) rest(ctx context.Context, org tenant.OrgID, worked time.Duration) {
	if !c.others(org, time.Now()) {
		return
	}
	timer := time.NewTimer(min(restTimes*worked, longestRest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
