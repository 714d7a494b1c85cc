package node

import (
	"context"
	"errors"
	"time"
)

// How long it takes to ask again after a failure, and how often the clock is looked
// at: a machine that slept wakes up later than a timer knows.
const (
	firstPause = 2 * time.Second
	maxPause   = 5 * time.Minute
	lookEvery  = time.Minute
)

// Watch keeps the certificate good until the context ends, or until the gateway
// refuses and there is nothing left to show. Each certificate is told to got.
func (n *Node) Watch(ctx context.Context, got func(Certificate) error) error {
	var last string
	pause := firstPause
	for {
		c, err := n.Ready(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case final(err):
			return err
		case err != nil:
			wait := n.jittered(pause)
			if p, ok := errors.AsType[*Problem](err); ok && p.After > 0 {
				wait = min(p.After, maxPause) + n.jittered(firstPause)
			}
			n.say("%v; asking again in %s", err, wait.Round(time.Second))
			if pause = min(2*pause, maxPause); n.Wait(ctx, wait) != nil {
				return nil
			}
			continue
		}
		pause = firstPause
		if c.Serial != last {
			last = c.Serial
			if err := got(c); err != nil {
				return err
			}
		}
		if n.until(ctx, n.renewal(c)) != nil {
			return nil
		}
	}
}

// renewal is when c is renewed. The gateway gives each certificate a moment of its
// own; what is added keeps nodes apart whose clocks were set by the same one.
func (n *Node) renewal(c Certificate) time.Time {
	window := c.ExpiresAt.Sub(c.RenewAfter)
	return c.RenewAfter.Add(time.Duration(n.Random() * float64(min(window/10, time.Minute))))
}

// until waits for a time of the day.
func (n *Node) until(ctx context.Context, at time.Time) error {
	for {
		left := at.Sub(n.Now())
		if left <= 0 {
			return ctx.Err()
		}
		if err := n.Wait(ctx, min(left, lookEvery)); err != nil {
			return err
		}
	}
}

// jittered is between half of d and d.
func (n *Node) jittered(d time.Duration) time.Duration {
	return d/2 + time.Duration(n.Random()*float64(d/2))
}
