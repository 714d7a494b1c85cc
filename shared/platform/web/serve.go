package web

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// requestIDHeader carries the id in both directions.
const requestIDHeader = "X-Request-Id"

type requestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// WithRequestID returns a context that belongs to the request with this id. Mux
// does it; tests of what lies below may.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// ServeHTTP surrounds every request with its id, its log line, the headers that
// any answer should have, and a net for panics.
func (m *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	id := r.Header.Get(requestIDHeader)
	if !sane(id) {
		id = rand.Text()
	}
	r = r.WithContext(WithAddress(WithRequestID(r.Context(), id), m.Proxies.Caller(r)))
	h := w.Header()
	h.Set(requestIDHeader, id)
	// Defaults for an API; a handler that serves pages sets its own.
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")

	out := &recorder{ResponseWriter: w}
	_, pattern := m.routes.Handler(r)
	r, span := m.span(r, pattern)
	defer endSpan(span, out) // after finish, which turns a panic into an answer
	defer m.finish(out, r, begin)
	if pattern == "" || !clean(r.URL.Path) {
		m.unmatched(out, r)
		return
	}
	m.routes.ServeHTTP(out, r)
}

// finish turns a panic into an answer, logs, and reports.
func (m *mux) finish(out *recorder, r *http.Request, begin time.Time) {
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		m.Log.ErrorContext(r.Context(), "panic", "method", r.Method, "path", r.URL.Path,
			"panic", withoutQuery(fmt.Sprint(p), r), "stack", string(debug.Stack()), "request_id", RequestID(r.Context()))
		if out.status == 0 {
			writeProblem(out, r, problem{Status: http.StatusInternalServerError, Detail: internal})
		}
	}
	status := out.status
	if status == 0 {
		status = http.StatusOK // net/http writes it when the handler has said nothing
	}
	took := time.Since(begin)
	level := slog.LevelInfo
	if m.quiet[r.Pattern] && status < 500 {
		level = slog.LevelDebug
	}
	// The path only: a query may hold a ticket.
	m.Log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", status,
		"bytes", out.bytes, "ms", took.Milliseconds(), "remote", remote(r), "request_id", RequestID(r.Context()))
	if m.Observe != nil {
		m.Observe(r.Pattern, r.Method, status, took)
	}
	if p == http.ErrAbortHandler {
		panic(p) // the server's own way to break off an answer
	}
}

// remote is whom the log says a request comes from.
func remote(r *http.Request) string {
	if a := Address(r.Context()); a.IsValid() {
		return a.String()
	}
	return r.RemoteAddr
}

// unmatched answers what no route takes. ServeMux knows whether the method or
// the path is at fault, and says so by writing.
func (m *mux) unmatched(w http.ResponseWriter, r *http.Request) {
	said := &discard{header: http.Header{}}
	h, _ := m.routes.Handler(r)
	h.ServeHTTP(said, r)
	p := problem{Status: http.StatusNotFound, Detail: "there is nothing at this path"}
	if said.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", said.header.Get("Allow"))
		p = problem{Status: said.status, Detail: "this path does not take " + r.Method}
	}
	writeProblem(w, r, p)
}

// sane reports whether a caller's request id can be logged and sent back as it is.
func sane(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// recorder remembers what was answered. It hides nothing of the writer below:
// http.ResponseController finds Hijack and Flush through Unwrap.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	// 1xx other than 101 come before the answer and do not decide it.
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// begun reports whether part of an answer is on its way already.
func begun(w http.ResponseWriter) bool {
	for {
		if rec, ok := w.(*recorder); ok {
			return rec.status != 0
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// discard keeps status and headers and drops the body.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
