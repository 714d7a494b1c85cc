package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/protocol/metadata"
)

// kafkaLink is what is known of a cluster, and a connection to each broker that
// is needed. Like a NATS link it is never repaired, only replaced.
//
// Requests but those to produce are written by kafka-go. Answers are read here: its
// reader makes room for as many elements as an answer says it has, and which broker
// answers is the organization's choice.
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
		c = &kafkaConn{dialer: l.dialer, address: address, turn: newTurn()}
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

// any does something with the first broker that can be talked to.
func (l *kafkaLink) any(ctx context.Context, do func(c *kafkaConn) error) error {
	var failed error
	for _, address := range l.brokers {
		if failed = do(l.conn(address)); failed == nil || ctx.Err() != nil || errors.Is(failed, errLate) {
			break
		}
	}
	return failed
}

// refresh asks who leads a topic's partitions.
func (l *kafkaLink) refresh(ctx context.Context, topic string) error {
	return l.any(ctx, func(c *kafkaConn) error {
		// Whether a topic is made by being asked for is the cluster's choice.
		a, version, err := c.exchange(ctx, time.Time{}, message{&metadata.Request{TopicNames: []string{topic}, AllowAutoTopicCreation: true}})
		if err != nil {
			return err
		}
		m, err := readMetadata(a, version)
		if err == nil {
			err = m.only(topic)
		}
		if err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.topics[topic] = m.leaders(topic)
		return nil
	})
}

// leader is the address of the broker that leads a partition, or "".
func (l *kafkaLink) leader(at place) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if leaders := l.topics[at.topic]; int(at.partition) < len(leaders) {
		return leaders[at.partition]
	}
	return ""
}
