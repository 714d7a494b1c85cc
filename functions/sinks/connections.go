package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// sinkKey names a sink across organizations.
type sinkKey struct {
	org tenant.OrgID
	id  string
}

// connections keeps a driver per sink open between batches.
type connections struct {
	open func(ctx context.Context, sink delivery.Sink) (driver.Driver, error)
	// check fails if the sink's secrets can no longer be opened. A driver that is
	// kept has read them, but may use them no longer than life without asking again:
	// an organization that takes its key away has taken its secrets away.
	check func(ctx context.Context, sink delivery.Sink) error
	life  time.Duration

	mu      sync.Mutex
	kept    map[sinkKey]*connection
	opening map[sinkKey]chan struct{} // closed when whoever asks a key service is done
}

type connection struct {
	driver driver.Driver
	filter *filter.Filter
	sink   delivery.Sink // as it was when the driver was made
	asked  time.Time     // when its secrets were last opened
	users  int
	idle   time.Time // since when it has no user
	old    bool      // to be closed by its last user
}

// errFilter: a filter that compiled when it was saved does not any more, since the
// gateway is another release. Trying again does not help.
var errFilter = errors.New("the sink's filter does not compile any more; give it another one and resume it")

// use returns the sink's connection and what to call when done with it. While one
// caller opens it, the others of that sink wait, and those of other sinks do not:
// its key may be in a service that takes its time.
func (c *connections) use(ctx context.Context, sink delivery.Sink) (*connection, func(), error) {
	key := sinkKey{sink.Org, sink.ID}
	for {
		conn, wait := c.find(key, sink)
		if conn != nil {
			return conn, func() { c.done(conn) }, nil
		}
		if wait == nil {
			break
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	conn, err := c.make(ctx, key, sink)
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { c.done(conn) }, nil
}

// find takes a connection that is there, or returns what to wait for. If it returns
// neither, it is the caller's turn to make one.
func (c *connections) find(key sinkKey, sink delivery.Sink) (*connection, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.kept[key]
	if conn != nil && !sameTarget(conn.sink, sink) {
		c.retire(key, conn)
		conn = nil
	}
	if conn != nil && time.Since(conn.asked) < c.life {
		conn.users++
		return conn, nil
	}
	if wait := c.opening[key]; wait != nil {
		return nil, wait
	}
	c.opening[key] = make(chan struct{})
	return nil, nil
}

// make opens the sink, or asks whether what is open may stay so.
func (c *connections) make(ctx context.Context, key sinkKey, sink delivery.Sink) (*connection, error) {
	c.mu.Lock()
	conn := c.kept[key]
	if conn != nil {
		conn.users++ // so that nobody closes it meanwhile
	}
	c.mu.Unlock()
	var made *connection
	var err error
	if conn != nil {
		err = c.check(ctx, sink)
	} else {
		made, err = c.connect(ctx, sink)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.opening[key])
	delete(c.opening, key)
	switch {
	case err == nil && conn != nil:
		conn.asked = time.Now()
		return conn, nil
	case err == nil:
		made.asked, made.users = time.Now(), 1
		c.kept[key] = made
		return made, nil
	case conn != nil:
		if errors.Is(err, fault.Sealed) && !conn.old {
			c.retire(key, conn)
		}
		c.leave(conn)
	}
	return nil, err
}

func (c *connections) connect(ctx context.Context, sink delivery.Sink) (*connection, error) {
	f, err := filter.Compile(sink.Filter)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFilter, err)
	}
	d, err := c.open(ctx, sink)
	if err != nil {
		return nil, fmt.Errorf("open %s sink: %w", sink.Kind, err)
	}
	return &connection{driver: d, filter: f, sink: sink}, nil
}

// sameTarget does not look at the sealed secrets: every change of them is a new
// revision, and sealing the same anew is none.
func sameTarget(a, b delivery.Sink) bool {
	return a.Kind == b.Kind && a.Revision == b.Revision && bytes.Equal(a.Config, b.Config)
}

func (c *connections) done(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(conn)
}

func (c *connections) leave(conn *connection) {
	conn.users--
	conn.idle = time.Now()
	if conn.old && conn.users == 0 {
		_ = conn.driver.Close()
	}
}

// retire takes a connection out; it is closed when nobody uses it any more.
func (c *connections) retire(key sinkKey, conn *connection) {
	delete(c.kept, key)
	conn.old = true
	if conn.users == 0 {
		_ = conn.driver.Close()
	}
}

// drop lets go of a sink that was changed, paused or deleted.
func (c *connections) drop(key sinkKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.kept[key]; conn != nil {
		c.retire(key, conn)
	}
}

// tidy lets go of what nobody has used since the given time.
func (c *connections) tidy(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, conn := range c.kept {
		if conn.users == 0 && conn.idle.Before(since) {
			c.retire(key, conn)
		}
	}
}

// close lets go of everything.
func (c *connections) close() { c.tidy(time.Now().Add(time.Hour)) }
