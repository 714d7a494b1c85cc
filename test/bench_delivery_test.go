package test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const (
	benchEvents    = 50_000
	benchDocuments = 500
	benchBatch     = 256 // what the gateway hands to a driver, and the bare client to its library
)

// benchDelivery: how fast the log leaves by each driver, and how fast the bare
// client library takes the same payloads to the same server, as many at a time.
// The two take turns, and the median counts; where a library is told to make its
// writes durable, both are.
func benchDelivery(b *testing.B, t *table, env []string) {
	g := startGateway(b, options{env: env})
	g.roomy("bench")
	formation := g.formation("bench", "log")
	fill(b, g, env, []tenant.Key{{Org: "bench", App: "log"}}, benchDocuments, benchEvents)
	d := &deliveryBench{b: b, t: t, g: g, formation: formation, got: &atomic.Int64{}, dir: sinkDir(b)}
	d.collect()

	receiver := httptest.NewServer(http.HandlerFunc(d.receive))
	defer receiver.Close()
	apart := map[string]any{"headers": map[string]string{"X-Bare": "1"}} // so that it is not counted
	for _, kind := range []struct {
		name string
		run  func(b *testing.B, d deliveryBench)
	}{
		{"webhook", func(b *testing.B, d deliveryBench) {
			d.versus("webhook", map[string]any{"url": receiver.URL}, apart, "net/http, signing, 64 at a time", d.webhookCount,
				func() time.Duration { return bareWebhook(b, receiver.URL, d.payloads) })
		}},
		{"batches", func(b *testing.B, d deliveryBench) {
			d.versus("webhook", map[string]any{"url": receiver.URL, "batch": map[string]any{"max_events": 100}}, apart, "net/http, signing, 100 in a request", d.webhookCount,
				func() time.Duration { return bareWebhookBatch(b, receiver.URL, d.payloads) })
		}},
		{"cloudevents", func(b *testing.B, d deliveryBench) {
			d.versus("cloudevents", map[string]any{"url": receiver.URL, "mode": "binary"}, apart, "net/http, 64 at a time", d.webhookCount,
				func() time.Duration { return bareWebhook(b, receiver.URL, d.payloads) })
		}},
		{"nats", func(_ *testing.B, d deliveryBench) { d.nats() }},
		{"redis", func(_ *testing.B, d deliveryBench) { d.redis() }},
		{"kafka", func(_ *testing.B, d deliveryBench) { d.kafka() }},
		{"file", func(_ *testing.B, d deliveryBench) { d.file() }},
	} {
		if only := os.Getenv("PEAT_BENCH"); strings.Contains(only, "delivery/") && !strings.Contains(only, "delivery/"+kind.name) {
			continue
		}
		b.Run(kind.name, func(b *testing.B) { // one that skips ends only itself
			same := *d
			same.b = b
			kind.run(b, same)
		})
	}
}

type deliveryBench struct {
	b         *testing.B
	t         *table
	g         *gateway
	formation string
	payloads  [][]byte
	got       *atomic.Int64
	round     int
	dir       string // of files that drivers write when they stand alone
}

// collect gets the payloads for the bare clients.
func (d *deliveryBench) collect() {
	s := d.g.sink(d.formation, "file", map[string]any{"path": "collect.ndjson"})
	path := d.g.sinkFile("collect.ndjson")
	within(d.b, 3*time.Minute, "payloads", func() (bool, string) {
		n := lineCount(path)
		return n == benchEvents, fmt.Sprint(n)
	})
	d.drop(s)
	content, err := os.ReadFile(path)
	if err != nil {
		d.b.Fatal(err)
	}
	d.payloads = bytes.Split(bytes.TrimSpace(content), []byte("\n"))
}

func (d *deliveryBench) drop(s sink) {
	d.g.do("DELETE", d.formation+"/cdc/sinks/"+s.ID, nil, nil, 204)
}

// versus measures the gateway with a kind of sink, the sink's driver alone, and the
// bare client, in turns. apart is what the driver alone is told besides, so that it
// writes to another place.
func (d *deliveryBench) versus(kind string, config map[string]any, apart map[string]any, how string, count func() int, bare func() time.Duration) {
	d.b.Helper()
	const rounds = 3
	var ours, alone, theirs []time.Duration
	for range rounds {
		before := count()
		begin := time.Now()
		s := d.g.sink(d.formation, kind, config)
		within(d.b, 5*time.Minute, kind, func() (bool, string) {
			got := count() - before
			return got >= benchEvents, fmt.Sprintf("%d of %d; %s", got, benchEvents, d.g.lags(d.b, d.formation))
		})
		ours = append(ours, time.Since(begin))
		d.drop(s)
		theirs = append(theirs, bare())
		both := maps.Clone(config)
		maps.Copy(both, apart)
		alone = append(alone, d.direct(kind, both))
	}
	rate := func(of time.Duration) float64 { return benchEvents / of.Seconds() }
	t := median(theirs)
	for what, took := range map[string]time.Duration{"deliver ": median(ours), "driver alone, ": median(alone)} {
		d.t.row(what+kind+note(config), fmt.Sprintf("%.0f events/s", rate(took)), fmt.Sprintf("%.2f of the bare client's %.0f/s (%s)", float64(t)/float64(took), rate(t), how))
	}
}

func note(config map[string]any) string {
	if _, ok := config["batch"]; ok {
		return ", batches"
	}
	return ""
}

func (d *deliveryBench) webhookCount() int { return int(d.got.Load()) }

// receive counts events, one to a request or many.
func (d *deliveryBench) receive(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	n := 1
	if r.Header.Get("Content-Type") == "application/cloudevents-batch+json" {
		n = bytes.Count(body, []byte(`"specversion"`))
	}
	if r.Header.Get("X-Bare") == "" {
		d.got.Add(int64(n))
	}
	w.WriteHeader(http.StatusNoContent)
}

func (d *deliveryBench) nats() {
	stream := func() string { return fmt.Sprintf("BENCH%d", d.round) }
	url := startNATSServer(d.b)
	nc, err := nats.Connect(url)
	if err != nil {
		d.b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(benchBatch))
	if err != nil {
		d.b.Fatal(err)
	}
	d.versus("nats", map[string]any{"url": url, "subject_prefix": "bench", "stream": "BENCH"}, map[string]any{"subject_prefix": "direct", "stream": "DIRECT"}, "nats.go, asynchronous, 256 in flight", func() int {
		if s, err := js.Stream(d.b.Context(), "BENCH"); err == nil {
			return int(s.CachedInfo().State.LastSeq)
		}
		return 0
	}, func() time.Duration {
		// The next round publishes the same ids, which the stream would drop.
		_ = js.DeleteStream(d.b.Context(), "BENCH")
		_ = js.DeleteStream(d.b.Context(), "DIRECT")
		d.round++
		return bareNATS(d.b, js, stream(), d.payloads)
	})
}

func (d *deliveryBench) redis() {
	addr := testenv.Redis(d.b)
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = c.Close() }()
	d.versus("redis", map[string]any{"url": "redis://" + addr, "stream": "ours"}, map[string]any{"stream": "direct"}, "go-redis, pipelines of 256, appendfsync always", func() int {
		return int(c.XLen(d.b.Context(), "ours").Val())
	}, func() time.Duration {
		begin := time.Now()
		for i := 0; i < len(d.payloads); i += benchBatch {
			_, err := c.Pipelined(d.b.Context(), func(p redis.Pipeliner) error {
				for _, payload := range d.payloads[i:min(i+benchBatch, len(d.payloads))] {
					p.XAdd(d.b.Context(), &redis.XAddArgs{Stream: "bare", Values: []any{"id", "0123456789", "document", "unit:00001", "event", payload}})
				}
				return nil
			})
			if err != nil {
				d.b.Fatal(err)
			}
		}
		return time.Since(begin)
	})
}

// kafka against a real broker, whose pace depends on its Java.
func (d *deliveryBench) kafka() {
	k := testenv.Kafka(d.b)
	k.Topic(d.b, "ours", 6)
	k.Topic(d.b, "bare", 6)
	k.Topic(d.b, "direct", 6)
	client := &kafka.Client{Addr: kafka.TCP(k.Plaintext)}
	count := func() (n int) {
		var partitions []kafka.OffsetRequest
		for p := range 6 {
			partitions = append(partitions, kafka.LastOffsetOf(p))
		}
		answer, err := client.ListOffsets(d.b.Context(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{"ours": partitions}})
		if err != nil {
			return 0
		}
		for _, p := range answer.Topics["ours"] {
			n += int(p.LastOffset)
		}
		return n
	}
	d.versus("kafka", map[string]any{"brokers": []string{k.Plaintext}, "topic": "ours"}, map[string]any{"topic": "direct"}, "kafka-go's Writer, acks of all, 256 a call", count, func() time.Duration {
		w := &kafka.Writer{Addr: kafka.TCP(k.Plaintext), Topic: "bare", Balancer: &kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll,
			BatchSize: benchBatch, BatchTimeout: time.Millisecond}
		defer func() { _ = w.Close() }()
		begin := time.Now()
		for i := 0; i < len(d.payloads); i += benchBatch {
			var messages []kafka.Message
			for n, payload := range d.payloads[i:min(i+benchBatch, len(d.payloads))] {
				messages = append(messages, kafka.Message{Key: []byte(fmt.Sprintf("unit:%05d", (i+n)%benchDocuments)), Value: payload})
			}
			if err := w.WriteMessages(d.b.Context(), messages...); err != nil {
				d.b.Fatal(err)
			}
		}
		return time.Since(begin)
	})
}

func (d *deliveryBench) file() {
	size := 0
	for _, p := range d.payloads {
		size += len(p) + 1
	}
	config := map[string]any{"path": "bench.ndjson"}
	path := d.g.sinkFile("bench.ndjson")
	d.versus("file", config, nil, "os.File, written and synced every 256 lines", func() int {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return int(info.Size() * benchEvents / int64(size))
	}, func() time.Duration {
		_ = os.Remove(filepath.Join(d.dir, "bench.ndjson"))
		return bareFile(d.b, d.payloads)
	})
}

func lineCount(path string) int {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return bytes.Count(content, []byte("\n"))
}

// bareRequest is a signed request as a program would make that has nothing else to do.
func bareRequest(url, contentType, id string, body []byte) *http.Request {
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte("0123456789abcdef0123456789abcdef"))
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Bare", "1")
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", stamp)
	r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return r
}

func bareWebhook(b *testing.B, url string, payloads [][]byte) time.Duration {
	return barePosts(b, len(payloads), func(i int) *http.Request {
		return bareRequest(url, "application/cloudevents+json", strconv.Itoa(i), payloads[i])
	})
}

func bareWebhookBatch(b *testing.B, url string, payloads [][]byte) time.Duration {
	const size = 100
	return barePosts(b, (len(payloads)+size-1)/size, func(i int) *http.Request {
		body := append([]byte("["), bytes.Join(payloads[i*size:min((i+1)*size, len(payloads))], []byte(","))...)
		return bareRequest(url, "application/cloudevents-batch+json", strconv.Itoa(i), append(body, ']'))
	})
}

func barePosts(b *testing.B, n int, request func(i int) *http.Request) time.Duration {
	const workers = 64
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true}}
	defer c.CloseIdleConnections()
	next := make(chan int)
	var wg sync.WaitGroup
	begin := time.Now()
	for range workers {
		wg.Go(func() {
			for i := range next {
				resp, err := c.Do(request(i))
				if err != nil {
					b.Error(err)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return time.Since(begin)
}

func bareNATS(b *testing.B, js jetstream.JetStream, stream string, payloads [][]byte) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: stream, Subjects: []string{stream + ".>"}}); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = js.DeleteStream(ctx, stream) }()
	begin := time.Now()
	for i, p := range payloads {
		if _, err := js.PublishAsync(fmt.Sprintf("%s.unit:%05d", stream, i%benchDocuments), p, jetstream.WithMsgID(strconv.Itoa(i)), jetstream.WithStallWait(30*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		b.Fatal("the bare client was not acknowledged")
	}
	return time.Since(begin)
}

func bareFile(b *testing.B, payloads [][]byte) time.Duration {
	f, err := os.Create(filepath.Join(b.TempDir(), "bare.ndjson"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var lines []byte
	begin := time.Now()
	for i, p := range payloads {
		lines = append(append(lines, p...), '\n')
		if (i+1)%benchBatch == 0 || i == len(payloads)-1 {
			if _, err := f.Write(lines); err != nil || f.Sync() != nil {
				b.Fatal("the file cannot be written")
			}
			lines = lines[:0]
		}
	}
	return time.Since(begin)
}
