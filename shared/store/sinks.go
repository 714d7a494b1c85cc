package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const sinkColumns = `org_id, sink_id, kind, formations, config, sealed, format, start_at, state, reason, created_at`

func scanSink(r row) (delivery.Sink, error) {
	var s delivery.Sink
	var formations, config string
	var created int64
	if err := r.Scan(&s.Org, &s.ID, &s.Kind, &formations, &config, &s.Sealed, &s.Format, &s.Start, &s.State, &s.Reason, &created); err != nil {
		return delivery.Sink{}, err
	}
	s.Config, s.CreatedAt = json.RawMessage(config), fromMicros(created)
	return s, json.Unmarshal([]byte(formations), &s.Formations)
}

// CreateSink adds a sink and a cursor for every formation it covers now: at the
// end of the log, or before its beginning. A formation made later begins at its
// beginning. fault.NotFound if the organization or a named formation is not there,
// fault.Conflict if another sink has what this one claims.
func (tx *Tx) CreateSink(ctx context.Context, s delivery.Sink) error {
	formations, err := json.Marshal(s.Formations)
	if err != nil {
		return err
	}
	var claim any // NULL claims nothing
	if s.Claim != "" {
		claim = s.Claim
	}
	_, err = tx.q.ExecContext(ctx, `INSERT INTO sinks (`+sinkColumns+`, claim) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		s.Org, s.ID, s.Kind, string(formations), string(s.Config), s.Sealed, s.Format, s.Start, s.State, s.Reason, micros(s.CreatedAt), claim)
	switch {
	case sqldb.IsMissingParent(err):
		return fault.NotFound.New("no organization %q", s.Org)
	case sqldb.IsDuplicate(err):
		return fault.Conflict.New("another sink writes there already")
	}
	if err != nil {
		return fmt.Errorf("insert sink: %w", err)
	}
	position := "position"
	if s.Start == delivery.StartBeginning {
		position = "0"
	}
	insert := `INSERT INTO cursors (org_id, sink_id, app_id, position, attempts, next_attempt_at, last_error)
		SELECT org_id, $2, app_id, ` + position + `, 0, 0, '' FROM formations WHERE org_id = $1`
	if s.Covers(delivery.AllFormations) {
		_, err = tx.q.ExecContext(ctx, insert, s.Org, s.ID)
		return err
	}
	for _, app := range s.Formations {
		res, err := tx.q.ExecContext(ctx, insert+` AND app_id = $3`, s.Org, s.ID, app)
		if err := affected(res, err, fault.NotFound, "no formation %q", app); err != nil {
			return err
		}
	}
	return nil
}

// Sink returns an organization's sink.
func (s queries) Sink(ctx context.Context, org tenant.OrgID, id string) (delivery.Sink, error) {
	sink, err := scanSink(s.q.QueryRowContext(ctx, `SELECT `+sinkColumns+` FROM sinks WHERE org_id = $1 AND sink_id = $2`, org, id))
	return sink, one(err, "no sink %q", id)
}

// Sinks returns up to limit of an organization's sinks whose id comes after the given one.
func (s queries) Sinks(ctx context.Context, org tenant.OrgID, after string, limit int) ([]delivery.Sink, error) {
	rows, err := s.q.QueryContext(ctx, `SELECT `+sinkColumns+` FROM sinks
		WHERE org_id = $1 AND sink_id > $2 ORDER BY sink_id LIMIT $3`, org, after, limit)
	return collect(rows, err, scanSink)
}

// SetSinkState changes whether and why a sink is served.
func (tx *Tx) SetSinkState(ctx context.Context, org tenant.OrgID, id string, state delivery.State, reason string) error {
	res, err := tx.q.ExecContext(ctx, `UPDATE sinks SET state = $3, reason = $4 WHERE org_id = $1 AND sink_id = $2`, org, id, state, reason)
	return affected(res, err, fault.NotFound, "no sink %q", id)
}

// MarkSink moves a served sink between active and failing. One that was paused
// or disabled meanwhile stays as it is.
func (tx *Tx) MarkSink(ctx context.Context, org tenant.OrgID, id string, state delivery.State, reason string) error {
	_, err := tx.q.ExecContext(ctx, `UPDATE sinks SET state = $3, reason = $4
		WHERE org_id = $1 AND sink_id = $2 AND state IN ('active', 'failing')`, org, id, state, reason)
	return err
}

// DeleteSink removes a sink with its cursors and dead letters.
func (tx *Tx) DeleteSink(ctx context.Context, org tenant.OrgID, id string) error {
	res, err := tx.q.ExecContext(ctx, `DELETE FROM sinks WHERE org_id = $1 AND sink_id = $2`, org, id)
	return affected(res, err, fault.NotFound, "no sink %q", id)
}
