package store

import (
	"context"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const cursorColumns = `org_id, sink_id, app_id, position, attempts, next_attempt_at, last_error, start_position, unreceipted`

func scanCursor(r row) (delivery.Cursor, error) {
	var c delivery.Cursor
	var next int64
	err := r.Scan(&c.Org, &c.Sink, &c.App, &c.Position, &c.Attempts, &next, &c.LastError, &c.StartPosition, &c.Unreceipted)
	c.NextAttemptAt = fromMicros(next)
	return c, err
}

// Cursor returns where a sink is in a formation's log. A formation that was made
// after the sink has no cursor yet: it is at the beginning.
func (s queries) Cursor(ctx context.Context, key tenant.Key, sink string) (delivery.Cursor, error) {
	c, err := scanCursor(s.of(key.Org).QueryRowContext(ctx, `SELECT `+cursorColumns+` FROM cursors
		WHERE org_id = $1 AND sink_id = $2 AND app_id = $3`, key.Org, sink, key.App))
	if err = one(err, "no cursor"); isNotFound(err) {
		return delivery.Cursor{Org: key.Org, Sink: sink, App: key.App}, nil
	}
	return c, err
}

// SaveCursor records where a sink is; fault.NotFound if the sink or the formation is gone.
func (tx *Tx) SaveCursor(ctx context.Context, c delivery.Cursor) error {
	res, err := tx.of(c.Org).ExecContext(ctx, `INSERT INTO cursors (`+cursorColumns+`)
		SELECT $1, $2, $3, CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS BIGINT), $7, CAST($8 AS BIGINT), CAST($9 AS BIGINT)
		WHERE EXISTS (SELECT 1 FROM sinks WHERE org_id = $1 AND sink_id = $2)
		  AND EXISTS (SELECT 1 FROM formations WHERE org_id = $1 AND app_id = $3 AND state <> 'destroyed')
		ON CONFLICT (org_id, sink_id, app_id) DO UPDATE SET position = excluded.position, attempts = excluded.attempts,
			next_attempt_at = excluded.next_attempt_at, last_error = excluded.last_error, unreceipted = excluded.unreceipted`,
		c.Org, c.Sink, c.App, c.Position, c.Attempts, micros(c.NextAttemptAt), c.LastError, c.StartPosition, c.Unreceipted)
	return affected(res, err, fault.NotFound, "sink %q or formation %q is gone", c.Sink, c.App)
}

// WakeSink makes every cursor and every retrying document of a sink due now.
func (tx *Tx) WakeSink(ctx context.Context, org tenant.OrgID, sink string) error {
	if _, err := tx.of(org).ExecContext(ctx, `UPDATE cursors SET attempts = 0, next_attempt_at = 0, last_error = ''
		WHERE org_id = $1 AND sink_id = $2`, org, sink); err != nil {
		return fmt.Errorf("wake cursors: %w", err)
	}
	if _, err := tx.of(org).ExecContext(ctx, `UPDATE audit_cursors SET attempts = 0, next_attempt_at = 0, last_error = ''
		WHERE org_id = $1 AND sink_id = $2`, org, sink); err != nil {
		return fmt.Errorf("wake the audit cursor: %w", err)
	}
	_, err := tx.of(org).ExecContext(ctx, `UPDATE held SET next_attempt_at = 0 WHERE org_id = $1 AND sink_id = $2`, org, sink)
	return err
}

// FormationLag is how far a sink is behind in one formation.
type FormationLag struct {
	App tenant.AppID
	delivery.Lag
}

// Lag is how far a sink is behind in each formation it has a cursor for. A held
// document counts with all that is queued behind it, but for the bytes: those are
// of what follows the cursor, a difference of two numbers however long the log is.
// Changes from before bytes were counted weigh nothing.
func (s queries) Lag(ctx context.Context, sink delivery.Sink, now time.Time) ([]FormationLag, error) {
	rows, err := s.of(sink.Org).QueryContext(ctx, `SELECT f.app_id,
			CAST(f.position - COALESCE(c.position, 0) + COALESCE((
				SELECT sum(d.seq - h.from_seq + 1) - sum((SELECT count(*) FROM changes x WHERE x.org_id = h.org_id AND x.app_id = h.app_id
					AND x.document_id = h.document_id AND x.seq >= h.from_seq AND x.position > COALESCE(c.position, 0)))
				FROM held h JOIN documents d ON d.org_id = h.org_id AND d.app_id = h.app_id AND d.document_id = h.document_id
				WHERE h.org_id = f.org_id AND h.sink_id = $2 AND h.app_id = f.app_id), 0) AS BIGINT),
			COALESCE((SELECT x.received_at FROM changes x
				WHERE x.org_id = f.org_id AND x.app_id = f.app_id AND x.position = COALESCE(c.position, 0) + 1), 0),
			COALESCE((SELECT min(x.received_at) FROM held h JOIN changes x ON x.org_id = h.org_id AND x.app_id = h.app_id
				AND x.document_id = h.document_id AND x.seq = h.from_seq
				WHERE h.org_id = f.org_id AND h.sink_id = $2 AND h.app_id = f.app_id), 0),
			f.bytes - COALESCE((SELECT x.bytes FROM changes x
				WHERE x.org_id = f.org_id AND x.app_id = f.app_id AND x.position = c.position), 0)
		FROM formations f LEFT JOIN cursors c ON c.org_id = f.org_id AND c.app_id = f.app_id AND c.sink_id = $2
		WHERE f.org_id = $1 AND f.state <> 'destroyed' ORDER BY f.app_id`, sink.Org, sink.ID)
	all, err := collect(rows, err, func(r row) (FormationLag, error) {
		var l FormationLag
		var next, held, bytes int64
		if err := r.Scan(&l.App, &l.Events, &next, &held, &bytes); err != nil {
			return FormationLag{}, err
		}
		l.Bytes = uint64(max(0, bytes))
		if held != 0 && (next == 0 || held < next) {
			next = held
		}
		if next != 0 {
			l.Seconds = max(0, now.Sub(fromMicros(next)).Seconds())
		}
		return l, nil
	})
	covered := all[:0]
	for _, l := range all {
		if sink.Covers(l.App) {
			covered = append(covered, l)
		}
	}
	return covered, err
}

// Behind lists the active formations that have something to deliver now: a served sink
// whose cursor is before the end of the log, a held document or a replay that is due. A
// name that only resembles the formation's may match too: a ring too many.
func (s queries) Behind(ctx context.Context, now time.Time) ([]tenant.Key, error) {
	rows, err := s.everywhere("the sweep looks for what is due, whosever it is").QueryContext(ctx, `SELECT DISTINCT f.org_id, f.app_id
		FROM formations f JOIN sinks s ON s.org_id = f.org_id
		LEFT JOIN cursors c ON c.org_id = f.org_id AND c.sink_id = s.sink_id AND c.app_id = f.app_id
		WHERE f.state = 'active' AND s.state IN ('active', 'failing') AND COALESCE(c.next_attempt_at, 0) <= $1
		  AND ((f.position > COALESCE(c.position, 0) AND (s.formations = '["*"]' OR s.formations LIKE '%"' || f.app_id || '"%'))
		    OR EXISTS (SELECT 1 FROM held h WHERE h.org_id = f.org_id AND h.sink_id = s.sink_id AND h.app_id = f.app_id
		         AND h.state <> 'parked' AND h.next_attempt_at <= $1)
		    OR EXISTS (SELECT 1 FROM replays r WHERE r.org_id = f.org_id AND r.sink_id = s.sink_id AND r.app_id = f.app_id
		         AND r.state = 'running' AND r.next_attempt_at <= $1))`, micros(now))
	return collect(rows, err, func(r row) (tenant.Key, error) {
		var k tenant.Key
		return k, r.Scan(&k.Org, &k.App)
	})
}
