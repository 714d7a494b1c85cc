package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// isOver reports whether it is we who end the attempt. A connection may notice a
// deadline an instant before the context does.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
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
// stuck, and tells where to go on. An event too large to share one is alone, and
// events of two formations never share one.
func nextChunk(batch []driver.Event, from int, stuck map[string]bool) (chunk []int, next int) {
	bytes := 0
	for next = from; next < len(batch) && len(chunk) < redisChunkEvents; next++ {
		if stuck[driver.DocumentOf(batch[next])] {
			continue
		}
		if len(chunk) > 0 && batch[next].Key != batch[chunk[0]].Key {
			return chunk, next
		}
		if bytes += weightOf(batch[next]); bytes > redisChunkBytes && len(chunk) > 0 {
			return chunk, next
		}
		chunk = append(chunk, next)
	}
	return chunk, next
}

// append stores a chunk whole, or returns why it must be taken for not stored.
func (d *redisStream) append(parent context.Context, link *redisLink, batch []driver.Event, chunk []int, asking bool) error {
	stop := context.AfterFunc(parent, link.abort) // the client looks at deadlines, not at cancellation
	defer stop()
	ctx, cancel := context.WithTimeout(parent, d.limit)
	defer cancel()
	if asking {
		if err := link.conn.Do(ctx, "ASKING").Err(); err != nil {
			return err
		}
	}
	room := 0
	for _, i := range chunk {
		room += batch[i].Size() + 64
	}
	text, stream := make([]byte, 0, room), d.stream(batch[chunk[0]])
	commands, err := link.conn.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, i := range chunk {
			it, at := batch[i], len(text)
			text = it.AppendJSON(text)
			p.XAdd(ctx, &redis.XAddArgs{
				Stream: stream, MaxLen: d.config.MaxLen, Approx: d.config.MaxLen > 0,
				Values: []any{"id", it.ID, "document", it.Document, "event", text[at:]},
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

// wait returns when enough replicas have what this connection wrote, and the
// server's disk if asked for.
func (d *redisStream) wait(parent context.Context, link *redisLink) error {
	w := d.config.Wait
	timeout := time.Duration(w.TimeoutMS) * time.Millisecond
	ctx, cancel := context.WithTimeout(parent, d.limit+timeout)
	defer cancel()
	if !w.LocalFsync {
		have, err := link.conn.Wait(ctx, w.Replicas, timeout).Result()
		if err == nil && have < int64(w.Replicas) {
			err = fmt.Errorf("%w: %d of %d within %s", errTooFewReplicas, have, w.Replicas, timeout)
		}
		return err
	}
	have, err := link.conn.Do(ctx, "WAITAOF", 1, w.Replicas, w.TimeoutMS).Int64Slice()
	switch {
	case redis.HasErrorPrefix(err, "unknown command"):
		return errNoWaitAOF
	case err != nil:
		return err
	case len(have) != 2:
		return errors.New("the server's answer to WAITAOF is none")
	case have[0] < 1:
		return fmt.Errorf("the server's disk did not have the events within %s", timeout)
	case have[1] < int64(w.Replicas):
		return fmt.Errorf("%w on their disks: %d of %d within %s", errTooFewReplicas, have[1], w.Replicas, timeout)
	}
	return nil
}

var errNoWaitAOF = errors.New("the server cannot be waited for its disk (wait.local_fsync): that needs Redis 7.2 or later")

func (d *redisStream) stream(it driver.Event) string {
	return strings.NewReplacer("{org}", string(d.org), "{app}", string(it.Key.App)).Replace(d.config.Stream)
}
