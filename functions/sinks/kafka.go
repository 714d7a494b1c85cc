package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// kafkaConfig is what a Kafka sink shows.
type kafkaConfig struct {
	Brokers []string   `json:"brokers"`
	Topic   string     `json:"topic"` // {org} and {app} stand for their names
	TLS     bool       `json:"tls,omitempty"`
	SASL    *kafkaSASL `json:"sasl,omitempty"`
}

type kafkaSASL struct {
	Mechanism string `json:"mechanism"`
	Username  string `json:"username"`
	Password  string `json:"password,omitempty"` // only on its way in
}

// kafkaSecrets is what it keeps sealed.
type kafkaSecrets struct {
	Password string `json:"password"`
}

const (
	maxBrokers     = 20
	maxTopic       = 249 // by Kafka
	maxCredentials = 256
)

func parseKafka(in json.RawMessage, s Settings) (config, error) {
	var c kafkaConfig
	if err := decodeConfig(in, &c); err != nil {
		return config{}, err
	}
	if len(c.Brokers) == 0 || len(c.Brokers) > maxBrokers {
		return config{}, invalid("config/brokers", "must be one to 20 brokers")
	}
	for _, b := range c.Brokers {
		if err := checkBroker(b, newGuard(s.AllowPrivate)); err != nil {
			return config{}, err
		}
	}
	if !isTopic(expandTopic(c.Topic, "x", "x")) {
		return config{}, invalid("config/topic", "must be letters, digits, '.', '-', '_', {org} and {app}, at most 249")
	}
	if c.SASL == nil {
		return config{public: c}, nil
	}
	given := *c.SASL
	if given.Username == "" || given.Password == "" || len(given.Username) > maxCredentials || len(given.Password) > maxCredentials {
		return config{}, invalid("config/sasl", "must have a username and a password of at most 256 bytes")
	}
	if _, err := given.mechanism(given.Password); err != nil {
		return config{}, err
	}
	c.SASL = &kafkaSASL{Mechanism: given.Mechanism, Username: given.Username}
	return config{public: c, secrets: kafkaSecrets{given.Password}}, nil
}

// checkBroker reads one host and port. The brokers that these name in turn are
// looked at when they are dialled.
func checkBroker(b string, g *guard) error {
	u, err := g.target("kafka://"+b, "kafka")
	if f := fault.Of(err); f != nil && len(f.Fields) > 0 {
		return invalid("config/brokers", f.Fields[0].Detail)
	}
	if err != nil || u.Host != b || u.Port() == "" {
		return invalid("config/brokers", "must each be a host and a port")
	}
	return nil
}

func expandTopic(template, org, app string) string {
	return strings.NewReplacer("{org}", org, "{app}", app).Replace(template)
}

func isTopic(s string) bool {
	bad := strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f || !isPlain(byte(r)) && r != '.' })
	return !bad && s != "" && s != "." && s != ".." && len(s) <= maxTopic
}

func (c kafkaSASL) mechanism(password string) (sasl.Mechanism, error) {
	var m sasl.Mechanism
	var err error
	switch c.Mechanism {
	case "plain":
		return plain.Mechanism{Username: c.Username, Password: password}, nil
	case "scram-sha-256":
		m, err = scram.Mechanism(scram.SHA256, c.Username, password)
	case "scram-sha-512":
		m, err = scram.Mechanism(scram.SHA512, c.Username, password)
	default:
		return nil, invalid("config/sasl/mechanism", "must be plain, scram-sha-256 or scram-sha-512")
	}
	if err != nil {
		return nil, invalid("config/sasl", "has a username or password with characters that SCRAM does not know")
	}
	return m, nil
}

// kafkaTopic produces events to a topic.
//
// kafka-go's Writer is not used: it sends again by itself, and what it has once
// accepted it may send after we have answered "retry" for it. Here a partition
// has at most one request of a batch on its way, and the broker appends the
// records of a request all or none. Whatever becomes of a request, those behind
// it in the partition are sent only after it was acknowledged, so a document,
// which always goes to one partition, is never passed by its own later events.
//
// A request that was not answered may still be appended, even after it was sent
// again elsewhere. It holds a run of events that all earlier ones of their
// documents were acknowledged before, so it can repeat events but never bring
// one before its turn.
type kafkaTopic struct {
	org    tenant.OrgID
	config kafkaConfig
	dialer kafkaDialer

	mu     sync.Mutex
	link   *kafkaLink
	closed bool
}

func openKafka(o opening) (driver, error) {
	var c kafkaConfig
	var s kafkaSecrets
	err := json.Unmarshal(o.sink.Config, &c)
	if err == nil && o.secrets != nil {
		err = json.Unmarshal(o.secrets, &s)
	}
	d := &kafkaTopic{org: o.sink.Org, config: c}
	d.dialer = kafkaDialer{guard: newGuard(o.settings.AllowPrivate), tls: c.TLS, limit: o.settings.AttemptTimeout}
	if err == nil && c.SASL != nil {
		d.dialer.sasl, err = c.SASL.mechanism(s.Password)
	}
	if err != nil {
		return nil, errors.New("the configuration cannot be read")
	}
	return d, nil
}

// lane is what of a batch goes to one partition, in order.
type lane struct {
	topic     string
	partition int32
	places    []int
}

// Deliver produces the partitions side by side, each in order.
func (d *kafkaTopic) Deliver(ctx context.Context, batch []item, until time.Time) []outcome {
	outs := make([]outcome, len(batch))
	if !time.Now().Before(until) {
		return outs
	}
	link, err := d.connect()
	var lanes []lane
	if err == nil {
		defer d.release(link)
		if lanes, err = d.lanes(ctx, link, batch); err != nil {
			d.drop(link)
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return outs // we broke it off ourselves
		}
		for i := range outs {
			outs[i] = outcome{verdict: retry, unreachable: true, reason: describeKafka(err)}
		}
		return firstOfEach(batch, outs)
	}
	var wg sync.WaitGroup
	for _, l := range lanes {
		r := laneRun{kafkaTopic: d, lane: l, link: link, batch: batch, outs: outs, until: until}
		wg.Go(func() { r.run(ctx) })
	}
	wg.Wait()
	return outs
}

// balancer is the one of Kafka's own clients, so that others who produce by
// the same keys agree with us on the partition.
var balancer = kafka.Murmur2Balancer{Consistent: true}

// lanes divides a batch by partition.
func (d *kafkaTopic) lanes(ctx context.Context, link *kafkaLink, batch []item) ([]lane, error) {
	var out []lane
	type place struct {
		topic     string
		partition int32
	}
	found := map[place]int{}
	for i, it := range batch {
		topic := expandTopic(d.config.Topic, string(d.org), string(it.key.App))
		if !isTopic(topic) {
			return nil, errors.New("the topic's name is too long with the organization's and formation's names in it")
		}
		count, err := link.partitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		numbers := make([]int, count)
		for n := range numbers {
			numbers[n] = n
		}
		p := place{topic, int32(balancer.Balance(kafka.Message{Key: []byte(it.document)}, numbers...))} //nolint:gosec // below the count
		n, ok := found[p]
		if !ok {
			n = len(out)
			found[p] = n
			out = append(out, lane{topic: p.topic, partition: p.partition})
		}
		out[n].places = append(out[n].places, i)
	}
	return out, nil
}

// laneRun is a lane being sent.
type laneRun struct {
	*kafkaTopic
	lane
	link  *kafkaLink
	batch []item
	outs  []outcome
	until time.Time
	moved bool // the leader was looked up anew already
}

// requestBytes is how much goes into one request. Brokers take a little over a
// mebibyte unless they are told otherwise; a larger event goes alone.
const requestBytes = 900_000

func (r *laneRun) run(ctx context.Context) {
	left := r.places
	for len(left) > 0 {
		n, size := 1, len(r.batch[left[0]].body)
		for n < len(left) && size+len(r.batch[left[n]].body) <= requestBytes {
			size += len(r.batch[left[n]].body)
			n++
		}
		if !r.put(ctx, left[:n]) {
			return
		}
		left = r.passable(left[n:])
	}
}

// passable leaves out what follows a refused event of its document.
func (r *laneRun) passable(places []int) []int {
	stuck := map[string]bool{}
	for _, i := range r.places {
		if r.outs[i].verdict == refused {
			stuck[documentOf(r.batch[i])] = true
		}
	}
	var out []int
	for _, i := range places {
		if !stuck[documentOf(r.batch[i])] {
			out = append(out, i)
		}
	}
	return out
}

// put sends some of the lane in one request and reports whether to go on.
//
// When a broker refuses a request for what is in it, nothing of it was appended.
// So it is sent again in halves, until the events that are to blame are alone.
func (r *laneRun) put(ctx context.Context, places []int) bool {
	if len(places) == 0 {
		return true
	}
	if ctx.Err() != nil || !time.Now().Before(r.until) {
		return false
	}
	records := make([]kafka.Record, len(places))
	for n, i := range places {
		var err error
		if records[n], err = kafkaRecord(r.batch[i]); err != nil {
			r.outs[i] = outcome{verdict: refused, reason: err.Error()}
			return r.put(ctx, places[:n]) && r.put(ctx, r.passable(places[n+1:]))
		}
	}
	err := r.link.produce(ctx, r.until, r.topic, r.partition, records)
	if errors.Is(err, kafka.NotLeaderForPartition) && !r.moved {
		// It was not appended, so there is no need to give up for a move.
		r.moved = true
		if err = r.link.refresh(ctx, r.topic); err == nil {
			return r.put(ctx, places)
		}
	}
	switch {
	case err == nil:
		for _, i := range places {
			r.outs[i] = outcome{verdict: delivered}
		}
		return true
	case errors.Is(err, errLate):
		return false
	case !isRefusal(err):
		r.fail(ctx, places, err)
		return false
	case len(places) == 1:
		r.outs[places[0]] = outcome{verdict: refused, reason: describeKafka(err)}
		return true
	}
	half := len(places) / 2
	return r.put(ctx, places[:half]) && r.put(ctx, r.passable(places[half:]))
}

// isRefusal reports whether the records are at fault.
func isRefusal(err error) bool {
	var code kafka.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.InvalidRecord, kafka.InvalidTimestamp:
		return true
	}
	return false
}

// fail answers for a request that failed for reasons that are not its events'.
func (r *laneRun) fail(ctx context.Context, places []int, err error) {
	r.drop(r.link)
	if ctx.Err() != nil {
		return // we broke it off ourselves
	}
	seen := map[string]bool{}
	for _, i := range places {
		if name := documentOf(r.batch[i]); !seen[name] {
			seen[name] = true
			r.outs[i] = outcome{verdict: retry, unreachable: true, reason: describeKafka(err)}
		}
	}
}

// kafkaRecord is an event in the binary mode of CloudEvents' Kafka binding.
func kafkaRecord(it item) (kafka.Record, error) {
	var e cloudevents.Event
	if err := e.UnmarshalJSON(it.body); err != nil {
		return kafka.Record{}, fmt.Errorf("the event cannot be read: %w", err)
	}
	var headers []kafka.Header
	add := func(name, value string) {
		if value != "" {
			headers = append(headers, kafka.Header{Key: name, Value: []byte(value)})
		}
	}
	add("content-type", e.DataContentType())
	add("ce_specversion", e.SpecVersion())
	add("ce_id", e.ID())
	add("ce_source", e.Source())
	add("ce_type", e.Type())
	add("ce_subject", e.Subject())
	add("ce_dataschema", e.DataSchema())
	if t := e.Time(); !t.IsZero() {
		add("ce_time", types.FormatTime(t))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Extensions())) {
		text, err := types.Format(e.Extensions()[name])
		if err != nil {
			return kafka.Record{}, fmt.Errorf("the event's %s cannot be written: %w", name, err)
		}
		add("ce_"+name, text)
	}
	// No time: the record's is that of its sending. A broker may delete by it, and
	// what is old here is new there.
	return kafka.Record{Key: kafka.NewBytes([]byte(it.document)), Value: kafka.NewBytes(e.Data()), Headers: headers}, nil
}
