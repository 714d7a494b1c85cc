package store

import (
	"context"
	"fmt"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const replayColumns = `org_id, sink_id, replay_id, app_id, document_id, actor, from_position, to_position, rate, state,
	position, total, delivered, refused, next_attempt_at, last_error, created_at, ended_at, attempts`

func scanReplay(r row) (delivery.Replay, error) {
	var p delivery.Replay
	var next, created, ended int64
	err := r.Scan(&p.Org, &p.Sink, &p.ID, &p.App, &p.Document, &p.Actor, &p.From, &p.To, &p.Rate, &p.State,
		&p.Position, &p.Total, &p.Delivered, &p.Refused, &next, &p.LastError, &created, &ended, &p.Attempts)
	p.NextAttemptAt, p.CreatedAt, p.EndedAt = fromMicros(next), fromMicros(created), fromMicros(ended)
	return p, err
}

// endedReplays is how many of a sink's replays are remembered that have ended.
const endedReplays = 200

// CreateReplay adds a replay, and forgets old ones. fault.Conflict if the sink has
// no cursor in the formation yet.
func (tx *Tx) CreateReplay(ctx context.Context, p delivery.Replay) error {
	_, err := tx.of(p.Org).ExecContext(ctx, `INSERT INTO replays (`+replayColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		p.Org, p.Sink, p.ID, p.App, p.Document, p.Actor, p.From, p.To, p.Rate, p.State,
		p.Position, p.Total, p.Delivered, p.Refused, micros(p.NextAttemptAt), text(p.LastError), micros(p.CreatedAt), micros(p.EndedAt), p.Attempts)
	if sqldb.IsMissingParent(err) {
		return fault.Conflict.New("the sink has had nothing of formation %q yet", p.App)
	}
	if err != nil {
		return fmt.Errorf("insert replay: %w", err)
	}
	_, err = tx.of(p.Org).ExecContext(ctx, `DELETE FROM replays WHERE org_id = $1 AND sink_id = $2 AND state <> 'running' AND replay_id <= (
			SELECT replay_id FROM replays WHERE org_id = $1 AND sink_id = $2 AND state <> 'running' ORDER BY replay_id DESC LIMIT 1 OFFSET $3)`,
		p.Org, p.Sink, endedReplays)
	return err
}

// SaveReplay records how far a replay has come; fault.Stale if it is not running
// any more.
func (tx *Tx) SaveReplay(ctx context.Context, p delivery.Replay) error {
	res, err := tx.of(p.Org).ExecContext(ctx, `UPDATE replays SET state = $4, position = $5, delivered = $6, refused = $7,
			next_attempt_at = $8, last_error = $9, ended_at = $10, attempts = $11
		WHERE org_id = $1 AND sink_id = $2 AND replay_id = $3 AND state = 'running'`,
		p.Org, p.Sink, p.ID, p.State, p.Position, p.Delivered, p.Refused, micros(p.NextAttemptAt), text(p.LastError), micros(p.EndedAt), p.Attempts)
	return affected(res, err, fault.Stale, "replay %q is not running", p.ID)
}

// Replay returns a sink's replay.
func (s queries) Replay(ctx context.Context, org tenant.OrgID, sink, id string) (delivery.Replay, error) {
	p, err := scanReplay(s.of(org).QueryRowContext(ctx, `SELECT `+replayColumns+` FROM replays
		WHERE org_id = $1 AND sink_id = $2 AND replay_id = $3`+s.forUpdate, org, sink, id))
	return p, one(err, "no replay %q", id)
}

// Replays returns up to limit of a sink's replays whose id comes after the given one.
func (s queries) Replays(ctx context.Context, org tenant.OrgID, sink, after string, limit int) ([]delivery.Replay, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+replayColumns+` FROM replays
		WHERE org_id = $1 AND sink_id = $2 AND replay_id > $3 ORDER BY replay_id LIMIT $4`, org, sink, after, limit)
	return collect(rows, err, scanReplay)
}

// RunningReplay returns the oldest replay of a sink in a formation that runs, or
// false. Those that were asked for later wait for it.
func (s queries) RunningReplay(ctx context.Context, key tenant.Key, sink string) (delivery.Replay, bool, error) {
	p, err := scanReplay(s.of(key.Org).QueryRowContext(ctx, `SELECT `+replayColumns+` FROM replays
		WHERE org_id = $1 AND sink_id = $2 AND app_id = $3 AND state = 'running' ORDER BY replay_id LIMIT 1`, key.Org, sink, key.App))
	if err = one(err, "no replay"); isNotFound(err) {
		return p, false, nil
	}
	return p, err == nil, err
}

// RunningReplays lists the formations in which a sink has replays that run, one
// for each replay.
func (s queries) RunningReplays(ctx context.Context, org tenant.OrgID, sink string) ([]tenant.AppID, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT app_id FROM replays WHERE org_id = $1 AND sink_id = $2 AND state = 'running' ORDER BY replay_id`, org, sink)
	return collect(rows, err, func(r row) (app tenant.AppID, err error) { return app, r.Scan(&app) })
}

// replayed is which changes a replay sends: those of its range, document and
// author that come before whatever the sink holds of their document.
const replayed = `position > $3 AND position <= $4 AND ($5 = '' OR document_id = $5) AND ($6 = '' OR actor = $6)
	AND NOT EXISTS (SELECT 1 FROM held h WHERE h.org_id = changes.org_id AND h.sink_id = $7 AND h.app_id = changes.app_id
		AND h.document_id = changes.document_id AND h.from_seq <= changes.seq)`

func replayArgs(p delivery.Replay) []any { return []any{p.Position, p.To, p.Document, p.Actor, p.Sink} }

// ReplayChanges reads what a replay sends next, with the limits of ChangesAfter.
func (s queries) ReplayChanges(ctx context.Context, p delivery.Replay, limit, maxBytes int) ([]change.Settled, error) {
	return s.readChanges(ctx, limit, maxBytes, replayed+` ORDER BY position`, tenant.Key{Org: p.Org, App: p.App}, replayArgs(p)...)
}

// CountReplay is how many changes a replay has still before it.
func (s queries) CountReplay(ctx context.Context, p delivery.Replay) (uint64, error) {
	var n uint64
	err := s.of(p.Org).QueryRowContext(ctx, `SELECT count(*) FROM changes WHERE org_id = $1 AND app_id = $2 AND `+replayed,
		append([]any{p.Org, p.App}, replayArgs(p)...)...).Scan(&n)
	return n, err
}
