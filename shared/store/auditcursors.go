package store

import (
	"context"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// AuditCursor returns how far a sink is in its organization's audit trail.
func (s queries) AuditCursor(ctx context.Context, org tenant.OrgID, sink string) (delivery.AuditCursor, error) {
	c := delivery.AuditCursor{Org: org, Sink: sink}
	var next int64
	err := s.of(org).QueryRowContext(ctx, `SELECT seq, attempts, next_attempt_at, last_error FROM audit_cursors
		WHERE org_id = $1 AND sink_id = $2`, org, sink).Scan(&c.Seq, &c.Attempts, &next, &c.LastError)
	c.NextAttemptAt = fromMicros(next)
	return c, one(err, "sink %q is not one for the audit trail", sink)
}

// SaveAuditCursor records how far a sink is; fault.NotFound if it is gone.
func (tx *Tx) SaveAuditCursor(ctx context.Context, c delivery.AuditCursor) error {
	res, err := tx.of(c.Org).ExecContext(ctx, `UPDATE audit_cursors SET seq = $3, attempts = $4, next_attempt_at = $5, last_error = $6
		WHERE org_id = $1 AND sink_id = $2`, c.Org, c.Sink, c.Seq, c.Attempts, micros(c.NextAttemptAt), c.LastError)
	return affected(res, err, fault.NotFound, "sink %q is gone", c.Sink)
}

// startTrail gives a new sink for the audit trail its cursor. What an organization
// of the same name did before this one began is never before it.
func (tx *Tx) startTrail(ctx context.Context, s delivery.Sink) error {
	chain, err := tx.AuditChain(ctx, s.Org)
	if errors.Is(err, fault.NotFound) {
		chain, err = Chain{Since: 1}, nil // nothing is linked yet
	}
	if err != nil {
		return err
	}
	after := chain.Seq
	switch {
	case s.Start.Beginning:
		after = chain.Since - 1
	case s.Start.Position != nil && *s.Start.Position > chain.Seq:
		return fault.Invalid.New("the audit trail ends at entry %d", chain.Seq)
	case s.Start.Position != nil:
		after = max(*s.Start.Position, chain.Since-1)
	}
	_, err = tx.of(s.Org).ExecContext(ctx, `INSERT INTO audit_cursors (org_id, sink_id, seq, attempts, next_attempt_at, last_error)
		VALUES ($1, $2, $3, 0, 0, '')`, s.Org, s.ID, after)
	return err
}

// TrailLag is how far a sink is behind in its organization's audit trail. Entries
// are not weighed.
func (s queries) TrailLag(ctx context.Context, org tenant.OrgID, sink string, now time.Time) (delivery.Lag, error) {
	var l delivery.Lag
	var oldest int64
	err := s.of(org).QueryRowContext(ctx, `SELECT h.seq - c.seq, COALESCE((SELECT min(a.at) FROM audit a WHERE a.org_id = c.org_id AND a.seq = c.seq + 1 AND a.seq > 0), 0)
		FROM audit_cursors c JOIN audit_chains h ON h.org_id = c.org_id AND h.seq > c.seq
		WHERE c.org_id = $1 AND c.sink_id = $2`, org, sink).Scan(&l.Events, &oldest)
	if isNotFound(one(err, "none")) {
		return delivery.Lag{}, nil
	}
	if oldest != 0 {
		l.Seconds = max(0, now.Sub(fromMicros(oldest)).Seconds())
	}
	return l, err
}

// TrailsBehind lists the organizations whose audit trail has something to deliver now.
func (s queries) TrailsBehind(ctx context.Context, now time.Time) ([]tenant.OrgID, error) {
	rows, err := s.everywhere("the sweep looks for what is due, whosever it is").QueryContext(ctx, `SELECT DISTINCT c.org_id
		FROM audit_cursors c JOIN audit_chains h ON h.org_id = c.org_id AND h.seq > c.seq
		JOIN sinks s ON s.org_id = c.org_id AND s.sink_id = c.sink_id
		WHERE s.state IN ('active', 'failing') AND c.next_attempt_at <= $1 ORDER BY c.org_id`, micros(now))
	return collect(rows, err, func(r row) (org tenant.OrgID, err error) { return org, r.Scan(&org) })
}

// ringForTrail rings for the sinks of an audit trail, if there are any: events that
// nobody wants would wake every function that could.
func (tx *Tx) ringForTrail(ctx context.Context, org tenant.OrgID, now time.Time) error {
	var wanted bool
	err := tx.of(org).QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM audit_cursors WHERE org_id = $1)`, org).Scan(&wanted)
	if err != nil || !wanted {
		return err
	}
	return tx.Enqueue(ctx, event.AuditLinked(org, now))
}
