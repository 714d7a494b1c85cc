package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/eventing"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/openapi"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// Serving is a set of functions behind one handler.
type Serving struct {
	http.Handler
	host  *Host
	parts map[string]Part
	order []string
}

// Open opens functions of the catalog by name and puts them behind one handler.
func (h *Host) Open(ctx context.Context, names ...string) (*Serving, error) {
	s := &Serving{host: h, parts: map[string]Part{}}
	h.Tracer() // first, so that it is closed last
	for _, name := range names {
		i := slices.IndexFunc(Catalog(), func(e Entry) bool { return e.Name == name })
		if i < 0 {
			return nil, errors.Join(fmt.Errorf("PEAT_FUNCTION: no function %q; there are %v", name, Names()), s.Close())
		}
		part, err := Catalog()[i].Open(ctx, h)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), s.Close())
		}
		s.parts[name], s.order = part, append(s.order, name)
	}
	if err := s.mount(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Names lists the functions of the catalog.
func Names() []string {
	var names []string
	for _, e := range Catalog() {
		names = append(names, e.Name)
	}
	return names
}

// mount builds the handler: the functions' routes, the event door, health and metrics.
func (s *Serving) mount(ctx context.Context) error {
	var routes []web.Route
	var hears []bus.Subscription
	for _, name := range s.order {
		if r, ok := s.parts[name].(Router); ok {
			routes = append(routes, r.Routes()...)
		}
		hears = append(hears, s.parts[name].Events()...)
	}
	// Without routes that need somebody nobody has to be found out about, and no key is asked for.
	gate := access.Gate{Bootstrap: access.NewBootstrap("")}
	if slices.ContainsFunc(routes, func(r web.Route) bool { return r.Need != web.Anyone }) {
		if !s.host.Settings.AdminToken.IsSet() {
			return errors.New("PEAT_ADMIN_TOKEN is not set: nobody could administer this gateway, so it does not start")
		}
		var err error
		if gate, err = s.host.Gate(ctx); err != nil {
			return err
		}
	}
	routes = append(routes, openapi.Routes()...)
	routes = append(routes, s.operations()...)
	st, err := s.host.claims(ctx, routes)
	if err != nil {
		return err
	}
	api := web.Mux(routes, web.Options{
		Claims: st, Caller: access.NameOf, OnceSecret: []byte(s.host.Settings.AdminToken.Reveal()),
		Log: s.host.Log, Authorize: gate.Authorize, Recheck: access.Freshness, Observe: s.host.Metrics.Request, Tracer: s.host.Tracer(),
		Proxies: s.host.Settings.Transport.Proxies,
	})
	mux := http.NewServeMux()
	mux.Handle("/", gate.Keep(api))
	mux.Handle("GET /metrics", s.host.Metrics.Handler())
	if len(hears) > 0 && s.host.local == nil {
		mux.Handle(bus.EventsPath, bus.Door(hears, s.host.Log))
	}
	s.Handler = s.host.Settings.Transport.clientCerts().Wrap(mux)
	return nil
}

// claims is where requests are remembered that are to be carried out once; nil where
// no route takes such.
func (h *Host) claims(ctx context.Context, routes []web.Route) (web.Claims, error) {
	if !slices.ContainsFunc(routes, func(r web.Route) bool { return r.Once }) {
		return nil, nil
	}
	return h.Store(ctx)
}

// operations are the doors for whoever runs the gateway.
func (s *Serving) operations() []web.Route {
	alive := func(w http.ResponseWriter, _ *http.Request) error {
		return web.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok", "version": Version()})
	}
	ready := func(w http.ResponseWriter, r *http.Request) error {
		if err := s.Ready(r.Context()); err != nil {
			return fault.Unavailable.Wrap(err, "the store does not answer")
		}
		return web.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	}
	return []web.Route{
		{Pattern: "GET /health", Need: web.Anyone, Handle: alive},
		{Pattern: "GET /health/live", Need: web.Anyone, Handle: alive},
		{Pattern: "GET /health/ready", Need: web.Anyone, Handle: ready},
	}
}

const readyTimeout = 3 * time.Second

// Ready asks the store, if there is one, whether it answers.
func (s *Serving) Ready(ctx context.Context) error {
	s.host.mu.Lock()
	st := s.host.store
	s.host.mu.Unlock()
	if st == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return st.Ping(ctx)
}

// Drain ends the answers that functions hold open.
func (s *Serving) Drain() {
	for _, part := range s.parts {
		if d, ok := part.(Drainer); ok {
			d.Drain()
		}
	}
}

// Close lets the functions go, the last opened first.
func (s *Serving) Close() error {
	var errs []error
	for _, name := range slices.Backward(s.order) {
		if c, ok := s.parts[name].(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	s.order = nil
	return errors.Join(errs...)
}

// OpenDev opens the whole catalog in this process. Events are routed by the
// triggers that a cluster applies, and the sweep comes at the given interval.
func (h *Host) OpenDev(ctx context.Context, sweepEvery time.Duration) (*Serving, error) {
	h.local = bus.NewLocal(h.Log)
	s, err := h.Open(ctx, Names()...)
	if err != nil {
		h.local.Close()
		return nil, err
	}
	triggers, err := eventing.Triggers()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	var routes []bus.Route
	for _, t := range triggers {
		part, ok := s.parts[t.Subscriber]
		if !ok {
			return nil, errors.Join(fmt.Errorf("trigger %s: there is no function %q", t.Name, t.Subscriber), s.Close())
		}
		hears := part.Events()
		routes = append(routes, bus.Route{
			Name: t.Name, Match: t.Matches, Timeout: t.Timeout, Retry: t.Retry, Backoff: t.Backoff,
			Deliver: func(ctx context.Context, e cloudevents.Event) error { return bus.Dispatch(ctx, hears, e) },
		})
	}
	h.local.Connect(routes)
	sweeper := startSweep(h.local, sweepEvery)
	h.closes = append(h.closes, func() error {
		sweeper()
		h.local.Close()
		return nil
	})
	return s, nil
}

// startSweep stands in for the PingSource of eventing/sources.yaml and returns
// what stops it.
func startSweep(publisher bus.Publisher, every time.Duration) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			_ = publisher.Publish(ctx, event.Ping(time.Now())) // a missed tick is made good by the next
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// Version is the revision this binary was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	if info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
