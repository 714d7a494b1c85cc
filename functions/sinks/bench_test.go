package sinks

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
)

// benchBatch is a batch of full size over 32 documents, with new ids each time.
func benchBatch(round int) []item {
	body := bytes.Repeat([]byte("x"), 1000)
	out := make([]item, batchEvents)
	for i := range out {
		out[i] = item{id: fmt.Sprintf("%d-%d", round, i), key: key, document: fmt.Sprint("d", i%32), body: body}
	}
	return out
}

func benchDriver(b *testing.B, d driver) {
	for n := 0; b.Loop(); n++ {
		for _, o := range d.Deliver(b.Context(), benchBatch(n), soon()) {
			if o.verdict != delivered {
				b.Fatalf("%+v", o)
			}
		}
	}
	b.ReportMetric(float64(batchEvents*b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkFile(b *testing.B) { benchDriver(b, openTestFile(b, b.TempDir(), "x")) }

func BenchmarkFileBare(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "x"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for n := 0; b.Loop(); n++ {
		_, err := f.Write(lines(benchBatch(n)))
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(batchEvents*b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkNATS(b *testing.B) {
	s := startNATS(b, b.TempDir(), natsd.AnyPort)
	benchDriver(b, openTestNATS(b, natsConfig{SubjectPrefix: "cdc"}, Settings{NATSURL: s.ClientURL()}))
}

func BenchmarkNATSBare(b *testing.B) {
	js := client(b, startNATS(b, b.TempDir(), natsd.AnyPort))
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "x", Subjects: []string{"x.>"}}); err != nil {
		b.Fatal(err)
	}
	for n := 0; b.Loop(); n++ {
		for _, it := range benchBatch(n) {
			if _, err := js.PublishAsync("x."+it.document, it.body, jetstream.WithMsgID(it.id)); err != nil {
				b.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
	}
	b.ReportMetric(float64(batchEvents*b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkWebhook(b *testing.B) {
	benchDriver(b, receive(b, 5*time.Second, func(http.ResponseWriter, *http.Request) {}))
}

func BenchmarkWebhookBare(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	for n := 0; b.Loop(); n++ {
		for _, it := range benchBatch(n) {
			resp, err := http.Post(srv.URL, "application/cloudevents+json", bytes.NewReader(it.body))
			if err != nil {
				b.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	}
	b.ReportMetric(float64(batchEvents*b.N)/b.Elapsed().Seconds(), "events/s")
}

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
		if _, err := w.d.pass(b.Context(), w.pair, soon()); err != nil {
			b.Fatal(err)
		}
		w.driver.got = nil
	}
	b.ReportMetric(float64(batchEvents*b.N)/b.Elapsed().Seconds(), "events/s")
}
