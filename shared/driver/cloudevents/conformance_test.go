package cloudevents

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/driver/httptarget/httptargettest"
)

func openConfig(t testing.TB, o drivertest.Options, config string) driver.Driver {
	t.Helper()
	return httptargettest.Open(t, Parse, Open, config, o.Settings())
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		r := httptargettest.Start(t, nil, decodeBinary)
		return r.Harness("cloudevents", openConfig, func(url string) map[string]any { return map[string]any{"url": url} })
	})
}

func TestConformanceOfTheStructuredMode(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		r := httptargettest.Start(t, nil, decodeStructured)
		return r.Harness("", openConfig, func(url string) map[string]any { return map[string]any{"url": url, "mode": "structured"} })
	})
}

func decodeStructured(t testing.TB, r *http.Request, body []byte) []drivertest.Received {
	if got := r.Header.Get("Content-Type"); got != "application/cloudevents+json" {
		t.Errorf("content type %q", got)
	}
	return []drivertest.Received{drivertest.Structured(t, body)}
}

// decodeBinary reads the headers as the HTTP binding says; none of them holds a plus
// for a blank.
func decodeBinary(t testing.TB, r *http.Request, body []byte) []drivertest.Received {
	out := drivertest.Received{Data: body, Attributes: map[string]string{"datacontenttype": r.Header.Get("Content-Type")}}
	for name, values := range r.Header {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok {
			continue
		}
		value, err := url.PathUnescape(values[0])
		if err != nil || len(values) != 1 {
			t.Errorf("%s: %q: %v", name, values, err)
		}
		out.Attributes[attribute] = value
	}
	out.ID, out.Document = out.Attributes["id"], out.Attributes["subject"]
	return []drivertest.Received{out}
}
