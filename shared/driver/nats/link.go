package nats

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// natsLink is one connection. It is never repaired, only replaced: the client's
// own reconnecting would send what it had buffered at a time when we have long
// answered "retry" for it.
type natsLink struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	dialer *natsDialer
	lost   chan struct{} // closed with the connection
	said   chan error    // what the server says on its own account: a permission that is missing
	most   int64         // bytes that server and stream take in one message

	// Of who has the turn.
	inbox string // answers come below it
	acks  chan *nats.Msg
	round uint64
	body  []byte
}

// connectLimit is how long a server may take to answer the first time.
const connectLimit = 5 * time.Second

// natsDialer dials for the client, by the guard if there is one.
type natsDialer struct {
	ctx   context.Context // of who connects
	guard *netguard.Guard

	mu      sync.Mutex
	conn    net.Conn // below TLS
	aborted bool
}

func (d *natsDialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, 2*connectLimit)
	defer cancel()
	dial := (&net.Dialer{}).DialContext
	if d.guard != nil {
		dial = d.guard.DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.aborted {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	d.conn = conn
	return conn, nil
}

// abort ends whatever is under way on the connection.
func (d *natsDialer) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aborted = true
	if d.conn != nil {
		_ = d.conn.Close()
	}
}

func (l *natsLink) abort() { l.dialer.abort() }

// close returns when nothing of the connection is left.
func (l *natsLink) close() {
	l.abort() // first, so that nothing below waits for the server
	if l.conn != nil {
		l.conn.Close()
		<-l.lost
	}
}

// why is what ended the connection.
func (l *natsLink) why() error {
	select {
	case err := <-l.said:
		return err
	default:
	}
	if err := l.conn.LastError(); err != nil {
		return err
	}
	return nats.ErrConnectionClosed
}

// connect returns a connection whose stream is there. Its caller has the turn.
func (d *natsStream) connect(ctx context.Context) (*natsLink, error) {
	d.mu.Lock()
	link, closed := d.link, d.closed
	d.mu.Unlock()
	switch {
	case closed:
		return nil, errClosed
	case link != nil && link.conn.IsConnected():
		return link, nil
	case link != nil:
		d.drop(link)
	}
	link, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err = d.prepare(ctx, link); err != nil {
		link.close()
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		link.close()
		return nil, errClosed
	}
	d.link = link
	return link, nil
}

var errClosed = errors.New("the sink was changed")

// dial connects and signs in.
func (d *natsStream) dial(ctx context.Context) (*natsLink, error) {
	link := &natsLink{
		dialer: &natsDialer{ctx: ctx, guard: d.guard}, lost: make(chan struct{}), said: make(chan error, 1),
		acks: make(chan *nats.Msg, 2*windowEvents),
	}
	stop := context.AfterFunc(ctx, link.abort)
	defer stop()
	conn, err := nats.Connect(d.url, append(slices.Clone(d.options), nats.SetCustomDialer(link.dialer),
		nats.ClosedHandler(func(*nats.Conn) { close(link.lost) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case link.said <- err:
			default: // the first says enough
			}
		}))...)
	if err != nil {
		return nil, err
	}
	link.conn, link.inbox = conn, conn.NewInbox()
	if link.js, err = jetstream.New(conn); err == nil {
		_, err = conn.ChanSubscribe(link.inbox+".>", link.acks)
	}
	if err != nil {
		link.close()
		return nil, err
	}
	return link, nil
}

// prepare sees to the stream.
func (d *natsStream) prepare(parent context.Context, link *natsLink) error {
	stop := context.AfterFunc(parent, link.abort)
	defer stop()
	ctx, cancel := context.WithTimeout(parent, d.limit)
	defer cancel()
	// A right that is missing is told beside the answer, which then never comes.
	var denied error
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case denied = <-link.said:
			cancel()
		case <-ctx.Done():
		}
	})
	info, err := d.ensureStream(ctx, link.js)
	cancel()
	watch.Wait()
	if err != nil {
		if denied != nil {
			err = denied
		}
		return err
	}
	link.most = link.conn.MaxPayload()
	if most := int64(info.Config.MaxMsgSize); most > 0 {
		link.most = min(link.most, most)
	}
	return nil
}

// drop lets a connection go, so that the next batch looks at everything anew.
func (d *natsStream) drop(link *natsLink) {
	d.mu.Lock()
	if d.link == link {
		d.link = nil
	}
	d.mu.Unlock()
	link.close()
}

func (d *natsStream) Close() error {
	d.mu.Lock()
	link := d.link
	d.link, d.closed = nil, true
	d.mu.Unlock()
	if link != nil {
		link.close()
	}
	return nil
}

// describe says what went wrong without addresses of our own network.
func describe(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return netguard.ErrForbidden.Error()
	case errors.Is(err, nats.ErrNoServers):
		return "the server does not answer"
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return "no stream takes the events"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return "the server does not answer in time"
	case errors.As(err, &dns):
		return "the server's name cannot be resolved"
	case errors.As(err, &op) && op.Err != nil:
		return op.Op + ": " + op.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "nats: ")
}
