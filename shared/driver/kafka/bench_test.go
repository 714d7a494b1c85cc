package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// The benchmarks send the same batches to the same broker, which answers when all
// replicas in sync have them.

const benchPartitions = 6

func benchEvents(n int) []driver.Event {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("notes:%d/%d", i%32, i)
	}
	batch := drivertest.Events(names...)
	for i := range batch {
		batch[i] = drivertest.Swell(batch[i], 1000)
	}
	return batch
}

func perSecond(b *testing.B, batch int) {
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkDeliver(b *testing.B) {
	for _, n := range []int{256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := broker.Get(b)
			d := openByConfig(b, plainly(k, topicFor(b, k, benchPartitions, "retention.bytes=67108864")), driver.Settings{})
			batch := benchEvents(n)
			for b.Loop() {
				drivertest.WantDelivered(b, d.Deliver(b.Context(), batch, drivertest.Soon()))
			}
			perSecond(b, n)
		})
	}
}

// BenchmarkBare is kafka-go's Writer, which does not wait for more than it was
// given.
func BenchmarkBare(b *testing.B) {
	for _, n := range []int{256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := broker.Get(b)
			transport := &kafka.Transport{} // the default one remembers topics that were not there
			defer transport.CloseIdleConnections()
			w := &kafka.Writer{
				Transport: transport,
				Addr:      kafka.TCP(k.Plaintext), Topic: topicFor(b, k, benchPartitions, "retention.bytes=67108864"), RequiredAcks: kafka.RequireAll,
				Balancer: kafka.Murmur2Balancer{Consistent: true}, BatchSize: n, BatchBytes: 1 << 20, BatchTimeout: time.Millisecond,
			}
			defer func() { _ = w.Close() }()
			batch := benchEvents(n)
			for b.Loop() {
				messages := make([]kafka.Message, len(batch))
				for i, it := range batch {
					messages[i] = kafka.Message{Key: []byte(it.Document), Value: it.Data}
					for _, a := range it.Attributes {
						messages[i].Headers = append(messages[i].Headers, kafka.Header{Key: "ce_" + a.Name, Value: []byte(a.Value)})
					}
				}
				if err := w.WriteMessages(b.Context(), messages...); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, n)
		})
	}
}
