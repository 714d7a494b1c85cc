package web_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func TestARequestIsASpanOfItsCallersTrace(t *testing.T) {
	const caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	type seen struct {
		Name, Route, Parent, Status string
		Code                        int64
	}
	for name, tc := range map[string]struct {
		route   web.Route
		path    string
		headers []string
		want    []seen
	}{
		"of no trace": {web.Route{Pattern: "GET /x/{id}"}, "/x/secret", nil,
			[]seen{{"GET /x/{id}", "/x/{id}", "0000000000000000", "Unset", 204}}},
		"of the caller's": {web.Route{Pattern: "GET /x/{id}"}, "/x/secret", []string{"traceparent", caller},
			[]seen{{"GET /x/{id}", "/x/{id}", "b7ad6b7169203331", "Unset", 204}}},
		"refused":         {web.Route{Pattern: "GET /x", Handle: fails(errors.New("secret"))}, "/x", nil, []seen{{"GET /x", "/x", "0000000000000000", "Error", 500}}},
		"that panics":     {web.Route{Pattern: "GET /x", Handle: func(http.ResponseWriter, *http.Request) error { panic("x") }}, "/x", nil, []seen{{"GET /x", "/x", "0000000000000000", "Error", 500}}},
		"a session":       {web.Route{Pattern: "GET /x", Stream: true}, "/x", nil, nil},
		"a probe":         {web.Route{Pattern: "GET /x", Quiet: true}, "/x", nil, nil},
		"without a route": {web.Route{Pattern: "GET /x"}, "/y", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			spans := tracetest.NewInMemoryExporter()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
			var inside string
			tc.route.Need = web.Anyone
			if tc.route.Handle == nil {
				tc.route.Handle = func(w http.ResponseWriter, r *http.Request) error {
					inside = tracing.Of(r.Context())
					w.WriteHeader(http.StatusNoContent)
					return nil
				}
			}
			serve(t, open(web.Options{Tracer: provider.Tracer("")}, tc.route), "GET", tc.path, "", tc.headers...)
			var got []seen
			for _, s := range spans.GetSpans() {
				one := seen{Name: s.Name, Parent: s.Parent.SpanID().String(), Status: s.Status.Code.String()}
				for _, a := range s.Attributes {
					switch a.Key {
					case "http.response.status_code":
						one.Code = a.Value.AsInt64()
					case "http.route":
						one.Route = a.Value.AsString()
					}
				}
				got = append(got, one)
				if inside != "" && inside != tracing.Format(s.SpanContext) {
					t.Errorf("the handler worked in %s, the span is %v", inside, s.SpanContext)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Without a tracer a caller's trace goes on as it came.
func TestATraceGoesThrough(t *testing.T) {
	const caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var inside string
	route := get(func(_ http.ResponseWriter, r *http.Request) error {
		inside = tracing.Of(r.Context())
		return nil
	})
	serve(t, open(web.Options{}, route), "GET", "/x", "", "traceparent", caller)
	if inside != caller {
		t.Errorf("%q", inside)
	}
}
