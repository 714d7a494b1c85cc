package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// The formations of a token come in the same row: their names hold no comma.
const selectServiceTokens = `SELECT t.org_id, t.token_id, t.hash, t.label, t.role, t.every_formation, t.scopes,
	t.created_at, t.created_by, t.expires_at, t.revoked_at, t.last_used_at,
	COALESCE((SELECT string_agg(f.app_id, ',' ORDER BY f.app_id) FROM service_token_formations f
		WHERE f.org_id = t.org_id AND f.token_id = t.token_id), '')
	FROM service_tokens t `

func scanServiceToken(r row) (access.ServiceToken, error) {
	var t access.ServiceToken
	var every bool
	var scopes, formations string
	var created, expires, revoked, used int64
	err := r.Scan(&t.Org, &t.ID, &t.Hash, &t.Label, &t.Role, &every, &scopes, &created, &t.CreatedBy, &expires, &revoked, &used, &formations)
	t.CreatedAt, t.ExpiresAt, t.RevokedAt, t.LastUsedAt = fromMicros(created), fromMicros(expires), fromMicros(revoked), fromMicros(used)
	for _, s := range strings.Fields(scopes) {
		t.Scopes = append(t.Scopes, access.Scope(s))
	}
	switch {
	case every:
		t.Formations = []string{access.AllFormations}
	case formations != "":
		t.Formations = strings.Split(formations, ",")
	}
	return t, err
}

// ServiceTokenByHash returns the token with this hash, whatever its state. It is
// the one query on organizations' data that takes none: whose the token is, is what
// is being asked, and who asks has shown it.
func (s queries) ServiceTokenByHash(ctx context.Context, hash []byte) (access.ServiceToken, error) {
	t, err := scanServiceToken(s.everywhere("whose the token is, is what is being asked").QueryRowContext(ctx, selectServiceTokens+`WHERE t.hash = $1`, hash))
	return t, one(err, "no such token")
}

// ServiceToken returns an organization's token.
func (s queries) ServiceToken(ctx context.Context, org tenant.OrgID, id string) (access.ServiceToken, error) {
	t, err := scanServiceToken(s.of(org).QueryRowContext(ctx, selectServiceTokens+`WHERE t.org_id = $1 AND t.token_id = $2`, org, id))
	return t, one(err, "no token %q", id)
}

// ServiceTokens returns up to limit of an organization's tokens whose id comes after
// the given one; fault.NotFound if there is no such organization.
func (s queries) ServiceTokens(ctx context.Context, org tenant.OrgID, after string, limit int) ([]access.ServiceToken, error) {
	rows, err := s.of(org).QueryContext(ctx, selectServiceTokens+`WHERE t.org_id = $1 AND t.token_id > $2 ORDER BY t.token_id LIMIT $3`, org, after, limit)
	list, err := collect(rows, err, scanServiceToken)
	if err == nil && len(list) == 0 {
		_, err = s.Org(ctx, org)
	}
	return list, err
}

// CreateServiceToken adds a token; fault.NotFound if there is no such organization,
// or none of the formations that it names.
func (tx *Tx) CreateServiceToken(ctx context.Context, t access.ServiceToken) error {
	scopes := make([]string, len(t.Scopes))
	for i, s := range t.Scopes {
		scopes[i] = string(s)
	}
	_, err := tx.of(t.Org).ExecContext(ctx, `INSERT INTO service_tokens
		(org_id, token_id, hash, label, role, every_formation, scopes, created_at, created_by, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		t.Org, t.ID, t.Hash, t.Label, t.Role, t.EveryFormation(), strings.Join(scopes, " "), micros(t.CreatedAt), t.CreatedBy, micros(t.ExpiresAt))
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no organization %q", t.Org)
	}
	if err != nil || t.EveryFormation() {
		return err
	}
	for i, app := range t.Formations {
		// A row may be left of one that was destroyed.
		if _, err := tx.Formation(ctx, tenant.Key{Org: t.Org, App: tenant.AppID(app)}); isNotFound(err) {
			return noFormation(i, app)
		} else if err != nil {
			return err
		}
		_, err := tx.of(t.Org).ExecContext(ctx, `INSERT INTO service_token_formations (org_id, token_id, app_id) VALUES ($1, $2, $3)`, t.Org, t.ID, app)
		if sqldb.IsMissingParent(err) {
			return noFormation(i, app)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// noFormation is the refusal of a token for a formation that is not there.
func noFormation(i int, app string) error {
	return &fault.Error{Kind: fault.Invalid, Message: fmt.Sprintf("there is no formation %q", app),
		Fields: []fault.Field{{Pointer: fmt.Sprintf("/formations/%d", i), Detail: "there is no such formation"}}}
}

// RevokeServiceToken ends a token. Revoking it again changes nothing.
func (tx *Tx) RevokeServiceToken(ctx context.Context, org tenant.OrgID, id string, now time.Time) error {
	res, err := tx.of(org).ExecContext(ctx, `UPDATE service_tokens SET revoked_at = CASE WHEN revoked_at = 0 THEN $3 ELSE revoked_at END
		WHERE org_id = $1 AND token_id = $2`, org, id, micros(now))
	return affected(res, err, fault.NotFound, "no token %q", id)
}

// SeeServiceToken notes that a token was used, unless that was noted since.
func (s *Store) SeeServiceToken(ctx context.Context, org tenant.OrgID, id string, since, now time.Time) error {
	return s.InTx(ctx, func(tx *Tx) error {
		_, err := tx.of(org).ExecContext(ctx, `UPDATE service_tokens SET last_used_at = $4 WHERE org_id = $1 AND token_id = $2 AND last_used_at <= $3`,
			org, id, micros(since), micros(now))
		return err
	})
}

// DeleteDeadServiceTokens removes an organization's tokens that nobody can use
// since the given time.
func (tx *Tx) DeleteDeadServiceTokens(ctx context.Context, org tenant.OrgID, before time.Time) error {
	_, err := tx.of(org).ExecContext(ctx, `DELETE FROM service_tokens
		WHERE org_id = $1 AND (expires_at < $2 OR revoked_at <> 0 AND revoked_at < $2)`, org, micros(before))
	return err
}

// CountTokens is how many of an organization's tokens, of services and for
// enrollment, can still be used.
func (s queries) CountTokens(ctx context.Context, org tenant.OrgID, now time.Time) (int, error) {
	var n int
	err := s.of(org).QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM service_tokens WHERE org_id = $1 AND revoked_at = 0 AND expires_at > $2) +
		(SELECT count(*) FROM enrollment_tokens WHERE org_id = $1 AND revoked_at = 0 AND expires_at > $2 AND uses < max_uses)`,
		org, micros(now)).Scan(&n)
	return n, err
}
