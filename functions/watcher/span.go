package watcher

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// begin starts the trace of a sync message. It is a new one: the protocol has no
// place for a peer's own, and a session may last for days.
//
// Neither document nor peer is in a span: a collector keeps them for longer than
// the organization may.
func (f *Function) begin(key tenant.Key) trace.Span {
	_, span := f.Tracer.Start(context.Background(), "sync message", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("peat.org", string(key.Org)), attribute.String("peat.app", string(key.App))))
	return span
}

// Why a message came to nothing that was itself in order.
var (
	errUnwatched  = errors.New("the formation is let go")
	errUnfinished = errors.New("the message was not worked on to its end")
)

// mark writes the message's trace into the changes that it let into the log.
func (in *incoming) mark(settled []change.Settled) {
	if len(settled) == 0 || in.span == nil {
		return
	}
	in.settled = len(settled)
	parent := tracing.Format(in.span.SpanContext())
	for i := range settled {
		settled[i].Trace = parent
	}
}

// within returns ctx in the message's trace, for the log.
func (in *incoming) within(ctx context.Context) context.Context {
	if in.span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, in.span)
}

// finish ends the message's span: its changes are stored, or never will be because
// of err. It may be called again, and then does nothing.
func (in *incoming) finish(err error) {
	if in.span == nil {
		return
	}
	in.span.SetAttributes(attribute.Int("peat.changes", len(in.changes)), attribute.Int("peat.settled", in.settled))
	if err != nil {
		// Not the error itself: it may quote what the peer sent.
		in.span.SetStatus(codes.Error, outcome(err))
	}
	in.span.End()
}

// finish ends the spans of a batch that was stored, or was not because of err.
func finish(batch []*incoming, err error) {
	for _, in := range batch {
		in.finish(err)
	}
}

// outcome is one of few words.
func outcome(err error) string {
	if refused, ok := errors.AsType[*refusedError](err); ok {
		return "refused: " + refused.what
	}
	if errors.Is(err, errMalformed) {
		return "refused: message"
	}
	return "not stored"
}
