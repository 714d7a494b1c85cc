package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// How the order of a document is kept.
//
// A server handles what comes on one connection in its order, but it may refuse or
// lose one message (a full stream, a leader that steps down, a limit that was
// changed) and store the next. So of two events of a document that are under way
// at once, the second must not be stored without the first. Two kinds of windows
// see to that:
//
//   - A chain: every message but the first names the one before it in
//     Nats-Expected-Last-Msg-Id, and a stream stores it only if that is the last it
//     has stored. Replicated streams look at this when they apply a message, so it
//     holds there as well. After a gap everything behind it is refused, and goes
//     into the next window. The first message needs no such header: what is before
//     it is acknowledged, or of another document.
//   - A wave: at most one event of each document, and no conditions.
//
// A chain keeps a busy document as fast as many idle ones, but is broken by anybody
// else who writes to the stream; then waves take its place for a while.
//
// A message that the stream knows already is acknowledged as a duplicate before the
// condition is looked at, so repeats after a crash do not break a chain as long as
// the last of them is the stream's last. If it is not, the chain goes on as a new one.
//
// What was sent on a connection that was lost may still be stored while its repeat
// is under way on the next. Both are in the same order, and within each a message
// is only stored behind the one before it, so first arrivals stay in order.
//
// The server's atomic batches would do as well, for streams that allow them. With
// sync_interval always they are five times as fast, with the default five times as
// slow, and a client cannot tell which it is.

// window is what became of the events sent together.
type window struct {
	outs     []driver.Outcome
	whole    bool // all were delivered
	intruded bool // somebody else's message broke the chain
	dead     bool // the connection, or the stream, is of no use any more
}

// publish sends the events at the places given, and waits for the answers.
func (d *natsStream) publish(ctx context.Context, link *natsLink, q *queue, places []int, chained bool) *window {
	a := &answers{window: window{outs: make([]driver.Outcome, len(places))}, state: make([]state, len(places)), link: link, limit: d.limit}
	link.round++
	inbox := link.inbox + "." + strconv.FormatUint(link.round, 36) + "."
	stop := context.AfterFunc(ctx, link.abort) // a server that does not read would hold us
	headers := nats.Header{
		"Content-Type": {"application/cloudevents+json"}, jetstream.ExpectedStreamHeader: {d.config.Stream},
	}
	msg := &nats.Msg{Header: headers}
	last := ""
	refused := map[int]bool{} // documents
	for n, i := range places {
		it := q.batch[i]
		if refused[q.document[i]] {
			continue
		}
		link.body = it.AppendJSON(link.body[:0])
		if o := link.tooLarge(len(link.body), it); o != nil {
			a.settle(n, *o)
			refused[q.document[i]] = true
			continue
		}
		msg.Subject, msg.Reply, msg.Data = d.subject(it), inbox+strconv.Itoa(n), link.body
		headers[jetstream.MsgIDHeader] = []string{it.ID}
		if chained && last != "" {
			headers[jetstream.ExpectedLastMsgIDHeader] = []string{last}
		}
		last = it.ID
		if err := link.conn.PublishMsg(msg); err != nil {
			a.fail(n, err)
			break
		}
		a.state[n] = sent
		a.waiting++
	}
	stop()
	a.collect(ctx, len(inbox))
	a.conclude(ctx)
	return &a.window
}

// state is how far one message is.
type state byte

const (
	unsent state = iota
	sent
	duplicate // delivered, but before
	broken    // refused, since what it was to come behind is not the stream's last
	settled
)

// answers collects what the server says to a window.
type answers struct {
	window
	state   []state
	waiting int
	link    *natsLink
	limit   time.Duration
}

func (a *answers) settle(n int, o driver.Outcome) {
	a.outs[n], a.state[n] = o, settled
	a.dead = a.dead || o.Unreachable
}

func (a *answers) fail(n int, err error) { a.settle(n, judge(err)) }

// collect waits until every message has its answer, or none has come for the limit.
func (a *answers) collect(ctx context.Context, prefix int) {
	heard := time.Now()
	timer := time.NewTimer(a.limit)
	defer timer.Stop()
	for a.waiting > 0 {
		select {
		case m := <-a.link.acks: // first, whatever else there is
			a.take(m, prefix)
			heard = time.Now()
			continue
		default:
		}
		select {
		case m := <-a.link.acks:
			a.take(m, prefix)
			heard = time.Now()
		case <-a.link.lost:
			a.drain(prefix)
			a.silent(driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: describe(a.link.why())})
			return
		case err := <-a.link.said:
			a.silent(driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: describe(err)})
			return
		case <-ctx.Done():
			return
		case <-timer.C:
			if rest := a.limit - time.Since(heard); rest > 0 {
				timer.Reset(rest)
				continue
			}
			a.silent(driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: fmt.Sprintf("no acknowledgement within %s", a.limit)})
			return
		}
	}
}

// drain takes what came before the connection was lost.
func (a *answers) drain(prefix int) {
	for {
		select {
		case m := <-a.link.acks:
			a.take(m, prefix)
		default:
			return
		}
	}
}

// silent gives o to the first message that was not answered. If a later one was, it
// is not the server that is silent.
func (a *answers) silent(o driver.Outcome) {
	first := -1
	for n, s := range a.state {
		switch {
		case s == sent && first < 0:
			first = n
		case s == sent || s == unsent:
		case first >= 0:
			o.Unreachable = false
		}
	}
	if first >= 0 {
		a.outs[first] = o
	}
	a.dead = true
}

// take reads one answer.
func (a *answers) take(m *nats.Msg, prefix int) {
	if len(m.Subject) <= prefix {
		return
	}
	n, err := strconv.Atoi(m.Subject[prefix:])
	if err != nil || n < 0 || n >= len(a.state) || a.state[n] != sent {
		return
	}
	a.waiting--
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		a.fail(n, nats.ErrNoResponders)
		return
	}
	again, err := readAck(m.Data)
	var api *jetstream.APIError
	switch {
	case err == nil && again:
		a.outs[n], a.state[n] = driver.Outcome{Verdict: driver.Delivered}, duplicate
	case err == nil:
		a.settle(n, driver.Outcome{Verdict: driver.Delivered})
	case errors.As(err, &api) && api.ErrorCode == wrongLastMessage:
		a.state[n] = broken
	default:
		a.fail(n, err)
	}
}

// conclude looks at the window as a whole.
func (a *answers) conclude(ctx context.Context) {
	a.whole = true
	for n, o := range a.outs {
		a.whole = a.whole && o.Verdict == driver.Delivered
		// Behind a duplicate it may be what came after the duplicate's first time.
		if n > 0 && a.state[n] == broken && a.state[n-1] == settled && a.outs[n-1].Verdict == driver.Delivered {
			a.intruded = true
		}
	}
	if a.waiting > 0 {
		a.dead = true // a late answer must not be taken for another's
	}
	if ctx.Err() == nil {
		return
	}
	for n := range a.outs {
		if a.outs[n].Verdict == driver.Retry {
			a.outs[n] = driver.Outcome{} // we broke it off ourselves
		}
	}
}

// readAck reads a stream's answer to a message.
func readAck(data []byte) (duplicate bool, err error) {
	// As every server writes it; an error has another form.
	if bytes.HasPrefix(data, []byte(`{"stream":`)) && bytes.Count(data, []byte{':'}) == 2 && bytes.Contains(data, []byte(`"seq":`)) {
		return false, nil
	}
	var ack struct {
		Stream    string              `json:"stream"`
		Sequence  uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
		Error     *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(data, &ack); {
	case err != nil:
		return false, errNoAck
	case ack.Error != nil:
		return false, ack.Error
	case ack.Stream == "" || ack.Sequence == 0:
		return false, errNoAck
	}
	return ack.Duplicate, nil
}

var errNoAck = errors.New("the answer is not an acknowledgement")

// Codes of the server that mean something to us.
const (
	wrongLastMessage jetstream.ErrorCode = 10070
	headerTooLarge   jetstream.ErrorCode = 10097
	inProcess        jetstream.ErrorCode = 10158 // the same message, on another connection
)

// judge tells what is wrong with one event from what is wrong with the sink.
func judge(err error) driver.Outcome {
	o := driver.Outcome{Verdict: driver.Retry, Reason: describe(err)}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		o.Status = strconv.Itoa(int(api.ErrorCode))
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamMessageExceedsMaximum, headerTooLarge:
			o.Verdict = driver.Refused
			return o
		case inProcess:
			return o
		}
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		o.Verdict = driver.Refused
		return o
	}
	// A stream that is full, gone or another one, a connection that is lost: whatever
	// it is, it is so for all.
	o.Unreachable = true
	return o
}
