package webhook

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// benchEvents is what delivery hands over at once, of so many documents.
func benchEvents(documents int) []driver.Event {
	var names []string
	for i := range 256 {
		names = append(names, fmt.Sprintf("d%d/%d", i%documents, i))
	}
	events := drivertest.Events(names...)
	for i := range events {
		events[i] = drivertest.Swell(events[i], 512)
	}
	return events
}

func takeAll(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }

// BenchmarkWebhook is events per second to a receiver in the same process, which
// reads and answers and does nothing else. The bare client shows what of it is
// net/http's.
func BenchmarkWebhook(b *testing.B) {
	for name, config := range map[string]string{"single": `{"url":%q}`, "batch": `{"url":%q,"batch":{}}`} {
		b.Run(name, func(b *testing.B) {
			srv := httptest.NewServer(http.HandlerFunc(takeAll))
			defer srv.Close()
			w := open(b, fmt.Sprintf(config, srv.URL), driver.Settings{})
			events := benchEvents(64)
			b.ReportAllocs()
			for b.Loop() {
				drivertest.WantDelivered(b, w.Deliver(b.Context(), events, drivertest.Soon()))
			}
			b.ReportMetric(float64(len(events)*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
	b.Run("bare client", func(b *testing.B) {
		srv := httptest.NewServer(http.HandlerFunc(takeAll))
		defer srv.Close()
		body := benchEvents(1)[0].Structured()
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		b.SetParallelism(8)
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				resp, err := client.Post(srv.URL, "application/cloudevents+json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
}
