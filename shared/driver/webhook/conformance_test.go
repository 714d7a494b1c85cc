package webhook

import (
	"encoding/json"
	"net/http"
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
		r := httptargettest.Start(t, nil, decodeOne)
		return r.Harness("webhook", openConfig, func(url string) map[string]any { return map[string]any{"url": url} })
	})
}

func TestConformanceOfBatches(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		r := httptargettest.Start(t, nil, decodeBatch)
		return r.Harness("", openConfig, func(url string) map[string]any {
			return map[string]any{"url": url, "batch": map[string]int{"max_events": 20}}
		})
	})
}

func TestConformanceOverTLS(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		r := httptargettest.Start(t, ca.Server(false), decodeOne)
		return r.Harness("", openConfig, func(url string) map[string]any {
			return map[string]any{"url": url, "tls": map[string]string{"ca_pem": ca.PEM}}
		})
	})
}

func decodeOne(t testing.TB, r *http.Request, body []byte) []drivertest.Received {
	if got := r.Header.Get("Content-Type"); got != "application/cloudevents+json" {
		t.Errorf("content type %q", got)
	}
	e := drivertest.Structured(t, body)
	e.ID = r.Header.Get("Webhook-Id")
	return []drivertest.Received{e}
}

func decodeBatch(t testing.TB, r *http.Request, body []byte) []drivertest.Received {
	if got := r.Header.Get("Content-Type"); got != "application/cloudevents-batch+json" {
		t.Errorf("content type %q", got)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(body, &parts); err != nil {
		t.Errorf("not a list: %v", err)
	}
	var out []drivertest.Received
	for _, p := range parts {
		out = append(out, drivertest.Structured(t, p))
	}
	return out
}
