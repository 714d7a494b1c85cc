package sinks

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
)

func parseRedis(in json.RawMessage, s Settings) (config, error) {
	var all struct {
		redisConfig
		redisSecrets
	}
	if err := decodeConfig(in, &all); err != nil {
		return config{}, err
	}
	c, secrets := all.redisConfig, all.redisSecrets
	if c.URL == "" {
		return config{}, invalid("config/url", "is missing")
	}
	u, err := newGuard(s.AllowPrivate).target(c.URL, "redis", "rediss")
	if err != nil {
		return config{}, err
	}
	if _, _, err := redisTarget(u); err != nil {
		return config{}, invalid("config/url", err.Error())
	}
	if c.Stream == "" {
		c.Stream = defaultRedisStream
	}
	switch {
	case !isStreamTemplate(c.Stream):
		return config{}, invalid("config/stream", "may hold only letters, digits, '-', '_', '.', ':' and '/', at most 256, and {org} and {app}")
	case c.MaxLen < 0:
		return config{}, invalid("config/maxlen", "must be a number of events, or 0 for no limit")
	case c.Username != "" && secrets.Password == "":
		return config{}, invalid("config/username", "needs a password")
	case len(c.Username) > 256 || len(secrets.Password) > maxHeader:
		return config{}, invalid("config/username", "or password is too long")
	}
	if w := c.Wait; w != nil {
		if w.TimeoutMS == 0 {
			w.TimeoutMS = defaultRedisWait
		}
		switch {
		case w.Replicas < 1 || w.Replicas > maxRedisReplicas:
			return config{}, invalid("config/wait/replicas", "must be 1 to 16")
		case w.TimeoutMS < 1 || w.TimeoutMS > maxRedisWait:
			// Without an end a server that lost its replicas would hold us for good.
			return config{}, invalid("config/wait/timeout_ms", "must be 1 to 10000")
		}
	}
	out := config{public: c}
	if secrets != (redisSecrets{}) {
		out.secrets = secrets
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
		return r > 0x7f || !isPlain(byte(r)) && !strings.ContainsRune(".:/", r)
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

func openRedis(o opening) (driver, error) {
	silence()
	var c redisConfig
	var s redisSecrets
	err := json.Unmarshal(o.sink.Config, &c)
	if err == nil && o.secrets != nil {
		err = json.Unmarshal(o.secrets, &s)
	}
	u, broken := url.Parse(c.URL)
	if err != nil || broken != nil {
		return nil, errors.New("the configuration cannot be read")
	}
	address, db, err := redisTarget(u)
	if err != nil {
		return nil, errors.New("the configuration cannot be read")
	}
	d := &redisStream{
		org: o.sink.Org, config: c, address: address, limit: o.settings.AttemptTimeout,
		dial:    newGuard(o.settings.AllowPrivate).DialContext,
		options: redisOptions(address, db, c.Username, s.Password, o.settings.AttemptTimeout),
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
func (d *redisStream) Deliver(ctx context.Context, batch []item, until time.Time) []outcome {
	outs := make([]outcome, len(batch))
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
		if int64(len(first.body)) > link.most {
			outs[chunk[0]] = outcome{verdict: refused, reason: fmt.Sprintf("the event has %d bytes, the server takes at most %d", len(first.body), link.most)}
			stuck[documentOf(first)] = true
			continue
		}
		err := d.append(ctx, link, batch, chunk)
		if err == nil {
			for _, i := range chunk {
				outs[i] = outcome{verdict: delivered}
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
		outs[chunk[0]] = outcome{verdict: retry, reason: fmt.Sprintf("the event has %d bytes, with which the connection broke: %s", len(first.body), d.describe(err))}
		if isTooLarge(err) {
			outs[chunk[0]].verdict = refused
		}
		stuck[documentOf(first)] = true
	}
	return outs
}

// isOver reports whether it is we who end the attempt. A connection may notice a
// deadline an instant before the context does.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

func everything(batch []item) []int {
	all := make([]int, len(batch))
	for i := range all {
		all[i] = i
	}
	return all
}

// fail says of the places given that the server could not take them, and of those
// behind one of the same document that they were not tried.
func (d *redisStream) fail(batch []item, places []int, outs []outcome, err error) []outcome {
	seen := map[string]bool{}
	for _, i := range places {
		if name := documentOf(batch[i]); !seen[name] {
			seen[name] = true
			outs[i] = outcome{verdict: retry, unreachable: true, reason: d.describe(err)}
		}
	}
	return outs
}

// weightOf is about what an event takes on the wire.
func weightOf(it item) int { return len(it.body) + len(it.id) + len(it.document) + headerRoom }

// nextChunk takes what fits into one transaction, without the documents that are
// stuck, and tells where to go on. An event too large to share one is alone.
func nextChunk(batch []item, from int, stuck map[string]bool) (chunk []int, next int) {
	bytes := 0
	for next = from; next < len(batch) && len(chunk) < redisChunkEvents; next++ {
		if stuck[documentOf(batch[next])] {
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
func (d *redisStream) append(parent context.Context, link *redisLink, batch []item, chunk []int) error {
	stop := context.AfterFunc(parent, link.abort) // the client looks at deadlines, not at cancellation
	defer stop()
	ctx, cancel := context.WithTimeout(parent, d.limit)
	defer cancel()
	commands, err := link.conn.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, i := range chunk {
			it := batch[i]
			p.XAdd(ctx, &redis.XAddArgs{
				Stream: d.stream(it), MaxLen: d.config.MaxLen, Approx: d.config.MaxLen > 0,
				Values: []any{"id", it.id, "document", it.document, "event", it.body},
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

func (d *redisStream) stream(it item) string {
	return strings.NewReplacer("{org}", string(d.org), "{app}", string(it.key.App)).Replace(d.config.Stream)
}
