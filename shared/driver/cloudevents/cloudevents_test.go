package cloudevents

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	sdk "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/driver/httptarget/httptargettest"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

var settings = driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: 20 * time.Second, Now: func() time.Time { return drivertest.Start }}

func serve(t testing.TB, mode string, h http.HandlerFunc) driver.Driver {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return httptargettest.Open(t, Parse, Open, `{"url":"`+srv.URL+`/ns/default","mode":"`+mode+`"}`, settings)
}

// The SDK, which Knative reads with, understands what is sent.
func TestTheSDKReadsIt(t *testing.T) {
	for _, mode := range []string{"binary", "structured"} {
		t.Run(mode, func(t *testing.T) {
			var got *sdk.Event
			var trace string
			d := serve(t, mode, func(_ http.ResponseWriter, r *http.Request) {
				e, err := cehttp.NewEventFromHTTPRequest(r)
				if err != nil {
					t.Error(err)
				}
				got, trace = e, r.Header.Get("Traceparent")
			})
			e := drivertest.Events("task:7/1")[0]
			e.Attributes = append(e.Attributes, event.Attribute{Name: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
			drivertest.WantDelivered(t, d.Deliver(t.Context(), []driver.Event{e}, drivertest.Soon()))
			if got == nil || got.ID() != e.ID || got.Subject() != "task:7" || got.Type() != "changed" || got.DataContentType() != "application/json" ||
				!got.Time().Equal(drivertest.Start) || got.Extensions()["sequence"] != "7" || string(got.Data()) != string(e.Data) {
				t.Errorf("%v", got)
			}
			if trace != e.Attribute("traceparent") || got.Extensions()["traceparent"] != trace {
				t.Errorf("traceparent %q", trace)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	for status, want := range map[int]driver.Outcome{
		200: {Verdict: driver.Delivered}, 202: {Verdict: driver.Delivered}, 204: {Verdict: driver.Delivered},
		302: {Verdict: driver.Refused}, 400: {Verdict: driver.Refused}, 403: {Verdict: driver.Refused}, 413: {Verdict: driver.Refused}, 422: {Verdict: driver.Refused},
		401: {Verdict: driver.Retry, Unreachable: true}, 404: {Verdict: driver.Retry, Unreachable: true},
		408: {Verdict: driver.Retry}, 409: {Verdict: driver.Retry}, 429: {Verdict: driver.Retry, NotBefore: drivertest.Start.Add(time.Minute)},
		500: {Verdict: driver.Retry}, 503: {Verdict: driver.Retry, NotBefore: drivertest.Start.Add(time.Minute)},
		410: {Verdict: driver.Retry, Gone: true},
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			d := serve(t, "binary", func(w http.ResponseWriter, _ *http.Request) {
				if status == 429 || status == 503 {
					w.Header().Set("Retry-After", "60")
				}
				w.WriteHeader(status)
			})
			got := d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]
			if got.Verdict != driver.Delivered && !strings.Contains(got.Reason, http.StatusText(status)) {
				t.Errorf("%q", got.Reason)
			}
			got.Reason, got.Status, got.Excerpt = "", "", ""
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"tasks:7":             "tasks:7",
		"a b":                 "a%20b",
		`say "100%"`:          "say%20%22100%25%22",
		"Euro €":              "Euro%20%E2%82%AC",
		"😀":                   "%F0%9F%98%80",
		"line\r\nHost: other": "line%0D%0AHost:%20other",
		"\x7f":                "%7F",
	} {
		if got := escape(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	for name, in := range map[string]string{
		"no url":         `{}`,
		"another mode":   `{"url":"https://example.com","mode":"batch"}`,
		"signing":        `{"url":"https://example.com","signing":"hmac"}`,
		"an attribute":   `{"url":"https://example.com","headers":{"Ce-Id":"x"}}`,
		"a trace":        `{"url":"https://example.com","headers":{"traceParent":"x"}}`,
		"loopback":       `{"url":"http://127.0.0.1/"}`,
		"TLS over plain": `{"url":"http://example.com/","tls":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(json.RawMessage(in), nil, driver.Settings{Now: time.Now})
			if f := fault.Of(err); !errors.Is(err, fault.Invalid) || len(f.Fields) == 0 || !strings.HasPrefix(f.Fields[0].Pointer, "/config") {
				t.Errorf("%+v", err)
			}
		})
	}
}

// Whatever an attribute holds is one header, and is read back as it was.
func FuzzEscape(f *testing.F) {
	f.Add("task:7")
	f.Add("a%20b \"€\" \r\n\x00\xff")
	f.Fuzz(func(t *testing.T, value string) {
		got := escape(value)
		if i := strings.IndexFunc(got, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }); i >= 0 {
			t.Errorf("%q holds %q", got, got[i])
		}
		if back, err := url.PathUnescape(got); err != nil || back != value {
			t.Errorf("%q comes back as %q: %v", value, back, err)
		}
	})
}
