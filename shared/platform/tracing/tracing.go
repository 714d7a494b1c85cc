// Package tracing carries the W3C trace context from place to place: over HTTP, on
// events, beside what is stored. It is all that most packages need to know of
// traces; where spans go is decided in platform/telemetry.
package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Header is the name of the trace context in HTTP, and Extension on CloudEvents
// (the Distributed Tracing extension). The tracestate that may go with it is not
// carried: it is others' and as long as they like.
const (
	Header    = "Traceparent"
	Extension = "traceparent"
)

// Off is a tracer whose spans go nowhere; what is in the context goes on.
func Off() trace.Tracer { return noop.NewTracerProvider().Tracer("") }

// Of is the traceparent of the span that ctx is in, or "".
func Of(ctx context.Context) string { return Format(trace.SpanContextFromContext(ctx)) }

// Format writes a traceparent; "" for a span that is none.
func Format(s trace.SpanContext) string {
	if !s.IsValid() {
		return ""
	}
	c := carrier("")
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), s.WithTraceState(trace.TraceState{})), &c)
	return string(c)
}

// Parse reads a traceparent. What is none gives a span context that is not valid:
// no trace is worth refusing anything for.
func Parse(traceparent string) trace.SpanContext {
	c := carrier(traceparent)
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), &c))
}

// With returns a context in the trace that the traceparent names, or ctx itself if
// it names none.
func With(ctx context.Context, traceparent string) context.Context {
	if s := Parse(traceparent); s.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, s)
	}
	return ctx
}

// Inject tells the receiver of a request which span it comes from.
func Inject(ctx context.Context, h http.Header) {
	if text := Of(ctx); text != "" {
		h.Set(Header, text)
	}
}

// carrier holds nothing but the traceparent.
type carrier string

func (c *carrier) Get(key string) string {
	if key == Extension {
		return string(*c)
	}
	return ""
}

func (c *carrier) Set(key, value string) {
	if key == Extension {
		*c = carrier(value)
	}
}

func (c *carrier) Keys() []string { return []string{Extension} }
