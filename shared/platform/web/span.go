package web

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

// span puts a request into its caller's trace, or into one of its own. Its name
// and attributes are those of OpenTelemetry for HTTP, as far as they are bounded:
// the route, never the path.
func (m *mux) span(r *http.Request, pattern string) (*http.Request, trace.Span) {
	ctx := tracing.With(r.Context(), r.Header.Get(tracing.Header))
	if pattern == "" || m.untraced[pattern] {
		return r.WithContext(ctx), trace.SpanFromContext(context.Background()) // one that does nothing
	}
	_, route, _ := strings.Cut(pattern, " ") // every pattern begins with a method
	ctx, span := m.Tracer.Start(ctx, pattern, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", route)))
	return r.WithContext(ctx), span
}

func endSpan(span trace.Span, out *recorder) {
	if out.status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", out.status))
	}
	if out.status >= 500 {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
