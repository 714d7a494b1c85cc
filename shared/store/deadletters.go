package store

import (
	"context"
	"fmt"
	"strings"
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
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+heldColumns+` FROM held h
		WHERE h.org_id = $1 AND h.sink_id = $2 AND h.app_id = $3 ORDER BY h.document_id`, key.Org, sink, key.App)
	return collect(rows, err, func(r row) (delivery.Held, error) { return scanHeld(r) })
}

// SaveHeld adds or changes a held document. The cursor of the sink and formation must exist.
func (tx *Tx) SaveHeld(ctx context.Context, h delivery.Held) error {
	_, err := tx.of(h.Org).ExecContext(ctx, `INSERT INTO held (org_id, sink_id, app_id, document_id, held_id, from_seq, hash, state, attempts,
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
	_, err := tx.of(h.Org).ExecContext(ctx, `DELETE FROM held WHERE org_id = $1 AND sink_id = $2 AND app_id = $3 AND document_id = $4`,
		h.Org, h.Sink, h.App, h.Document)
	return err
}

// deadLetterColumns are a held document and how many changes wait behind its first.
const deadLetterColumns = heldColumns + `, COALESCE((SELECT d.seq - h.from_seq FROM documents d
	WHERE d.org_id = h.org_id AND d.app_id = h.app_id AND d.document_id = h.document_id), 0)`

func scanDeadLetter(r row) (delivery.Held, error) {
	var waiting uint64
	h, err := scanHeld(r, &waiting)
	h.Waiting = waiting
	return h, err
}

// DeadLetter returns one document that a sink holds, in whatever state.
func (s queries) DeadLetter(ctx context.Context, org tenant.OrgID, sink, id string) (delivery.Held, error) {
	h, err := scanDeadLetter(s.of(org).QueryRowContext(ctx, `SELECT `+deadLetterColumns+` FROM held h
		WHERE h.org_id = $1 AND h.sink_id = $2 AND h.held_id = $3`+s.forUpdate, org, sink, id))
	return h, one(err, "no dead letter %q", id)
}

// DeadLetters returns up to limit of a sink's held documents whose id comes after
// the given one, in the order of ids. In a transaction they are its own until it ends.
func (s queries) DeadLetters(ctx context.Context, org tenant.OrgID, sink string, which delivery.DeadLetters, after string, limit int) ([]delivery.Held, error) {
	args := []any{org, sink, after, which.State, which.App, text(which.Document), containing(which.Error), limit}
	ids := ""
	if which.IDs != nil {
		ids = ` AND h.held_id IN (NULL`
		for _, id := range which.IDs {
			args = append(args, id)
			ids += fmt.Sprintf(",$%d", len(args))
		}
		ids += `)`
	}
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+deadLetterColumns+` FROM held h
		WHERE h.org_id = $1 AND h.sink_id = $2 AND h.held_id > $3
		  AND (h.state = $4 OR $4 = '' AND h.state IN ('parked', 'redriving'))
		  AND ($5 = '' OR h.app_id = $5) AND ($6 = '' OR h.document_id = $6)
		  AND ($7 = '' OR lower(h.last_error) LIKE $7 ESCAPE '!')`+ids+`
		ORDER BY h.held_id LIMIT $8`+s.forUpdate, args...)
	return collect(rows, err, scanDeadLetter)
}

// containing is the LIKE pattern of texts that hold part, empty for an empty one.
func containing(part string) string {
	if part == "" {
		return ""
	}
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(text(part))) + "%"
}

// Decide makes of a parked document what an operator said, and it is due now.
// fault.Conflict if it is not parked.
func (tx *Tx) Decide(ctx context.Context, org tenant.OrgID, sink, id string, d delivery.Decision, now time.Time) (delivery.Held, error) {
	h, err := tx.DeadLetter(ctx, org, sink, id)
	if err != nil {
		return h, err
	}
	if h.State != delivery.Parked {
		return h, fault.Conflict.New("dead letter %q is %s, not parked", id, h.State)
	}
	return tx.decide(ctx, h, d, now)
}

// DecideAll is Decide for up to limit parked documents whose id comes after the
// given one. Those that are not parked are left out.
func (tx *Tx) DecideAll(ctx context.Context, org tenant.OrgID, sink string, which delivery.DeadLetters, d delivery.Decision, after string, limit int, now time.Time) ([]delivery.Held, error) {
	which.State = delivery.Parked
	found, err := tx.DeadLetters(ctx, org, sink, which, after, limit)
	if err != nil {
		return nil, err
	}
	for i := range found {
		if found[i], err = tx.decide(ctx, found[i], d, now); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (tx *Tx) decide(ctx context.Context, h delivery.Held, d delivery.Decision, now time.Time) (delivery.Held, error) {
	h.Decide(d)
	// The ladder is climbed anew, from now.
	h.NextAttemptAt, h.Since = time.Time{}, Precise(now)
	return h, tx.SaveHeld(ctx, h)
}
