package documents

import (
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// seats bound how many requests wait at once: in all, and of one organization, so
// that it cannot keep the others out.
type seats struct {
	mu     sync.Mutex
	wg     sync.WaitGroup
	closed bool
	total  int
	taken  int
	byOrg  map[tenant.OrgID]int
}

// share is the part of all seats that one organization may take: a fourth.
const share = 4

// seatRetry is when it makes sense to ask again.
const seatRetry = 5 * time.Second

func newSeats(total int) *seats {
	return &seats{total: total, byOrg: map[tenant.OrgID]int{}}
}

// take takes a seat and returns how to leave it.
func (s *seats) take(org tenant.OrgID) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := max(1, s.total/share)
	switch {
	case s.closed:
		return nil, fault.RetryIn(fault.Unavailable.New("this process is about to stop"), time.Second)
	case s.byOrg[org] >= most:
		return nil, fault.RetryIn(fault.Exhausted.New("the organization has %d requests and streams waiting here, which is the most it may", most), seatRetry)
	case s.taken >= s.total:
		return nil, fault.RetryIn(fault.Unavailable.New("too many requests and streams are waiting here"), seatRetry)
	}
	s.taken++
	s.byOrg[org]++
	s.wg.Add(1)
	return sync.OnceFunc(func() { s.leave(org) }), nil
}

func (s *seats) leave(org tenant.OrgID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.byOrg[org]--; s.byOrg[org] == 0 {
		delete(s.byOrg, org)
	}
	s.wg.Done()
}

// close lets nobody take a seat any more.
func (s *seats) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// wait returns when all seats are empty; close comes before.
func (s *seats) wait() { s.wg.Wait() }
