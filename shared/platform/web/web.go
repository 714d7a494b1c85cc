// Package web is the HTTP door every function shares: routes as tables, one
// mapping from a class of failure to a status, strict JSON, paging, and what
// surrounds each request.
//
//	web.go       routes and the handler made of them
//	serve.go     what happens around every request: id, log, panics, headers
//	query.go     keeps what rides in a query out of logs and answers
//	problem.go   the one table from a fault to a status; problem documents
//	json.go      reading and writing JSON; strict.go finds what is wrong in it
//	page.go      lists in pages
//	etag.go      states by name, for those who change things
//	once.go      requests that are carried out once, however often they come
//	watch.go     streams end when their caller may not have them any more
//	span.go      a request as a span of its caller's trace
//	forwarded.go whom a request comes from, as our own proxies say
package web

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

// Role is the least a caller must be for a route. Who has which is decided by
// Options.Authorize.
type Role string

// The roles, from the least to the most. Anyone marks a route that is open to the
// world; it has to be written down, for a route without a Role does not start.
const (
	Anyone       Role = "anyone"
	Viewer       Role = "viewer"
	OrgAdmin     Role = "org-admin"
	GatewayAdmin Role = "gateway-admin"
)

// Route is one line in a function's table of doors.
type Route struct {
	Pattern string // as http.ServeMux reads it, with a method
	Need    Role
	Handle  func(w http.ResponseWriter, r *http.Request) error
	Timeout time.Duration // ends the work on a request; 0 is that of Options
	Stream  bool          // holds its connection: no time limit (WebSockets, event streams)
	Once    bool          // makes something: a request that carries an Idempotency-Key is carried out once
	Quiet   bool          // called all the time by machines: logged only if it fails
}

// DefaultMaxBody is the longest request body, in bytes, unless Options say otherwise.
const DefaultMaxBody = 1 << 20

// DefaultTimeout ends the work on a request, unless Options say otherwise.
const DefaultTimeout = 25 * time.Second

// Options are what the routes of a process have in common.
type Options struct {
	Log *slog.Logger

	// Authorize decides whether the caller has the role and returns the context
	// to go on with. Path values are known by then. Without it only routes that
	// need Anyone are served.
	Authorize func(r *http.Request, need Role) (context.Context, error)

	// Recheck is how often Authorize is asked again while a Stream route goes on; a
	// stream whose caller is refused ends. 0 is never.
	Recheck time.Duration

	// Observe hears of every finished request; nil hears nothing. The pattern is
	// empty if no route matched.
	Observe func(pattern, method string, status int, took time.Duration)

	// Tracer makes a span of every request but those of Quiet routes, which would
	// drown the others, and of Stream routes, which would not end. nil makes none;
	// a caller's trace is passed on in any case.
	Tracer trace.Tracer

	// Claims remembers requests to routes that say Once; nil does not, and their keys
	// mean nothing. Caller names who asks, and OnceSecret is what answers are sealed
	// with, beside the caller's key.
	Claims     Claims
	Caller     func(ctx context.Context) string
	OnceSecret []byte

	// Proxies may say for whom they ask; see Address.
	Proxies Proxies

	MaxBody int64         // 0 is DefaultMaxBody
	Timeout time.Duration // 0 is DefaultTimeout
}

// Mux serves the routes, and answers everything else with a problem document. Like
// http.ServeMux it panics on a table that cannot be served: that is a mistake in
// the program, and one that must not wait for the first request.
func Mux(routes []Route, o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Tracer == nil {
		o.Tracer = tracing.Off()
	}
	m := &mux{Options: o, routes: http.NewServeMux(), quiet: map[string]bool{}, untraced: map[string]bool{}}
	for _, route := range routes {
		m.add(route)
	}
	return m
}

type mux struct {
	Options
	routes          *http.ServeMux
	quiet, untraced map[string]bool // by pattern
}

func (m *mux) add(route Route) {
	switch {
	case route.Need == "":
		panic(fmt.Sprintf("route %q does not say who may call it", route.Pattern))
	case route.Need != Anyone && m.Authorize == nil:
		panic(fmt.Sprintf("route %q needs %s and nothing here authorizes", route.Pattern, route.Need))
	case route.Once && (route.Need == Anyone || m.Claims != nil && m.Caller == nil):
		panic(fmt.Sprintf("route %q is carried out once, and nobody knows for whom", route.Pattern))
	case route.Handle == nil:
		panic(fmt.Sprintf("route %q has no handler", route.Pattern))
	}
	m.routes.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) { m.handle(route, w, r) })
	m.quiet[route.Pattern] = route.Quiet
	m.untraced[route.Pattern] = route.Quiet || route.Stream
}

// handle runs one route: the caller's right first, then the handler.
func (m *mux) handle(route Route, w http.ResponseWriter, r *http.Request) {
	if route.Need != Anyone {
		ctx, err := m.Authorize(r, route.Need)
		if err != nil {
			m.fail(w, r, err)
			return
		}
		r = r.WithContext(ctx)
	}
	if !route.Stream {
		ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(route.Timeout, m.Timeout))
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, m.MaxBody)
	} else if route.Need != Anyone && m.Recheck > 0 {
		ctx, end := m.watched(r, route.Need)
		defer end()
		r = r.WithContext(ctx)
	}
	handle := route.Handle
	if route.Once {
		handle = func(w http.ResponseWriter, r *http.Request) error { return m.once(route, w, r) }
	}
	if err := handle(w, r); err != nil {
		m.fail(w, r, err)
	}
}

// Handler makes an ordinary handler usable in a Route.
func Handler(h http.Handler) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}

// Server returns a server for h with limits that a slow or silent client cannot
// outlast. Connections taken over by a handler (WebSockets) are free of them; one
// that answers for longer sets its own, by http.ResponseController, with each write.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
