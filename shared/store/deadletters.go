package store

import (
	"context"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const heldColumns = `h.org_id, h.sink_id, h.app_id, h.document_id, h.held_id, h.from_seq, h.hash, h.state, h.attempts,
	h.next_attempt_at, h.last_error, h.excerpt, h.since, h.skip_seq, h.purge_to`

func scanHeld(r row, more ...any) (delivery.Held, error) {
	var h delivery.Held
	var hash []byte
	var next, since int64
	err := r.Scan(append([]any{&h.Org, &h.Sink, &h.App, &h.Document, &h.ID, &h.FromSeq, &hash, &h.State, &h.Attempts,
		&next, &h.LastError, &h.Excerpt, &since, &h.SkipSeq, &h.PurgeTo}, more...)...)
	copy(h.Hash[:], hash)
	h.NextAttemptAt, h.Since = fromMicros(next), fromMicros(since)
	return h, err
}

// Held returns every document that a sink holds in a formation.
func (s queries) Held(ctx context.Context, key tenant.Key, sink string) ([]delivery.Held, error) {
	rows, err := s.q.QueryContext(ctx, `SELECT `+heldColumns+` FROM held h
		WHERE h.org_id = $1 AND h.sink_id = $2 AND h.app_id = $3 ORDER BY h.document_id`, key.Org, sink, key.App)
	return collect(rows, err, func(r row) (delivery.Held, error) { return scanHeld(r) })
}

// SaveHeld adds or changes a held document. The cursor of the sink and formation must exist.
func (tx *Tx) SaveHeld(ctx context.Context, h delivery.Held) error {
	_, err := tx.q.ExecContext(ctx, `INSERT INTO held (org_id, sink_id, app_id, document_id, held_id, from_seq, hash, state, attempts,
			next_attempt_at, last_error, excerpt, since, skip_seq, purge_to)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (org_id, sink_id, app_id, document_id) DO UPDATE SET from_seq = excluded.from_seq, hash = excluded.hash,
			state = excluded.state, attempts = excluded.attempts, next_attempt_at = excluded.next_attempt_at,
			last_error = excluded.last_error, excerpt = excluded.excerpt, since = excluded.since,
			skip_seq = excluded.skip_seq, purge_to = excluded.purge_to`,
		h.Org, h.Sink, h.App, h.Document, h.ID, h.FromSeq, h.Hash[:], h.State, h.Attempts,
		micros(h.NextAttemptAt), text(h.LastError), text(h.Excerpt), micros(h.Since), h.SkipSeq, h.PurgeTo)
	return err
}

// ReleaseHeld lets a document flow again: all that was queued is delivered.
func (tx *Tx) ReleaseHeld(ctx context.Context, h delivery.Held) error {
	_, err := tx.q.ExecContext(ctx, `DELETE FROM held WHERE org_id = $1 AND sink_id = $2 AND app_id = $3 AND document_id = $4`,
		h.Org, h.Sink, h.App, h.Document)
	return err
}

// DeadLetters returns up to limit parked or redriving documents of a sink whose
// id comes after the given one, with how many changes wait behind each.
func (s queries) DeadLetters(ctx context.Context, org tenant.OrgID, sink, after string, limit int) ([]delivery.Held, error) {
	rows, err := s.q.QueryContext(ctx, `SELECT `+heldColumns+`,
			COALESCE((SELECT d.seq - h.from_seq FROM documents d
				WHERE d.org_id = h.org_id AND d.app_id = h.app_id AND d.document_id = h.document_id), 0)
		FROM held h WHERE h.org_id = $1 AND h.sink_id = $2 AND h.state IN ('parked', 'redriving') AND h.held_id > $3
		ORDER BY h.held_id LIMIT $4`, org, sink, after, limit)
	return collect(rows, err, func(r row) (delivery.Held, error) {
		var waiting uint64
		h, err := scanHeld(r, &waiting)
		h.Waiting = waiting
		return h, err
	})
}

// Redrive makes a parked document due now. skip leaves out its first change: a
// marker goes in its place. fault.Conflict if the document is not parked.
func (tx *Tx) Redrive(ctx context.Context, org tenant.OrgID, sink, id string, skip bool, now time.Time) (delivery.Held, error) {
	h, err := scanHeld(tx.q.QueryRowContext(ctx, `SELECT `+heldColumns+` FROM held h
		WHERE h.org_id = $1 AND h.sink_id = $2 AND h.held_id = $3`+tx.forUpdate, org, sink, id))
	if err != nil {
		return h, one(err, "no dead letter %q", id)
	}
	if h.State != delivery.Parked {
		return h, fault.Conflict.New("dead letter %q is %s, not parked", id, h.State)
	}
	// The ladder is climbed anew, from now.
	h.State, h.Attempts, h.NextAttemptAt, h.Since = delivery.Redriving, 0, time.Time{}, Precise(now)
	if skip {
		h.SkipSeq = h.FromSeq
	}
	return h, tx.SaveHeld(ctx, h)
}
