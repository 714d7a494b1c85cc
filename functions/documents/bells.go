package documents

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// bells wake those who wait for a formation's log to grow. There is one for each
// formation that somebody waits for. It is rung by the doorbell, if the broker
// chose this replica to hear it, and by looking at the log now and then.
type bells struct {
	position func(ctx context.Context, key tenant.Key) (uint64, error)
	every    time.Duration
	log      *slog.Logger
	ctx      context.Context
	stop     context.CancelFunc // ends every wait
	wg       sync.WaitGroup

	mu    sync.Mutex
	byKey map[tenant.Key]*bell
}

// bell is one formation's. All of it is guarded by bells.mu.
type bell struct {
	key     tenant.Key
	rung    chan struct{} // closed by the next ring
	waiting int
	quit    context.CancelFunc // ends the looking
}

// lookLimit bounds one look at the store.
const lookLimit = 5 * time.Second

func newBells(position func(context.Context, tenant.Key) (uint64, error), every time.Duration, log *slog.Logger) *bells {
	ctx, stop := context.WithCancel(context.Background())
	return &bells{position: position, every: every, log: log, ctx: ctx, stop: stop, byKey: map[tenant.Key]*bell{}}
}

// stopped is closed when nobody is to wait any more.
func (b *bells) stopped() <-chan struct{} { return b.ctx.Done() }

// join returns the formation's bell; whoever joins must leave.
func (b *bells) join(key tenant.Key) *bell {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.byKey[key]
	if l == nil {
		ctx, quit := context.WithCancel(b.ctx)
		l = &bell{key: key, rung: make(chan struct{}), quit: quit}
		b.byKey[key] = l
		b.wg.Go(func() { b.look(ctx, key) })
	}
	l.waiting++
	return l
}

// leave ends the looking with the last who waits.
func (b *bells) leave(l *bell) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.waiting--; l.waiting == 0 {
		l.quit()
		delete(b.byKey, l.key)
	}
}

// next is closed when the bell rings next. Take it before reading the log: what is
// written after the reading then rings it.
func (b *bells) next(l *bell) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return l.rung
}

// ring wakes whoever waits for the formation. They read the log to see whether
// there is anything.
func (b *bells) ring(key tenant.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.byKey[key]; l != nil {
		close(l.rung)
		l.rung = make(chan struct{})
	}
}

// look rings when the log is not where it was at the last look, and the first
// time, when that is not known. It also rings if the formation is gone.
func (b *bells) look(ctx context.Context, key tenant.Key) {
	tick := time.NewTicker(b.every)
	defer tick.Stop()
	last, known := uint64(0), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(ctx, lookLimit)
		position, err := b.position(limited, key)
		cancel()
		switch {
		case errors.Is(err, fault.NotFound):
			known = false
		case err != nil:
			if ctx.Err() == nil {
				b.log.Warn("the log could not be looked at; its readers wait on", "org", key.Org, "app", key.App, "err", err)
			}
			continue
		case known && position == last:
			continue
		default:
			last, known = position, true
		}
		b.ring(key)
	}
}

// wait returns when nobody looks any more; stop and the last leave come before.
func (b *bells) wait() { b.wg.Wait() }
