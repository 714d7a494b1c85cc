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

const orgColumns = `org_id, display_name, quotas, created_at, revision`

func scanOrg(r row) (tenant.Org, error) {
	var o tenant.Org
	var quotas string
	var created int64
	if err := r.Scan(&o.ID, &o.DisplayName, &quotas, &created, &o.Revision); err != nil {
		return tenant.Org{}, err
	}
	o.CreatedAt = fromMicros(created)
	o.Quotas = tenant.DefaultQuotas() // of quotas that were not thought of when the row was written
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
	_, err = tx.of(o.ID).ExecContext(ctx, `INSERT INTO orgs (`+orgColumns+`) VALUES ($1, $2, $3, $4, 1)`,
		o.ID, o.DisplayName, string(quotas), micros(o.CreatedAt))
	if sqldb.IsDuplicate(err) {
		return fault.Conflict.New("organization %q exists already", o.ID)
	}
	return err
}

// UpdateOrg replaces an organization's name and quotas. Its revision grows by one.
func (tx *Tx) UpdateOrg(ctx context.Context, o tenant.Org) error {
	quotas, err := json.Marshal(o.Quotas)
	if err != nil {
		return err
	}
	res, err := tx.of(o.ID).ExecContext(ctx, `UPDATE orgs SET display_name = $2, quotas = $3, revision = revision + 1 WHERE org_id = $1`,
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
	// What is left of destroyed formations counts too: it hangs on the organization.
	var left, swept int
	err := tx.of(org).QueryRowContext(ctx, `SELECT count(*), count(CASE WHEN state = 'destroyed' THEN 1 END) FROM formations WHERE org_id = $1`, org).Scan(&left, &swept)
	switch {
	case err != nil:
		return err
	case left > swept:
		return fault.Conflict.New("organization %q still has %d formations", org, left-swept)
	case swept > 0:
		return remains("organization %q", org)
	}
	if _, err := tx.of(org).ExecContext(ctx, `DELETE FROM sinks WHERE org_id = $1`, org); err != nil {
		return fmt.Errorf("delete sinks: %w", err)
	}
	_, err = tx.of(org).ExecContext(ctx, `DELETE FROM orgs WHERE org_id = $1`, org)
	return err
}

// isNotFound is errors.Is for the class that many queries answer with.
func isNotFound(err error) bool { return errors.Is(err, fault.NotFound) }
