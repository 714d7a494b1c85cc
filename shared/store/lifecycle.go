package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// LockFormation returns a formation and keeps others from issuing in it, from
// appending to its log and from changing it until the transaction ends.
func (tx *Tx) LockFormation(ctx context.Context, key tenant.Key) (tenant.Formation, error) {
	// In the order in which whoever issues a certificate takes them.
	if _, err := tx.LockLedger(ctx, key); err != nil {
		return tenant.Formation{}, err
	}
	f, err := scanFormation(tx.of(key.Org).QueryRowContext(ctx,
		`SELECT `+formationColumns+` FROM formations WHERE org_id = $1 AND app_id = $2 AND state <> 'destroyed'`+tx.forUpdate, key.Org, key.App))
	return f, one(err, "no formation %q", key)
}

// UpdateFormation changes a formation's policy and state. Its revision grows by one.
func (tx *Tx) UpdateFormation(ctx context.Context, f tenant.Formation) error {
	res, err := tx.of(f.Org).ExecContext(ctx, `UPDATE formations SET policy = $3, state = $4, revision = revision + 1
		WHERE org_id = $1 AND app_id = $2 AND state <> 'destroyed'`, f.Org, f.App, f.Policy, f.State)
	return affected(res, err, fault.NotFound, "no formation %q", f.App)
}

// SweepBatch is about how many rows of a destroyed formation are removed in one
// transaction.
const SweepBatch = 1000

// DestroyFormation ends a formation. Its keys and tickets are gone when the
// transaction commits, and nothing finds it any more. A small one leaves nothing; of
// a large one the rest is removed by Sweep, and until then its name is taken: one
// made later under it inherits nothing.
func (tx *Tx) DestroyFormation(ctx context.Context, key tenant.Key) error {
	var rows int
	err := tx.of(key.Org).QueryRowContext(ctx, `SELECT f.position + COALESCE((SELECT issued FROM ledgers g WHERE g.org_id = f.org_id AND g.app_id = f.app_id), 0)
			+ (SELECT count(*) FROM tickets t WHERE t.org_id = f.org_id AND t.app_id = f.app_id)
			+ (SELECT count(*) FROM enrollment_tokens t WHERE t.org_id = f.org_id AND t.app_id = f.app_id)
			+ f.documents * (1 + (SELECT count(*) FROM cursors c WHERE c.org_id = f.org_id AND c.app_id = f.app_id))
		FROM formations f WHERE f.org_id = $1 AND f.app_id = $2 AND f.state <> 'destroyed'`+tx.ofFormation(), key.Org, key.App).Scan(&rows)
	if err != nil {
		return one(err, "no formation %q", key)
	}
	if rows <= SweepBatch {
		_, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM formations WHERE org_id = $1 AND app_id = $2`, key.Org, key.App)
		return err
	}
	for _, statement := range []string{
		`DELETE FROM genesis WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM authorities WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM revocation_lists WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM consumers WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM tickets WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM enrollment_tokens WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM service_token_formations WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM policies WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM decisions WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM ledgers WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM enrollment_tokens WHERE org_id = $1 AND app_id = $2`,
		`DELETE FROM service_token_formations WHERE org_id = $1 AND app_id = $2`,
		`UPDATE replays SET state = 'cancelled' WHERE org_id = $1 AND app_id = $2 AND state = 'running'`,
		`UPDATE formations SET state = 'destroyed', revision = revision + 1 WHERE org_id = $1 AND app_id = $2`,
	} {
		if _, err := tx.of(key.Org).ExecContext(ctx, statement, key.Org, key.App); err != nil {
			return fmt.Errorf("destroy: %w", err)
		}
	}
	return nil
}

// ofFormation locks the row of a query over formations f alone.
func (tx *Tx) ofFormation() string {
	if tx.forUpdate == "" {
		return ""
	}
	return tx.forUpdate + " OF f"
}

// remains is the refusal of a name that what is left of its last owner still has.
func remains(format string, args ...any) error {
	return fault.RetryIn(fault.Conflict.New("what is left of the destroyed "+format+" is still being removed; try again", args...), 5*time.Second)
}

// Destroyed lists up to limit formations of which something is left.
func (s queries) Destroyed(ctx context.Context, limit int) ([]tenant.Key, error) {
	rows, err := s.everywhere("the sweep looks for what is due, whosever it is").QueryContext(ctx, `SELECT org_id, app_id FROM formations WHERE state = 'destroyed' ORDER BY org_id, app_id LIMIT $1`, limit)
	return collect(rows, err, func(r row) (k tenant.Key, err error) { return k, r.Scan(&k.Org, &k.App) })
}

// swept are the tables with many rows for a formation, and the column by which those
// are told apart. Rows of other tables go with the formation's own, in the end.
var swept = []struct{ table, column string }{
	{"changes", "position"},
	{"documents", "document_id"},
	{"certificates", "number"},
	{"nodes", "node_id"},
	{"vouchers", "subject"},
	{"enrollments", "enrollment_id"},
	{"enrollment_challenges", "nonce"},
	{"tickets", "ticket_id"},
	{"consumers", "name"},
}

// sweptOfSink are those with many rows for a sink in a formation.
var sweptOfSink = []struct{ table, column string }{
	{"receipts", "document_id"},
	{"omissions", "document_id"},
	{"held", "document_id"},
	{"replays", "replay_id"},
}

// Sweep removes a piece of what is left of a destroyed formation, at most about
// SweepBatch rows, and reports whether that was the last. It can be broken off after
// any piece, and done by several at once.
func (tx *Tx) Sweep(ctx context.Context, key tenant.Key) (done bool, err error) {
	var state tenant.State
	err = tx.of(key.Org).QueryRowContext(ctx, `SELECT state FROM formations WHERE org_id = $1 AND app_id = $2`+tx.forUpdate, key.Org, key.App).Scan(&state)
	if err = one(err, "no formation %q", key); errors.Is(err, fault.NotFound) || err == nil && state != tenant.Destroyed {
		return true, nil // somebody else was quicker
	}
	if err != nil {
		return false, err
	}
	var sink string
	err = tx.of(key.Org).QueryRowContext(ctx, `SELECT sink_id FROM cursors WHERE org_id = $1 AND app_id = $2 ORDER BY sink_id LIMIT 1`, key.Org, key.App).Scan(&sink)
	switch {
	case err == nil:
		return false, tx.sweepSink(ctx, key, sink)
	case !isNotFound(one(err, "no cursor")):
		return false, err
	}
	for _, s := range swept {
		n, err := tx.sweepTable(ctx, key.Org, s.table, s.column, `org_id = $1 AND app_id = $2`, key.Org, key.App)
		if err != nil || n > 0 {
			return false, err
		}
	}
	_, err = tx.of(key.Org).ExecContext(ctx, `DELETE FROM formations WHERE org_id = $1 AND app_id = $2 AND state = 'destroyed'`, key.Org, key.App)
	return err == nil, err
}

// sweepSink removes a piece of what a sink has in a formation, and in the end its cursor.
func (tx *Tx) sweepSink(ctx context.Context, key tenant.Key, sink string) error {
	for _, s := range sweptOfSink {
		n, err := tx.sweepTable(ctx, key.Org, s.table, s.column, `org_id = $1 AND app_id = $2 AND sink_id = $3`, key.Org, key.App, sink)
		if err != nil || n > 0 {
			return err
		}
	}
	_, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM cursors WHERE org_id = $1 AND app_id = $2 AND sink_id = $3`, key.Org, key.App, sink)
	return err
}

// sweepTable removes the rows up to the batch's last, by the value of a column: a
// range is found by its index on either engine, however many rows are left.
func (tx *Tx) sweepTable(ctx context.Context, org tenant.OrgID, table, column, where string, args ...any) (int64, error) {
	last := fmt.Sprintf(`SELECT max(k) FROM (SELECT %[2]s AS k FROM %[1]s WHERE %[3]s ORDER BY %[2]s LIMIT %[4]d) piece`, table, column, where, SweepBatch)
	res, err := tx.of(org).ExecContext(ctx, fmt.Sprintf(`DELETE FROM %s WHERE %s AND %s <= (%s)`, table, where, column, last), args...)
	if err != nil {
		return 0, fmt.Errorf("sweep %s: %w", table, err)
	}
	return res.RowsAffected()
}
