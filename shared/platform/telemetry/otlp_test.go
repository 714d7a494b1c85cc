package telemetry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/telemetry"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

// collector takes spans over HTTP and answers with one status after the other; the
// last repeats.
type collector struct {
	url *url.URL

	mu       sync.Mutex
	statuses []int
	got      []*tracepb.TracesData // a request has the same fields
}

func newCollector(t *testing.T, statuses ...int) *collector {
	t.Helper()
	c := &collector{statuses: statuses}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Error(err)
		}
		if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("X-Key") != "k" {
			t.Errorf("%s %v", r.URL.Path, r.Header)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got = append(c.got, &data)
		w.WriteHeader(c.statuses[0])
		if len(c.statuses) > 1 {
			c.statuses = c.statuses[1:]
		}
	}))
	t.Cleanup(s.Close)
	var err error
	if c.url, err = url.Parse(s.URL + "/v1/traces"); err != nil {
		t.Fatal(err)
	}
	return c
}

// tracing keeps every span and sends it to the collector.
func (c *collector) tracing(t *testing.T, o telemetry.TracingOptions) *telemetry.Tracing {
	t.Helper()
	all, err := telemetry.ParseSampler("always_on", "")
	if err != nil {
		t.Fatal(err)
	}
	o.Endpoint, o.Headers, o.Sampler = c.url, map[string]string{"x-key": "k"}, all
	return newTracing(t, o)
}

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

// TestSpansArriveAsTheyWere compares with OpenTelemetry's own reading of its format.
func TestSpansArriveAsTheyWere(t *testing.T) {
	c := newCollector(t, 200)
	tr := c.tracing(t, telemetry.TracingOptions{Service: "s", Function: "f", Instance: "i", Version: "v"})
	begin := time.Unix(1_700_000_000, 123)
	_, span := tr.Tracer().Start(tracing.With(t.Context(), unsampled), "work", trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(begin),
		trace.WithLinks(trace.Link{SpanContext: tracing.Parse(sampled), Attributes: []attribute.KeyValue{attribute.Bool("old", false)}}),
		trace.WithAttributes(attribute.String("word", "é"), attribute.Int("less", -5), attribute.Int("zero", 0), attribute.Float64("half", 0.5),
			attribute.StringSlice("list", []string{"a"}), attribute.String("empty", "")))
	span.SetStatus(codes.Error, "why")
	span.End(trace.WithTimestamp(begin.Add(time.Second)))
	_, fine := tr.Tracer().Start(t.Context(), "fine", trace.WithTimestamp(begin))
	fine.SetStatus(codes.Ok, "")
	fine.End(trace.WithTimestamp(begin))
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	id, fineID := span.SpanContext(), fine.SpanContext()
	traceID, spanID, fineTrace, fineSpan := id.TraceID(), id.SpanID(), fineID.TraceID(), fineID.SpanID()
	parent := tracing.Parse(sampled).SpanID()
	value := func(key string, v *commonpb.AnyValue) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: key, Value: v}
	}
	want := &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{
			text("peat.function", "f"), text("service.instance.id", "i"), text("service.name", "s"), text("service.version", "v"),
		}},
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: "github.com/defenseunicorns/peat-gateway"},
			Spans: []*tracepb.Span{{
				TraceId: traceID[:], SpanId: spanID[:], ParentSpanId: parent[:], Name: "work", Kind: tracepb.Span_SPAN_KIND_PRODUCER,
				StartTimeUnixNano: uint64(begin.UnixNano()), EndTimeUnixNano: uint64(begin.Add(time.Second).UnixNano()), Flags: 1,
				Attributes: []*commonpb.KeyValue{
					text("word", "é"),
					value("less", &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: -5}}),
					value("zero", &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{}}),
					value("half", &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: 0.5}}),
					text("list", `["a"]`), text("empty", ""),
				},
				Links: []*tracepb.Span_Link{{TraceId: traceID[:], SpanId: parent[:], Flags: 1, Attributes: []*commonpb.KeyValue{
					value("old", &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{}}),
				}}},
				Status: &tracepb.Status{Message: "why", Code: tracepb.Status_STATUS_CODE_ERROR},
			}, {
				TraceId: fineTrace[:], SpanId: fineSpan[:], Name: "fine", Kind: tracepb.Span_SPAN_KIND_INTERNAL, Flags: 1,
				StartTimeUnixNano: uint64(begin.UnixNano()), EndTimeUnixNano: uint64(begin.UnixNano()),
				Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_OK},
			}},
		}},
	}}}
	if diff := cmp.Diff([]*tracepb.TracesData{want}, c.got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestABusyCollectorIsAskedAgain(t *testing.T) {
	c := newCollector(t, 503, 200)
	var out strings.Builder
	tr := c.tracing(t, telemetry.TracingOptions{Log: telemetry.NewLogger(&out, "")})
	_, span := tr.Tracer().Start(t.Context(), "work")
	span.End()
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if len(c.got) != 2 || out.Len() != 0 {
		t.Errorf("%d requests, and %q in the log", len(c.got), out.String())
	}
}

func TestACollectorThatRefusesIsToldOfOnce(t *testing.T) {
	c := newCollector(t, 400)
	c.url.User = url.UserPassword("x", "hush")
	var out strings.Builder
	tr := c.tracing(t, telemetry.TracingOptions{Log: telemetry.NewLogger(&out, "")})
	for range 2000 { // several batches
		_, span := tr.Tracer().Start(t.Context(), "work")
		span.End()
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	if got := strings.Count(out.String(), "does not take spans"); got != 1 || len(c.got) < 2 {
		t.Errorf("told %d times after %d requests: %s", got, len(c.got), out.String())
	}
	if strings.Contains(out.String(), "hush") {
		t.Errorf("the password is in %s", out.String())
	}
}

// A collector that is not there holds up nothing, and the end of the process for a
// few seconds at most.
func TestACollectorThatIsGone(t *testing.T) {
	if testing.Short() {
		t.Skip("takes those few seconds")
	}
	t.Parallel()
	c := newCollector(t, 200)
	c.url.Host = "127.0.0.1:1"
	var out strings.Builder
	tr := c.tracing(t, telemetry.TracingOptions{Log: telemetry.NewLogger(&out, "")})
	_, span := tr.Tracer().Start(t.Context(), "work")
	span.End()
	_ = tr.Close() // says that it could not, or that the time was up
	if strings.Contains(out.String(), "127.0.0.1:1/") {
		t.Errorf("the address is in %s", out.String())
	}
}

func BenchmarkSpan(b *testing.B) {
	tr := newTracing(b, telemetry.TracingOptions{})
	defer func() { _ = tr.Close() }()
	b.ReportAllocs()
	for b.Loop() {
		ctx, span := tr.Tracer().Start(b.Context(), "work", trace.WithAttributes(attribute.String("peat.org", "acme")))
		if tracing.Of(ctx) == "" {
			b.Fatal("no trace")
		}
		span.End()
	}
}
