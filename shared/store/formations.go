package store

import (
	"context"
	"errors"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const formationColumns = `org_id, app_id, mesh_id, policy, state, authority_key, created_at, revision, documents, bytes`

func scanFormation(r row) (tenant.Formation, error) {
	var f tenant.Formation
	var created int64
	err := r.Scan(&f.Org, &f.App, &f.MeshID, &f.Policy, &f.State, &f.AuthorityPublicKey, &created, &f.Revision, &f.Documents, &f.Bytes)
	f.CreatedAt = fromMicros(created)
	return f, err
}

// Formation returns a formation. One that is destroyed is not found, whatever is
// left of it.
func (s queries) Formation(ctx context.Context, key tenant.Key) (tenant.Formation, error) {
	f, err := scanFormation(s.of(key.Org).QueryRowContext(ctx,
		`SELECT `+formationColumns+` FROM formations WHERE org_id = $1 AND app_id = $2 AND state <> 'destroyed'`, key.Org, key.App))
	return f, one(err, "no formation %q", key)
}

// Formations returns up to limit formations of an organization whose id comes
// after the given one, of one state or, if that is empty, of all; fault.NotFound if
// there is no such organization.
func (s queries) Formations(ctx context.Context, org tenant.OrgID, state tenant.State, after tenant.AppID, limit int) ([]tenant.Formation, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+formationColumns+` FROM formations
		WHERE org_id = $1 AND app_id > $2 AND state <> 'destroyed' AND ($4 = '' OR state = $4) ORDER BY app_id LIMIT $3`, org, after, limit, state)
	list, err := collect(rows, err, scanFormation)
	if err == nil && len(list) == 0 {
		_, err = s.Org(ctx, org)
	}
	return list, err
}

// CreateFormation adds a formation. fault.Conflict if its id is taken, also by the
// remains of another, so that it inherits nothing of it; fault.NotFound if there is
// no such organization.
func (tx *Tx) CreateFormation(ctx context.Context, f tenant.Formation) error {
	res, err := tx.of(f.Org).ExecContext(ctx, `INSERT INTO formations (org_id, app_id, mesh_id, policy, state, authority_key, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (org_id, app_id) DO NOTHING`,
		f.Org, f.App, f.MeshID, f.Policy, f.State, f.AuthorityPublicKey, micros(f.CreatedAt))
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no organization %q", f.Org)
	}
	err = affected(res, err, fault.Conflict, "formation %q exists already", f.App)
	if errors.Is(err, fault.Conflict) {
		_, there := tx.Formation(ctx, tenant.Key{Org: f.Org, App: f.App})
		switch {
		case isNotFound(there):
			return remains("formation %q", f.App)
		case there != nil:
			return there
		}
	}
	if err != nil {
		return err
	}
	return tx.openLedger(ctx, f)
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
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT position FROM formations WHERE org_id = $1 AND app_id = $2 AND state <> 'destroyed'`, key.Org, key.App).Scan(&p)
	return p, one(err, "no formation %q", key)
}
