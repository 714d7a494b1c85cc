package store

import (
	"context"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// AddDestruction keeps the record of a formation's end. There is no way to remove it.
func (tx *Tx) AddDestruction(ctx context.Context, org tenant.OrgID, d tenant.SignedDestruction) error {
	_, err := tx.of(org).ExecContext(ctx, `INSERT INTO destructions (org_id, destruction_id, destroyed_at, statement, signature) VALUES ($1, $2, $3, $4, $5)`,
		org, d.ID, micros(d.At), d.Statement, d.Signature)
	return err
}

// Destructions returns up to limit records of an organization's destroyed formations,
// the oldest first, after the one with the given id. Those of an earlier organization
// of the same name are not among them: since is when this one was made.
func (s queries) Destructions(ctx context.Context, org tenant.OrgID, since time.Time, after string, limit int) ([]tenant.SignedDestruction, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT destruction_id, destroyed_at, statement, signature FROM destructions
		WHERE org_id = $1 AND destruction_id > $2 AND destroyed_at >= $4 ORDER BY destruction_id LIMIT $3`, org, after, limit, micros(since))
	return collect(rows, err, func(r row) (tenant.SignedDestruction, error) {
		var d tenant.SignedDestruction
		var at int64
		err := r.Scan(&d.ID, &at, &d.Statement, &d.Signature)
		d.At = fromMicros(at)
		return d, err
	})
}
