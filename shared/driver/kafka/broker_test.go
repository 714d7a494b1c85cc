package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// broker is a real one, which tests share that do it no harm.
var broker testenv.SharedKafka

// openByConfig makes a driver by Parse and Open, as the gateway does.
func openByConfig(t testing.TB, config any, s driver.Settings) *kafkaTopic {
	t.Helper()
	in, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if s.AllowPrivate == nil {
		s.AllowPrivate = drivertest.Loopback
	}
	if s.AttemptTimeout == 0 {
		s.AttemptTimeout = 30 * time.Second
	}
	s.Now = time.Now
	c, err := Parse(in, nil, s)
	if err != nil {
		t.Fatal(err)
	}
	return openParsed(t, c, s)
}

func openParsed(t testing.TB, c driver.Config, s driver.Settings) *kafkaTopic {
	t.Helper()
	o := driver.Opening{Org: "acme", Sink: "s", Settings: s}
	var err error
	if o.Config, err = json.Marshal(c.Public); err != nil {
		t.Fatal(err)
	}
	if c.Secrets != nil {
		if o.Secrets, err = json.Marshal(c.Secrets); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(*kafkaTopic)
}

// fields are those of a sink's configuration.
type fields map[string]any

func plainly(k *testenv.KafkaServer, topic string) fields {
	return fields{"brokers": []string{k.Plaintext}, "topic": topic}
}

// topicFor makes a topic of the test's own.
func topicFor(t testing.TB, k *testenv.KafkaServer, partitions int32, settings ...string) string {
	t.Helper()
	topicCount++
	name := fmt.Sprintf("test.%d", topicCount)
	k.Topic(t, name, partitions, settings...)
	return name
}

var topicCount int

// records lists all that is in topics now, each partition in order.
func records(t testing.TB, address string, topics ...string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	var out []*kgo.Record
	for want := count(ctx, t, address, topics); want > 0; {
		got := cl.PollFetches(ctx)
		if err := got.Err(); err != nil {
			t.Fatalf("%d records are missing: %v", want, err)
		}
		got.EachRecord(func(r *kgo.Record) {
			out = append(out, r)
			want--
		})
	}
	return out
}

// count is how many records are in topics now.
func count(ctx context.Context, t testing.TB, address string, topics []string) int64 {
	t.Helper()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	cl := &kafka.Client{Addr: kafka.TCP(address), Transport: transport}
	m, err := cl.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string][]kafka.OffsetRequest{}
	for _, topic := range m.Topics {
		for _, p := range topic.Partitions {
			asked[topic.Name] = append(asked[topic.Name], kafka.LastOffsetOf(p.ID))
		}
	}
	// Who has just become a leader may not know it yet.
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n, err := sumOffsets(ctx, cl, asked)
		if err == nil {
			return n
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func sumOffsets(ctx context.Context, cl *kafka.Client, asked map[string][]kafka.OffsetRequest) (n int64, err error) {
	offsets, err := cl.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: asked})
	if err != nil {
		return 0, err
	}
	for _, partitions := range offsets.Topics {
		for _, p := range partitions {
			err = errors.Join(err, p.Error)
			n += p.LastOffset
		}
	}
	return n, err
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
