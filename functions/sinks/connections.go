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

	mu   sync.Mutex
	kept map[sinkKey]*connection
}

type connection struct {
	driver driver.Driver
	filter *filter.Filter
	sink   delivery.Sink // as it was when the driver was made
	users  int
	idle   time.Time // since when it has no user
	old    bool      // to be closed by its last user
}

// errFilter: a filter that compiled when it was saved does not any more, since the
// gateway is another release. Trying again does not help.
var errFilter = errors.New("the sink's filter does not compile any more; give it another one and resume it")

// use returns the sink's connection and what to call when done with it.
func (c *connections) use(ctx context.Context, sink delivery.Sink) (*connection, func(), error) {
	key := sinkKey{sink.Org, sink.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.kept[key]; conn != nil && !sameTarget(conn.sink, sink) {
		c.retire(key, conn)
	}
	conn := c.kept[key]
	if conn == nil {
		f, err := filter.Compile(sink.Filter)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errFilter, err)
		}
		// Drivers connect when they deliver, not here, so the lock is short.
		d, err := c.open(ctx, sink)
		if err != nil {
			return nil, nil, fmt.Errorf("open %s sink: %w", sink.Kind, err)
		}
		conn = &connection{driver: d, filter: f, sink: sink}
		c.kept[key] = conn
	}
	conn.users++
	return conn, func() { c.done(conn) }, nil
}

func sameTarget(a, b delivery.Sink) bool {
	return a.Kind == b.Kind && a.Revision == b.Revision && bytes.Equal(a.Config, b.Config) && bytes.Equal(a.Sealed, b.Sealed)
}

func (c *connections) done(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
