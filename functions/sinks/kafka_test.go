package sinks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
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

func openTestKafka(t testing.TB, c kafkaConfig, password string, s Settings) *kafkaTopic {
	t.Helper()
	config, _ := json.Marshal(c)
	var secrets []byte
	if password != "" {
		secrets, _ = json.Marshal(kafkaSecrets{password})
	}
	if s.AttemptTimeout == 0 {
		s.AttemptTimeout = 5 * time.Second
	}
	d, err := openKafka(opening{sink: delivery.Sink{Org: "acme", ID: "s", Config: config}, secrets: secrets, settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(*kafkaTopic)
}

func openTo(t testing.TB, c *kfake.Cluster) *kafkaTopic {
	t.Helper()
	return openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: "{org}.{app}"}, "", Settings{AllowPrivate: loopback})
}

// events are items that are CloudEvents, as they leave in earnest.
func events(names ...string) []item {
	out := items(names...)
	for i, n := range names {
		e := cloudevents.NewEvent()
		e.SetID(out[i].id)
		e.SetType("changed")
		e.SetSource("/orgs/acme")
		e.SetSubject(out[i].document)
		e.SetTime(start)
		e.SetExtension("sequence", "7")
		_ = e.SetData("application/json", json.RawMessage(`{"name":"`+n+`"}`))
		out[i].body, _ = e.MarshalJSON()
	}
	return out
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

func wantDelivered(t testing.TB, outs []outcome) {
	t.Helper()
	for i, o := range outs {
		if o.verdict != delivered {
			t.Fatalf("%d: %+v", i, o)
		}
	}
}

func verdicts(outs []outcome) string {
	var out strings.Builder
	for _, o := range outs {
		out.WriteByte("udrRq"[o.verdict])
	}
	return out.String()
}

func TestKafkaProducesInBinaryMode(t *testing.T) {
	c := startKafka(t)
	d := openTo(t, c)
	var names []string
	for n := range 100 {
		names = append(names, fmt.Sprintf("doc %d/%d", n%20, n))
	}
	wantDelivered(t, d.Deliver(t.Context(), events(names...), soon()))
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
	batch := events(names...)
	batch[2].body = []byte(strings.Replace(string(batch[2].body), "a/2", strings.Repeat("x", 2<<20), 2))
	outs := d.Deliver(t.Context(), batch, soon())
	if verdicts(outs) != "ddRdud" || !strings.Contains(outs[2].reason, "too large") {
		t.Errorf("%s %+v", verdicts(outs), outs[2])
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
	batch := events(names...)
	batch[20].body = []byte(strings.Replace(string(batch[20].body), `"name":"`, `"name":"`+strings.Repeat("x", 4000), 1))
	outs := d.Deliver(t.Context(), batch, soon())
	want := []byte(strings.Repeat("d", 64))
	want[20] = 'R'
	for n := 28; n < 64; n += 8 {
		want[n] = 'u'
	}
	if verdicts(outs) != string(want) {
		t.Errorf("%s", verdicts(outs))
	}
	last := map[string]int64{}
	for _, r := range produced(t, c, 58) {
		_, number, _ := strings.Cut(string(r.Headers[2].Value), "/")
		n, _ := strconv.ParseInt(number, 10, 64)
		if before, ok := last[string(r.Key)]; ok && before >= n {
			t.Errorf("%d after %d", n, before)
		}
		last[string(r.Key)] = n
	}
}

func TestKafkaRetriesWhatTheClusterCannotTakeNow(t *testing.T) {
	for _, code := range []int16{3, 5, 7, 19, 20, 29, 56} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
			d := openTo(t, c)
			c.ControlKey(produceKey, answerProduce(code))
			outs := d.Deliver(t.Context(), events("a/1", "b/1", "a/2"), soon())
			if verdicts(outs) != "rru" || !outs[0].unreachable || outs[0].reason == "" {
				t.Errorf("%+v", outs)
			}
			wantDelivered(t, d.Deliver(t.Context(), events("a/1", "b/1", "a/2"), soon()))
			produced(t, c, 3)
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

// One partition fails and the others go on; nothing passes in the one that failed.
func TestKafkaPartitionFailsAlone(t *testing.T) {
	c := startKafka(t)
	d := openTo(t, c)
	var names []string
	for n := range 60 {
		names = append(names, fmt.Sprintf("d%d/%d", n%20, n))
	}
	batch := events(names...)
	wantDelivered(t, d.Deliver(t.Context(), batch[:20], soon()))
	c.ControlKey(produceKey, answerProduce(19))
	outs := d.Deliver(t.Context(), batch[20:], soon())
	stuck := map[string]bool{}
	var rest []item
	for i, o := range outs {
		it := batch[20+i]
		if o.verdict == delivered && stuck[it.document] {
			t.Fatalf("%s passed an earlier one", it.id)
		}
		if o.verdict != delivered {
			stuck[it.document] = true
			rest = append(rest, it)
		}
	}
	if len(rest) == 0 || len(rest) == len(outs) {
		t.Errorf("%s", verdicts(outs))
	}
	wantDelivered(t, d.Deliver(t.Context(), rest, soon()))
	produced(t, c, 60)
}

func TestKafkaFollowsTheLeader(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
	d := openTo(t, c)
	wantDelivered(t, d.Deliver(t.Context(), events("a/1"), soon()))
	for n := range 3 {
		if err := c.MoveTopicPartition("acme.logistics", 0, int32(n)); err != nil { //nolint:gosec // up to 2
			t.Fatal(err)
		}
		wantDelivered(t, d.Deliver(t.Context(), events(fmt.Sprintf("a/%d", n+2)), soon()))
	}
	produced(t, c, 4)
}

// The connection breaks before the answer comes: what was appended comes again.
func TestKafkaConnectionBreaksBeforeTheAnswer(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
	d := openTo(t, c)
	c.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("gone"), true })
	outs := d.Deliver(t.Context(), events("a/1", "a/2"), soon())
	if verdicts(outs) != "ru" || !outs[0].unreachable {
		t.Errorf("%+v", outs)
	}
	wantDelivered(t, d.Deliver(t.Context(), events("a/1", "a/2"), soon()))
}

func TestKafkaBrokerHangs(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
	d := openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: "acme.logistics"}, "", Settings{AllowPrivate: loopback, AttemptTimeout: 300 * time.Millisecond})
	c.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
	if outs := d.Deliver(t.Context(), events("a/1", "a/2"), soon()); verdicts(outs) != "ru" || outs[0].reason != "no answer in time" {
		t.Errorf("%+v", outs)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
	if outs := d.Deliver(ctx, events("a/1", "a/2"), soon()); verdicts(outs) != "uu" {
		t.Errorf("broken off: %+v", outs)
	}
	if outs := d.Deliver(t.Context(), events("a/1"), time.Now()); verdicts(outs) != "u" {
		t.Errorf("too late: %+v", outs)
	}
	wantDelivered(t, d.Deliver(t.Context(), events("a/1", "a/2"), soon()))
}

func TestKafkaClusterRestarts(t *testing.T) {
	dir := t.TempDir()
	c := startKafka(t, kfake.NumBrokers(1), kfake.DataDir(dir))
	d := openTo(t, c)
	wantDelivered(t, d.Deliver(t.Context(), events("a/1"), soon()))
	_, text, _ := net.SplitHostPort(c.ListenAddrs()[0])
	port, _ := strconv.Atoi(text)
	c.Close()
	if outs := d.Deliver(t.Context(), events("a/2", "a/3", "b/1"), soon()); verdicts(outs) != "rur" || !outs[0].unreachable {
		t.Errorf("%+v", outs)
	}
	c = startKafka(t, kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir))
	wantDelivered(t, d.Deliver(t.Context(), events("a/2", "a/3", "b/1"), soon()))
	produced(t, c, 4)
}

func TestKafkaTopicThatIsNotThere(t *testing.T) {
	c := startKafka(t)
	d := openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: "nothing"}, "", Settings{AllowPrivate: loopback})
	if outs := d.Deliver(t.Context(), events("a/1", "a/2"), soon()); verdicts(outs) != "ru" || !outs[0].unreachable {
		t.Errorf("%+v", outs)
	}
}

func TestKafkaGuardsEveryBroker(t *testing.T) {
	c := startKafka(t)
	d := openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: "acme.logistics"}, "", Settings{})
	if outs := d.Deliver(t.Context(), events("a/1"), soon()); verdicts(outs) != "r" || outs[0].reason != errForbiddenTarget.Error() {
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
	if outs := d.Deliver(t.Context(), events("a/1"), soon()); verdicts(outs) != "r" || outs[0].reason != errForbiddenTarget.Error() {
		t.Errorf("%+v", outs)
	}
}

func TestKafkaSASLAndTLS(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS() // for its certificate
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		t.Run(mechanism, func(t *testing.T) {
			c := startKafka(t, kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(mechanism), "me", "hush"),
				kfake.TLS(&tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}))
			config := kafkaConfig{Brokers: c.ListenAddrs(), Topic: "{org}.{app}", TLS: true, SASL: &kafkaSASL{Mechanism: mechanism, Username: "me"}}
			d := openTestKafka(t, config, "hush", Settings{AllowPrivate: loopback})
			if out := d.Deliver(t.Context(), events("a/1"), soon())[0]; out.verdict != retry || !out.unreachable {
				t.Errorf("a certificate that nobody vouches for: %+v", out)
			}
			d.dialer.roots = roots
			wantDelivered(t, d.Deliver(t.Context(), events("a/1", "b/1", "a/2"), soon()))
			wrong := openTestKafka(t, config, "wrong", Settings{AllowPrivate: loopback})
			wrong.dialer.roots = roots
			if out := wrong.Deliver(t.Context(), events("a/1"), soon())[0]; out.verdict != retry || !out.unreachable || strings.Contains(out.reason, "wrong") {
				t.Errorf("%+v", out)
			}
		})
	}
}

func TestKafkaConfigurationsThatAreRefused(t *testing.T) {
	for name, in := range map[string]string{
		"no brokers":                `{"topic":"x"}`,
		"no port":                   `{"brokers":["example.com"],"topic":"x"}`,
		"a path":                    `{"brokers":["example.com:9092/x"],"topic":"x"}`,
		"a user":                    `{"brokers":["me:hush@example.com:9092"],"topic":"x"}`,
		"two in one":                `{"brokers":["example.com:9092,127.0.0.1:9092"],"topic":"x"}`,
		"a private address":         `{"brokers":["example.com:9092","10.0.0.1:9092"],"topic":"x"}`,
		"no topic":                  `{"brokers":["example.com:9092"]}`,
		"another placeholder":       `{"brokers":["example.com:9092"],"topic":"{document}"}`,
		"a topic that is a path":    `{"brokers":["example.com:9092"],"topic":".."}`,
		"another mechanism":         `{"brokers":["example.com:9092"],"topic":"x","sasl":{"mechanism":"gssapi","username":"me","password":"x"}}`,
		"no password":               `{"brokers":["example.com:9092"],"topic":"x","sasl":{"mechanism":"plain","username":"me"}}`,
		"an option that is unknown": `{"brokers":["example.com:9092"],"topic":"x","acks":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseKafka(json.RawMessage(in), Settings{}); !errors.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			}
		})
	}
	made, err := parseKafka(json.RawMessage(`{"brokers":["example.com:9092"],"topic":"{org}.{app}","tls":true,
		"sasl":{"mechanism":"scram-sha-512","username":"me","password":"hush"}}`), Settings{})
	public, _ := json.Marshal(made.public)
	if err != nil || strings.Contains(string(public), "hush") || made.secrets == nil {
		t.Errorf("%s %v", public, err)
	}
}

// Whoever answers may say anything; it must cost neither memory nor the process.
func FuzzKafkaAnswers(f *testing.F) {
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff})
	f.Add(make([]byte, 64))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for v := int16(3); v <= 8; v++ {
			_, _ = readMetadata(&answer{rest: b}, v)
			_ = readProduced(&answer{rest: b}, v, 0)
		}
	})
}
