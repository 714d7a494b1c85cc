package sinks

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// idle is a driver of which only the end matters.
type idle struct {
	driver.Driver
	closed bool
}

func (d *idle) Close() error { d.closed = true; return nil }

// locker opens sinks and checks them as told.
type locker struct {
	opened, checked int
	says            error
	hold            chan struct{} // calls for acme wait for it, if there is one
	last            *idle
}

func (l *locker) connections() *connections {
	return &connections{
		open: func(ctx context.Context, sink delivery.Sink) (driver.Driver, error) {
			if l.hold != nil && sink.Org == "acme" {
				<-l.hold
			}
			l.opened++
			l.last = &idle{}
			return l.last, l.says
		},
		check: func(context.Context, delivery.Sink) error { l.checked++; return l.says },
		life:  time.Minute, kept: map[sinkKey]*connection{}, opening: map[sinkKey]chan struct{}{},
	}
}

// TestADriverAsksAgainWhetherItMayGoOn: it has read the secrets, and would know
// nothing of a key that was revoked.
func TestADriverAsksAgainWhetherItMayGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &locker{}
		c := l.connections()
		sink := delivery.Sink{Org: "acme", ID: "s", Kind: delivery.Webhook}
		for _, step := range []struct {
			what            string
			wait            time.Duration
			says, want      error
			opened, checked int
			closed          bool
		}{
			{"the first use opens it", 0, nil, nil, 1, 0, false},
			{"the next does not ask", 59 * time.Second, nil, nil, 1, 0, false},
			{"after a minute it asks", time.Second, nil, nil, 1, 1, false},
			{"no answer is no leave", time.Minute, fault.Unavailable.New("away"), fault.Unavailable, 1, 2, false},
			{"nor is it the end", 0, nil, nil, 1, 3, false},
			{"a key that is revoked is", time.Minute, fault.Sealed.New("sealed"), fault.Sealed, 1, 4, true},
			{"it cannot be opened then", 0, fault.Sealed.New("sealed"), fault.Sealed, 2, 4, false},
			{"until it can", 0, nil, nil, 3, 4, false},
		} {
			time.Sleep(step.wait)
			l.says = step.says
			_, done, err := c.use(t.Context(), sink)
			if err == nil {
				done()
			}
			if !errors.Is(err, step.want) || l.opened != step.opened || l.checked != step.checked || l.last.closed != step.closed {
				t.Errorf("%s: %v, opened %d times, checked %d times, closed %v", step.what, err, l.opened, l.checked, l.last.closed)
			}
		}
		c.close()
		if !l.last.closed {
			t.Error("the driver was forgotten")
		}
	})
}

// TestOneSinksKeyKeepsNoOtherWaiting: a key service that takes its time is the
// trouble of those sinks that it seals.
func TestOneSinksKeyKeepsNoOtherWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &locker{hold: make(chan struct{})}
		c := l.connections()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, done, err := c.use(t.Context(), delivery.Sink{Org: "acme", ID: "s"})
				if err != nil {
					t.Error(err)
					return
				}
				done()
			})
		}
		impatient, stop := context.WithCancel(t.Context())
		synctest.Wait()
		wg.Go(func() {
			if _, _, err := c.use(impatient, delivery.Sink{Org: "acme", ID: "s"}); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up: %v", err)
			}
		})
		synctest.Wait()
		stop()
		_, done, err := c.use(t.Context(), delivery.Sink{Org: "rival", ID: "s"})
		if err != nil {
			t.Fatal(err)
		}
		done()
		if l.opened != 1 {
			t.Errorf("opened %d times", l.opened)
		}
		close(l.hold)
		wg.Wait()
		if l.opened != 2 {
			t.Errorf("one sink was opened %d times", l.opened-1)
		}
		c.close()
	})
}

// TestAConnectionThatIsCheckedIsNotClosed: what is dropped meanwhile is let go of by
// its last user, and whoever checks it is one.
func TestAConnectionThatIsCheckedIsNotClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &locker{}
		c := l.connections()
		sink := delivery.Sink{Org: "acme", ID: "s"}
		_, done, err := c.use(t.Context(), sink)
		if err != nil {
			t.Fatal(err)
		}
		done()
		first := l.last
		time.Sleep(time.Minute)
		c.check = func(context.Context, delivery.Sink) error {
			c.drop(sinkKey{sink.Org, sink.ID}) // as when the sink is changed just then
			if first.closed {
				t.Error("closed while it is checked")
			}
			return nil
		}
		conn, done, err := c.use(t.Context(), sink)
		if err != nil || first.closed || conn.driver != driver.Driver(first) {
			t.Errorf("%v, closed %v", err, first.closed)
		}
		done()
		if !first.closed {
			t.Error("nobody let it go")
		}
	})
}
