package kafka

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// kafkaLink is what is known of a cluster, and a connection to each broker that
// is needed. Like a NATS link it is never repaired, only replaced.
//
// Requests are written by kafka-go. Answers are read here: its reader makes room
// for as many elements as an answer says it has, and which broker answers is the
// organization's choice.
type kafkaLink struct {
	dialer  *kafkaDialer
	brokers []string
	users   int // by the driver's lock

	mu     sync.Mutex
	conns  map[string]*kafkaConn // by address
	topics map[string][]string   // the address of each partition's leader; empty if it has none
}

// connect returns a link, to be given back by release.
func (d *kafkaTopic) connect() (*kafkaLink, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errors.New("the sink was changed")
	}
	if d.link == nil {
		d.link = &kafkaLink{dialer: &d.dialer, brokers: d.config.Brokers, conns: map[string]*kafkaConn{}, topics: map[string][]string{}}
	}
	d.link.users++
	return d.link, nil
}

// drop makes the next batch look at everything anew. What other partitions have
// under way on the link is not broken off.
func (d *kafkaTopic) drop(link *kafkaLink) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == link {
		d.link = nil
	}
}

func (d *kafkaTopic) release(link *kafkaLink) {
	d.mu.Lock()
	defer d.mu.Unlock()
	link.users--
	if link.users == 0 && link != d.link {
		link.close()
	}
}

func (d *kafkaTopic) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.link != nil && d.link.users == 0 {
		d.link.close()
	}
	d.link = nil
	return nil
}

func (l *kafkaLink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.close()
	}
}

// conn returns the connection to a broker.
func (l *kafkaLink) conn(address string) *kafkaConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[address]
	if c == nil || !c.usable() {
		c = &kafkaConn{dialer: l.dialer, address: address}
		l.conns[address] = c
	}
	return c
}

// partitions returns how many partitions a topic has.
func (l *kafkaLink) partitions(ctx context.Context, topic string) (int, error) {
	l.mu.Lock()
	leaders := l.topics[topic]
	l.mu.Unlock()
	if leaders == nil {
		if err := l.refresh(ctx, topic); err != nil {
			return 0, err
		}
		l.mu.Lock()
		leaders = l.topics[topic]
		l.mu.Unlock()
	}
	return len(leaders), nil
}

// refresh asks the first broker that answers who leads a topic's partitions.
func (l *kafkaLink) refresh(ctx context.Context, topic string) error {
	var failed error
	for _, address := range l.brokers {
		leaders, err := l.ask(ctx, address, topic)
		if err == nil {
			l.mu.Lock()
			l.topics[topic] = leaders
			l.mu.Unlock()
			return nil
		}
		if failed = err; ctx.Err() != nil {
			break
		}
	}
	return failed
}

func (l *kafkaLink) ask(ctx context.Context, address, topic string) ([]string, error) {
	c := l.conn(address)
	// Whether a topic is made by being asked for is the cluster's choice.
	a, version, err := c.exchange(ctx, time.Time{}, &metadata.Request{TopicNames: []string{topic}, AllowAutoTopicCreation: true})
	if err != nil {
		return nil, err
	}
	leaders, err := readMetadata(a, version)
	return leaders, errors.Join(err, a.err)
}

func readMetadata(a *answer, version int16) ([]string, error) {
	a.int32() // throttle
	brokers := map[int32]string{}
	for range a.count() {
		id, host, port := a.int32(), a.string(), a.int32()
		a.string() // rack
		brokers[id] = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	a.string() // cluster
	a.int32()  // controller
	if a.count() != 1 {
		return nil, errAnswer
	}
	if code := a.int16(); code != 0 {
		return nil, kafka.Error(code)
	}
	a.string() // name
	a.bytes(1) // internal
	count := a.count()
	leaders := make([]string, count)
	for range count {
		a.int16() // without a leader, which shows below
		n, leader := a.int32(), a.int32()
		if version >= 7 {
			a.int32() // epoch
		}
		for range 2 { // replicas, and those in sync
			a.bytes(4 * a.count())
		}
		if version >= 5 {
			a.bytes(4 * a.count()) // offline
		}
		if n < 0 || int(n) >= count {
			return nil, errAnswer
		}
		leaders[n] = brokers[leader]
	}
	if count == 0 {
		return nil, kafka.LeaderNotAvailable
	}
	return leaders, a.err
}

// produce sends records to a partition and waits until all replicas in sync have them.
func (l *kafkaLink) produce(ctx context.Context, until time.Time, topic string, partition int32, records []kafka.Record) error {
	l.mu.Lock()
	leaders := l.topics[topic]
	l.mu.Unlock()
	if int(partition) >= len(leaders) || leaders[partition] == "" {
		return kafka.LeaderNotAvailable
	}
	c := l.conn(leaders[partition])
	a, version, err := c.exchange(ctx, until, &produce.Request{
		Acks: int16(kafka.RequireAll), Timeout: int32(min(l.dialer.limit.Milliseconds()*3/4, 1<<30)), //nolint:gosec // bounded
		Topics: []produce.RequestTopic{{Topic: topic, Partitions: []produce.RequestPartition{{
			Partition: partition, RecordSet: protocol.RecordSet{Records: protocol.NewRecordReader(records...)},
		}}}},
	})
	if err != nil {
		return err
	}
	return readProduced(a, version, partition)
}

func readProduced(a *answer, version int16, partition int32) error {
	if a.count() != 1 {
		return errAnswer
	}
	a.string() // topic
	if a.count() != 1 || a.int32() != partition {
		return errAnswer
	}
	code := a.int16()
	a.bytes(16) // offset and time
	if version >= 5 {
		a.bytes(8) // where the log begins
	}
	if version >= 8 {
		for range a.count() {
			a.int32()
			a.string()
		}
		a.string()
	}
	a.int32() // throttle
	if a.err == nil && code != 0 {
		return kafka.Error(code)
	}
	return a.err
}
