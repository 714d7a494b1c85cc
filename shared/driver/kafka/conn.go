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
	tls   bool
	roots *x509.CertPool // nil: the system's
	sasl  sasl.Mechanism
	limit time.Duration // of one attempt
}

func (d *kafkaDialer) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := d.guard.DialContext(ctx, "tcp", address)
	if err != nil || !d.tls {
		return conn, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	secured := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: d.roots, MinVersion: tls.VersionTLS12})
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

	mu       sync.Mutex
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

// errLate says that the turn of a request came too late to begin it.
var errLate = errors.New("time was up")

// exchange sends a request and reads its answer, connecting first if need be. It
// waits for requests before it, and does not begin after until unless that is zero.
func (c *kafkaConn) exchange(parent context.Context, until time.Time, req protocol.Message) (*answer, int16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		c.failed = err
		c.close()
	}
	return a, c.versions[req.ApiKey()], err
}

func (c *kafkaConn) try(ctx context.Context, req protocol.Message) (*answer, error) {
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
	return c.roundTrip(req)
}

// greet agrees on versions and says who we are.
func (c *kafkaConn) greet(ctx context.Context) error {
	a, err := c.roundTrip(&apiversions.Request{})
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
	for key, known := range map[protocol.ApiKey][2]int16{
		protocol.Metadata: {4, 8}, protocol.Produce: {3, 8}, protocol.SaslHandshake: {1, 1}, protocol.SaslAuthenticate: {0, 0},
	} {
		version := min(known[1], offered[key][1])
		if c.versions[key] = version; version < max(known[0], offered[key][0]) && (c.dialer.sasl != nil || key == protocol.Metadata || key == protocol.Produce) {
			return errors.New("the broker is too old, or is none")
		}
	}
	if a.err != nil || c.dialer.sasl == nil {
		return a.err
	}
	return c.authenticate(ctx)
}

func (c *kafkaConn) authenticate(ctx context.Context) error {
	a, err := c.roundTrip(&saslhandshake.Request{Mechanism: c.dialer.sasl.Name()})
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
	a, err := c.roundTrip(&saslauthenticate.Request{AuthBytes: say})
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

func (c *kafkaConn) roundTrip(req protocol.Message) (*answer, error) {
	version := c.versions[req.ApiKey()]
	if p, ok := req.(protocol.PreparedMessage); ok {
		p.Prepare(version)
	}
	c.last++
	if err := protocol.WriteRequest(c.net, version, c.last, "peat-gateway", req); err != nil {
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

var errAnswer = errors.New("the broker's answer is not Kafka's")

// answer is what of a broker's answer is still to be read. It reads zeros after
// its end and keeps the error.
type answer struct {
	rest []byte
	err  error
}

func (a *answer) bytes(n int) []byte {
	if n < 0 || n > len(a.rest) {
		a.rest, a.err = nil, errAnswer
		return nil
	}
	out := a.rest[:n]
	a.rest = a.rest[n:]
	return out
}

func (a *answer) int16() int16 {
	if b := a.bytes(2); b != nil {
		return int16(binary.BigEndian.Uint16(b)) //nolint:gosec // as it is on the wire
	}
	return 0
}

func (a *answer) int32() int32 {
	if b := a.bytes(4); b != nil {
		return int32(binary.BigEndian.Uint32(b)) //nolint:gosec // as it is on the wire
	}
	return 0
}

// string reads a string; null is empty.
func (a *answer) string() string {
	return string(a.bytes(max(0, int(a.int16()))))
}

// count reads the length of a list, which has at least a byte for each element.
func (a *answer) count() int {
	n := max(0, int(a.int32()))
	if n > len(a.rest) {
		a.rest, a.err = nil, errAnswer
		return 0
	}
	return n
}

// describeKafka says what went wrong without addresses of our own network.
func describeKafka(err error) string {
	var code kafka.Error
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return netguard.ErrForbidden.Error()
	case errors.As(err, &code):
		return fmt.Sprintf("the broker answered: %s", strings.ToLower(code.Title()))
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "the broker closed the connection"
	case errors.As(err, &dns):
		return "the broker's name cannot be resolved"
	case errors.As(err, &op) && op.Err != nil:
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
