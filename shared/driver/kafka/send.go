package kafka

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// How much goes into one request: of a partition, since brokers take a little over
// a mebibyte unless they are told otherwise, and of all partitions. A larger event
// goes alone in its partition.
const (
	batchBytes   = 900_000
	requestBytes = 4 << 20
)

// all sends the lanes until each is done or has failed.
func (r *run) all(ctx context.Context, lanes []*lane) {
	left := lanes
	_ = r.again(ctx, func() error {
		r.round(ctx, left)
		var unsettled error
		left = slices.DeleteFunc(slices.Clone(left), func(l *lane) bool {
			if len(l.queue) == 0 || !l.mayGoOn() {
				return true
			}
			unsettled = l.err
			return false
		})
		if unsettled == nil {
			return nil
		}
		r.forget() // the next round asks anew who leads what
		return errUnsettled{unsettled}
	})
	for _, l := range lanes {
		if l.err != nil && len(l.queue) > 0 {
			r.fail(ctx, l)
		}
	}
}

// errUnsettled is worth another try.
type errUnsettled struct{ error }

// isUnsettled reports whether what failed may work in a moment, without anybody's
// doing.
func isUnsettled(err error) bool {
	var marked errUnsettled
	if errors.As(err, &marked) {
		return true
	}
	var code kafka.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.KafkaStorageError,
		kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup:
		return true
	}
	return isMisnumbered(err)
}

// isMisnumbered reports whether a broker remembers other numbers than we do. It has
// appended nothing.
func isMisnumbered(err error) bool {
	var code kafka.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case kafka.OutOfOrderSequenceNumber, kafka.InvalidProducerEpoch, kafka.InvalidProducerIDMapping, kafka.UnknownProducerId:
		return true
	}
	return false
}

// isRefusal reports whether the records are at fault. The broker has appended
// nothing.
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

// isBroken reports whether a connection ended that had worked.
func isBroken(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.As(err, &op) && op.Op == "write" && !op.Timeout()
}

// mayGoOn reports whether a lane that failed is worth another try in this run.
func (l *lane) mayGoOn() bool {
	if l.err != nil && isBroken(l.err) && !l.resent {
		l.resent = true // the broker tells whether it has it already
		return true
	}
	return l.err != nil && isUnsettled(l.err)
}

// round sends to each broker what it leads, until all is sent or has failed. Each
// lane that has not come to its end has an error then, unless time is up.
func (r *run) round(ctx context.Context, lanes []*lane) {
	link, err := r.enter()
	if err == nil {
		err = r.producer.ready(ctx, r.until, link)
	}
	if err != nil {
		for _, l := range lanes {
			if !errors.Is(err, errLate) {
				l.err = err
			}
		}
		return
	}
	brokers := map[string][]*lane{}
	for _, l := range lanes {
		l.err = r.lookUp(ctx, link, l)
		if l.err == nil {
			address := link.leader(l.place)
			brokers[address] = append(brokers[address], l)
		}
	}
	var wg sync.WaitGroup
	for address, theirs := range brokers {
		wg.Go(func() {
			for r.send(ctx, link.conn(address), theirs) {
				theirs = slices.DeleteFunc(theirs, func(l *lane) bool { return l.err != nil || len(l.queue) == 0 })
			}
		})
	}
	wg.Wait()
}

// lookUp makes sure that somebody leads the lane's partition.
func (r *run) lookUp(ctx context.Context, link *kafkaLink, l *lane) error {
	switch count, err := link.partitions(ctx, l.topic); {
	case err != nil:
		return err
	case count != l.of: // its documents may belong elsewhere now
		return errors.New("the topic has another number of partitions than before")
	case link.leader(l.place) == "":
		return kafka.LeaderNotAvailable
	}
	return nil
}

// part is what of a request goes to one partition.
type part struct {
	*lane
	places []int
	sum    uint64
}

// send makes one request of the beginnings of lanes that a broker leads, and
// reports whether there may be more to send.
func (r *run) send(ctx context.Context, c *kafkaConn, lanes []*lane) bool {
	if len(lanes) == 0 || ctx.Err() != nil || !time.Now().Before(r.until) {
		return false
	}
	req := r.requests.Get().(*produceRequest)
	defer r.requests.Put(req)
	req.begin(int16(kafka.RequireAll), r.dialer.limit)
	var parts []part
	for _, l := range lanes {
		if len(parts) > 0 && len(req.bytes) > requestBytes-batchBytes {
			break // the rest go when some of these are done
		}
		if !l.at.take(ctx, r.until) {
			break
		}
		defer l.at.give()
		r.producer.number(l.at)
		parts = append(parts, r.add(req, l))
	}
	if len(parts) == 0 {
		return false
	}
	a, version, err := c.exchange(ctx, r.until, req)
	if errors.Is(err, errLate) {
		return false // not sent
	}
	var codes map[place]int16
	if err == nil {
		codes, err = readProduced(a, version)
	}
	for _, p := range parts {
		failed := err
		if code, ok := codes[p.place]; failed == nil && !ok {
			failed = errAnswer
		} else if failed == nil && code != 0 && kafka.Error(code) != kafka.DuplicateSequenceNumber {
			failed = kafka.Error(code)
		}
		r.answer(p, failed)
	}
	return true
}

// add appends the beginning of a lane to a request. Its turn is taken.
func (r *run) add(req *produceRequest, l *lane) part {
	p := part{lane: l}
	records := func(b []byte) []byte {
		begin := len(b)
		for n, i := range p.places {
			b = appendRecord(b, n, &r.batch[i])
		}
		p.sum = maphash.Bytes(r.producer.sums, b[begin:])
		return b
	}
	if doubt := l.at.doubt; doubt != nil {
		p.places = l.queue[:min(doubt.count, len(l.queue))]
		if records(nil); len(p.places) != doubt.count || p.sum != doubt.sum {
			l.at.renew() // it is not what the broker may have
			p.places = nil
		}
	}
	if p.places == nil {
		n, size := 1, r.batch[l.queue[0]].Size()
		for n < min(len(l.queue), l.most) && size+r.batch[l.queue[n]].Size() <= batchBytes {
			size += r.batch[l.queue[n]].Size()
			n++
		}
		p.places = l.queue[:n]
	}
	req.add(l.place, func(b []byte) []byte {
		return appendBatch(b, l.at.numbering, len(p.places), time.Now(), records)
	})
	return p
}

// answer takes down what became of a part. Its turn is taken.
//
// When a broker refuses a batch for what is in it, less of it is sent next, until
// the event that is to blame is alone.
func (r *run) answer(p part, err error) {
	n := len(p.places)
	switch {
	case err == nil:
		for _, i := range p.places {
			r.outs[i] = driver.Outcome{Verdict: driver.Delivered}
		}
		p.at.settle(n)
		p.queue, p.most = p.queue[n:], max(p.most, 2*n)
	case isMisnumbered(err):
		r.producer.forget(p.at.producer)
		p.err = err
	case !isRefusal(err):
		p.at.doubt = &doubt{n, p.sum}
		p.err = err
	case n > 1:
		p.at.doubt, p.most = nil, n/2
	default:
		p.at.doubt = nil
		r.outs[p.places[0]] = driver.Outcome{Verdict: driver.Refused, Reason: describeKafka(err)}
		p.most = 2
		p.queue = r.behind(p.queue[0], p.queue[1:])
	}
}

// behind leaves out the events of the document that a refused one is of.
func (r *run) behind(refused int, places []int) []int {
	name := driver.DocumentOf(r.batch[refused])
	return slices.DeleteFunc(slices.Clone(places), func(i int) bool { return driver.DocumentOf(r.batch[i]) == name })
}

// forget makes what follows look at the cluster anew. What other partitions have
// under way on the link is not broken off.
func (r *run) forget() {
	if r.link != nil {
		r.drop(r.link)
	}
	r.leave()
}

// fail answers for a lane that failed for reasons that are not its events'.
func (r *run) fail(ctx context.Context, l *lane) {
	r.forget()
	if ctx.Err() != nil {
		return // we broke it off ourselves
	}
	seen := map[string]bool{}
	for _, i := range l.queue {
		if name := driver.DocumentOf(r.batch[i]); !seen[name] {
			seen[name] = true
			r.outs[i] = driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: describeKafka(l.err)}
		}
	}
}
