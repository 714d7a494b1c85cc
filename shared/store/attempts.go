package store

import (
	"context"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// maxAttempts is how many attempts on a held document are kept, the latest ones.
const maxAttempts = 50

// AddAttempt records a try at a held document.
func (tx *Tx) AddAttempt(ctx context.Context, org tenant.OrgID, sink string, a delivery.Attempt) error {
	if _, err := tx.of(org).ExecContext(ctx, `INSERT INTO attempts (org_id, sink_id, held_id, attempt_id, seq, at, status, error, excerpt)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		org, sink, a.Held, newID(time.Now()), a.Seq, micros(a.At), a.Status, text(a.Error), text(a.Excerpt)); err != nil {
		return err
	}
	_, err := tx.of(org).ExecContext(ctx, `DELETE FROM attempts WHERE org_id = $1 AND sink_id = $2 AND held_id = $3 AND attempt_id <= (
			SELECT attempt_id FROM attempts WHERE org_id = $1 AND sink_id = $2 AND held_id = $3 ORDER BY attempt_id DESC LIMIT 1 OFFSET $4)`,
		org, sink, a.Held, maxAttempts)
	return err
}

// Attempts returns what was tried at a held document, the oldest first.
func (s queries) Attempts(ctx context.Context, org tenant.OrgID, sink, held string) ([]delivery.Attempt, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT held_id, seq, at, status, error, excerpt FROM attempts
		WHERE org_id = $1 AND sink_id = $2 AND held_id = $3 ORDER BY attempt_id`, org, sink, held)
	return collect(rows, err, func(r row) (delivery.Attempt, error) {
		var a delivery.Attempt
		var at int64
		err := r.Scan(&a.Held, &a.Seq, &at, &a.Status, &a.Error, &a.Excerpt)
		a.At = fromMicros(at)
		return a, err
	})
}
