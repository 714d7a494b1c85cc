// Package kafka is the sink that produces to a topic of a Kafka cluster.
package kafka

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// kafkaTopic produces events to a topic.
//
// kafka-go's Writer is not used: it sends again by itself, and what it has once
// accepted it may send after we have answered "retry" for it. Here a partition
// has at most one batch on its way, and the broker appends a batch all or none.
// Whatever becomes of it, those behind it in the partition are sent only after it
// was acknowledged, so a document, which always goes to one partition, is never
// passed by its own later events.
//
// A batch that was not answered may still be appended. Batches are numbered, so
// that the broker appends it once even if we send it again; see producer. Where
// numbers do not help, because another process sends it again, or the cluster does
// not let us have any, it can repeat events but never bring one before its turn: it
// holds a run of events that all earlier ones of their documents were acknowledged
// before.
type kafkaTopic struct {
	org      tenant.OrgID
	config   kafkaConfig
	dialer   kafkaDialer
	now      func() time.Time
	producer *producer
	requests sync.Pool // of *produceRequest

	mu     sync.Mutex
	link   *kafkaLink
	closed bool
}

// Open makes a driver of it.
func Open(o driver.Opening) (driver.Driver, error) {
	var c kafkaConfig
	var s kafkaSecrets
	if err := o.Read(&c, &s); err != nil {
		return nil, err
	}
	d := &kafkaTopic{org: o.Org, config: c, now: o.Now, producer: newProducer()}
	d.requests.New = func() any { return new(produceRequest) }
	d.dialer = kafkaDialer{guard: netguard.New(o.AllowPrivate), limit: o.AttemptTimeout}
	var err error
	if c.TLS != nil && !c.TLS.Off {
		if d.dialer.tls, err = c.TLS.Options.Open(s.ClientKey); err != nil {
			return nil, err
		}
	}
	if c.SASL != nil {
		if d.dialer.sasl, err = c.SASL.mechanism(s.Password); err != nil {
			return nil, errors.New("the configuration cannot be read")
		}
	}
	return d, nil
}

// settleTime is for how long a delivery itself waits for a cluster that is about to
// be ready: a topic that is just being made, a partition between two leaders. It
// would be a pity to lose a rung of the ladder to that.
const settleTime = 5 * time.Second

// Deliver produces the partitions side by side, each in order.
func (d *kafkaTopic) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	if len(batch) == 0 || ctx.Err() != nil || !time.Now().Before(until) {
		return outs
	}
	r := &run{kafkaTopic: d, batch: batch, outs: outs, until: until, settle: time.Now().Add(min(settleTime, d.dialer.limit))}
	if until.Before(r.settle) {
		r.settle = until
	}
	defer r.leave()
	lanes, err := r.prepare(ctx)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, errLate) {
			return outs // we broke it off ourselves
		}
		return driver.None(batch, describeKafka(err))
	}
	r.all(ctx, lanes)
	return outs
}

// run is a batch being sent.
type run struct {
	*kafkaTopic
	batch  []driver.Event
	outs   []driver.Outcome
	until  time.Time
	settle time.Time // nothing is tried again after it
	link   *kafkaLink
}

// lane is what of a batch goes to one partition, in order.
type lane struct {
	place
	of     int // as many partitions
	at     *partition
	queue  []int // the places in the batch that are not yet answered for
	most   int   // how many events may go into a request
	err    error // why it does not go on
	resent bool  // after a broken connection, once
}

// prepare connects and divides the batch.
func (r *run) prepare(ctx context.Context) ([]*lane, error) {
	var lanes []*lane
	resent := false
	err := r.again(ctx, func() error {
		link, err := r.enter()
		if err == nil {
			err = r.producer.ready(ctx, r.until, link)
		}
		if err == nil {
			lanes, err = r.lanes(ctx, link)
		}
		if err != nil {
			r.forget()
		}
		if err != nil && isBroken(err) && !resent {
			resent, err = true, errUnsettled{err}
		}
		return err
	})
	return lanes, err
}

// again does something until it works, for as long as the cluster is not ready for
// it and that may pass.
func (r *run) again(ctx context.Context, do func() error) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		err := do()
		if err == nil || !isUnsettled(err) || !r.pause(ctx, pause) {
			return err
		}
	}
}

// pause reports whether there is time for another try after it.
func (r *run) pause(ctx context.Context, d time.Duration) bool {
	if !time.Now().Add(d).Before(r.settle) {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// enter returns the link to use, which leave gives up because it is of no more use,
// or because the run is over.
func (r *run) enter() (*kafkaLink, error) {
	if r.link == nil {
		link, err := r.connect()
		if err != nil {
			return nil, err
		}
		r.link = link
	}
	return r.link, nil
}

// leave gives the link back. If something failed on it, the next batch looks at
// everything anew.
func (r *run) leave() {
	if r.link != nil {
		r.release(r.link)
		r.link = nil
	}
}

// balancer is the one of Kafka's own clients, so that others who produce by
// the same keys agree with us on the partition.
var balancer = kafka.Murmur2Balancer{Consistent: true}

// lanes divides a batch by partition, in the order of partitions.
func (r *run) lanes(ctx context.Context, link *kafkaLink) ([]*lane, error) {
	var out []*lane
	found := map[place]*lane{}
	topics := map[tenant.AppID]string{}
	var numbers []int
	for i := range r.batch {
		it := &r.batch[i]
		topic, ok := topics[it.Key.App]
		if !ok {
			topic = expandTopic(r.config.Topic, string(r.org), string(it.Key.App))
			if !isTopic(topic) {
				return nil, errors.New("the topic's name is too long with the organization's and formation's names in it")
			}
			topics[it.Key.App] = topic
		}
		count, err := link.partitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		for n := len(numbers); n < count; n++ {
			numbers = append(numbers, n)
		}
		p := place{topic, int32(balancer.Balance(kafka.Message{Key: []byte(it.Document)}, numbers[:count]...))} //nolint:gosec // below the count
		l := found[p]
		if l == nil {
			l = &lane{place: p, of: count, at: r.producer.at(p), most: len(r.batch)}
			found[p] = l
			out = append(out, l)
		}
		l.queue = append(l.queue, i)
	}
	// Whoever takes several partitions' turns takes them in this order.
	slices.SortFunc(out, func(a, b *lane) int {
		if c := strings.Compare(a.topic, b.topic); c != 0 {
			return c
		}
		return int(a.partition) - int(b.partition)
	})
	return out, nil
}
