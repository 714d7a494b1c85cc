package sinks

import (
	"context"
	"fmt"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/driver/file"
)

// BenchmarkDelivery is everything from the log on: reading, making events, handing
// them to a driver, recording. The nearly worst case is that each event of a chunk
// is of another document.
func BenchmarkDelivery(b *testing.B) {
	for _, documents := range []int{32, 500} {
		b.Run(fmt.Sprintf("nothing, %d documents", documents), func(b *testing.B) { benchDelivery(b, documents, nil) })
	}
	b.Run("file, 500 documents", func(b *testing.B) {
		d, err := file.Open(driver.Opening{Config: []byte(`{"path":"x"}`), Settings: driver.Settings{SinkDir: b.TempDir()}})
		if err != nil {
			b.Fatal(err)
		}
		benchDelivery(b, 500, d)
	})
}

func benchDelivery(b *testing.B, documents int, d driver.Driver) {
	const log = 200 * batchEvents
	w := newWorld(b, sqlite(b))
	if d != nil {
		w.d.connections.open = func(context.Context, delivery.Sink) (driver.Driver, error) { return d, nil }
	}
	n := 0
	fill := func() {
		for range log / batchEvents {
			var names []string
			for range batchEvents {
				names = append(names, fmt.Sprintf("unit:%05d", n%documents))
				n++
			}
			w.write(names...)
		}
	}
	fill()
	for b.Loop() {
		for {
			p, err := w.d.pass(b.Context(), w.pair, drivertest.Soon())
			if err != nil {
				b.Fatal(err)
			}
			w.driver.got = nil
			if !p.more {
				break
			}
		}
		b.StopTimer()
		fill()
		b.StartTimer()
	}
	b.ReportMetric(float64(log*b.N)/b.Elapsed().Seconds(), "events/s")
}
