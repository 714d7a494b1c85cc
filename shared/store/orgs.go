package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const orgColumns = `org_id, display_name, quotas, created_at`

func scanOrg(r row) (tenant.Org, error) {
	var o tenant.Org
	var quotas string
	var created int64
	if err := r.Scan(&o.ID, &o.DisplayName, &quotas, &created); err != nil {
		return tenant.Org{}, err
	}
	o.CreatedAt = fromMicros(created)
	return o, json.Unmarshal([]byte(quotas), &o.Quotas)
}

// Org returns an organization.
func (s queries) Org(ctx context.Context, org tenant.OrgID) (tenant.Org, error) {
	o, err := scanOrg(s.of(org).QueryRowContext(ctx, `SELECT `+orgColumns+` FROM orgs WHERE org_id = $1`, org))
	return o, one(err, "no organization %q", org)
}

// Orgs returns up to limit organizations whose id comes after the given one.
func (s queries) Orgs(ctx context.Context, after tenant.OrgID, limit int) ([]tenant.Org, error) {
	rows, err := s.everywhere("a gateway administrator lists the organizations").QueryContext(ctx,
		`SELECT `+orgColumns+` FROM orgs WHERE org_id > $1 ORDER BY org_id LIMIT $2`, after, limit)
	return collect(rows, err, scanOrg)
}

// LockOrg returns an organization and keeps others from changing what its quotas
// count until the transaction ends.
func (tx *Tx) LockOrg(ctx context.Context, org tenant.OrgID) (tenant.Org, error) {
	o, err := scanOrg(tx.of(org).QueryRowContext(ctx,
		`SELECT `+orgColumns+` FROM orgs WHERE org_id = $1`+tx.forUpdate, org))
	return o, one(err, "no organization %q", org)
}

// CreateOrg adds an organization; fault.Conflict if its id is taken.
func (tx *Tx) CreateOrg(ctx context.Context, o tenant.Org) error {
	quotas, err := json.Marshal(o.Quotas)
	if err != nil {
		return err
	}
	_, err = tx.of(o.ID).ExecContext(ctx, `INSERT INTO orgs (`+orgColumns+`) VALUES ($1, $2, $3, $4)`,
		o.ID, o.DisplayName, string(quotas), micros(o.CreatedAt))
	if sqldb.IsDuplicate(err) {
		return fault.Conflict.New("organization %q exists already", o.ID)
	}
	return err
}

// UpdateOrg replaces an organization's name and quotas.
func (tx *Tx) UpdateOrg(ctx context.Context, o tenant.Org) error {
	quotas, err := json.Marshal(o.Quotas)
	if err != nil {
		return err
	}
	res, err := tx.of(o.ID).ExecContext(ctx, `UPDATE orgs SET display_name = $2, quotas = $3 WHERE org_id = $1`,
		o.ID, o.DisplayName, string(quotas))
	return affected(res, err, fault.NotFound, "no organization %q", o.ID)
}

// DeleteOrg removes an organization and its sinks; fault.Conflict while it still
// has formations.
func (tx *Tx) DeleteOrg(ctx context.Context, org tenant.OrgID) error {
	// Locked first, so that no formation can be added between the count and the end.
	if _, err := tx.LockOrg(ctx, org); err != nil {
		return err
	}
	usage, err := tx.Usage(ctx, org)
	if err != nil {
		return err
	}
	if usage.Formations > 0 {
		return fault.Conflict.New("organization %q still has %d formations", org, usage.Formations)
	}
	if _, err := tx.of(org).ExecContext(ctx, `DELETE FROM sinks WHERE org_id = $1`, org); err != nil {
		return fmt.Errorf("delete sinks: %w", err)
	}
	_, err = tx.of(org).ExecContext(ctx, `DELETE FROM orgs WHERE org_id = $1`, org)
	return err
}

// Usage is what of an organization's quotas is in use; all are counts.
type Usage struct {
	Formations int `json:"formations"`
	CDCSinks   int `json:"cdc_sinks"`
	Documents  int `json:"documents"`
}

// Usage counts what an organization has.
func (s queries) Usage(ctx context.Context, org tenant.OrgID) (Usage, error) {
	var u Usage
	err := s.of(org).QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM formations WHERE org_id = $1),
		(SELECT count(*) FROM sinks WHERE org_id = $1),
		(SELECT count(*) FROM documents WHERE org_id = $1)`, org).Scan(&u.Formations, &u.CDCSinks, &u.Documents)
	return u, err
}

const formationColumns = `org_id, app_id, mesh_id, policy, state, authority_key, created_at`

func scanFormation(r row) (tenant.Formation, error) {
	var f tenant.Formation
	var created int64
	err := r.Scan(&f.Org, &f.App, &f.MeshID, &f.Policy, &f.State, &f.AuthorityPublicKey, &created)
	f.CreatedAt = fromMicros(created)
	return f, err
}

// Formation returns a formation.
func (s queries) Formation(ctx context.Context, key tenant.Key) (tenant.Formation, error) {
	f, err := scanFormation(s.of(key.Org).QueryRowContext(ctx,
		`SELECT `+formationColumns+` FROM formations WHERE org_id = $1 AND app_id = $2`, key.Org, key.App))
	return f, one(err, "no formation %q", key)
}

// Formations returns up to limit formations of an organization whose id comes
// after the given one; fault.NotFound if there is no such organization.
func (s queries) Formations(ctx context.Context, org tenant.OrgID, after tenant.AppID, limit int) ([]tenant.Formation, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+formationColumns+` FROM formations
		WHERE org_id = $1 AND app_id > $2 ORDER BY app_id LIMIT $3`, org, after, limit)
	list, err := collect(rows, err, scanFormation)
	if err == nil && len(list) == 0 {
		_, err = s.Org(ctx, org)
	}
	return list, err
}

// CreateFormation adds a formation; fault.Conflict if its id is taken,
// fault.NotFound if there is no such organization.
func (tx *Tx) CreateFormation(ctx context.Context, f tenant.Formation) error {
	_, err := tx.of(f.Org).ExecContext(ctx, `INSERT INTO formations (`+formationColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		f.Org, f.App, f.MeshID, f.Policy, f.State, f.AuthorityPublicKey, micros(f.CreatedAt))
	switch {
	case sqldb.IsDuplicate(err):
		return fault.Conflict.New("formation %q exists already", f.App)
	case sqldb.IsMissingParent(err):
		return fault.NotFound.New("no organization %q", f.Org)
	case err != nil:
		return err
	}
	return tx.openLedger(ctx, f)
}

// DestroyFormation removes a formation with its keys, tickets, documents, log and
// cursors. One made later under the same name inherits nothing.
func (tx *Tx) DestroyFormation(ctx context.Context, key tenant.Key) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM formations WHERE org_id = $1 AND app_id = $2`, key.Org, key.App)
	return affected(res, err, fault.NotFound, "no formation %q", key)
}

// PutGenesis keeps a formation's sealed genesis.
func (tx *Tx) PutGenesis(ctx context.Context, key tenant.Key, sealed []byte) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `INSERT INTO genesis (org_id, app_id, sealed) VALUES ($1, $2, $3)`, key.Org, key.App, sealed)
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no formation %q", key)
	}
	return err
}

// Genesis returns a formation's sealed genesis.
func (s queries) Genesis(ctx context.Context, key tenant.Key) ([]byte, error) {
	var sealed []byte
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT sealed FROM genesis WHERE org_id = $1 AND app_id = $2`, key.Org, key.App).Scan(&sealed)
	return sealed, one(err, "no genesis of %q", key)
}

// Position is the last number given out in a formation's log.
func (s queries) Position(ctx context.Context, key tenant.Key) (uint64, error) {
	var p uint64
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT position FROM formations WHERE org_id = $1 AND app_id = $2`, key.Org, key.App).Scan(&p)
	return p, one(err, "no formation %q", key)
}

// isNotFound is errors.Is for the class that many queries answer with.
func isNotFound(err error) bool { return errors.Is(err, fault.NotFound) }
