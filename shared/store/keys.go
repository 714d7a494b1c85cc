package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// sealedTable is where the sealed records of one kind are. Its column is always
// named sealed, by which a test finds one that is missing here.
type sealedTable struct {
	kind, table string
	app, id     string // columns; empty if records of this kind have none
}

// sealedTables lists everything that is sealed, in the order in which it is gone
// through.
var sealedTables = []sealedTable{
	{kind: keyring.Genesis, table: "genesis", app: "app_id"},
	{kind: keyring.Authority, table: "authorities", app: "app_id", id: "authority_id"},
	{kind: keyring.Sink, table: "sinks", id: "sink_id"},
	{kind: keyring.SigningKey, table: "signing_keys", id: "key_id"},
	{kind: keyring.Provider, table: "identity_providers", id: "provider_id"},
}

// SealedKinds lists the kinds of sealed records, in the order in which they are
// gone through.
func SealedKinds() []string {
	out := make([]string, len(sealedTables))
	for i, t := range sealedTables {
		out[i] = t.kind
	}
	return out
}

// SealedTables lists the tables of the kinds; the column is always sealed.
func SealedTables() []string {
	out := make([]string, len(sealedTables))
	for i, t := range sealedTables {
		out[i] = t.table
	}
	return out
}

func sealedTableOf(kind string) (sealedTable, error) {
	for _, t := range sealedTables {
		if t.kind == kind {
			return t, nil
		}
	}
	return sealedTable{}, fmt.Errorf("store: nothing of the kind %q is sealed", kind)
}

func (t sealedTable) columns() (app, id string) {
	app, id = t.app, t.id
	if app == "" {
		app = `''`
	}
	if id == "" {
		id = `''`
	}
	return app, id
}

// SealedAfter returns up to limit sealed records of the organization and kind of
// after that come after it.
func (s queries) SealedAfter(ctx context.Context, after envelope.Record, limit int) ([]keyring.Sealed, error) {
	t, err := sealedTableOf(after.Kind)
	if err != nil {
		return nil, err
	}
	app, id := t.columns()
	rows, err := s.of(tenant.OrgID(after.Org)).QueryContext(ctx, `SELECT org_id, `+app+`, `+id+`, sealed FROM `+t.table+`
		WHERE org_id = $1 AND sealed IS NOT NULL AND (`+app+` > $2 OR (`+app+` = $2 AND `+id+` > $3))
		ORDER BY 2, 3 LIMIT $4`, after.Org, after.App, after.ID, limit)
	return collect(rows, err, func(r row) (keyring.Sealed, error) {
		out := keyring.Sealed{Record: envelope.Record{Kind: t.kind}}
		return out, r.Scan(&out.Record.Org, &out.Record.App, &out.Record.ID, &out.Blob)
	})
}

// Sealed returns one sealed record.
func (s queries) Sealed(ctx context.Context, rec envelope.Record) ([]byte, error) {
	t, err := sealedTableOf(rec.Kind)
	if err != nil {
		return nil, err
	}
	app, id := t.columns()
	var blob []byte
	err = s.of(tenant.OrgID(rec.Org)).QueryRowContext(ctx, `SELECT sealed FROM `+t.table+` WHERE org_id = $1 AND `+app+` = $2 AND `+id+` = $3 AND sealed IS NOT NULL`,
		rec.Org, rec.App, rec.ID).Scan(&blob)
	return blob, one(err, "no sealed %s", rec.Kind)
}

// Reseal puts an envelope in the place of another with the same content. It changes
// nothing else of the row; fault.Stale if the other is not there any more.
func (tx *Tx) Reseal(ctx context.Context, rec envelope.Record, was, now []byte) error {
	t, err := sealedTableOf(rec.Kind)
	if err != nil {
		return err
	}
	app, id := t.columns()
	res, err := tx.of(tenant.OrgID(rec.Org)).ExecContext(ctx, `UPDATE `+t.table+` SET sealed = $5 WHERE org_id = $1 AND `+app+` = $2 AND `+id+` = $3 AND sealed = $4`,
		rec.Org, rec.App, rec.ID, was, now)
	return affected(res, err, fault.Stale, "the %s was changed meanwhile", rec.Kind)
}

// OrgKey returns the id of the key that an organization has of its own, and since
// when; empty if it has none.
func (s queries) OrgKey(ctx context.Context, org tenant.OrgID) (id string, since time.Time, err error) {
	var at int64
	err = one(s.of(org).QueryRowContext(ctx, `SELECT key_id, set_at FROM org_keys WHERE org_id = $1`, org).Scan(&id, &at), "no key of %q", org)
	if isNotFound(err) {
		err = nil
	}
	return id, fromMicros(at), err
}

// SetOrgKey gives an organization a key of its own, or takes it away if the id is
// empty.
func (tx *Tx) SetOrgKey(ctx context.Context, org tenant.OrgID, id string, at time.Time) error {
	if id == "" {
		_, err := tx.of(org).ExecContext(ctx, `DELETE FROM org_keys WHERE org_id = $1`, org)
		return err
	}
	_, err := tx.of(org).ExecContext(ctx, `INSERT INTO org_keys (org_id, key_id, set_at) VALUES ($1, $2, $3)
		ON CONFLICT (org_id) DO UPDATE SET key_id = excluded.key_id, set_at = excluded.set_at`, org, id, micros(at))
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no organization %q", org)
	}
	return err
}

// Root returns where the key is that signs for a formation now: in the genesis, or by
// itself if the authority was changed.
func (s queries) Root(ctx context.Context, key tenant.Key) (keyring.Root, error) {
	out := keyring.Root{Record: keyring.OfGenesis(key)}
	var shut int64
	var id sql.NullString
	var sealed []byte
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT g.sealed, g.shut_at, f.authority_key, a.authority_id, a.sealed
		FROM genesis g JOIN formations f ON f.org_id = g.org_id AND f.app_id = g.app_id
		LEFT JOIN authorities a ON a.org_id = f.org_id AND a.app_id = f.app_id AND a.state = 'active'
		WHERE g.org_id = $1 AND g.app_id = $2`, key.Org, key.App).Scan(&out.Sealed, &shut, &out.PublicKey, &id, &sealed)
	out.Shut = shut != 0
	if id.Valid && id.String != authority.GenesisID {
		out.Record, out.Sealed = keyring.OfAuthority(key, id.String), sealed
	}
	return out, one(err, "no formation %q", key)
}

// Shut returns which of an organization's formations were found sealed when their
// root was last opened, from one id to another.
func (s queries) Shut(ctx context.Context, org tenant.OrgID, from, to tenant.AppID) (map[tenant.AppID]bool, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT app_id FROM genesis WHERE org_id = $1 AND app_id BETWEEN $2 AND $3 AND shut_at <> 0`, org, from, to)
	apps, err := collect(rows, err, func(r row) (app tenant.AppID, err error) { return app, r.Scan(&app) })
	out := map[tenant.AppID]bool{}
	for _, app := range apps {
		out[app] = true
	}
	return out, err
}

// MarkShut keeps that a formation's root was found sealed at a time, or, if that is
// zero, that it opens.
func (tx *Tx) MarkShut(ctx context.Context, key tenant.Key, at time.Time) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `UPDATE genesis SET shut_at = $3 WHERE org_id = $1 AND app_id = $2`, key.Org, key.App, micros(at))
	return err
}

// Rewrap returns the run over a scope that has not ended; fault.NotFound if there is
// none.
func (s queries) Rewrap(ctx context.Context, scope tenant.OrgID) (keyring.Run, error) {
	var r keyring.Run
	var counts string
	var started, saved, ended int64
	err := s.unowned().QueryRowContext(ctx, `SELECT run_id, scope, at_org, at_kind, at_app, at_id, counts, started_at, saved_at, ended_at FROM rewraps
		WHERE scope = $1 AND ended_at = 0 ORDER BY started_at DESC LIMIT 1`, scope).
		Scan(&r.ID, &r.Scope, &r.At.Org, &r.At.Kind, &r.At.App, &r.At.ID, &counts, &started, &saved, &ended)
	if err != nil {
		return r, one(err, "no unfinished run")
	}
	r.StartedAt, r.SavedAt, r.EndedAt = fromMicros(started), fromMicros(saved), fromMicros(ended)
	return r, json.Unmarshal([]byte(counts), &r.Counts)
}

// SaveRewrap keeps how far a run has come.
func (tx *Tx) SaveRewrap(ctx context.Context, r keyring.Run) error {
	counts, err := json.Marshal(r.Counts)
	if err != nil {
		return err
	}
	_, err = tx.unowned().ExecContext(ctx, `INSERT INTO rewraps (run_id, scope, at_org, at_kind, at_app, at_id, counts, started_at, saved_at, ended_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (run_id) DO UPDATE SET at_org = excluded.at_org, at_kind = excluded.at_kind, at_app = excluded.at_app, at_id = excluded.at_id,
			counts = excluded.counts, saved_at = excluded.saved_at, ended_at = excluded.ended_at`,
		r.ID, r.Scope, r.At.Org, r.At.Kind, r.At.App, r.At.ID, string(counts), micros(r.StartedAt), micros(r.SavedAt), micros(r.EndedAt))
	return err
}
