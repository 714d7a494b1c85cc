package store

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// UseChallenge remembers that a challenge was answered; fault.Conflict if it was
// before.
func (tx *Tx) UseChallenge(ctx context.Context, key tenant.Key, c enrollment.Challenge) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `INSERT INTO enrollment_challenges (org_id, app_id, nonce, until) VALUES ($1, $2, $3, $4)
		ON CONFLICT (org_id, app_id, nonce) DO NOTHING`, key.Org, key.App, hex.EncodeToString(c.Nonce), micros(c.ExpiresAt))
	return affected(res, err, fault.Conflict, "the challenge was answered already")
}

// ForgetChallenges forgets the challenges that nobody could answer any more at a time.
func (tx *Tx) ForgetChallenges(ctx context.Context, now time.Time) error {
	_, err := tx.everywhere("the sweep removes what nobody can use any more").ExecContext(ctx, `DELETE FROM enrollment_challenges WHERE until <= $1`, micros(now))
	return err
}

const applicationColumns = `org_id, app_id, enrollment_id, subject, node_id, state, tier, permissions, validity, credentials, rule, admitted_by,
	evidence, provider, claimant, digest, vouched_at, session_end, refresh_at, proved_at, secret, created_at, expires_at, decided_at, decided_by, note, serial`

func scanApplication(r row) (enrollment.Application, error) {
	var a enrollment.Application
	var validity, vouched, session, refresh, proved, created, expires, decided int64
	var evidence string
	err := r.Scan(&a.Key.Org, &a.Key.App, &a.ID, (*[]byte)(&a.Subject), &a.NodeID, &a.Standing, &a.Grant.Tier, &a.Grant.Permissions, &validity,
		&a.Credentials, &a.Rule, &a.AdmittedBy, &evidence, &a.Voucher.Provider, &a.Voucher.Claimant, &a.Voucher.Digest,
		&vouched, &session, &refresh, &proved, &a.Secret, &created, &expires, &decided, &a.DecidedBy, &a.Note, &a.Serial)
	a.Validity, a.Evidence = time.Duration(validity)*time.Microsecond, []byte(evidence)
	a.Voucher.VouchedAt, a.Voucher.Session, a.Voucher.RefreshAt = fromMicros(vouched), fromMicros(session), fromMicros(refresh)
	a.ProvedAt, a.CreatedAt, a.ExpiresAt, a.DecidedAt = fromMicros(proved), fromMicros(created), fromMicros(expires), fromMicros(decided)
	return a, err
}

// AddApplication keeps an application that waits; fault.Exhausted if too many do. The
// ledger is locked already, so that nobody else counts at the same time. Applications
// whose time is up make room, and those of long ago are forgotten.
func (tx *Tx) AddApplication(ctx context.Context, a enrollment.Application) error {
	if _, err := tx.of(a.Key.Org).ExecContext(ctx, `UPDATE enrollments SET state = 'expired' WHERE org_id = $1 AND app_id = $2 AND state = 'pending' AND expires_at <= $3`,
		a.Key.Org, a.Key.App, micros(a.CreatedAt)); err != nil {
		return err
	}
	if _, err := tx.of(a.Key.Org).ExecContext(ctx, `DELETE FROM enrollments WHERE org_id = $1 AND app_id = $2 AND state <> 'pending' AND expires_at <= $3`,
		a.Key.Org, a.Key.App, micros(a.CreatedAt.Add(-applicationsKept))); err != nil {
		return err
	}
	var all, theirs int
	if err := tx.of(a.Key.Org).QueryRowContext(ctx, `SELECT count(*), COALESCE(sum(CASE WHEN admitted_by = $3 THEN 1 ELSE 0 END), 0)
		FROM enrollments WHERE org_id = $1 AND app_id = $2 AND state = 'pending'`, a.Key.Org, a.Key.App, a.AdmittedBy).Scan(&all, &theirs); err != nil {
		return err
	}
	switch {
	case all >= enrollment.MaxWaiting:
		return tenant.Exceeded("max_pending_enrollments", enrollment.MaxWaiting)
	case a.Voucher.IsSet() && theirs >= enrollment.MaxWaitingOfClaimant:
		return tenant.Exceeded("max_pending_enrollments_per_identity", enrollment.MaxWaitingOfClaimant)
	}
	_, err := tx.of(a.Key.Org).ExecContext(ctx, `INSERT INTO enrollments (`+applicationColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, 0, '', '', '')`,
		a.Key.Org, a.Key.App, a.ID, []byte(a.Subject), a.NodeID, a.Standing, a.Grant.Tier, a.Grant.Permissions, a.Validity.Microseconds(),
		a.Credentials, a.Rule, a.AdmittedBy, string(a.Evidence), a.Voucher.Provider, a.Voucher.Claimant, a.Voucher.Digest,
		micros(a.Voucher.VouchedAt), micros(a.Voucher.Session), micros(a.Voucher.RefreshAt), micros(a.ProvedAt), a.Secret, micros(a.CreatedAt), micros(a.ExpiresAt))
	if sqldb.IsDuplicate(err) {
		return fault.Conflict.New("an enrollment of this key is pending")
	}
	return err
}

// applicationsKept is how long an application is kept after its time.
const applicationsKept = 30 * 24 * time.Hour

// Application returns a formation's application.
func (s queries) Application(ctx context.Context, key tenant.Key, id string) (enrollment.Application, error) {
	a, err := scanApplication(s.of(key.Org).QueryRowContext(ctx, `SELECT `+applicationColumns+` FROM enrollments
		WHERE org_id = $1 AND app_id = $2 AND enrollment_id = $3`+undestroyed+s.forUpdate, key.Org, key.App, id))
	return a, one(err, "no enrollment %q", id)
}

// ApplicationOf returns the newest application of a key; fault.NotFound if there is
// none.
func (s queries) ApplicationOf(ctx context.Context, key tenant.Key, subject []byte) (enrollment.Application, error) {
	a, err := scanApplication(s.of(key.Org).QueryRowContext(ctx, `SELECT `+applicationColumns+` FROM enrollments
		WHERE org_id = $1 AND app_id = $2 AND subject = $3`+undestroyed+` ORDER BY enrollment_id DESC LIMIT 1`+s.forUpdate, key.Org, key.App, subject))
	return a, one(err, "no enrollment of this key")
}

// Applications returns up to limit of a formation's applications whose id comes
// after the given one, of one standing at a time or of all if that is empty;
// fault.NotFound if there is no such formation.
func (s queries) Applications(ctx context.Context, key tenant.Key, standing enrollment.Standing, now time.Time, after string, limit int) ([]enrollment.Application, error) {
	where, args := ``, []any{key.Org, key.App, after, limit}
	switch standing {
	case enrollment.Waiting:
		where, args = ` AND state = 'pending' AND expires_at > $5`, append(args, micros(now))
	case enrollment.Lapsed:
		where, args = ` AND (state = 'expired' OR state = 'pending' AND expires_at <= $5)`, append(args, micros(now))
	case enrollment.Accepted:
		where = ` AND state = 'approved'`
	case enrollment.Rejected:
		where = ` AND state = 'denied'`
	}
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+applicationColumns+` FROM enrollments
		WHERE org_id = $1 AND app_id = $2 AND enrollment_id > $3`+undestroyed+where+` ORDER BY enrollment_id LIMIT $4`, args...)
	list, err := collect(rows, err, scanApplication)
	if err == nil && len(list) == 0 {
		_, err = s.Formation(ctx, key)
	}
	return list, err
}

// DecideApplication keeps how an application was decided; fault.Conflict if somebody
// else did so first.
func (tx *Tx) DecideApplication(ctx context.Context, a enrollment.Application) error {
	res, err := tx.of(a.Key.Org).ExecContext(ctx, `UPDATE enrollments SET state = $4, decided_at = $5, decided_by = $6, note = $7, serial = $8
		WHERE org_id = $1 AND app_id = $2 AND enrollment_id = $3 AND state = 'pending'`,
		a.Key.Org, a.Key.App, a.ID, a.Standing, micros(a.DecidedAt), a.DecidedBy, a.Note, a.Serial)
	return affected(res, err, fault.Conflict, "the enrollment was decided already")
}

// SetApplicationSecret changes what a node polls with, as it asked by a newer proof.
func (tx *Tx) SetApplicationSecret(ctx context.Context, key tenant.Key, id string, hash []byte, proved time.Time) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `UPDATE enrollments SET secret = $4, proved_at = $5 WHERE org_id = $1 AND app_id = $2 AND enrollment_id = $3`,
		key.Org, key.App, id, hash, micros(proved))
	return affected(res, err, fault.NotFound, "no enrollment %q", id)
}
