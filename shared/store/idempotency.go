package store

import (
	"context"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// MaxClaims is about how many requests of one organization are remembered at once.
const MaxClaims = 10_000

// Claim makes a request the caller's to carry out, unless it is another's already.
// Store is the web.Claims of the gateway.
func (s *Store) Claim(ctx context.Context, c web.Claim) (web.Claimed, error) {
	var out web.Claimed
	err := s.InTx(ctx, func(tx *Tx) (err error) {
		out, err = tx.claim(ctx, c)
		return err
	})
	return out, err
}

// claimant is whose row a claim is. What is asked of no organization, such as to make
// one, is the gateway's: nobody's rows are seen by nobody.
func claimant(c web.Claim) tenant.OrgID {
	if c.Scope == "" {
		return audit.Gateway
	}
	return tenant.OrgID(c.Scope)
}

func (tx *Tx) claim(ctx context.Context, c web.Claim) (web.Claimed, error) {
	if _, err := tx.of(claimant(c)).ExecContext(ctx, `DELETE FROM idempotency WHERE org_id = $1 AND until <= $2`, claimant(c), micros(c.At)); err != nil {
		return web.Claimed{}, err
	}
	var n int
	if err := tx.of(claimant(c)).QueryRowContext(ctx, `SELECT count(*) FROM idempotency WHERE org_id = $1`, claimant(c)).Scan(&n); err != nil {
		return web.Claimed{}, err
	}
	if n < MaxClaims {
		res, err := tx.of(claimant(c)).ExecContext(ctx, `INSERT INTO idempotency (org_id, key_hash, digest, claim, done, answer, created_at, until)
			VALUES ($1, $2, $3, $4, FALSE, NULL, $5, $6) ON CONFLICT (org_id, key_hash) DO NOTHING`,
			claimant(c), c.Key, c.Digest, c.ID, micros(c.At), micros(c.Until))
		if err := affected(res, err, fault.Conflict, "taken"); err == nil || !errors.Is(err, fault.Conflict) {
			return web.Claimed{Mine: err == nil}, err
		}
	}
	var out web.Claimed
	var created int64
	err := tx.of(claimant(c)).QueryRowContext(ctx, `SELECT digest, done, answer, created_at FROM idempotency WHERE org_id = $1 AND key_hash = $2`+tx.forUpdate, claimant(c), c.Key).
		Scan(&out.Digest, &out.Done, &out.Answer, &created)
	if err = one(err, "not remembered"); isNotFound(err) {
		if n < MaxClaims {
			return web.Claimed{Digest: c.Digest}, nil // it was released just now: ask again
		}
		return out, &fault.Error{Kind: fault.Exhausted, Message: "too many requests with an Idempotency-Key are remembered",
			Limit: &fault.Limit{Name: "max_idempotency_keys", Value: MaxClaims}}
	}
	if created >= micros(c.Stale) {
		out.Done = out.Answer != nil // else its answer is on the way
	}
	if err != nil || out.Done || created >= micros(c.Stale) || string(out.Digest) != string(c.Digest) {
		return out, err
	}
	// Whoever claimed it has died before anything was done.
	_, err = tx.of(claimant(c)).ExecContext(ctx, `UPDATE idempotency SET claim = $3, created_at = $4, until = $5 WHERE org_id = $1 AND key_hash = $2`,
		claimant(c), c.Key, c.ID, micros(c.At), micros(c.Until))
	return web.Claimed{Mine: true}, err
}

// done says, in the transaction that carries out a claimed request, that it is. It
// fails if the claim is another's by now.
func (tx *Tx) done(ctx context.Context) error {
	c, ok := web.ClaimOf(ctx)
	if !ok {
		return nil
	}
	res, err := tx.of(claimant(c)).ExecContext(ctx, `UPDATE idempotency SET done = TRUE WHERE org_id = $1 AND key_hash = $2 AND claim = $3`, claimant(c), c.Key, c.ID)
	return affected(res, err, fault.Conflict, "this request took so long that another like it was carried out")
}

// Finish keeps what was answered.
func (s *Store) Finish(ctx context.Context, c web.Claim, answer []byte) error {
	return s.InTx(ctx, func(tx *Tx) error {
		_, err := tx.of(claimant(c)).ExecContext(ctx, `UPDATE idempotency SET done = TRUE, answer = $4 WHERE org_id = $1 AND key_hash = $2 AND claim = $3`,
			claimant(c), c.Key, c.ID, answer)
		return err
	})
}

// Release forgets a request that was not carried out. One that was stays: it must not
// be carried out again.
func (s *Store) Release(ctx context.Context, c web.Claim) error {
	return s.InTx(ctx, func(tx *Tx) error {
		_, err := tx.of(claimant(c)).ExecContext(ctx, `DELETE FROM idempotency WHERE org_id = $1 AND key_hash = $2 AND claim = $3 AND NOT done`, claimant(c), c.Key, c.ID)
		return err
	})
}

// ForgetClaims forgets the requests that were to be remembered until a time.
func (tx *Tx) ForgetClaims(ctx context.Context, until time.Time) error {
	_, err := tx.everywhere("the sweep removes what nobody can use any more").ExecContext(ctx, `DELETE FROM idempotency WHERE until <= $1`, micros(until))
	return err
}
