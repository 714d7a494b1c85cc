package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// relay publishes what transactions left in the outbox. It works when it is
// woken, after a commit or by the sweep; what it cannot publish stays for the
// next time. An event may go out twice, if two processes work at once.
type relay struct {
	store     *store.Store
	publisher bus.Publisher
	log       *slog.Logger
	signal    chan struct{}
	stop      context.CancelFunc
	wg        sync.WaitGroup
}

const (
	relayBatch   = 100
	relayTimeout = 30 * time.Second
	// relayRest lets events gather while there are many, so that they are taken out by
	// the dozen. The first goes at once.
	relayRest = 50 * time.Millisecond
)

func startRelay(st *store.Store, publisher bus.Publisher, log *slog.Logger) *relay {
	ctx, stop := context.WithCancel(context.Background())
	r := &relay{store: st, publisher: publisher, log: log, signal: make(chan struct{}, 1), stop: stop}
	r.wg.Go(func() { r.run(ctx) })
	r.wake() // something may be left from before
	return r
}

// wake makes the relay look at the outbox, soon.
func (r *relay) wake() {
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

func (r *relay) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.signal:
		}
		if err := r.flush(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("outbox not emptied; the sweep will try again", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(relayRest):
		}
	}
}

func (r *relay) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	for {
		waiting, err := r.store.Outbox(ctx, relayBatch)
		if err != nil || len(waiting) == 0 {
			return err
		}
		sent, err := r.publish(ctx, waiting)
		// What is out is removed together, whatever became of the rest: a commit for
		// each event would cost more than what it was about.
		if removeErr := r.remove(ctx, sent); err == nil {
			err = removeErr
		}
		if err != nil {
			return err
		}
	}
}

// publish sends events in their order, and returns the ids of those that are out.
func (r *relay) publish(ctx context.Context, waiting []store.Outboxed) (sent []string, err error) {
	for _, o := range waiting {
		if err := r.publisher.Publish(ctx, o.Event); err != nil {
			return sent, err
		}
		sent = append(sent, o.ID)
	}
	return sent, nil
}

func (r *relay) remove(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return r.store.InTx(ctx, func(tx *store.Tx) error {
		return tx.Published(ctx, ids...)
	})
}

func (r *relay) close() error {
	r.stop()
	r.wg.Wait()
	return nil
}
