package sinks

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

// maxLinks bounds how many traces one batch leads back to.
const maxLinks = 32

// span starts the span of a batch, which leads back to the traces that its changes
// came in. If that is one, the batch belongs to it.
func (r *run) span(ctx context.Context, batch []driver.Event) (context.Context, trace.Span) {
	var links []trace.Link
	seen := map[string]bool{"": true}
	for _, it := range batch {
		parent := it.Attribute(tracing.Extension)
		if seen[parent] {
			continue
		}
		seen[parent] = true
		if from := tracing.Parse(parent); from.IsValid() {
			links = append(links, trace.Link{SpanContext: from})
		}
		if len(links) == maxLinks {
			break
		}
	}
	if len(links) == 1 {
		ctx = trace.ContextWithRemoteSpanContext(ctx, links[0].SpanContext)
	}
	return r.Tracer.Start(ctx, "deliver", trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(links...),
		trace.WithAttributes(
			attribute.String("peat.kind", string(r.sink.Kind)), attribute.String("peat.org", string(r.key.Org)),
			attribute.String("peat.app", string(r.key.App)), attribute.String("peat.sink", r.sink.ID),
			attribute.Int("messaging.batch.message_count", len(batch)),
		))
}

// observe ends the span of a batch and counts how long its events took, as far as
// they have arrived. One that is delivered again after a crash counts again; one
// that is only replayed took as long as it pleased whoever asked.
func (r *run) observe(span trace.Span, batch []driver.Event, outs []driver.Outcome) {
	var count [driver.Refused + 1]int
	now := r.Now()
	for i, o := range outs {
		if o.Verdict >= 0 && int(o.Verdict) < len(count) {
			count[o.Verdict]++
		}
		if o.Verdict != driver.Delivered || batch[i].Attribute("replayid") != "" {
			continue
		}
		// An event is of the time when the log took its change.
		if stored, err := time.Parse(time.RFC3339Nano, batch[i].Attribute("time")); err == nil {
			r.Metrics.Took(string(r.sink.Kind), now.Sub(stored))
		}
	}
	span.SetAttributes(
		attribute.Int("peat.delivered", count[driver.Delivered]), attribute.Int("peat.retried", count[driver.Retry]),
		attribute.Int("peat.refused", count[driver.Refused]), attribute.Int("peat.untried", count[driver.Untried]),
	)
	if count[driver.Retry]+count[driver.Refused] > 0 {
		span.SetStatus(codes.Error, "not everything was delivered")
	}
	span.End()
}
