package sinks

import (
	"fmt"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// BenchmarkDelivery is everything from the log to a driver that takes all at
// once: reading, making events, recording.
func BenchmarkDelivery(b *testing.B) {
	w := newWorld(b, sqlite(b))
	var documents []string
	for i := range batchEvents {
		documents = append(documents, fmt.Sprint("d", i%32))
	}
	for range 200 {
		w.write(documents...)
	}
	delivered := 0
	for b.Loop() {
		for range passChunks {
			p, err := w.d.pass(b.Context(), w.pair, drivertest.Soon())
			if err != nil {
				b.Fatal(err)
			}
			delivered += len(w.driver.got)
			w.driver.got = nil
			if !p.more {
				b.StopTimer()
				for range 200 {
					w.write(documents...)
				}
				b.StartTimer()
			}
		}
	}
	b.ReportMetric(float64(delivered)/b.Elapsed().Seconds(), "events/s")
}
