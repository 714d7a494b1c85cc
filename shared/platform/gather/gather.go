// Package gather makes one piece of work of calls that come while another is at
// work: what costs as much for one as for many is then paid once for all of them.
//
// A call that comes alone begins at once. Where the work before was of many, those
// come back together when they have their answers, and the first of them waits a
// moment for the others: it would else begin alone and have all others wait.
package gather

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Call is one call among those that were gathered. Work sets Out or Err.
type Call[In, Out any] struct {
	In  In
	Out Out
	Err error

	lead chan struct{} // closed when it is this one's turn to work
	done chan struct{} // closed when Out and Err are final
}

// Group gathers calls by a key. Its fields are set before the first call.
type Group[K comparable, In, Out any] struct {
	// Max bounds how many calls are gathered, and so how long the first of them waits
	// for the last.
	Max int
	// Linger is how long a call waits at most until there are as many as were worked on
	// before it; 0 is not at all.
	Linger time.Duration
	// Work does the work of all calls. It runs in the goroutine of one of them, in a
	// context that is nobody's: the end of one caller must not be that of the others,
	// so Work bounds its own time.
	Work func(ctx context.Context, key K, calls []*Call[In, Out])

	mu    sync.Mutex
	lines map[K]*line[In, Out]
}

// line is what waits for a key.
type line[In, Out any] struct {
	waiting []*Call[In, Out]
	led     bool          // somebody is at work, or about to be
	last    int           // how many were worked on last
	enough  chan struct{} // closed when as many wait; nil if nobody lingers for them
}

// errBroken is the answer where the work panicked.
var errBroken = errors.New("gather: the work broke off")

// Do has a call worked on, with the others that wait by then. What Work reads, it
// reads after Do was called. The end of ctx is heard while the call waits.
func (g *Group[K, In, Out]) Do(ctx context.Context, key K, in In) (Out, error) {
	c := &Call[In, Out]{In: in, lead: make(chan struct{}), done: make(chan struct{})}
	g.mu.Lock()
	l := g.lines[key]
	if l == nil {
		if g.lines == nil {
			g.lines = map[K]*line[In, Out]{}
		}
		l = &line[In, Out]{}
		g.lines[key] = l
	}
	if !l.led {
		l.led = true
		close(c.lead)
	}
	l.waiting = append(l.waiting, c)
	if l.enough != nil && len(l.waiting) >= l.last {
		close(l.enough)
		l.enough = nil
	}
	g.mu.Unlock()

	gone := ctx.Done()
	for {
		select {
		case <-c.lead:
			g.work(key, l)
			return c.Out, c.Err
		case <-c.done:
			return c.Out, c.Err
		case <-gone:
			if g.leave(l, c) {
				return c.Out, ctx.Err()
			}
			gone = nil // it is worked on already, or it leads
		}
	}
}

// leave takes back a call that nobody has begun with and that does not lead.
func (g *Group[K, In, Out]) leave(l *line[In, Out], c *Call[In, Out]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-c.lead:
		return false
	default:
	}
	i := slices.Index(l.waiting, c)
	if i < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return true
}

// work does the work of those that wait, the leader first, and hands over.
func (g *Group[K, In, Out]) work(key K, l *line[In, Out]) {
	g.linger(l)
	g.mu.Lock()
	n := min(len(l.waiting), max(1, g.Max))
	calls := slices.Clone(l.waiting[:n])
	l.waiting, l.last = slices.Delete(l.waiting, 0, n), n
	g.mu.Unlock()
	whole := false
	// Deferred, for Work may panic.
	defer func() {
		g.mu.Lock()
		switch {
		case len(l.waiting) > 0:
			close(l.waiting[0].lead)
		case l.last > 1 && g.Linger > 0:
			l.led = false // kept, for they may come back
		default:
			delete(g.lines, key)
		}
		g.mu.Unlock()
		for _, c := range calls {
			if !whole {
				c.Err = errBroken
			}
			close(c.done)
		}
	}()
	g.Work(context.Background(), key, calls)
	whole = true
}

// linger waits until as many wait as were worked on last.
func (g *Group[K, In, Out]) linger(l *line[In, Out]) {
	g.mu.Lock()
	if g.Linger <= 0 || len(l.waiting) >= l.last {
		g.mu.Unlock()
		return
	}
	enough := make(chan struct{})
	l.enough = enough
	g.mu.Unlock()
	timer := time.NewTimer(g.Linger)
	defer timer.Stop()
	select {
	case <-enough:
	case <-timer.C:
		g.mu.Lock()
		l.enough = nil
		g.mu.Unlock()
	}
}
