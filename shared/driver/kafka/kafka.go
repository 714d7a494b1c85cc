// Package kafka is the sink that produces to a topic of a Kafka cluster.
package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
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

// Parse checks the configuration of a Kafka sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var c kafkaConfig
	if err := driver.DecodeConfig(in, &c); err != nil {
		return driver.Config{}, err
	}
	if len(c.Brokers) == 0 || len(c.Brokers) > maxBrokers {
		return driver.Config{}, driver.Invalid("config/brokers", "must be one to 20 brokers")
	}
	for _, b := range c.Brokers {
		if err := checkBroker(b, netguard.New(s.AllowPrivate)); err != nil {
			return driver.Config{}, err
		}
	}
	if !isTopic(expandTopic(c.Topic, "x", "x")) {
		return driver.Config{}, driver.Invalid("config/topic", "must be letters, digits, '.', '-', '_', {org} and {app}, at most 249")
	}
	if c.SASL == nil {
		return driver.Config{Public: c}, nil
	}
	given := *c.SASL
	if given.Password == "" && prior != nil {
		var kept kafkaSecrets
		if err := driver.Prior(prior, &kept); err != nil {
			return driver.Config{}, err
		}
		given.Password = kept.Password
	}
	if given.Username == "" || given.Password == "" || len(given.Username) > maxCredentials || len(given.Password) > maxCredentials {
		return driver.Config{}, driver.Invalid("config/sasl", "must have a username and a password of at most 256 bytes")
	}
	if _, err := given.mechanism(given.Password); err != nil {
		return driver.Config{}, err
	}
	c.SASL = &kafkaSASL{Mechanism: given.Mechanism, Username: given.Username}
	return driver.Config{Public: c, Secrets: kafkaSecrets{given.Password}}, nil
}

// checkBroker reads one host and port. The brokers that these name in turn are
// looked at when they are dialled.
func checkBroker(b string, g *netguard.Guard) error {
	u, err := g.URL("kafka://"+b, "kafka")
	if err != nil {
		return driver.Invalid("config/brokers", err.Error())
	}
	if u.Host != b || u.Port() == "" {
		return driver.Invalid("config/brokers", "must each be a host and a port")
	}
	return nil
}

func expandTopic(template, org, app string) string {
	return strings.NewReplacer("{org}", org, "{app}", app).Replace(template)
}

func isTopic(s string) bool {
	bad := strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f || !driver.IsPlain(byte(r)) && r != '.' })
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
		return nil, driver.Invalid("config/sasl/mechanism", "must be plain, scram-sha-256 or scram-sha-512")
	}
	if err != nil {
		return nil, driver.Invalid("config/sasl", "has a username or password with characters that SCRAM does not know")
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

// Open makes a driver of it.
func Open(o driver.Opening) (driver.Driver, error) {
	var c kafkaConfig
	var s kafkaSecrets
	err := o.Read(&c, &s)
	d := &kafkaTopic{org: o.Org, config: c}
	d.dialer = kafkaDialer{guard: netguard.New(o.AllowPrivate), tls: c.TLS, limit: o.AttemptTimeout}
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
func (d *kafkaTopic) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
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
		return driver.None(batch, describeKafka(err))
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
func (d *kafkaTopic) lanes(ctx context.Context, link *kafkaLink, batch []driver.Event) ([]lane, error) {
	var out []lane
	type place struct {
		topic     string
		partition int32
	}
	found := map[place]int{}
	for i, it := range batch {
		topic := expandTopic(d.config.Topic, string(d.org), string(it.Key.App))
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
		p := place{topic, int32(balancer.Balance(kafka.Message{Key: []byte(it.Document)}, numbers...))} //nolint:gosec // below the count
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
	batch []driver.Event
	outs  []driver.Outcome
	until time.Time
	moved bool // the leader was looked up anew already
}

// requestBytes is how much goes into one request. Brokers take a little over a
// mebibyte unless they are told otherwise; a larger event goes alone.
const requestBytes = 900_000

func (r *laneRun) run(ctx context.Context) {
	left := r.places
	for len(left) > 0 {
		n, size := 1, r.batch[left[0]].Size()
		for n < len(left) && size+r.batch[left[n]].Size() <= requestBytes {
			size += r.batch[left[n]].Size()
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
		if r.outs[i].Verdict == driver.Refused {
			stuck[driver.DocumentOf(r.batch[i])] = true
		}
	}
	var out []int
	for _, i := range places {
		if !stuck[driver.DocumentOf(r.batch[i])] {
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
		records[n] = kafkaRecord(r.batch[i])
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
			r.outs[i] = driver.Outcome{Verdict: driver.Delivered}
		}
		return true
	case errors.Is(err, errLate):
		return false
	case !isRefusal(err):
		r.fail(ctx, places, err)
		return false
	case len(places) == 1:
		r.outs[places[0]] = driver.Outcome{Verdict: driver.Refused, Reason: describeKafka(err)}
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
		if name := driver.DocumentOf(r.batch[i]); !seen[name] {
			seen[name] = true
			r.outs[i] = driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: describeKafka(err)}
		}
	}
}

// kafkaRecord is an event in the binary mode of CloudEvents' Kafka binding.
func kafkaRecord(it driver.Event) kafka.Record {
	headers := make([]kafka.Header, 0, len(it.Attributes))
	for _, a := range it.Attributes {
		name := "ce_" + a.Name
		if a.Name == "datacontenttype" {
			name = "content-type"
		}
		if a.Value != "" {
			headers = append(headers, kafka.Header{Key: name, Value: []byte(a.Value)})
		}
	}
	// No time: the record's is that of its sending. A broker may delete by it, and
	// what is old here is new there.
	return kafka.Record{Key: kafka.NewBytes([]byte(it.Document)), Value: kafka.NewBytes(it.Data), Headers: headers}
}
