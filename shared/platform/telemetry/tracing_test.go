package telemetry_test

import (
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/defenseunicorns/peat-gateway/shared/platform/telemetry"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

const sampled, unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

func newTracing(t testing.TB, o telemetry.TracingOptions) *telemetry.Tracing {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return telemetry.NewTracing(o)
}

func TestTracesHaveIdsThoughNothingIsKept(t *testing.T) {
	tr := newTracing(t, telemetry.TracingOptions{})
	defer func() { _ = tr.Close() }()
	ctx, span := tr.Tracer().Start(t.Context(), "work")
	if text := tracing.Of(ctx); !strings.HasSuffix(text, "-00") || span.IsRecording() {
		t.Errorf("%q, recording %v", text, span.IsRecording())
	}
	// What another has decided is not for us to change.
	for _, parent := range []string{sampled, unsampled} {
		ctx, _ := tr.Tracer().Start(tracing.With(t.Context(), parent), "work")
		if text := tracing.Of(ctx); text[:35] != parent[:35] || text[53:] != parent[53:] {
			t.Errorf("%s after %s", text, parent)
		}
	}
}

func TestSamplers(t *testing.T) {
	for name, tc := range map[string]struct {
		sampler, arg string
		want         string // of a root, a child of a sampled and of another span, a root with a link to a sampled one
	}{
		"by default what others keep":  {"", "0", "-c-l"},
		"all":                          {"always_on", "", "rcCl"},
		"none":                         {"always_off", "", "----"},
		"a ratio":                      {"traceidratio", "1", "rcCl"},
		"all, and what others keep":    {"parentbased_always_on", "", "rc-l"},
		"none but what others keep":    {"parentbased_always_off", "", "-c-l"},
		"a ratio and what others keep": {"parentbased_traceidratio", "1", "rc-l"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := telemetry.ParseSampler(tc.sampler, tc.arg)
			if err != nil {
				t.Fatal(err)
			}
			tr := newTracing(t, telemetry.TracingOptions{Sampler: s, Exporter: tracetest.NewInMemoryExporter()})
			defer func() { _ = tr.Close() }()
			var got strings.Builder
			try := func(letter byte, parent string, links ...trace.Link) {
				_, span := tr.Tracer().Start(tracing.With(t.Context(), parent), "work", trace.WithLinks(links...))
				if !span.SpanContext().IsSampled() {
					letter = '-'
				}
				got.WriteByte(letter)
			}
			try('r', "")
			try('c', sampled)
			try('C', unsampled)
			try('l', "", trace.Link{SpanContext: tracing.Parse(sampled)})
			if got.String() != tc.want {
				t.Errorf("%s, want %s", got.String(), tc.want)
			}
		})
	}
	for _, wrong := range [][2]string{{"jaeger_remote", ""}, {"", "2"}, {"", "-1"}, {"traceidratio", "x"}, {"", "NaN"}} {
		if _, err := telemetry.ParseSampler(wrong[0], wrong[1]); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

func TestHeaders(t *testing.T) {
	for text, want := range map[string]string{"": "", "a=b": "b", "x=1, a=b%20c%3D": "b c=", "a=b=": "b="} {
		if h, err := telemetry.ParseHeaders(text); err != nil || h["a"] != want {
			t.Errorf("%q: %v %v", text, h, err)
		}
	}
	for _, wrong := range []string{"a", "=b", "a=%0a", "a=%zz", "x=1,y"} {
		if _, err := telemetry.ParseHeaders(wrong); err == nil || strings.Contains(err.Error(), "%") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// FuzzParseHeaders: no value gets a header of its own in.
func FuzzParseHeaders(f *testing.F) {
	f.Add("a=b,c=d%20e")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := telemetry.ParseHeaders(text)
		if err != nil {
			return
		}
		for name, value := range h {
			if name == "" || strings.ContainsAny(name+value, "\r\n") {
				t.Errorf("%q: %q", name, value)
			}
		}
	})
}
