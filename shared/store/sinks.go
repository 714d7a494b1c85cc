package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const sinkColumns = `org_id, sink_id, kind, formations, config, sealed, format, start_at, state, reason, created_at, retry, filter, revision, claim, source`

func scanSink(r row) (delivery.Sink, error) {
	var s delivery.Sink
	var formations, config, start, retry, filter string
	var claim sql.NullString
	var created int64
	if err := r.Scan(&s.Org, &s.ID, &s.Kind, &formations, &config, &s.Sealed, &s.Format, &start, &s.State, &s.Reason, &created,
		&retry, &filter, &s.Revision, &claim, &s.Source); err != nil {
		return delivery.Sink{}, err
	}
	s.Config, s.CreatedAt, s.Claim = json.RawMessage(config), fromMicros(created), claim.String
	if !strings.HasPrefix(start, "{") {
		start = `"` + start + `"` // as it was written before there were others
	}
	err := errors.Join(json.Unmarshal([]byte(formations), &s.Formations), json.Unmarshal([]byte(start), &s.Start))
	if retry != "" {
		err = errors.Join(err, json.Unmarshal([]byte(retry), &s.Retry))
	}
	if filter != "" {
		err = errors.Join(err, json.Unmarshal([]byte(filter), &s.Filter))
	}
	return s, err
}

// sinkTexts is what of a sink is kept as JSON, empty where there is nothing.
func sinkTexts(s delivery.Sink) (start, retry, filter string, err error) {
	text := func(v any) string {
		out, marshalErr := json.Marshal(v)
		err = errors.Join(err, marshalErr)
		return string(out)
	}
	start = strings.Trim(text(s.Start), `"`)
	if s.Retry != nil {
		retry = text(s.Retry)
	}
	if !s.Filter.IsZero() {
		filter = text(s.Filter)
	}
	return start, retry, filter, err
}

// CreateSink adds a sink and its cursor in the audit trail, or one for every formation it covers now: at the
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
	start, retry, filter, err := sinkTexts(s)
	if err != nil {
		return err
	}
	_, err = tx.of(s.Org).ExecContext(ctx, `INSERT INTO sinks (`+sinkColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		s.Org, s.ID, s.Kind, string(formations), string(s.Config), s.Sealed, s.Format, start, s.State, s.Reason, micros(s.CreatedAt),
		retry, filter, s.Revision, claim, cmp.Or(s.Source, delivery.Changes))
	switch {
	case sqldb.IsMissingParent(err):
		return fault.NotFound.New("no organization %q", s.Org)
	case sqldb.IsDuplicate(err):
		return fault.Conflict.New("another sink writes there already")
	}
	if err != nil {
		return fmt.Errorf("insert sink: %w", err)
	}
	if s.Source == delivery.AuditTrail {
		return tx.startTrail(ctx, s)
	}
	if s.Covers(delivery.AllFormations) {
		return tx.startAll(ctx, s)
	}
	for _, app := range s.Formations {
		key := tenant.Key{Org: s.Org, App: tenant.AppID(app)}
		position, err := tx.startOf(ctx, key, s.Start)
		if err != nil {
			return err
		}
		if err := tx.startAt(ctx, key, s.ID, position); err != nil {
			return err
		}
		if err := tx.owe(ctx, key, s); err != nil {
			return err
		}
	}
	return nil
}

// Sink returns an organization's sink.
func (s queries) Sink(ctx context.Context, org tenant.OrgID, id string) (delivery.Sink, error) {
	sink, err := scanSink(s.of(org).QueryRowContext(ctx, `SELECT `+sinkColumns+` FROM sinks WHERE org_id = $1 AND sink_id = $2`, org, id))
	return sink, one(err, "no sink %q", id)
}

// LockSink is Sink, and keeps others from changing it until the transaction ends.
func (tx *Tx) LockSink(ctx context.Context, org tenant.OrgID, id string) (delivery.Sink, error) {
	sink, err := scanSink(tx.of(org).QueryRowContext(ctx, `SELECT `+sinkColumns+` FROM sinks WHERE org_id = $1 AND sink_id = $2`+tx.forUpdate, org, id))
	return sink, one(err, "no sink %q", id)
}

// Sinks returns up to limit of an organization's sinks whose id comes after the given one.
func (s queries) Sinks(ctx context.Context, org tenant.OrgID, after string, limit int) ([]delivery.Sink, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+sinkColumns+` FROM sinks
		WHERE org_id = $1 AND sink_id > $2 ORDER BY sink_id LIMIT $3`, org, after, limit)
	return collect(rows, err, scanSink)
}

// SetSinkState changes whether and why a sink is served.
func (tx *Tx) SetSinkState(ctx context.Context, org tenant.OrgID, id string, state delivery.State, reason string) error {
	res, err := tx.of(org).ExecContext(ctx, `UPDATE sinks SET state = $3, reason = $4 WHERE org_id = $1 AND sink_id = $2`, org, id, state, reason)
	return affected(res, err, fault.NotFound, "no sink %q", id)
}

// MarkSink moves a served sink between active and failing. One that was paused
// or disabled meanwhile stays as it is.
func (tx *Tx) MarkSink(ctx context.Context, org tenant.OrgID, id string, state delivery.State, reason string) error {
	_, err := tx.of(org).ExecContext(ctx, `UPDATE sinks SET state = $3, reason = $4
		WHERE org_id = $1 AND sink_id = $2 AND state IN ('active', 'failing')`, org, id, state, reason)
	return err
}

// UpdateSink changes what can be changed of a sink but its secrets: configuration,
// claim, format, filter and ladder. fault.Stale if somebody else changed it first.
//
// The secrets are left as they are and not as s has them: they may have been sealed
// anew since s was read, which is no change of the sink.
func (tx *Tx) UpdateSink(ctx context.Context, s delivery.Sink) (delivery.Sink, error) {
	_, retry, filter, err := sinkTexts(s)
	if err != nil {
		return s, err
	}
	var claim any
	if s.Claim != "" {
		claim = s.Claim
	}
	res, err := tx.of(s.Org).ExecContext(ctx, `UPDATE sinks SET config = $4, format = $5, retry = $6, filter = $7, claim = $8, revision = revision + 1
		WHERE org_id = $1 AND sink_id = $2 AND revision = $3`,
		s.Org, s.ID, s.Revision, string(s.Config), s.Format, retry, filter, claim)
	if sqldb.IsDuplicate(err) {
		return s, fault.Conflict.New("another sink writes there already")
	}
	s.Revision++
	return s, affected(res, err, fault.Stale, "sink %q was changed by somebody else", s.ID)
}

// UpdateSinkAndSecrets is UpdateSink with secrets that were sealed just now.
func (tx *Tx) UpdateSinkAndSecrets(ctx context.Context, s delivery.Sink) (delivery.Sink, error) {
	changed, err := tx.UpdateSink(ctx, s)
	if err == nil {
		_, err = tx.of(s.Org).ExecContext(ctx, `UPDATE sinks SET sealed = $3 WHERE org_id = $1 AND sink_id = $2`, s.Org, s.ID, s.Sealed)
	}
	return changed, err
}

// DeleteSink removes a sink with its cursors and dead letters.
func (tx *Tx) DeleteSink(ctx context.Context, org tenant.OrgID, id string) error {
	res, err := tx.of(org).ExecContext(ctx, `DELETE FROM sinks WHERE org_id = $1 AND sink_id = $2`, org, id)
	return affected(res, err, fault.NotFound, "no sink %q", id)
}
