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
	n := 0
	for b.Loop() {
		if n++; n%200 == 0 {
			b.StopTimer()
			for range 200 {
				w.write(documents...)
			}
			b.StartTimer()
		}
		if _, err := w.d.pass(b.Context(), w.pair, drivertest.Soon()); err != nil {
			b.Fatal(err)
		}
		w.driver.got = nil
	}
	b.ReportMetric(float64(batchEvents*b.N)/b.Elapsed().Seconds(), "events/s")
}
