package kafka

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"math"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
)

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// producer is who we are to the brokers, for them to tell what they have already.
// It is the driver's and outlives links. A partition's batches are numbered in
// order, and a broker takes each number once:
//
//   - A batch whose answer was lost keeps its number. If the same events come next,
//     be it in another call to Deliver, they are sent as the same batch, and the
//     broker appends it only if it has not.
//   - If others come next, they open another epoch of the partition. From then on
//     the broker refuses what is still under way from before.
//
// Brokers remember the last five batches of a producer in each partition, also over
// a restart; one at a time is sent. Another process is another producer.
type producer struct {
	asking turn
	mu     sync.Mutex
	id     int64 // known if positive or zero
	denied bool  // the cluster gives no numbers, or not to us
	parts  map[place]*partition
	sums   maphash.Seed
}

func newProducer() *producer {
	return &producer{asking: newTurn(), id: -1, parts: map[place]*partition{}, sums: maphash.MakeSeed()}
}

// partition is what was sent to one. Who has the turn may look at it and send.
type partition struct {
	turn
	numbering
	doubt *doubt
}

// doubt is a batch that the broker may or may not have; it is numbered from first.
type doubt struct {
	count int
	sum   uint64 // of the records
}

// turn is a lock whose wait can be called off.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take reports whether the turn came in time; until may be zero.
func (t turn) take(ctx context.Context, until time.Time) bool {
	select {
	case t <- struct{}{}:
		return true
	default:
	}
	if !until.IsZero() {
		var cancel func()
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t turn) give() { <-t }

// at returns a partition; its turn is not taken.
func (p *producer) at(where place) *partition {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.parts[where]
	if at == nil {
		at = &partition{turn: newTurn(), numbering: numbering{producer: -1, epoch: -1, first: -1}}
		p.parts[where] = at
	}
	return at
}

// number gives a partition the producer's present id, if it has another. Only who
// has the partition's turn calls it.
func (p *producer) number(at *partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.producer == p.id {
		return
	}
	at.doubt = nil
	at.numbering = numbering{producer: p.id, epoch: -1, first: -1}
	if p.id >= 0 {
		at.numbering = numbering{producer: p.id}
	}
}

// settle notes that the broker has the next count records, and that those after
// them are the next.
func (at *partition) settle(count int) {
	at.doubt = nil
	if at.producer < 0 {
		return
	}
	if at.first > math.MaxInt32-int32(count) { //nolint:gosec // of one request
		at.renew()
		return
	}
	at.first += int32(count) //nolint:gosec // of one request
}

// renew opens another epoch, so that nothing from before is appended any more once
// the broker knows of it.
func (at *partition) renew() {
	at.doubt = nil
	if at.producer < 0 {
		return
	}
	// After the last epoch comes the first one, which the broker refuses; then we
	// become another producer.
	at.epoch, at.first = max(0, at.epoch+1), 0
}

// forget makes the producer ask for another id, if this is still its own: a broker
// does not agree with our numbers.
func (p *producer) forget(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id == id {
		p.id = -1
	}
}

// ready asks for the producer's id if there is none.
func (p *producer) ready(ctx context.Context, until time.Time, link *kafkaLink) error {
	known := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.id >= 0 || p.denied
	}
	if known() {
		return nil
	}
	if !p.asking.take(ctx, until) {
		return errLate
	}
	defer p.asking.give()
	if known() {
		return nil
	}
	var id int64
	err := link.any(ctx, func(c *kafkaConn) error {
		a, _, err := c.exchange(ctx, until, message{&initproducerid.Request{TransactionTimeoutMs: 60_000}})
		if err == nil {
			id, err = readProducer(a)
		}
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.id = id
	case errors.Is(err, errNotOffered), errors.Is(err, kafka.ClusterAuthorizationFailed), errors.Is(err, kafka.UnsupportedVersion):
		p.denied = true // without numbers, then: what is sent again may be there twice
	default:
		return err
	}
	return nil
}

func readProducer(a *answer) (int64, error) {
	a.int32() // throttle
	code, id, epoch := a.int16(), a.int64(), a.int16()
	switch {
	case a.err != nil:
		return 0, a.err
	case code != 0:
		return 0, kafka.Error(code)
	case id < 0 || epoch != 0: // it is new
		return 0, errAnswer
	}
	return id, nil
}

// message is one of kafka-go's requests.
type message struct{ protocol.Message }

func (m message) key() protocol.ApiKey { return m.ApiKey() }

func (m message) write(w io.Writer, version int16, correlation int32) error {
	return protocol.WriteRequest(w, version, correlation, clientID, m.Message)
}
