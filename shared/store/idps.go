package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const providerColumns = `org_id, provider_id, kind, label, issuer, enabled, config, sealed, version, created_at, updated_at`

func scanProvider(r row) (identity.Provider, error) {
	var p identity.Provider
	var config string
	var created, updated int64
	err := r.Scan(&p.Org, &p.ID, &p.Kind, &p.Label, &p.Issuer, &p.Enabled, &config, &p.Sealed, &p.Version, &created, &updated)
	p.Config, p.CreatedAt, p.UpdatedAt = json.RawMessage(config), fromMicros(created), fromMicros(updated)
	return p, err
}

// errIssuerTaken says whose the issuer is, which an administrator can see anyway.
func errIssuerTaken(issuer string) error {
	return fault.Conflict.New("another identity provider of the organization has the issuer %q", issuer)
}

// CreateProvider adds an identity provider. fault.NotFound if there is no such
// organization, fault.Conflict if another provider of it has the issuer.
func (tx *Tx) CreateProvider(ctx context.Context, p identity.Provider) error {
	_, err := tx.of(p.Org).ExecContext(ctx, `INSERT INTO identity_providers (`+providerColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		p.Org, p.ID, p.Kind, p.Label, p.Issuer, p.Enabled, string(p.Config), p.Sealed, p.Version, micros(p.CreatedAt), micros(p.UpdatedAt))
	switch {
	case sqldb.IsMissingParent(err):
		return fault.NotFound.New("no organization %q", p.Org)
	case sqldb.IsDuplicate(err):
		return errIssuerTaken(p.Issuer)
	case err != nil:
		return fmt.Errorf("insert identity provider: %w", err)
	}
	return nil
}

// Provider returns an organization's identity provider.
func (s queries) Provider(ctx context.Context, org tenant.OrgID, id string) (identity.Provider, error) {
	p, err := scanProvider(s.of(org).QueryRowContext(ctx, `SELECT `+providerColumns+` FROM identity_providers WHERE org_id = $1 AND provider_id = $2`, org, id))
	return p, one(err, "no identity provider %q", id)
}

// LockProvider is Provider, and keeps others from changing it until the transaction ends.
func (tx *Tx) LockProvider(ctx context.Context, org tenant.OrgID, id string) (identity.Provider, error) {
	p, err := scanProvider(tx.of(org).QueryRowContext(ctx, `SELECT `+providerColumns+` FROM identity_providers WHERE org_id = $1 AND provider_id = $2`+tx.forUpdate, org, id))
	return p, one(err, "no identity provider %q", id)
}

// ProvidersAfter returns up to limit of an organization's identity providers whose id
// comes after the given one.
func (s queries) ProvidersAfter(ctx context.Context, org tenant.OrgID, after string, limit int) ([]identity.Provider, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+providerColumns+` FROM identity_providers
		WHERE org_id = $1 AND provider_id > $2 ORDER BY provider_id LIMIT $3`, org, after, limit)
	return collect(rows, err, scanProvider)
}

// Providers returns all identity providers of an organization, the oldest first.
// There are at most identity.MaxProviders.
func (s queries) Providers(ctx context.Context, org tenant.OrgID) ([]identity.Provider, error) {
	return s.ProvidersAfter(ctx, org, "", identity.MaxProviders)
}

// UpdateProvider changes label, issuer, configuration and whether the provider is
// enabled. fault.Stale if somebody else changed it first.
//
// The secrets are left as they are and not as p has them: they may have been sealed
// anew since p was read, which is no change of the provider.
func (tx *Tx) UpdateProvider(ctx context.Context, p identity.Provider) (identity.Provider, error) {
	res, err := tx.of(p.Org).ExecContext(ctx, `UPDATE identity_providers
		SET label = $4, issuer = $5, enabled = $6, config = $7, updated_at = $8, version = version + 1
		WHERE org_id = $1 AND provider_id = $2 AND version = $3`,
		p.Org, p.ID, p.Version, p.Label, p.Issuer, p.Enabled, string(p.Config), micros(p.UpdatedAt))
	if sqldb.IsDuplicate(err) {
		return p, errIssuerTaken(p.Issuer)
	}
	p.Version++
	return p, affected(res, err, fault.Stale, "identity provider %q was changed by somebody else", p.ID)
}

// UpdateProviderAndSecrets is UpdateProvider with secrets that were sealed just now.
func (tx *Tx) UpdateProviderAndSecrets(ctx context.Context, p identity.Provider) (identity.Provider, error) {
	changed, err := tx.UpdateProvider(ctx, p)
	if err == nil {
		_, err = tx.of(p.Org).ExecContext(ctx, `UPDATE identity_providers SET sealed = $3 WHERE org_id = $1 AND provider_id = $2`, p.Org, p.ID, p.Sealed)
	}
	return changed, err
}

// DeleteProvider removes an identity provider.
func (tx *Tx) DeleteProvider(ctx context.Context, org tenant.OrgID, id string) error {
	res, err := tx.of(org).ExecContext(ctx, `DELETE FROM identity_providers WHERE org_id = $1 AND provider_id = $2`, org, id)
	return affected(res, err, fault.NotFound, "no identity provider %q", id)
}

// UseProof notes that a proof which may be used once was used, until it would not be
// good any more anyway. fault.Conflict if it was used before. It belongs in the
// transaction of what the proof is used for.
func (tx *Tx) UseProof(ctx context.Context, org tenant.OrgID, issuer, id string, now, until time.Time) error {
	if _, err := tx.of(org).ExecContext(ctx, `DELETE FROM used_proofs WHERE org_id = $1 AND until <= $2`, org, micros(now)); err != nil {
		return fmt.Errorf("forget used proofs: %w", err)
	}
	// The lengths are what keeps one pair from being another.
	digest := sha256.Sum256(fmt.Appendf(nil, "%d:%s%d:%s", len(issuer), issuer, len(id), id))
	res, err := tx.of(org).ExecContext(ctx, `INSERT INTO used_proofs (org_id, proof, until) VALUES ($1, $2, $3) ON CONFLICT (org_id, proof) DO NOTHING`,
		org, digest[:], micros(until))
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no organization %q", org)
	}
	return affected(res, err, fault.Conflict, "the proof was used before")
}
