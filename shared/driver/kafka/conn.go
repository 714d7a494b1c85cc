package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"

	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// kafkaDialer makes connections through the guard, whichever broker names them.
type kafkaDialer struct {
	guard *netguard.Guard
	tls   *tls.Config // nil: none
	sasl  sasl.Mechanism
	limit time.Duration // of one attempt
}

func (d *kafkaDialer) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := d.guard.DialContext(ctx, "tcp", address)
	if err != nil || d.tls == nil {
		return conn, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	config := d.tls.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}

// kafkaConn is a connection to one broker, with one request at a time. After any
// trouble it is not used again.
type kafkaConn struct {
	dialer  *kafkaDialer
	address string

	turn     turn
	net      net.Conn
	failed   error
	versions map[protocol.ApiKey]int16
	last     int32 // correlation

	state  sync.Mutex // over what follows; nobody waits for an answer with it
	conn   net.Conn
	closed bool
	used   time.Time
}

// idleTime is how long a connection may be idle before it is not trusted.
const idleTime = time.Minute

// usable reports whether the connection can be expected to work. Brokers close
// those that were idle for long.
func (c *kafkaConn) usable() bool {
	c.state.Lock()
	defer c.state.Unlock()
	if !c.used.IsZero() && time.Since(c.used) > idleTime && c.conn != nil {
		c.closed = true
		_ = c.conn.Close()
	}
	return !c.closed
}

// keep makes conn the connection, unless it was closed before it was there.
func (c *kafkaConn) keep(conn net.Conn) error {
	c.state.Lock()
	defer c.state.Unlock()
	if c.closed {
		return errors.Join(net.ErrClosed, conn.Close())
	}
	c.conn, c.net = conn, conn
	return nil
}

func (c *kafkaConn) close() {
	c.state.Lock()
	defer c.state.Unlock()
	c.closed = true
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

func (c *kafkaConn) touch() {
	c.state.Lock()
	defer c.state.Unlock()
	c.used = time.Now()
}

// errLate says that the turn of a request came too late to begin it, errNotOffered
// that the broker does not know such requests. Nothing was sent.
var (
	errLate       = errors.New("time was up")
	errNotOffered = errors.New("the broker does not know how to do that")
)

// request is what can be asked of a broker.
type request interface {
	key() protocol.ApiKey
	write(w io.Writer, version int16, correlation int32) error
}

// exchange sends a request and reads its answer, connecting first if need be. It
// waits for requests before it, and does not begin after until unless that is zero.
func (c *kafkaConn) exchange(parent context.Context, until time.Time, req request) (*answer, int16, error) {
	if !c.turn.take(parent, until) {
		return nil, 0, errors.Join(errLate, parent.Err())
	}
	defer c.turn.give()
	if c.failed != nil {
		return nil, 0, c.failed
	}
	if !until.IsZero() && !time.Now().Before(until) {
		return nil, 0, errLate
	}
	c.touch()
	defer c.touch()
	ctx, cancel := context.WithTimeout(parent, c.dialer.limit)
	defer cancel()
	stop := context.AfterFunc(ctx, c.close)
	a, err := c.try(ctx, req)
	if !stop() {
		c.failed = ctx.Err() // what was answered holds, but the connection is closed
	}
	if err != nil && !errors.Is(err, errNotOffered) {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		c.failed = err
		c.close()
	}
	return a, c.versions[req.key()], err
}

func (c *kafkaConn) try(ctx context.Context, req request) (*answer, error) {
	if c.net == nil {
		conn, err := c.dialer.dial(ctx, c.address)
		if err == nil {
			err = c.keep(conn)
		}
		if err == nil {
			err = c.greet(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
	if _, ok := c.versions[req.key()]; !ok {
		return nil, errNotOffered
	}
	return c.roundTrip(req)
}

// greet agrees on versions and says who we are.
func (c *kafkaConn) greet(ctx context.Context) error {
	a, err := c.roundTrip(message{&apiversions.Request{}})
	if err != nil {
		return err
	}
	if code := a.int16(); code != 0 {
		return kafka.Error(code)
	}
	offered := map[protocol.ApiKey][2]int16{}
	for range a.count() {
		key := protocol.ApiKey(a.int16())
		offered[key] = [2]int16{a.int16(), a.int16()}
	}
	c.versions = map[protocol.ApiKey]int16{}
	for key, known := range map[protocol.ApiKey]struct {
		least, most int16
		needed      bool
	}{
		protocol.Metadata: {4, 8, true}, protocol.Produce: {3, 8, true},
		protocol.SaslHandshake: {1, 1, c.dialer.sasl != nil}, protocol.SaslAuthenticate: {0, 0, c.dialer.sasl != nil},
		protocol.InitProducerId: {0, 1, false}, protocol.DescribeConfigs: {1, 2, false},
	} {
		theirs, ok := offered[key]
		version := min(known.most, theirs[1])
		switch {
		case ok && version >= max(known.least, theirs[0]):
			c.versions[key] = version
		case known.needed:
			return errors.New("the broker is too old, or is none")
		}
	}
	if a.err != nil || c.dialer.sasl == nil {
		return a.err
	}
	return c.authenticate(ctx)
}

func (c *kafkaConn) authenticate(ctx context.Context) error {
	a, err := c.roundTrip(message{&saslhandshake.Request{Mechanism: c.dialer.sasl.Name()}})
	if err != nil {
		return err
	}
	if code := a.int16(); code != 0 {
		return kafka.Error(code)
	}
	session, say, err := c.dialer.sasl.Start(ctx)
	for done := false; err == nil && !done; {
		var heard []byte
		if heard, err = c.challenge(say); err == nil {
			done, say, err = session.Next(ctx, heard)
		}
	}
	return err
}

// maxIterations bounds the work that a broker can make SCRAM cost us. Kafka's own
// tools allow 16384.
const maxIterations = 1 << 17

func (c *kafkaConn) challenge(say []byte) ([]byte, error) {
	a, err := c.roundTrip(message{&saslauthenticate.Request{AuthBytes: say}})
	if err != nil {
		return nil, err
	}
	if code := a.int16(); code != 0 {
		return nil, kafka.Error(code)
	}
	a.string() // what is wrong
	heard := a.bytes(int(a.int32()))
	for field := range strings.SplitSeq(string(heard), ",") {
		if text, ok := strings.CutPrefix(field, "i="); ok {
			if n, err := strconv.Atoi(text); err != nil || n > maxIterations {
				return nil, errAnswer
			}
		}
	}
	return heard, a.err
}

// maxAnswer is more than a cluster says about one topic.
const maxAnswer = 4 << 20

func (c *kafkaConn) roundTrip(req request) (*answer, error) {
	c.last++
	if err := req.write(c.net, c.versions[req.key()], c.last); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(c.net, head[:]); err != nil {
		return nil, err
	}
	size, id := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:])
	if size < 4 || size > maxAnswer || id != uint32(c.last) { //nolint:gosec // counts from 1
		return nil, errAnswer
	}
	a := &answer{rest: make([]byte, size-4)}
	_, err := io.ReadFull(c.net, a.rest)
	return a, err
}

// describeKafka says what went wrong without addresses of our own network.
func describeKafka(err error) string {
	var code kafka.Error
	var dns *net.DNSError
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var op *net.OpError
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return netguard.ErrForbidden.Error()
	case errors.As(err, &code):
		return fmt.Sprintf("the broker answered: %s (%d)", strings.ToLower(code.Title()), int(code))
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "the broker closed the connection"
	case errors.As(err, &dns):
		return "the broker's name cannot be resolved"
	case errors.As(err, &name):
		return "the broker's certificate is for another name"
	case errors.As(err, &authority):
		return "the broker's certificate is signed by nobody who is trusted"
	case errors.As(err, &invalid):
		return "the broker's certificate has expired or is not for this use"
	case errors.As(err, &op) && op.Err != nil:
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
