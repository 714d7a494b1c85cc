package drivertest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// whatever delivers random batches while faults come and go by chance, as the
// gateway would: what failed of a document comes again with all that is behind it,
// and after a crash everything whose answer was lost. judge decides.
func whatever(s *stand) {
	c := &chance{stand: s, kills: s.kills(), driver: s.openWith(s.brief())}
	var pending []driver.Event
	for range 60 {
		for range s.rng.IntN(30) {
			pending = append(pending, s.next(Key, documents(8)[s.rng.IntN(8)], s.sized(s.rng.IntN(2000))))
		}
		pending = c.round(pending)
	}
	if s.h.Proxy != nil {
		s.h.Proxy.Heal()
	}
	s.finish(s.open(), pending)
	s.judge()
	for id := range s.made {
		if !s.delivered[id] {
			s.Errorf("%s was never delivered", id)
		}
	}
}

// chance is one run of whatever.
type chance struct {
	*stand
	kills  int
	driver driver.Driver
}

// round delivers the beginning of what is pending under one fault, and returns what
// is pending then.
func (c *chance) round(pending []driver.Event) []driver.Event {
	c.Helper()
	n := min(len(pending), 1+c.rng.IntN(64))
	batch := slices.Clone(pending[:n])
	ctx, cancel := context.WithCancel(c.harness.Context())
	defer cancel()
	until := Soon()
	restore := c.fault(cancel, &until)
	outs := c.deliverBy(ctx, c.driver, batch, until)
	restore()
	if c.rng.IntN(10) == 0 { // the process dies before it has written down the answers
		_ = c.driver.Close()
		c.driver = c.openWith(c.brief())
		return pending
	}
	return append(c.rest(batch, outs), pending[n:]...)
}

// fault lets something go wrong, or not, and returns what ends it.
func (c *chance) fault(cancel func(), until *time.Time) (restore func()) {
	p := c.h.Proxy
	switch n := c.rng.IntN(10); {
	case n == 0:
		*until = time.Now().Add(time.Duration(c.rng.IntN(3)) * time.Millisecond)
	case n == 1 && c.h.Busy != nil:
		c.h.Busy(true)
		return func() { c.h.Busy(false) }
	case p == nil:
		return func() {}
	case n == 2:
		p.Refuse()
	case n == 3:
		p.Hang()
		held, over := p.Held(), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			select {
			case <-held:
				cancel()
			case <-over:
			}
		})
		return func() {
			close(over)
			wg.Wait()
			p.Heal()
		}
	case n == 4:
		p.Delay(time.Duration(c.rng.IntN(20)) * time.Millisecond)
	case n == 5:
		p.CutAnswers(c.rng.Int64N(2000))
	case n <= 7:
		p.CutRequests(c.rng.Int64N(60_000))
	case n == 8 && c.h.Kill != nil && c.kills > 0:
		c.kills--
		var mu sync.Mutex
		over := false
		p.OnRequests(c.rng.Int64N(20_000), func() {
			mu.Lock()
			defer mu.Unlock()
			if !over {
				c.h.Kill()
			}
		})
		return func() {
			p.Heal()
			mu.Lock()
			defer mu.Unlock()
			over = true
			c.h.Restart()
		}
	}
	return p.Heal
}
