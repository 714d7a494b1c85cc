package bus

import (
	"context"
	"log/slog"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Route is one way an event may take: what a Trigger says, in one process.
type Route struct {
	Name    string
	Match   func(e cloudevents.Event) bool
	Deliver func(ctx context.Context, e cloudevents.Event) error
	Timeout time.Duration // of one attempt
	Retry   int           // attempts after the first
	Backoff time.Duration // before the first retry; doubles
}

// maxInFlight bounds what one route works on at once. What comes on top is
// refused, which for a doorbell means: heard at the next sweep.
const maxInFlight = 256

// Local is a bus within one process. It keeps nothing: as with any broker whose
// events are doorbells, what is lost is found by the sweep.
type Local struct {
	log    *slog.Logger
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	closed bool
	routes []Route
	inUse  []int
}

// NewLocal returns a bus without routes.
func NewLocal(log *slog.Logger) *Local {
	ctx, stop := context.WithCancel(context.Background())
	return &Local{log: log, ctx: ctx, stop: stop}
}

// Connect sets the routes. Events published before are not seen by them.
func (l *Local) Connect(routes []Route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routes, l.inUse = routes, make([]int, len(routes))
}

// Publish starts the delivery of e on every route that matches and returns; it
// waits for none of them.
func (l *Local) Publish(ctx context.Context, e cloudevents.Event) error {
	if err := e.Validate(); err != nil {
		return fault.Invalid.Wrap(err, "not a valid event")
	}
	e = InTrace(ctx, e)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fault.Unavailable.New("the bus is closed")
	}
	var refused error
	for i, r := range l.routes {
		if !r.Match(e) {
			continue
		}
		if l.inUse[i] >= maxInFlight {
			refused = fault.Unavailable.New("%s is busy", r.Name)
			continue
		}
		l.inUse[i]++
		l.wg.Go(func() {
			l.carry(r, e)
			l.mu.Lock()
			l.inUse[i]--
			l.mu.Unlock()
		})
	}
	return refused
}

func (l *Local) carry(r Route, e cloudevents.Event) {
	backoff := r.Backoff
	for attempt := 0; ; attempt++ {
		ctx, cancel := context.WithTimeout(l.ctx, r.Timeout)
		err := r.Deliver(ctx, e)
		cancel()
		if err == nil || l.ctx.Err() != nil {
			return
		}
		if attempt >= r.Retry {
			l.log.Error("event given up; the sweep will ring again", "route", r.Name, "type", e.Type(), "id", e.ID(), "err", err)
			return
		}
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(backoff):
		}
		backoff *= 2
	}
}

// Close cancels what is under way and returns when it has ended.
func (l *Local) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.wg.Wait()
}
