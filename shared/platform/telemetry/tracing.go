package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TracingOptions say where spans go and how many are kept.
type TracingOptions struct {
	Endpoint *url.URL          // of a collector that takes OTLP over HTTP; nil keeps no span
	Headers  map[string]string // sent with each export; may hold a secret
	Sampler  Sampler           // the zero value is DefaultSampler
	Service  string
	Function string // of the catalog
	Instance string // this replica
	Version  string
	Log      *slog.Logger

	Exporter sdktrace.SpanExporter // instead of Endpoint, for tests: each span at once
}

// Bounds of an export. A span that does not fit into the queue is dropped: nothing
// waits for a collector but the end of the process, and that not for long.
const (
	spanQueue     = 2048
	spanBatch     = 512
	exportTimeout = 10 * time.Second
	flushTimeout  = 5 * time.Second
)

// Tracing makes spans. Close it to send what is still waiting.
type Tracing struct {
	provider *sdktrace.TracerProvider
}

// NewTracing connects to nothing; the first export does. Without an endpoint every
// trace has an id, so that what is stored and sent on can be told apart by it, and
// no span is kept. Then a caller's decision to sample goes on as it came.
func NewTracing(o TracingOptions) *Tracing {
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Service), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance), attribute.String("peat.function", o.Function),
		)),
	}
	switch {
	case o.Exporter != nil:
		options = append(options, sdktrace.WithSyncer(o.Exporter))
	case o.Endpoint != nil:
		options = append(options, sdktrace.WithBatcher(&reporting{SpanExporter: newOTLP(o.Endpoint, o.Headers), log: o.Log},
			sdktrace.WithMaxQueueSize(spanQueue), sdktrace.WithMaxExportBatchSize(spanBatch), sdktrace.WithExportTimeout(exportTimeout)))
	default:
		o.Sampler = Sampler{sdktrace.ParentBased(sdktrace.NeverSample())}
	}
	if o.Sampler.Sampler == nil {
		o.Sampler = DefaultSampler()
	}
	return &Tracing{sdktrace.NewTracerProvider(append(options, sdktrace.WithSampler(o.Sampler))...)}
}

// Tracer starts spans.
func (t *Tracing) Tracer() trace.Tracer {
	return t.provider.Tracer("github.com/defenseunicorns/peat-gateway")
}

// Close sends what is waiting, for a few seconds at most.
func (t *Tracing) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// reporting says once that the collector does not take spans, and once that it
// does again. The library would tell a global handler, each time.
type reporting struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	failing atomic.Bool
}

func (r *reporting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !r.failing.Swap(true):
		r.log.WarnContext(ctx, "the collector does not take spans; they are dropped", "err", err)
	case err == nil && r.failing.Swap(false):
		r.log.InfoContext(ctx, "the collector takes spans again")
	}
	return nil
}

// Sampler decides which traces are kept.
type Sampler struct{ sdktrace.Sampler }

// defaultRatio keeps enough to see what is usual, and little enough to forget that
// it costs anything.
const defaultRatio = 0.01

// DefaultSampler keeps what the caller keeps, and one in a hundred of our own.
func DefaultSampler() Sampler { return Sampler{parentBased(sdktrace.TraceIDRatioBased(defaultRatio))} }

// ParseSampler reads OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG; empty is the
// default. The error follows the variable's name in a sentence.
func ParseSampler(name, arg string) (Sampler, error) {
	ratio := defaultRatio
	if arg != "" {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return Sampler{}, errors.New("needs a number from 0 to 1 in OTEL_TRACES_SAMPLER_ARG")
		}
	}
	ratioBased := sdktrace.TraceIDRatioBased(ratio)
	switch name {
	case "", "parentbased_traceidratio":
		return Sampler{parentBased(ratioBased)}, nil
	case "traceidratio":
		return Sampler{linked{ratioBased}}, nil
	case "always_on":
		return Sampler{sdktrace.AlwaysSample()}, nil
	case "always_off":
		return Sampler{sdktrace.NeverSample()}, nil
	case "parentbased_always_on":
		return Sampler{parentBased(sdktrace.AlwaysSample())}, nil
	case "parentbased_always_off":
		return Sampler{parentBased(sdktrace.NeverSample())}, nil
	}
	return Sampler{}, errors.New("must be always_on, always_off, traceidratio or one of these after parentbased_")
}

func parentBased(root sdktrace.Sampler) sdktrace.Sampler {
	return sdktrace.ParentBased(linked{root})
}

// linked keeps a span that belongs to a trace that is kept, though not as its
// child: a batch of changes has a trace of its own and leads back to all of theirs.
type linked struct{ sdktrace.Sampler }

func (l linked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	for _, link := range p.Links {
		if link.SpanContext.IsSampled() {
			return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
		}
	}
	return l.Sampler.ShouldSample(p)
}

// maxHeaders bounds what OTEL_EXPORTER_OTLP_HEADERS may list.
const maxHeaders = 32

// ParseHeaders reads OTEL_EXPORTER_OTLP_HEADERS: name=value with commas between
// them, values as in a URL. The error quotes nothing.
func ParseHeaders(text string) (map[string]string, error) {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || name == "" || len(headers) == maxHeaders || strings.ContainsAny(name+value, "\r\n") {
			return nil, errors.New("must be name=value with commas between them")
		}
		headers[name] = value
	}
	return headers, nil
}
