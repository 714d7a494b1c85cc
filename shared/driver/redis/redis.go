// Package redis is the sink that appends to a stream of a Redis server.
package redis

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// redisConfig is what a Redis sink shows.
type redisConfig struct {
	URL      string     `json:"url"`
	Stream   string     `json:"stream"` // {org} and {app} stand for the names of the event's
	MaxLen   int64      `json:"maxlen,omitempty"`
	Username string     `json:"username,omitempty"`
	Wait     *redisWait `json:"wait,omitempty"`
}

// redisWait asks for copies on replicas before an event counts as delivered.
type redisWait struct {
	Replicas  int `json:"replicas"`
	TimeoutMS int `json:"timeout_ms"`
}

// redisSecrets is what it keeps sealed.
type redisSecrets struct {
	Password string `json:"password,omitempty"`
}

const (
	defaultRedisStream = "peat.{org}.{app}"
	defaultRedisWait   = 1000  // milliseconds
	maxRedisWait       = 10000 // milliseconds
	maxRedisReplicas   = 16
	maxPassword        = 4096
	headerRoom         = 512 // more than the rest of an entry takes
)

// Parse checks the configuration of a Redis sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var all struct {
		redisConfig
		redisSecrets
	}
	if err := driver.Prior(prior, &all.redisSecrets); err != nil {
		return driver.Config{}, err
	}
	if err := driver.DecodeConfig(in, &all); err != nil {
		return driver.Config{}, err
	}
	c, secrets := all.redisConfig, all.redisSecrets
	if c.URL == "" {
		return driver.Config{}, driver.Invalid("config/url", "is missing")
	}
	u, err := netguard.New(s.AllowPrivate).URL(c.URL, "redis", "rediss")
	if err != nil {
		return driver.Config{}, driver.Invalid("config/url", err.Error())
	}
	if _, _, err := redisTarget(u); err != nil {
		return driver.Config{}, driver.Invalid("config/url", err.Error())
	}
	if c.Stream == "" {
		c.Stream = defaultRedisStream
	}
	switch {
	case !isStreamTemplate(c.Stream):
		return driver.Config{}, driver.Invalid("config/stream", "may hold only letters, digits, '-', '_', '.', ':' and '/', at most 256, and {org} and {app}")
	case c.MaxLen < 0:
		return driver.Config{}, driver.Invalid("config/maxlen", "must be a number of events, or 0 for no limit")
	case c.Username != "" && secrets.Password == "":
		return driver.Config{}, driver.Invalid("config/username", "needs a password")
	case len(c.Username) > 256 || len(secrets.Password) > maxPassword:
		return driver.Config{}, driver.Invalid("config/username", "or password is too long")
	}
	if w := c.Wait; w != nil {
		if w.TimeoutMS == 0 {
			w.TimeoutMS = defaultRedisWait
		}
		switch {
		case w.Replicas < 1 || w.Replicas > maxRedisReplicas:
			return driver.Config{}, driver.Invalid("config/wait/replicas", "must be 1 to 16")
		case w.TimeoutMS < 1 || w.TimeoutMS > maxRedisWait:
			// Without an end a server that lost its replicas would hold us for good.
			return driver.Config{}, driver.Invalid("config/wait/timeout_ms", "must be 1 to 10000")
		}
	}
	out := driver.Config{Public: c}
	if secrets != (redisSecrets{}) {
		out.Secrets = secrets
	}
	return out, nil
}

// redisTarget divides a URL: the server's address, the database's number.
func redisTarget(u *url.URL) (address string, db int, err error) {
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if number, path := strings.CutPrefix(u.Path, "/"); path && number != "" {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return "", 0, errors.New("may have only the number of a database as its path")
		}
		db = int(n)
	}
	if u.RawQuery != "" {
		return "", 0, errors.New("must not hold a query")
	}
	return net.JoinHostPort(u.Hostname(), port), db, nil
}

// isStreamTemplate reports whether s names a stream once {org} and {app} are
// filled in. No other braces: in a cluster they would mean something.
func isStreamTemplate(s string) bool {
	plain := strings.NewReplacer("{org}", "o", "{app}", "a").Replace(s)
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(plain, func(r rune) bool {
		return r > 0x7f || !driver.IsPlain(byte(r)) && !strings.ContainsRune(".:/", r)
	})
}

// redisStream appends events to a stream of a Redis server.
type redisStream struct {
	org     tenant.OrgID
	config  redisConfig
	address string
	options redis.Options
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config   // nil: none
	limit   time.Duration // of one attempt

	mu     sync.Mutex
	idle   []*redisLink
	closed bool
}

// Open makes a driver of it.
func Open(o driver.Opening) (driver.Driver, error) {
	silence()
	var c redisConfig
	var s redisSecrets
	err := o.Read(&c, &s)
	u, broken := url.Parse(c.URL)
	if err != nil || broken != nil {
		return nil, errors.New("the configuration cannot be read")
	}
	address, db, err := redisTarget(u)
	if err != nil {
		return nil, errors.New("the configuration cannot be read")
	}
	d := &redisStream{
		org: o.Org, config: c, address: address, limit: o.AttemptTimeout,
		dial:    netguard.New(o.AllowPrivate).DialContext,
		options: redisOptions(address, db, c.Username, s.Password, o.AttemptTimeout),
	}
	if u.Scheme == "rediss" {
		d.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	return d, nil
}

// What one transaction may hold. A server has it in memory twice for a moment, and
// serves nobody else while it executes it. The bytes are half of what the settings
// proto-max-bulk-len and client-query-buffer-limit can be set to at the least, so
// only an event that is alone can be too large for a server.
const (
	redisChunkEvents = 256
	redisChunkBytes  = 512 << 10
)

// Deliver appends the batch in chunks, each a transaction (MULTI … EXEC), the next
// after the answer to the one before.
//
// Why this keeps the order of a document:
//
//   - What a server refuses while it queues (OOM, READONLY, NOPERM, LOADING …) makes
//     EXEC refuse the whole. Once EXEC runs, nothing comes between and memory is not
//     asked about again, so there is no stored event behind one that is not. What can
//     fail inside (WRONGTYPE) is the stream's fault and so fails for all of the chunk,
//     which is of one formation and so of one stream.
//   - When the connection is lost the chunk is there whole or not at all, and we do
//     not know which. All of it counts as not delivered and comes again. So it does
//     if a server executes it only later, from its buffers: a chunk begins where
//     everything before it was acknowledged, so late ones only repeat, under equal
//     ids, what came, and first arrivals stay in order.
//
// A plain pipeline has neither: it goes on behind a command that failed.
func (d *redisStream) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	link, err := d.take(ctx)
	if err != nil {
		if isOver(ctx) {
			return outs
		}
		return d.fail(batch, everything(batch), outs, err)
	}
	defer func() { d.give(link) }()
	stuck := map[string]bool{}
	for from := 0; from < len(batch) && ctx.Err() == nil && time.Now().Before(until); {
		var chunk []int
		if chunk, from = nextChunk(batch, from, stuck); len(chunk) == 0 {
			break
		}
		first := batch[chunk[0]]
		if int64(first.Size()) > link.most {
			outs[chunk[0]] = driver.Outcome{Verdict: driver.Refused, Reason: fmt.Sprintf("the event has %d bytes, the server takes at most %d", first.Size(), link.most)}
			stuck[driver.DocumentOf(first)] = true
			continue
		}
		err := d.append(ctx, link, batch, chunk)
		if err == nil {
			for _, i := range chunk {
				outs[i] = driver.Outcome{Verdict: driver.Delivered}
			}
			continue
		}
		link.close()
		switch {
		case isOver(ctx): // we broke it off ourselves
			return outs
		case weightOf(first) <= redisChunkBytes || isServerError(err) && !isTooLarge(err):
			return d.fail(batch, chunk, outs, err)
		}
		// A server that we may not ask for its limits closes the connection on an
		// event beyond them. If it still answers, the event is the cause, and must not
		// stop all others.
		next, gone := d.connect(ctx)
		if gone != nil {
			return d.fail(batch, chunk, outs, err)
		}
		link = next
		outs[chunk[0]] = driver.Outcome{Verdict: driver.Retry, Reason: fmt.Sprintf("the event has %d bytes, with which the connection broke: %s", first.Size(), d.describe(err))}
		if isTooLarge(err) {
			outs[chunk[0]].Verdict = driver.Refused
		}
		stuck[driver.DocumentOf(first)] = true
	}
	return outs
}

// isOver reports whether it is we who end the attempt. A connection may notice a
// deadline an instant before the context does.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

func everything(batch []driver.Event) []int {
	all := make([]int, len(batch))
	for i := range all {
		all[i] = i
	}
	return all
}

// fail says of the places given that the server could not take them, and of those
// behind one of the same document that they were not tried.
func (d *redisStream) fail(batch []driver.Event, places []int, outs []driver.Outcome, err error) []driver.Outcome {
	seen := map[string]bool{}
	for _, i := range places {
		if name := driver.DocumentOf(batch[i]); !seen[name] {
			seen[name] = true
			outs[i] = driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: d.describe(err)}
		}
	}
	return outs
}

// weightOf is about what an event takes on the wire.
func weightOf(it driver.Event) int { return it.Size() + len(it.ID) + len(it.Document) + headerRoom }

// nextChunk takes what fits into one transaction, without the documents that are
// stuck, and tells where to go on. An event too large to share one is alone.
func nextChunk(batch []driver.Event, from int, stuck map[string]bool) (chunk []int, next int) {
	bytes := 0
	for next = from; next < len(batch) && len(chunk) < redisChunkEvents; next++ {
		if stuck[driver.DocumentOf(batch[next])] {
			continue
		}
		if bytes += weightOf(batch[next]); bytes > redisChunkBytes && len(chunk) > 0 {
			return chunk, next
		}
		chunk = append(chunk, next)
	}
	return chunk, next
}

// append stores a chunk whole, or returns why it must be taken for not stored.
func (d *redisStream) append(parent context.Context, link *redisLink, batch []driver.Event, chunk []int) error {
	stop := context.AfterFunc(parent, link.abort) // the client looks at deadlines, not at cancellation
	defer stop()
	ctx, cancel := context.WithTimeout(parent, d.limit)
	defer cancel()
	commands, err := link.conn.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, i := range chunk {
			it := batch[i]
			p.XAdd(ctx, &redis.XAddArgs{
				Stream: d.stream(it), MaxLen: d.config.MaxLen, Approx: d.config.MaxLen > 0,
				Values: []any{"id", it.ID, "document", it.Document, "event", it.Structured()},
			})
		}
		return nil
	})
	// EXEC says only that something was wrong; the command says what.
	for _, c := range commands {
		if c.Err() != nil && !redis.HasErrorPrefix(c.Err(), "EXECABORT") {
			return c.Err()
		}
	}
	if err != nil || d.config.Wait == nil {
		return err
	}
	return d.wait(parent, link)
}

var errTooFewReplicas = errors.New("too few replicas have the events")

// wait returns when enough replicas have what this connection wrote.
func (d *redisStream) wait(parent context.Context, link *redisLink) error {
	timeout := time.Duration(d.config.Wait.TimeoutMS) * time.Millisecond
	ctx, cancel := context.WithTimeout(parent, d.limit+timeout)
	defer cancel()
	have, err := link.conn.Wait(ctx, d.config.Wait.Replicas, timeout).Result()
	if err == nil && have < int64(d.config.Wait.Replicas) {
		err = fmt.Errorf("%w: %d of %d within %s", errTooFewReplicas, have, d.config.Wait.Replicas, timeout)
	}
	return err
}

func (d *redisStream) stream(it driver.Event) string {
	return strings.NewReplacer("{org}", string(d.org), "{app}", string(it.Key.App)).Replace(d.config.Stream)
}
