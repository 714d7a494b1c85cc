package store

import (
	"context"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// keepIssuerKeys is longer than any keys are believed.
const keepIssuerKeys = 10 * 24 * time.Hour

// IssuerKeys returns the key set of an issuer, and when it was fetched;
// fault.NotFound if there is none.
func (s queries) IssuerKeys(ctx context.Context, name []byte) (set []byte, fetched time.Time, err error) {
	var text string
	var at int64
	err = s.unowned().QueryRowContext(ctx, `SELECT key_set, fetched_at FROM issuer_keys WHERE name = $1`, name).Scan(&text, &at)
	return []byte(text), fromMicros(at), one(err, "no keys of this issuer")
}

// SaveIssuerKeys keeps the key set of an issuer, unless a newer one is there, and forgets
// those that are too old to be of use. It is no part of what a request is for.
func (s *Store) SaveIssuerKeys(ctx context.Context, name, set []byte, fetched time.Time) error {
	return s.InTx(web.Aside(ctx), func(tx *Tx) error {
		if _, err := tx.unowned().ExecContext(ctx, `DELETE FROM issuer_keys WHERE fetched_at < $1`, micros(fetched.Add(-keepIssuerKeys))); err != nil {
			return fmt.Errorf("forget keys of issuers: %w", err)
		}
		_, err := tx.unowned().ExecContext(ctx, `INSERT INTO issuer_keys (name, key_set, fetched_at) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET key_set = excluded.key_set, fetched_at = excluded.fetched_at
			WHERE issuer_keys.fetched_at < excluded.fetched_at`, name, string(set), micros(fetched))
		return err
	})
}
