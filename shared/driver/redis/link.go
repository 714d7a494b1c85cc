package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// redisLink is one connection. It is never repaired, only replaced: what was sent
// on it and not answered has been answered "retry" for.
type redisLink struct {
	client  *redis.Client // a pool of this one connection
	conn    *redis.Conn
	address string
	raw     net.Conn  // below TLS
	secure  net.Conn  // TLS, if there is any
	most    int64     // bytes the server takes in one event
	used    time.Time // when it answered last
	once    sync.Once
	gone    atomic.Bool
}

// abort ends whatever is under way on the connection; its user still has to close it.
func (l *redisLink) abort() {
	l.gone.Store(true)
	_ = l.raw.Close()
}

func (l *redisLink) close() {
	l.once.Do(func() {
		l.abort() // first, so that nothing below waits for the server
		_ = l.conn.Close()
		_ = l.client.Close()
	})
}

// redisOptions has the client do nothing by itself: no second try, no second
// connection, no following of what a server says about others.
func redisOptions(db int, username, password string, limit time.Duration) redis.Options {
	return redis.Options{
		Addr: "the server", DB: db, Username: username, Password: password,
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:               -1, DialerRetries: 1, PoolSize: 1,
		ReadTimeout: limit, WriteTimeout: limit, ContextTimeoutEnabled: true,
	}
}

// quiet is where the client's own log goes: what matters of it is in the errors,
// and it names addresses.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// silence sets that log, which the client has one of for the whole process.
var silence = sync.OnceFunc(func() { redis.SetLogger(quiet{}) })

const (
	redisIdle  = 4           // connections kept between batches, for each server known
	redisFresh = time.Second // for how long a kept one is not asked whether it is there
)

// take returns a connection to the server at the address, which is this caller's
// until it gives it back.
func (d *redisStream) take(ctx context.Context, address string) (*redisLink, error) {
	for {
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			return nil, errors.New("the sink was changed")
		}
		var link *redisLink
		for i := len(d.idle) - 1; i >= 0 && link == nil; i-- {
			if d.idle[i].address == address {
				link, d.idle = d.idle[i], slices.Delete(d.idle, i, i+1)
			}
		}
		d.mu.Unlock()
		if link == nil {
			return d.connect(ctx, address)
		}
		if time.Since(link.used) < redisFresh || d.ping(ctx, link) == nil {
			return link, nil
		}
		link.close()
	}
}

// give takes a connection back; nil is none.
func (d *redisStream) give(link *redisLink) {
	if link == nil {
		return
	}
	link.used = time.Now()
	d.mu.Lock()
	keep := !d.closed && !link.gone.Load() && len(d.idle) < redisIdle*len(d.known)
	if keep {
		d.idle = append(d.idle, link)
	}
	d.mu.Unlock()
	if !keep {
		link.close()
	}
}

// connect returns a new connection on which the server answers.
func (d *redisStream) connect(parent context.Context, address string) (*redisLink, error) {
	ctx, cancel := context.WithTimeout(parent, d.limit)
	defer cancel()
	raw, err := d.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := raw
	if d.tls != nil {
		config := d.tls.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		conn = secure
	}
	var handed atomic.Bool
	options := d.options
	options.Dialer = func(context.Context, string, string) (net.Conn, error) {
		if handed.Swap(true) {
			return nil, net.ErrClosed
		}
		return conn, nil
	}
	link := &redisLink{address: address, raw: raw, secure: conn, client: redis.NewClient(&options)}
	link.conn = link.client.Conn()
	stop := context.AfterFunc(parent, link.abort)
	defer stop()
	if err := d.ping(parent, link); err != nil {
		link.close()
		return nil, err
	}
	link.most = d.most(ctx, link)
	return link, nil
}

func (d *redisStream) ping(parent context.Context, link *redisLink) error {
	stop := context.AfterFunc(parent, link.abort)
	defer stop()
	ctx, cancel := context.WithTimeout(parent, d.limit)
	defer cancel()
	return link.conn.Ping(ctx).Err()
}

// most asks for the largest event the server takes. Many do not let everybody ask;
// for those it is what a server has when nobody set it.
func (d *redisStream) most(ctx context.Context, link *redisLink) int64 {
	most := int64(512 << 20)
	for name, room := range map[string]int64{"proto-max-bulk-len": 0, "client-query-buffer-limit": 8 * headerRoom} {
		if set, err := link.conn.ConfigGet(ctx, name).Result(); err == nil {
			if n, err := strconv.ParseInt(set[name], 10, 64); err == nil && n > room {
				most = min(most, n-room)
			}
		}
	}
	return most
}

func (d *redisStream) Close() error {
	d.mu.Lock()
	idle := d.idle
	d.idle, d.closed = nil, true
	d.mu.Unlock()
	for _, link := range idle {
		link.close()
	}
	return nil
}

// isServerError reports whether it is the server that says so.
func isServerError(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// isTooLarge reports whether the server will never take an event of this size.
func isTooLarge(err error) bool {
	return redis.HasErrorPrefix(err, "Protocol error: invalid bulk length") || redis.HasErrorPrefix(err, "Elements are too large")
}

// describe says what went wrong without addresses of our own network.
func (d *redisStream) describe(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var plain tls.RecordHeaderError
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return netguard.ErrForbidden.Error()
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return "the key of the stream " + d.config.Stream + " holds something else"
	case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"), redis.HasErrorPrefix(err, "CROSSSLOT"):
		if d.config.Cluster {
			return "no server of the cluster says that it has the stream"
		}
		return "the server is one of a cluster that has the stream elsewhere; the sink needs cluster: true"
	case redis.HasErrorPrefix(err, "unknown command"):
		return "the server does not know streams" // what it says besides quotes the event
	case isServerError(err):
		return "the server answered " + driver.Excerpt([]byte(err.Error()))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer within " + d.limit.String()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection"
	case errors.As(err, &dns):
		return "the server's name cannot be resolved"
	case errors.As(err, &plain):
		return "the server does not speak TLS"
	case errors.As(err, &op) && op.Err != nil:
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
