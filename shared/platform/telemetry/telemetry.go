// Package telemetry is what an operator sees of the gateway from outside: a log,
// metrics and traces. It decides nothing about what is worth counting; the functions
// do, each through a small interface of its own.
//
//	telemetry.go  the log
//	metrics.go    metrics, and bounded.go their labels
//	tracing.go    where spans go, and which are kept
//	otlp.go       spans on their way to a collector
//
// The metrics, beside those of the Go runtime and the process:
//
//	peat_gateway_http_requests_total{pattern,method,status}   requests answered
//	peat_gateway_http_request_duration_seconds{pattern,method} time until the answer was complete
//	peat_gateway_changes_captured_total                       changes kept in the log
//	peat_gateway_inputs_refused_total{what}                   input of peers that was not taken
//	peat_gateway_sync_sessions                                connections of peers now
//	peat_gateway_sync_sessions_opened_total                   connections of peers ever
//	peat_gateway_deliveries_total{kind}                       events that a sink has acknowledged
//	peat_gateway_deliveries_parked_total{kind}                events put aside as undeliverable
//	peat_gateway_delivery_retries_total{kind}                 attempts that failed and are made again
//	peat_gateway_delivery_lag_events{kind}                    events not yet delivered
//	peat_gateway_delivery_lag_seconds{kind}                   age of the oldest of them
//	peat_gateway_delivery_lag_bytes{kind}                     what they weigh in the log, about
//	peat_gateway_delivery_seconds{kind}                       from storing a change to its acknowledgement
//
// No label holds what a peer or a caller can choose: no organization, formation,
// document or path. A label that might is cut off at a number of values; what
// comes after is "other".
package telemetry

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// NewLogger returns a logger that writes a line of JSON for each record, with
// times in UTC so that the logs of replicas can be read as one. The level is
// debug, info, warn or error; empty is info. What is none of these is info, too,
// and said in the log: settings are read with a logger, not before one.
//
// A record that is logged with a context says in which trace and span it was.
func NewLogger(w io.Writer, level string) *slog.Logger {
	var least slog.Level // info
	var err error
	if level != "" {
		err = least.UnmarshalText([]byte(level))
	}
	log := slog.New(inTrace{slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: least,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindTime {
				a.Value = slog.TimeValue(a.Value.Time().UTC())
			}
			return a
		},
	})})
	if err != nil {
		log.Warn("unknown log level, using info")
	}
	return log
}

// inTrace adds the ids of the trace and the span to what is logged in one.
type inTrace struct{ slog.Handler }

func (h inTrace) Handle(ctx context.Context, r slog.Record) error {
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		r = r.Clone() // its owner may hand it to another handler too
		r.AddAttrs(slog.String("trace_id", s.TraceID().String()), slog.String("span_id", s.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h inTrace) WithAttrs(attrs []slog.Attr) slog.Handler {
	return inTrace{h.Handler.WithAttrs(attrs)}
}

func (h inTrace) WithGroup(name string) slog.Handler { return inTrace{h.Handler.WithGroup(name)} }
