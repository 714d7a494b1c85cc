package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// BenchmarkFile compares the sink with the least that anybody must do to have the
// same bytes on the same disk.
func BenchmarkFile(b *testing.B) {
	var batch []driver.Event
	for i := range 256 {
		batch = append(batch, drivertest.Swell(drivertest.Events(fmt.Sprintf("%c/%d", 'a'+i%26, i))[0], 400))
	}
	text := appendLines(nil, batch)
	b.Run("sink", func(b *testing.B) {
		d := openByConfig(b, b.TempDir(), `{"path":"x"}`, drivertest.Options{})
		for b.Loop() {
			drivertest.WantDelivered(b, d.Deliver(b.Context(), batch, drivertest.Soon()))
		}
		b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
	})
	b.Run("bare", func(b *testing.B) {
		f, err := os.OpenFile(filepath.Join(b.TempDir(), "x"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for b.Loop() {
			if _, err := f.Write(text); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
	})
}
