package gateway

import (
	"context"
	"log/slog"
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
	log    *slog.Logger
	signal chan struct{}
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

const (
	// sequencerRest lets entries gather, so that a busy organization's are linked by
	// the hundred.
	sequencerRest    = 200 * time.Millisecond
	sequencerTimeout = 30 * time.Second
)

func startSequencer(st *store.Store, log *slog.Logger) *sequencer {
	ctx, stop := context.WithCancel(context.Background())
	s := &sequencer{store: st, log: log, signal: make(chan struct{}, 1), stop: stop}
	st.OnAudit(s.wake)
	s.wg.Go(func() { s.run(ctx) })
	return s
}

func (s *sequencer) wake() {
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
	for more := true; more; {
		more = false
		for org := tenant.OrgID(""); ; {
			next, err := s.store.NextUnlinked(ctx, org)
			if err != nil {
				return err
			}
			if next == "" {
				break
			}
			n, err := s.store.LinkAudit(ctx, next)
			if err != nil {
				return err
			}
			org, more = next, more || n > 0
		}
	}
	return nil
}

func (s *sequencer) close() error {
	s.stop()
	s.wg.Wait()
	return nil
}
