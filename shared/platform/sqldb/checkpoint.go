package sqldb

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// checkpointer moves what SQLite wrote ahead into its database file. SQLite would
// have whoever commits do that, every thousand pages, while nobody else can write:
// tens of milliseconds that the hundredth commit pays. From here it holds up nobody.
type checkpointer struct {
	db   *sql.DB
	wake chan struct{}
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// checkpointEvery is how much time at least lies between two.
const checkpointEvery = 250 * time.Millisecond

func startCheckpointer(db *sql.DB) *checkpointer {
	ctx, stop := context.WithCancel(context.Background())
	c := &checkpointer{db: db, wake: make(chan struct{}, 1), stop: stop}
	c.wg.Go(func() { c.run(ctx) })
	return c
}

func (c *checkpointer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C: // enough time has passed
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		// Passive: it takes what it can get without waiting for readers or writers.
		// What fails now is done later, at the latest by SQLite itself when the file
		// has become long.
		_, _ = c.db.ExecContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`)
		timer.Reset(checkpointEvery)
	}
}

// committed says that there may be something to do.
func (c *checkpointer) committed() {
	if c == nil {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *checkpointer) close() {
	if c != nil {
		c.stop()
		c.wg.Wait()
	}
}
