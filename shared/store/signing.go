package store

import (
	"context"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const signingKeyColumns = `org_id, key_id, public, sealed, created_at, retires_at`

func scanSigningKey(r row) (delivery.SigningKey, error) {
	var k delivery.SigningKey
	var created, retires int64
	err := r.Scan(&k.Org, &k.ID, &k.Public, &k.Sealed, &created, &retires)
	k.CreatedAt, k.RetiresAt = fromMicros(created), fromMicros(retires)
	return k, err
}

// SigningKeys returns an organization's keys that are good at the given time, the
// newest first.
func (s queries) SigningKeys(ctx context.Context, org tenant.OrgID, now time.Time) ([]delivery.SigningKey, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+signingKeyColumns+` FROM signing_keys
		WHERE org_id = $1 AND (retires_at = 0 OR retires_at > $2) ORDER BY key_id DESC`, org, micros(now))
	return collect(rows, err, scanSigningKey)
}

// ReplaceSigningKey adds a key. Those that are there retire at the given time if
// they would stay longer, and those that have retired are removed. The webhooks of
// the organization are revised: they sign with other keys from here on.
func (tx *Tx) ReplaceSigningKey(ctx context.Context, k delivery.SigningKey, retire time.Time) error {
	if _, err := tx.of(k.Org).ExecContext(ctx, `DELETE FROM signing_keys WHERE org_id = $1 AND retires_at <> 0 AND retires_at <= $2`,
		k.Org, micros(k.CreatedAt)); err != nil {
		return fmt.Errorf("remove retired signing keys: %w", err)
	}
	if _, err := tx.of(k.Org).ExecContext(ctx, `UPDATE signing_keys SET retires_at = $2
		WHERE org_id = $1 AND (retires_at = 0 OR retires_at > $2)`, k.Org, micros(retire)); err != nil {
		return fmt.Errorf("retire signing keys: %w", err)
	}
	if _, err := tx.of(k.Org).ExecContext(ctx, `INSERT INTO signing_keys (`+signingKeyColumns+`) VALUES ($1, $2, $3, $4, $5, 0)`,
		k.Org, k.ID, k.Public, k.Sealed, micros(k.CreatedAt)); err != nil {
		return fmt.Errorf("insert signing key: %w", err)
	}
	_, err := tx.of(k.Org).ExecContext(ctx, `UPDATE sinks SET revision = revision + 1 WHERE org_id = $1 AND kind = $2`, k.Org, delivery.Webhook)
	return err
}
