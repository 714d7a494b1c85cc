package store

import (
	"context"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// LoginEnded tells whether a session was ended: under one of its own names whenever,
// under its subject's at or after its beginning.
func (s queries) LoginEnded(ctx context.Context, e access.Ends) (bool, error) {
	var n int
	err := s.unowned().QueryRowContext(ctx, `SELECT count(*) FROM ended_logins
		WHERE name = $1 OR name = $2 OR name = $3 AND ended_at >= $4`, e.Session, e.Provider, e.Subject, micros(e.Begun)).Scan(&n)
	return n > 0, err
}

// EndLogin ends what has the name. It needs to be known until a time; ended again, it
// is ended as of then.
func (tx *Tx) EndLogin(ctx context.Context, name []byte, now, until time.Time) error {
	_, err := tx.unowned().ExecContext(ctx, `INSERT INTO ended_logins (name, ended_at, until) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET
			ended_at = CASE WHEN ended_logins.ended_at > excluded.ended_at THEN ended_logins.ended_at ELSE excluded.ended_at END,
			until    = CASE WHEN ended_logins.until > excluded.until THEN ended_logins.until ELSE excluded.until END`,
		name, micros(now), micros(until))
	return err
}

// UseLoginOnce uses up what has the name, and may come only once: fault.Conflict if it
// came before.
func (tx *Tx) UseLoginOnce(ctx context.Context, name []byte, now, until time.Time) error {
	res, err := tx.unowned().ExecContext(ctx, `INSERT INTO ended_logins (name, ended_at, until) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO NOTHING`, name, micros(now), micros(until))
	return affected(res, err, fault.Conflict, "it came before")
}

// ForgetLogins removes what was to be known until a time.
func (tx *Tx) ForgetLogins(ctx context.Context, until time.Time) error {
	_, err := tx.unowned().ExecContext(ctx, `DELETE FROM ended_logins WHERE until <= $1`, micros(until))
	return err
}
