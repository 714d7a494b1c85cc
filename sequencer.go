package gateway

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// sequencer gives audit entries their place in their organization's chain once they
// are committed. It works when an act of this process was committed; what it could
// not do, or a process left that was killed, is done by federation with the sweep.
// Any number may work at once.
type sequencer struct {
	store  *store.Store
	notify func() // the outbox has something in it
	log    *slog.Logger
	signal chan struct{}
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	waiting map[tenant.OrgID]bool // organizations that have entries to link
}

const (
	// sequencerRest lets entries gather, so that a busy organization's are linked by
	// the hundred.
	sequencerRest    = 200 * time.Millisecond
	sequencerTimeout = 30 * time.Second
	// sequencerReach is longer than any request takes. What is older the sweep finds.
	sequencerReach = time.Minute
)

func startSequencer(st *store.Store, notify func(), log *slog.Logger) *sequencer {
	ctx, stop := context.WithCancel(context.Background())
	s := &sequencer{store: st, notify: notify, log: log, signal: make(chan struct{}, 1), stop: stop, waiting: map[tenant.OrgID]bool{}}
	st.OnAudit(s.wake)
	s.wg.Go(func() { s.run(ctx) })
	return s
}

func (s *sequencer) wake(org tenant.OrgID) {
	s.mu.Lock()
	s.waiting[org] = true
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

func (s *sequencer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.signal:
		}
		if err := s.link(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("audit entries not linked; the sweep will try again", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sequencerRest):
		}
	}
}

// link gives each organization one batch at a time, so that a busy one keeps no
// other waiting.
func (s *sequencer) link(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sequencerTimeout)
	defer cancel()
	s.mu.Lock()
	orgs := slices.Sorted(maps.Keys(s.waiting))
	clear(s.waiting)
	s.mu.Unlock()
	since := time.Now().Add(-sequencerReach)
	for len(orgs) > 0 {
		var more []tenant.OrgID
		for _, org := range orgs {
			n, err := s.store.LinkAudit(ctx, org, since)
			if err != nil {
				return err
			}
			if n > 0 {
				s.notify()
				more = append(more, org)
			}
		}
		orgs = more
	}
	return nil
}

func (s *sequencer) close() error {
	s.stop()
	s.wg.Wait()
	return nil
}
