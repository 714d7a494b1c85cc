package kafka

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

const produceKey = 0 // of the protocol

func startKafka(t testing.TB, more ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3), kfake.SeedTopics(5, "acme.logistics")}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func openTestKafka(t testing.TB, c kafkaConfig, password string, s driver.Settings) *kafkaTopic {
	t.Helper()
	config, _ := json.Marshal(c)
	var secrets []byte
	if password != "" {
		secrets, _ = json.Marshal(kafkaSecrets{Password: password})
	}
	if s.AttemptTimeout == 0 {
		s.AttemptTimeout = 5 * time.Second
	}
	d, err := Open(driver.Opening{Org: "acme", Sink: "s", Config: config, Secrets: secrets, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(*kafkaTopic)
}

func openTo(t testing.TB, c *kfake.Cluster) *kafkaTopic {
	t.Helper()
	return openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: "{org}.{app}"}, "", driver.Settings{AllowPrivate: drivertest.Loopback})
}

// produced lists what is in the topic, by document, in order.
func produced(t testing.TB, c *kfake.Cluster, want int, more ...kgo.Opt) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(append(more, kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("acme.logistics"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out []*kgo.Record
	for len(out) < want && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { out = append(out, r) })
	}
	if len(out) != want {
		t.Fatalf("%d records, not %d", len(out), want)
	}
	return out
}

func TestKafkaProducesInBinaryMode(t *testing.T) {
	c := startKafka(t)
	d := openTo(t, c)
	var names []string
	for n := range 100 {
		names = append(names, fmt.Sprintf("doc %d/%d", n%20, n))
	}
	drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events(names...), drivertest.Soon()))
	last, partitions, all := map[string]int{}, map[string]int32{}, map[int32]bool{}
	for _, r := range produced(t, c, 100) {
		document := string(r.Key)
		got := map[string]string{}
		for _, h := range r.Headers {
			got[h.Key] = string(h.Value)
		}
		_, number, _ := strings.Cut(got["ce_id"], "/")
		n, _ := strconv.Atoi(number)
		want := map[string]string{
			"content-type": "application/json", "ce_specversion": "1.0", "ce_id": fmt.Sprintf("id-%s/%d", document, n), "ce_type": "changed",
			"ce_source": "/orgs/acme", "ce_subject": document, "ce_time": "2026-03-04T05:06:07Z", "ce_sequence": "7",
		}
		if !maps.Equal(got, want) || string(r.Value) != fmt.Sprintf(`{"name":"%s/%d"}`, document, n) {
			t.Fatalf("%v %s", got, r.Value)
		}
		if p, ok := partitions[document]; ok && (p != r.Partition || last[document] >= n) {
			t.Fatalf("%s: partition %d after %d, %d after %d", document, r.Partition, p, n, last[document])
		}
		partitions[document], last[document], all[r.Partition] = r.Partition, n, true
	}
	if len(all) < 2 {
		t.Error("all in one partition")
	}
	// As Kafka's own clients choose.
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("acme.logistics")
	for document, p := range partitions {
		if want := theirs.Partition(&kgo.Record{Key: []byte(document)}, 5); want != int(p) {
			t.Errorf("%s is in %d, not %d", document, p, want)
		}
	}
}

func TestKafkaRefusesWhatIsTooLarge(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
	d := openTo(t, c)
	names := []string{"a/1", "b/1", "a/2", "c/1", "a/3", "b/2"}
	batch := drivertest.Events(names...)
	batch[2] = drivertest.Swell(batch[2], 2<<20)
	outs := d.Deliver(t.Context(), batch, drivertest.Soon())
	if drivertest.Verdicts(outs) != "ddRdud" || !strings.Contains(outs[2].Reason, "too large") {
		t.Errorf("%s %+v", drivertest.Verdicts(outs), outs[2])
	}
	produced(t, c, 4)
}

// A topic may take less than others do; then requests are halved.
func TestKafkaFindsTheCulprit(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "3000"}))
	d := openTo(t, c)
	var names []string
	for n := range 64 {
		names = append(names, fmt.Sprintf("d%d/%d", n%8, n))
	}
	batch := drivertest.Events(names...)
	batch[20] = drivertest.Swell(batch[20], 4000)
	outs := d.Deliver(t.Context(), batch, drivertest.Soon())
	want := []byte(strings.Repeat("d", 64))
	want[20] = 'R'
	for n := 28; n < 64; n += 8 {
		want[n] = 'u'
	}
	if drivertest.Verdicts(outs) != string(want) {
		t.Errorf("%s", drivertest.Verdicts(outs))
	}
	last := map[string]int64{}
	for _, r := range produced(t, c, 58) {
		_, number, _ := strings.Cut(string(r.Headers[1].Value), "/")
		n, _ := strconv.ParseInt(number, 10, 64)
		if before, ok := last[string(r.Key)]; ok && before >= n {
			t.Errorf("%d after %d", n, before)
		}
		last[string(r.Key)] = n
	}
}

func TestKafkaRetriesWhatTheClusterCannotTakeNow(t *testing.T) {
	for _, code := range []int16{7, 19, 20, 29} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
			d := openTo(t, c)
			c.ControlKey(produceKey, answerProduce(code))
			outs := d.Deliver(t.Context(), drivertest.Events("a/1", "b/1", "a/2"), drivertest.Soon())
			if drivertest.Verdicts(outs) != "rru" || !outs[0].Unreachable || outs[0].Reason == "" {
				t.Errorf("%+v", outs)
			}
			drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events("a/1", "b/1", "a/2"), drivertest.Soon()))
			produced(t, c, 3)
		})
	}
}

// What passes in a moment is waited for, and costs no rung of the ladder.
func TestKafkaWaitsForWhatPasses(t *testing.T) {
	for name, code := range map[string]int16{
		"the topic is not known": 3, "no leader yet": 5, "another leader": 6, "a broken disk": 56,
		"other numbers": 45, "another epoch": 47, "an unknown producer": 59, "had it already": 46,
	} {
		t.Run(name, func(t *testing.T) {
			c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
			d := openTo(t, c)
			drivertest.DeliverAll(t, d, "a/1")
			c.ControlKey(produceKey, answerProduce(code))
			drivertest.DeliverAll(t, d, "a/2", "b/1", "a/3")
			want := 4
			if code == 46 {
				want = 1 // it was taken at its word
			}
			produced(t, c, want)
			drivertest.DeliverAll(t, d, "a/4")
			produced(t, c, want+1)
		})
	}
}

// answerProduce answers one produce request with an error.
func answerProduce(code int16) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(in kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the fake's order
		req := in.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = req.Topics[0].Topic
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.ErrorCode = req.Topics[0].Partitions[0].Partition, code
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	}
}

// leaders delivers a batch and returns how many brokers lead the topic's partitions.
func leaders(t *testing.T, d *kafkaTopic, batch []driver.Event) int {
	t.Helper()
	drivertest.WantDelivered(t, d.Deliver(t.Context(), batch, drivertest.Soon()))
	d.mu.Lock()
	link := d.link
	d.mu.Unlock()
	link.mu.Lock()
	defer link.mu.Unlock()
	addresses := map[string]bool{}
	for _, a := range link.topics["acme.logistics"] {
		addresses[a] = true
	}
	return len(addresses)
}

// One partition fails and the others go on; nothing passes in the one that failed.
func TestKafkaPartitionFailsAlone(t *testing.T) {
	var names []string
	for n := range 60 {
		names = append(names, fmt.Sprintf("d%d/%d", n%20, n))
	}
	batch := drivertest.Events(names...)
	c := startKafka(t)
	d := openTo(t, c)
	// The fake deals partitions out at random. If one broker has them all, all are in
	// the request that fails.
	for leaders(t, d, batch[:20]) < 2 {
		c = startKafka(t)
		d = openTo(t, c)
	}
	c.ControlKey(produceKey, answerProduce(19))
	outs := d.Deliver(t.Context(), batch[20:], drivertest.Soon())
	stuck := map[string]bool{}
	var rest []driver.Event
	for i, o := range outs {
		it := batch[20+i]
		if o.Verdict == driver.Delivered && stuck[it.Document] {
			t.Fatalf("%s passed an earlier one", it.ID)
		}
		if o.Verdict != driver.Delivered {
			stuck[it.Document] = true
			rest = append(rest, it)
		}
	}
	if len(rest) == 0 || len(rest) == len(outs) {
		t.Errorf("%s", drivertest.Verdicts(outs))
	}
	drivertest.WantDelivered(t, d.Deliver(t.Context(), rest, drivertest.Soon()))
	produced(t, c, 60)
}

func TestKafkaFollowsTheLeader(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
	d := openTo(t, c)
	drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon()))
	for n := range 3 {
		if err := c.MoveTopicPartition("acme.logistics", 0, int32(n)); err != nil { //nolint:gosec // up to 2
			t.Fatal(err)
		}
		drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events(fmt.Sprintf("a/%d", n+2)), drivertest.Soon()))
	}
	produced(t, c, 4)
}

// The connection breaks before the answer comes: what was appended comes again.
func TestKafkaConnectionBreaksBeforeTheAnswer(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
	d := openTo(t, c)
	c.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("gone"), true })
	drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon()))
}

func TestKafkaBrokerHangs(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
	d := openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: "acme.logistics"}, "", driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: 300 * time.Millisecond})
	c.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
	if outs := d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon()); drivertest.Verdicts(outs) != "ru" || outs[0].Reason != "no answer in time" {
		t.Errorf("%+v", outs)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
	if outs := d.Deliver(ctx, drivertest.Events("a/1", "a/2"), drivertest.Soon()); drivertest.Verdicts(outs) != "uu" {
		t.Errorf("broken off: %+v", outs)
	}
	if outs := d.Deliver(t.Context(), drivertest.Events("a/1"), time.Now()); drivertest.Verdicts(outs) != "u" {
		t.Errorf("too late: %+v", outs)
	}
	drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon()))
}

func TestKafkaClusterRestarts(t *testing.T) {
	dir := t.TempDir()
	c := startKafka(t, kfake.NumBrokers(1), kfake.DataDir(dir))
	d := openTo(t, c)
	drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon()))
	_, text, _ := net.SplitHostPort(c.ListenAddrs()[0])
	port, _ := strconv.Atoi(text)
	c.Close()
	if outs := d.Deliver(t.Context(), drivertest.Events("a/2", "a/3", "b/1"), drivertest.Soon()); drivertest.Verdicts(outs) != "rur" || !outs[0].Unreachable {
		t.Errorf("%+v", outs)
	}
	c = startKafka(t, kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir))
	drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events("a/2", "a/3", "b/1"), drivertest.Soon()))
	produced(t, c, 4)
}

func TestKafkaTopicThatIsNotThere(t *testing.T) {
	c := startKafka(t)
	d := openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: "nothing"}, "", driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: time.Second})
	if outs := d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon()); drivertest.Verdicts(outs) != "ru" || !outs[0].Unreachable {
		t.Errorf("%+v", outs)
	}
}

func TestKafkaGuardsEveryBroker(t *testing.T) {
	c := startKafka(t)
	d := openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: "acme.logistics"}, "", driver.Settings{})
	if outs := d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon()); drivertest.Verdicts(outs) != "r" || outs[0].Reason != netguard.ErrForbidden.Error() {
		t.Errorf("%+v", outs)
	}
	// The one that was named may be reached, the leader it names may not.
	d = openTo(t, c)
	c.ControlKey(3, func(in kmsg.Request) (kmsg.Response, error, bool) {
		resp := in.ResponseKind().(*kmsg.MetadataResponse)
		resp.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "169.254.169.254", Port: 80}}
		name := "acme.logistics"
		resp.Topics = []kmsg.MetadataResponseTopic{{Topic: &name, Partitions: []kmsg.MetadataResponseTopicPartition{{Leader: 1}}}}
		return resp, nil, true
	})
	if outs := d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon()); drivertest.Verdicts(outs) != "r" || outs[0].Reason != netguard.ErrForbidden.Error() {
		t.Errorf("%+v", outs)
	}
}

func TestKafkaSASLAndTLS(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS() // for its certificate
	defer web.Close()
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		t.Run(mechanism, func(t *testing.T) {
			c := startKafka(t, kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(mechanism), "me", "hush"),
				kfake.TLS(&tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}))
			config := kafkaConfig{Brokers: c.ListenAddrs(), Topic: "{org}.{app}", TLS: &kafkaTLS{}, SASL: &kafkaSASL{Mechanism: mechanism, Username: "me"}}
			d := openTestKafka(t, config, "hush", driver.Settings{AllowPrivate: drivertest.Loopback})
			config.TLS = &kafkaTLS{Options: &driver.TLSConfig{CA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))}}
			if out := d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]; out.Verdict != driver.Retry || !out.Unreachable {
				t.Errorf("a certificate that nobody vouches for: %+v", out)
			}
			d = openTestKafka(t, config, "hush", driver.Settings{AllowPrivate: drivertest.Loopback})
			drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events("a/1", "b/1", "a/2"), drivertest.Soon()))
			wrong := openTestKafka(t, config, "wrong", driver.Settings{AllowPrivate: drivertest.Loopback})
			if out := wrong.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]; out.Verdict != driver.Retry || !out.Unreachable || strings.Contains(out.Reason, "wrong") {
				t.Errorf("%+v", out)
			}
		})
	}
}

// Whoever answers may say anything; it must cost neither memory nor the process.
func FuzzKafkaAnswers(f *testing.F) {
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff})
	f.Add(make([]byte, 64))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for v := int16(3); v <= 8; v++ {
			if m, err := readMetadata(&answer{rest: b}, v); err == nil && m.only("x") == nil {
				m.leaders("x")
			}
			_, _ = readProduced(&answer{rest: b}, v)
		}
		_, _ = readProducer(&answer{rest: b})
		_, _ = readConfigs(&answer{rest: b}, 1)
	})
}
