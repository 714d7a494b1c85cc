// Package gateway composes the functions of peat-gateway. It is what Knative's
// func tool builds: one image, in which PEAT_FUNCTION says which function of the
// catalog a process is.
//
//	function.go  what the runtime calls
//	catalog.go   every function by name, and what it takes from the host
//	host.go      settings, and the resources made from them when first asked for
//	sequencer.go audit entries to their place
//	relay.go     events from the outbox to the bus
//	transport.go who is at the other end: our own TLS, and the proxies before us
//	serve.go     a set of functions behind one handler
package gateway

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

// Function is one function of the catalog under Knative's function runtime.
//
// The runtime listens before it calls Start, and does not wait for it: requests
// that come first are turned away until it is done.
type Function struct {
	serving atomic.Pointer[Serving]
	host    atomic.Pointer[Host]
}

// New is called by the runtime, once.
func New() *Function { return &Function{} }

// Start opens the function that PEAT_FUNCTION names. cfg is the environment, laid
// over a configuration file if there is one.
func (f *Function) Start(ctx context.Context, cfg map[string]string) error {
	lookup := func(name string) (string, bool) {
		v, ok := cfg[name]
		return v, ok
	}
	host, err := NewHost(env.New(lookup), os.Stderr)
	if err != nil {
		return err
	}
	serving, err := host.Open(ctx, host.Settings.Function)
	if err != nil {
		return errors.Join(err, host.Close())
	}
	f.host.Store(host)
	f.serving.Store(serving)
	return nil
}

// Handle answers a request.
func (f *Function) Handle(w http.ResponseWriter, r *http.Request) {
	s := f.serving.Load()
	if s == nil {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.ServeHTTP(w, r)
}

// Ready reports whether requests would be answered well now.
func (f *Function) Ready(ctx context.Context) (bool, error) {
	s := f.serving.Load()
	if s == nil {
		return false, nil
	}
	if err := s.Ready(ctx); err != nil {
		return false, err
	}
	return true, nil
}

// Alive reports whether the process is worth keeping.
func (f *Function) Alive(context.Context) (bool, error) { return true, nil }

// Stop lets everything go. It is the only word of the end there is.
func (f *Function) Stop(context.Context) error {
	var errs []error
	if s := f.serving.Swap(nil); s != nil {
		errs = append(errs, s.Close())
	}
	if h := f.host.Swap(nil); h != nil {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}
