// Package bus carries CloudEvents between functions. They are doorbells: one may
// be lost, doubled or late, and whoever hears one reads what matters elsewhere.
//
//	bus.go      what a function hears, and the door it hears through
//	local.go    within one process, by the triggers a cluster applies
//	knative.go  to a Knative Broker, over HTTP
package bus

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

// Publisher sends an event on its way. It returns when a broker has taken it.
type Publisher interface {
	Publish(ctx context.Context, e cloudevents.Event) error
}

// InTrace returns e with the trace of ctx as its extension, unless it has one: that
// of the outbox, say, whose trace is over when it leaves.
func InTrace(ctx context.Context, e cloudevents.Event) cloudevents.Event {
	parent := tracing.Of(ctx)
	if _, has := e.Extensions()[tracing.Extension]; has || parent == "" {
		return e
	}
	e = e.Clone() // others may hold the one that was given
	e.SetExtension(tracing.Extension, parent)
	return e
}

// inTraceOf returns ctx in the trace that e belongs to.
func inTraceOf(ctx context.Context, e cloudevents.Event) context.Context {
	parent, _ := e.Extensions()[tracing.Extension].(string)
	return tracing.With(ctx, parent)
}

// Subscription is one line in a function's table of what it hears.
type Subscription struct {
	Type   string
	Handle func(ctx context.Context, e cloudevents.Event) error
}

// MaxEventBytes bounds an event at the door; ours are far smaller.
const MaxEventBytes = 1 << 20

// EventsPath is where every function hears events.
const EventsPath = "/events"

// Door is the HTTP handler through which a broker reaches a function's
// subscriptions. Its answers mean the same to every broker there is:
//
//	202, empty  done, or of a type this function does not hear
//	400, 422    this event can never be handled
//	503         not now; Retry-After says when
//
// It does not use the SDK's own receiver, which stops answering for good after
// clients have gone away in the middle of requests.
func Door(subscriptions []Subscription, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST, OPTIONS")
			if r.Method == http.MethodOptions {
				w.WriteHeader(http.StatusOK)
				return
			}
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxEventBytes)
		e, err := cehttp.NewEventFromHTTPRequest(r)
		if err == nil {
			err = e.Validate()
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "not a CloudEvent")
			return
		}
		ctx := inTraceOf(r.Context(), *e)
		switch err := Dispatch(ctx, subscriptions, *e); {
		case err == nil:
			w.WriteHeader(http.StatusAccepted)
		case errors.Is(err, fault.Invalid) || errors.Is(err, fault.Malformed):
			log.WarnContext(ctx, "event refused", "type", e.Type(), "id", e.ID(), "err", err)
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, fault.Of(err).Message)
		default:
			log.ErrorContext(ctx, "event not handled", "type", e.Type(), "id", e.ID(), "err", err)
			w.Header().Set("Retry-After", "5")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

// Dispatch hands e to every subscription of its type, in the trace that e belongs
// to, and returns the first failure after all have been tried.
func Dispatch(ctx context.Context, subscriptions []Subscription, e cloudevents.Event) error {
	ctx = inTraceOf(ctx, e)
	var first error
	for _, s := range subscriptions {
		if s.Type != e.Type() {
			continue
		}
		if err := s.Handle(ctx, e); err != nil && first == nil {
			first = err
		}
	}
	return first
}
