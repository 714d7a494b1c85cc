package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const changeColumns = `document_id, position, seq, hash, prev, concurrent, deps, actor, actor_seq, start_op,
	author_time, message, raw, patches, received_at, origin, trace`

// rowSizes are how many changes go into one INSERT: few sizes, so that the
// database meets few different statements.
var rowSizes = []int{64, 8, 1}

// AppendChanges adds settled changes to the end of a formation's log, in the
// order given, and returns the position of the last. Their Position is assigned
// here; the caller guards the transaction with the formation's lease.
func (tx *Tx) AppendChanges(ctx context.Context, key tenant.Key, batch []change.Settled) (uint64, error) {
	if len(batch) == 0 {
		return tx.Position(ctx, key)
	}
	var weight, begun uint64
	for _, c := range batch {
		weight += weigh(c)
		if c.Seq == 1 {
			begun++
		}
	}
	var last, total uint64
	err := tx.of(key.Org).QueryRowContext(ctx, `UPDATE formations SET position = position + $3, bytes = bytes + $4, documents = documents + $5
		WHERE org_id = $1 AND app_id = $2 AND state = 'active' RETURNING position, bytes`, key.Org, key.App, len(batch), weight, begun).Scan(&last, &total)
	if err != nil {
		return 0, one(err, "no active formation %q", key)
	}
	position, bytes := last-uint64(len(batch)), total-weight
	for rest := batch; len(rest) > 0; {
		n := 1
		for _, size := range rowSizes {
			if size <= len(rest) {
				n = size
				break
			}
		}
		if bytes, err = tx.insertChanges(ctx, key, position, bytes, rest[:n]); err != nil {
			return 0, fmt.Errorf("append changes: %w", err)
		}
		position += uint64(n)
		rest = rest[n:]
	}
	return last, tx.advanceDocuments(ctx, key, batch)
}

// weigh is what a change counts for in a lag in bytes.
func weigh(c change.Settled) uint64 { return uint64(len(c.Raw) + len(c.Patches)) }

// insertChanges adds rows after a position, up to which the log weighs bytes, and
// returns what it weighs with them.
func (tx *Tx) insertChanges(ctx context.Context, key tenant.Key, position, bytes uint64, rows []change.Settled) (uint64, error) {
	const columns = 20
	var query strings.Builder
	query.WriteString(`INSERT INTO changes (org_id, app_id, ` + changeColumns + `, bytes) VALUES `)
	args := make([]any, 0, columns*len(rows))
	for i, c := range rows {
		if i > 0 {
			query.WriteByte(',')
		}
		for j := range columns {
			sep := ","
			if j == 0 {
				sep = "("
			}
			fmt.Fprintf(&query, "%s$%d", sep, i*columns+j+1)
		}
		query.WriteByte(')')
		var prev []byte
		if c.Prev != nil {
			prev = c.Prev[:]
		}
		bytes += weigh(c)
		args = append(args, key.Org, key.App, c.Document, position+uint64(i)+1, c.Seq, c.Hash[:], prev, c.Concurrent,
			joinHashes(c.Deps), c.Actor, c.ActorSeq, c.StartOp, c.Time, text(c.Message), c.Raw, c.Patches, micros(c.ReceivedAt), string(c.Origin), c.Trace, bytes)
	}
	_, err := tx.of(key.Org).ExecContext(ctx, query.String(), args...)
	return bytes, err
}

// text replaces what Postgres cannot keep in a text: an author may write any message.
func text(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}

// advanceDocuments records the newest change of each document in the batch.
func (tx *Tx) advanceDocuments(ctx context.Context, key tenant.Key, batch []change.Settled) error {
	newest := make(map[string]change.Settled, len(batch))
	var order []string // the same order every time, so that two transactions never wait for each other
	for _, c := range batch {
		if _, ok := newest[c.Document]; !ok {
			order = append(order, c.Document)
		}
		newest[c.Document] = c
	}
	for _, document := range order {
		c := newest[document]
		if _, err := tx.of(key.Org).ExecContext(ctx, `INSERT INTO documents (org_id, app_id, document_id, seq, last_hash)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (org_id, app_id, document_id) DO UPDATE SET seq = excluded.seq, last_hash = excluded.last_hash`,
			key.Org, key.App, document, c.Seq, c.Hash[:]); err != nil {
			return fmt.Errorf("advance document: %w", err)
		}
	}
	return nil
}

// CountDocuments is how many documents a formation's log knows.
func (s queries) CountDocuments(ctx context.Context, key tenant.Key) (int, error) {
	var n int
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT count(*) FROM documents WHERE org_id = $1 AND app_id = $2`, key.Org, key.App).Scan(&n)
	return n, err
}

// RawChanges calls each with the raw bytes of every change of a document, in the
// order in which they were settled.
func (s queries) RawChanges(ctx context.Context, key tenant.Key, document string, each func(seq uint64, raw []byte) error) error {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT seq, raw FROM changes
		WHERE org_id = $1 AND app_id = $2 AND document_id = $3 ORDER BY seq`, key.Org, key.App, document)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var seq uint64
		var raw []byte
		if err := rows.Scan(&seq, &raw); err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if err := each(seq, raw); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ChangesAfter reads a formation's log after the given position: at most limit
// changes, and no more once they weigh maxBytes together, but always one if there
// is one.
func (s queries) ChangesAfter(ctx context.Context, key tenant.Key, position uint64, limit, maxBytes int) ([]change.Settled, error) {
	return s.readChanges(ctx, limit, maxBytes, `position > $3 ORDER BY position`, key, position)
}

// LastChanges reads the end of a formation's log, the oldest of it first, with the
// limits of ChangesAfter.
func (s queries) LastChanges(ctx context.Context, key tenant.Key, limit, maxBytes int) ([]change.Settled, error) {
	log, err := s.readChanges(ctx, limit, maxBytes, `position > $3 ORDER BY position DESC`, key, 0)
	slices.Reverse(log)
	return log, err
}

// DocumentChanges reads one document's changes from the given seq up to a
// position in the log, with the limits of ChangesAfter.
func (s queries) DocumentChanges(ctx context.Context, key tenant.Key, document string, fromSeq, upTo uint64, limit, maxBytes int) ([]change.Settled, error) {
	return s.readChanges(ctx, limit, maxBytes, `document_id = $3 AND seq >= $4 AND position <= $5 ORDER BY seq`, key, document, fromSeq, upTo)
}

func (s queries) readChanges(ctx context.Context, limit, maxBytes int, where string, key tenant.Key, args ...any) ([]change.Settled, error) {
	args = append(append([]any{key.Org, key.App}, args...), limit)
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+changeColumns+` FROM changes
		WHERE org_id = $1 AND app_id = $2 AND `+where+` LIMIT $`+strconv.Itoa(len(args)), args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := make([]change.Settled, 0, min(limit, 256)) // they are large: growing costs more than what is too much
	for size := 0; size < maxBytes && rows.Next(); {
		c, err := scanChange(rows)
		if err != nil {
			return nil, fmt.Errorf("scan change: %w", err)
		}
		size += int(weigh(c))
		out = append(out, c)
	}
	return out, rows.Err()
}

func scanChange(r *sql.Rows) (change.Settled, error) {
	var c change.Settled
	var hash, prev, deps sql.RawBytes // good until the next row, and copied before
	var received int64
	err := r.Scan(&c.Document, &c.Position, &c.Seq, &hash, &prev, &c.Concurrent, &deps, &c.Actor, &c.ActorSeq, &c.StartOp,
		&c.Time, &c.Message, &c.Raw, &c.Patches, &received, &c.Origin, &c.Trace)
	if err != nil {
		return change.Settled{}, err
	}
	c.ReceivedAt = fromMicros(received)
	if len(hash) != len(c.Hash) || len(deps)%len(c.Hash) != 0 || len(prev)%len(c.Hash) != 0 {
		return change.Settled{}, fault.Invalid.New("the log holds a hash of a wrong length at position %d", c.Position)
	}
	copy(c.Hash[:], hash)
	if len(prev) > 0 {
		c.Prev = new(change.Hash)
		copy(c.Prev[:], prev)
	}
	if len(deps) > 0 {
		c.Deps = make([]change.Hash, 0, len(deps)/len(c.Hash))
	}
	for ; len(deps) > 0; deps = deps[len(c.Hash):] {
		c.Deps = append(c.Deps, change.Hash(deps[:len(c.Hash)]))
	}
	return c, nil
}

func joinHashes(hashes []change.Hash) []byte {
	out := make([]byte, 0, len(change.Hash{})*len(hashes))
	for _, h := range hashes {
		out = append(out, h[:]...)
	}
	return out
}
