package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const enrollmentTokenColumns = `org_id, app_id, token_id, hash, label, max_uses, uses, tier, permissions,
	created_at, created_by, expires_at, revoked_at, reason, used_at`

func scanEnrollmentToken(r row) (enrollment.Token, error) {
	var t enrollment.Token
	var created, expires, revoked, used int64
	err := r.Scan(&t.Org, &t.App, &t.ID, &t.Hash, &t.Label, &t.MaxUses, &t.Uses, &t.Grant.Tier, &t.Grant.Permissions,
		&created, &t.CreatedBy, &expires, &revoked, &t.Reason, &used)
	t.CreatedAt, t.ExpiresAt, t.RevokedAt, t.UsedAt = fromMicros(created), fromMicros(expires), fromMicros(revoked), fromMicros(used)
	return t, err
}

// EnrollmentToken returns a formation's token.
func (s queries) EnrollmentToken(ctx context.Context, key tenant.Key, id string) (enrollment.Token, error) {
	t, err := scanEnrollmentToken(s.of(key.Org).QueryRowContext(ctx, `SELECT `+enrollmentTokenColumns+` FROM enrollment_tokens
		WHERE org_id = $1 AND app_id = $2 AND token_id = $3`, key.Org, key.App, id))
	return t, one(err, "no token %q", id)
}

// FindEnrollmentToken returns the formation's token with one of these hashes, as it
// stands and without a use of it; fault.Unauthenticated if there is none.
func (s queries) FindEnrollmentToken(ctx context.Context, key tenant.Key, hashes [][]byte) (enrollment.Token, error) {
	for _, hash := range hashes {
		t, err := scanEnrollmentToken(s.of(key.Org).QueryRowContext(ctx, `SELECT `+enrollmentTokenColumns+` FROM enrollment_tokens
			WHERE org_id = $1 AND app_id = $2 AND hash = $3`, key.Org, key.App, hash))
		if !errors.Is(err, sql.ErrNoRows) {
			return t, err
		}
	}
	return enrollment.Token{}, fault.Unauthenticated.New("the enrollment token is not known")
}

// EnrollmentTokens returns up to limit of a formation's tokens whose id comes after
// the given one; fault.NotFound if there is no such formation.
func (s queries) EnrollmentTokens(ctx context.Context, key tenant.Key, after string, limit int) ([]enrollment.Token, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+enrollmentTokenColumns+` FROM enrollment_tokens
		WHERE org_id = $1 AND app_id = $2 AND token_id > $3 ORDER BY token_id LIMIT $4`, key.Org, key.App, after, limit)
	list, err := collect(rows, err, scanEnrollmentToken)
	if err == nil && len(list) == 0 {
		_, err = s.Formation(ctx, key)
	}
	return list, err
}

// CreateEnrollmentToken adds a token; fault.NotFound if there is no such formation.
func (tx *Tx) CreateEnrollmentToken(ctx context.Context, t enrollment.Token) error {
	// A row may be left of one that was destroyed.
	if _, err := tx.Formation(ctx, tenant.Key{Org: t.Org, App: t.App}); err != nil {
		return err
	}
	_, err := tx.of(t.Org).ExecContext(ctx, `INSERT INTO enrollment_tokens
		(org_id, app_id, token_id, hash, label, max_uses, tier, permissions, created_at, created_by, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		t.Org, t.App, t.ID, t.Hash, t.Label, t.MaxUses, t.Grant.Tier, t.Grant.Permissions, micros(t.CreatedAt), t.CreatedBy, micros(t.ExpiresAt))
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no formation %q", tenant.Key{Org: t.Org, App: t.App})
	}
	return err
}

// UseEnrollmentToken counts one use of the formation's token with one of these
// hashes and returns it, or says why it admits nobody. However many use a token at
// once, and from wherever, no more get it than it has uses. What the use is for
// belongs in the same transaction: if that fails, it was no use.
func (tx *Tx) UseEnrollmentToken(ctx context.Context, key tenant.Key, hashes [][]byte, now time.Time) (enrollment.Token, error) {
	for _, hash := range hashes {
		// One statement: Postgres looks at the row again once it has the lock on it, and
		// SQLite has one writer.
		t, err := scanEnrollmentToken(tx.of(key.Org).QueryRowContext(ctx, `UPDATE enrollment_tokens SET uses = uses + 1, used_at = $4
			WHERE org_id = $1 AND app_id = $2 AND hash = $3 AND uses < max_uses AND expires_at > $4 AND revoked_at = 0
			RETURNING `+enrollmentTokenColumns, key.Org, key.App, hash, micros(now)))
		if !errors.Is(err, sql.ErrNoRows) {
			return t, err
		}
		t, err = scanEnrollmentToken(tx.of(key.Org).QueryRowContext(ctx, `SELECT `+enrollmentTokenColumns+` FROM enrollment_tokens
			WHERE org_id = $1 AND app_id = $2 AND hash = $3`, key.Org, key.App, hash))
		if err == nil {
			err = t.Refusal(now)
		}
		if err == nil {
			err = fault.Conflict.New("the enrollment token changed at this moment")
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return enrollment.Token{}, err
		}
	}
	return enrollment.Token{}, fault.Unauthenticated.New("the enrollment token is not known")
}

// RevokeEnrollmentToken ends a token. Revoking it again changes nothing.
func (tx *Tx) RevokeEnrollmentToken(ctx context.Context, key tenant.Key, id, reason string, now time.Time) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `UPDATE enrollment_tokens SET
			reason = CASE WHEN revoked_at = 0 THEN $4 ELSE reason END,
			revoked_at = CASE WHEN revoked_at = 0 THEN $5 ELSE revoked_at END
		WHERE org_id = $1 AND app_id = $2 AND token_id = $3`, key.Org, key.App, id, reason, micros(now))
	return affected(res, err, fault.NotFound, "no token %q", id)
}

// DeleteEnrollmentToken forgets a token. What it admitted stays.
func (tx *Tx) DeleteEnrollmentToken(ctx context.Context, key tenant.Key, id string) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM enrollment_tokens WHERE org_id = $1 AND app_id = $2 AND token_id = $3`, key.Org, key.App, id)
	return affected(res, err, fault.NotFound, "no token %q", id)
}

// RevokeAdmitted revokes the certificates that are good of all that a rule admitted,
// and returns how many there were.
func (tx *Tx) RevokeAdmitted(ctx context.Context, key tenant.Key, rule string, at time.Time, by, reason string) (int, error) {
	if _, err := tx.LockLedger(ctx, key); err != nil {
		return 0, err
	}
	return tx.revokeMany(ctx, key, at, by, reason, ` AND admitted_by = $6`, rule)
}
