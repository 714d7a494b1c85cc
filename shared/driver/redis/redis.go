// Package redis is the sink that appends to a stream of a Redis server or cluster.
//
//	config.go   what a sink is told, and what of it is refused
//	cluster.go  which server has the stream
//	link.go     one connection, and those kept
//	append.go   transactions, and waiting for copies
//	assess.go   how safe an acknowledged event is
//
// Redis 5 is needed for streams, 6 for users and TLS, 7.2 for waiting for the disk.
package redis

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// redisStream appends events to a stream of a Redis server.
type redisStream struct {
	org     tenant.OrgID
	config  redisConfig
	options redis.Options
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config   // nil: none
	limit   time.Duration // of one attempt
	now     func() time.Time

	mu     sync.Mutex
	known  []string          // addresses that may be asked, those that answered first
	owners map[string]string // stream → address of the server that has it; of a cluster
	idle   []*redisLink
	closed bool
}

// Open makes a driver of it.
func Open(o driver.Opening) (driver.Driver, error) {
	silence()
	var c redisConfig
	var s redisSecrets
	if err := o.Read(&c, &s); err != nil {
		return nil, err
	}
	nodes, err := c.open()
	if err != nil {
		return nil, err
	}
	d := &redisStream{
		org: o.Org, config: c, limit: o.AttemptTimeout, now: o.Now, owners: map[string]string{},
		dial:    netguard.New(o.AllowPrivate).DialContext,
		options: redisOptions(nodes[0].db, c.Username, s.Password, o.AttemptTimeout),
	}
	if d.now == nil {
		d.now = time.Now
	}
	for _, n := range nodes {
		d.known = append(d.known, n.address)
	}
	if nodes[0].tls {
		if d.tls, err = c.TLS.Open(s.TLSKey); err != nil {
			return nil, err
		}
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
//     which is of one formation and so of one stream. A server of a cluster that has
//     not, or no longer, the stream refuses the whole too.
//   - When the connection is lost the chunk is there whole or not at all, and we do
//     not know which. All of it counts as not delivered and comes again. So it does
//     if a server executes it only later, from its buffers: a chunk begins where
//     everything before it was acknowledged, so late ones only repeat, under equal
//     ids, what came, and first arrivals stay in order.
//
// A plain pipeline has neither: it goes on behind a command that failed.
func (d *redisStream) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	var link *redisLink
	defer func() { d.give(link) }()
	stuck := map[string]bool{}
	for from := 0; from < len(batch) && ctx.Err() == nil && time.Now().Before(until); {
		var chunk []int
		if chunk, from = nextChunk(batch, from, stuck); len(chunk) == 0 {
			break
		}
		var err error
		if link, err = d.reach(ctx, link, d.stream(batch[chunk[0]])); err != nil {
			if isOver(ctx) {
				return outs
			}
			return d.fail(batch, chunk, outs, err)
		}
		first := batch[chunk[0]]
		if int64(first.Size()) > link.most {
			outs[chunk[0]] = driver.Outcome{Verdict: driver.Refused, Reason: fmt.Sprintf("the event has %d bytes, the server takes at most %d", first.Size(), link.most)}
			stuck[driver.DocumentOf(first)] = true
			continue
		}
		link, err = d.send(ctx, link, batch, chunk)
		if err == nil {
			for _, i := range chunk {
				outs[i] = driver.Outcome{Verdict: driver.Delivered}
			}
			continue
		}
		link.close()
		d.forget(d.stream(first))
		switch {
		case isOver(ctx): // we broke it off ourselves
			return outs
		case weightOf(first) <= redisChunkBytes || isServerError(err) && !isTooLarge(err):
			return d.fail(batch, chunk, outs, err)
		}
		// A server that we may not ask for its limits closes the connection on an
		// event beyond them. If it still answers, the event is the cause, and must not
		// stop all others.
		next, gone := d.connect(ctx, link.address)
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
