package nats

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
)

// The benchmarks send the same events to the same server, as many at a time. By
// default that is the embedded server, which writes every event to its disk;
// PEAT_BENCH_NATS_URL names another.

const benchBatch = 256

func benchServer(b *testing.B) (string, jetstream.JetStream) {
	b.Helper()
	url := os.Getenv("PEAT_BENCH_NATS_URL")
	if url == "" {
		url = startNATS(b, b.TempDir(), natsd.AnyPort).ClientURL()
	}
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(benchBatch))
	if err != nil {
		b.Fatal(err)
	}
	_ = js.DeleteStream(b.Context(), "BENCH") // of a run before
	b.Cleanup(func() { _ = js.DeleteStream(context.WithoutCancel(b.Context()), "BENCH") })
	return url, js
}

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

func rename(batch []driver.Event, round int) {
	for i := range batch {
		batch[i].ID = strconv.Itoa(round) + "-" + strconv.Itoa(i)
	}
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N*benchBatch)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkDeliver(b *testing.B) {
	url, js := benchServer(b)
	for _, documents := range []int{1, 16, benchBatch} {
		b.Run(fmt.Sprintf("documents=%d", documents), func(b *testing.B) {
			_ = js.DeleteStream(b.Context(), "BENCH")
			d := openTestNATS(b, natsConfig{URL: url, SubjectPrefix: "cdc", Stream: "BENCH"}, driver.Settings{AllowPrivate: drivertest.Loopback})
			batch := benchEvents(documents)
			for round := 0; b.Loop(); round++ {
				rename(batch, round)
				drivertest.WantDelivered(b, d.Deliver(b.Context(), batch, drivertest.Soon()))
			}
			perSecond(b)
		})
	}
}

// BenchmarkBare is the client by itself: asynchronous, and without any order when
// something fails.
func BenchmarkBare(b *testing.B) {
	_, js := benchServer(b)
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "BENCH", Subjects: []string{"bare.>"}}); err != nil {
		b.Fatal(err)
	}
	batch := benchEvents(benchBatch)
	for round := 0; b.Loop(); round++ {
		rename(batch, round)
		for _, it := range batch {
			if _, err := js.PublishAsync("bare.x", it.Structured(), jetstream.WithMsgID(it.ID), jetstream.WithStallWait(time.Minute)); err != nil {
				b.Fatal(err)
			}
		}
	}
	<-js.PublishAsyncComplete()
	perSecond(b)
}
