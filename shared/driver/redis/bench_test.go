package redis

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// The benchmarks send the same events to a server with the same settings, as many
// at a time.

const benchBatch = 256

func benchEvents(documents int) []driver.Event {
	names := make([]string, benchBatch)
	for i := range names {
		names[i] = fmt.Sprintf("notes:%d/%d", i%documents, i)
	}
	batch := drivertest.Events(names...)
	for i := range batch {
		batch[i] = drivertest.Swell(batch[i], 600)
	}
	return batch
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N*benchBatch)/b.Elapsed().Seconds(), "events/s")
}

// benchServers differ in when they write to the disk.
var benchServers = map[string]string{"fsync=always": "always", "fsync=everysec": "everysec"}

func BenchmarkDeliver(b *testing.B) {
	for name, fsync := range benchServers {
		b.Run(name, func(b *testing.B) {
			s := testenv.StartRedis(b, "--appendfsync", fsync)
			d := redisAt(b, s.Addr, "")
			batch := benchEvents(16)
			for round := 0; b.Loop(); round++ {
				for i := range batch {
					batch[i].ID = strconv.Itoa(round) + "-" + strconv.Itoa(i)
				}
				drivertest.WantDelivered(b, d.Deliver(b.Context(), batch, drivertest.Soon()))
			}
			perSecond(b)
		})
	}
}

// BenchmarkBare is the client by itself: a pipeline, which goes on behind a command
// that failed.
func BenchmarkBare(b *testing.B) {
	for name, fsync := range benchServers {
		b.Run(name, func(b *testing.B) {
			s := testenv.StartRedis(b, "--appendfsync", fsync)
			c := redisClient(b, s.Addr)
			batch := benchEvents(16)
			for round := 0; b.Loop(); round++ {
				for i := range batch {
					batch[i].ID = strconv.Itoa(round) + "-" + strconv.Itoa(i)
				}
				if _, err := c.Pipelined(b.Context(), func(p redis.Pipeliner) error {
					for _, it := range batch {
						p.XAdd(b.Context(), &redis.XAddArgs{Stream: testStream, Values: []any{"id", it.ID, "document", it.Document, "event", it.Structured()}})
					}
					return nil
				}); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b)
		})
	}
}
