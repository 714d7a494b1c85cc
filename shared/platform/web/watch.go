package web

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// watched returns a context that ends when the caller may no longer have what they
// are being sent: a stream outlives the moment in which that was decided. What it
// returns beside waits for the watch to end.
func (m *mux) watched(r *http.Request, need Role) (context.Context, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	again := r.WithContext(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(m.Recheck)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := m.Authorize(again, need); refused(err) {
				cancel()
				return
			}
		}
	})
	return ctx, func() {
		cancel()
		watch.Wait()
	}
}

// refused tells a caller who may not from one of whom it is not known now.
func refused(err error) bool {
	return errors.Is(err, fault.Unauthenticated) || errors.Is(err, fault.Forbidden) || errors.Is(err, fault.NotFound)
}
