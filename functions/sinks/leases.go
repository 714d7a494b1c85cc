package sinks

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

const (
	leaseLife   = 30 * time.Second
	leaseRenew  = leaseLife / 3
	leaseLinger = time.Second // an idle lease is kept this long
)

// leases keeps what this process holds. Taking a lease costs a transaction, so
// one is kept from doorbell to doorbell; but not for long, since meanwhile a
// doorbell that rings at another replica rings in vain.
type leases struct {
	store  *store.Store
	holder string
	now    func() time.Time

	mu   sync.Mutex
	held map[pair]*heldLease
}

type heldLease struct {
	store.Lease
	renewed time.Time
	idle    time.Time // zero while in use
}

// take returns the lease on a pair, or a *store.HeldError.
func (l *leases) take(ctx context.Context, p pair) (store.Lease, error) {
	l.mu.Lock()
	have := l.held[p]
	l.mu.Unlock()
	now := l.now()
	if have == nil {
		lease, err := l.store.TakeLease(ctx, p.lease(), l.holder, "", now, leaseLife)
		if err != nil {
			return store.Lease{}, err
		}
		have = &heldLease{Lease: lease, renewed: now}
	}
	if now.Sub(have.renewed) >= leaseRenew {
		lease, err := l.store.RenewLease(ctx, have.Lease, now, leaseLife)
		if err != nil {
			l.drop(p, err)
			return store.Lease{}, err
		}
		have = &heldLease{Lease: lease, renewed: now}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	have.idle = time.Time{}
	l.held[p] = have
	return have.Lease, nil
}

// keep renews the lease on a pair until done is called: a batch may take longer
// than a lease lives.
func (l *leases) keep(ctx context.Context, p pair) (done func()) {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(leaseRenew)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				// A failure shows at the next write under the lease.
				_, _ = l.take(ctx, p)
			}
		}
	})
	return func() {
		stop()
		wg.Wait()
	}
}

// rest says that a pair is not being worked now.
func (l *leases) rest(p pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if have := l.held[p]; have != nil {
		have.idle = time.Now()
	}
}

// drop forgets a lease after an error that says that it is lost.
func (l *leases) drop(p pair, err error) {
	if !errors.Is(err, fault.Stale) && !errors.Is(err, fault.NotFound) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, p)
}

// release gives back the leases that have been idle since before the given time.
func (l *leases) release(ctx context.Context, since time.Time) {
	l.mu.Lock()
	var idle []store.Lease
	for p, have := range l.held {
		if !have.idle.IsZero() && have.idle.Before(since) {
			idle = append(idle, have.Lease)
			delete(l.held, p)
		}
	}
	l.mu.Unlock()
	for _, lease := range idle {
		// One that is not given back runs out by itself.
		_ = l.store.ReleaseLease(ctx, lease)
	}
}
