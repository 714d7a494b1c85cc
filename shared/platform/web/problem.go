package web

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// statuses is the one table from a class of failure to a status. What is not in
// it is 500.
var statuses = map[fault.Kind]int{
	fault.Malformed:        http.StatusBadRequest,
	fault.Invalid:          http.StatusUnprocessableEntity,
	fault.Unauthenticated:  http.StatusUnauthorized,
	fault.Forbidden:        http.StatusForbidden,
	fault.NotFound:         http.StatusNotFound,
	fault.Conflict:         http.StatusConflict,
	fault.Mismatch:         http.StatusPreconditionFailed,
	fault.TooLarge:         http.StatusRequestEntityTooLarge,
	fault.UnsupportedMedia: http.StatusUnsupportedMediaType,
	fault.Exhausted:        http.StatusTooManyRequests,
	fault.Unavailable:      http.StatusServiceUnavailable,
	fault.Sealed:           http.StatusLocked,
	fault.Stale:            http.StatusServiceUnavailable, // somebody else is in charge: ask again and reach them
}

// retryAfter is what is said when whoever failed did not know.
var retryAfter = map[int]time.Duration{
	http.StatusTooManyRequests:    time.Minute,
	http.StatusServiceUnavailable: 5 * time.Second,
}

// internal is all that the world learns of an unclassified failure.
const internal = "internal error"

// problem is an RFC 9457 problem document.
type problem struct {
	Type      string        `json:"type"`
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Detail    string        `json:"detail"`
	Instance  string        `json:"instance,omitempty"`
	Errors    []fault.Field `json:"errors,omitempty"`
	Limit     *fault.Limit  `json:"limit,omitempty"`
	RequestID string        `json:"request_id,omitempty"`
}

// Status is the status that an error is answered with.
func Status(err error) int {
	if f := fault.Of(err); f != nil {
		if s, ok := statuses[f.Kind]; ok {
			return s
		}
	}
	return http.StatusInternalServerError
}

// fail answers err, unless an answer has begun, and logs what is our own fault.
func (m *mux) fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	status := Status(err)
	if status == http.StatusInternalServerError && errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		err = fault.Unavailable.Wrap(err, "this took too long")
		status = Status(err)
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		m.Log.DebugContext(ctx, "the client went away", "method", r.Method, "path", r.URL.Path, "err", withoutQuery(err.Error(), r), "request_id", RequestID(ctx))
	case status >= 500:
		m.Log.ErrorContext(ctx, "request failed", "method", r.Method, "path", r.URL.Path, "err", withoutQuery(err.Error(), r), "request_id", RequestID(ctx))
	}
	if begun(w) {
		return
	}
	p := problem{Status: status, Detail: internal}
	if f := fault.Of(err); f != nil && status != http.StatusInternalServerError {
		p.Detail, p.Errors, p.Limit = f.Message, f.Fields, f.Limit
		after := f.After
		if after == 0 {
			after = retryAfter[status]
		}
		if after > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
		}
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeProblem(w, r, p)
}

func writeProblem(w http.ResponseWriter, r *http.Request, p problem) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	p.Instance, p.RequestID = r.URL.EscapedPath(), RequestID(r.Context())
	body, err := json.Marshal(p)
	if err != nil { // strings and numbers only
		body = []byte(`{}`)
	}
	h := w.Header()
	h.Del("Content-Length")
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}
