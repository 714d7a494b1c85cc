package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const certificateColumns = `org_id, app_id, number, serial, subject, node_id, tier, permissions, issued_at, expires_at, renew_after,
	authority_id, encoded, issued_by, why, rule, admitted_by, replaces, replaced_by, revoked_at, revoked_by, reason`

func scanCertificate(r row) (authority.Certificate, error) {
	var c authority.Certificate
	var issued, expires, renew, revoked int64
	err := r.Scan(&c.Key.Org, &c.Key.App, &c.Number, &c.Serial, &c.Subject, &c.NodeID, &c.Tier, &c.Permissions, &issued, &expires, &renew,
		&c.Authority, &c.Encoded, &c.By, &c.Why, &c.Rule, &c.AdmittedBy, &c.Replaces, &c.ReplacedBy, &revoked, &c.RevokedBy, &c.Reason)
	c.IssuedAt, c.ExpiresAt, c.RenewAfter, c.RevokedAt = fromMicros(issued), fromMicros(expires), fromMicros(renew), fromMicros(revoked)
	return c, err
}

// byAuthority are the reasons of what was revoked with its authority.
const byAuthority = `'` + authority.ByTaint + `', '` + authority.ByRetirement + `'`

// Admission is what decides whether a key may have a certificate for a node id.
type Admission struct {
	Formation tenant.Formation
	Quotas    tenant.Quotas
	Signer    authority.State // of the authority that was asked about
	Node      *authority.Node // whose name the node id is; nil if nobody's
	Other     *authority.Node // the other name that the key has; nil if none
	Revoked   bool            // a certificate of the key was revoked once, and not with its authority
}

// Admission reads what decides on a certificate for a node id and a key that an
// authority has signed. The ledger is locked already.
//
// The node id and the key are asked for as ranges in their order, which only the index
// on each can give: as long as Postgres knows nothing about the table, an index that begins
// alike looks as good to it, and it would go through all nodes of the formation.
func (tx *Tx) Admission(ctx context.Context, key tenant.Key, signer, node string, subject []byte) (Admission, error) {
	var a Admission
	var quotas string
	var created int64
	var state, otherID sql.NullString
	var mine, other authority.Node
	var until, proved, otherUntil, otherProved sql.NullInt64
	err := tx.of(key.Org).QueryRowContext(ctx, `SELECT f.mesh_id, f.policy, f.state, f.authority_key, f.created_at, o.quotas, a.state,
			n.subject, n.until, n.proved_at, m.node_id, m.until, m.proved_at,
			EXISTS (SELECT 1 FROM certificates c WHERE c.org_id = $1 AND c.app_id = $2 AND c.subject = $5 AND c.revoked_at <> 0 AND c.reason NOT IN (`+byAuthority+`))
		FROM formations f JOIN orgs o ON o.org_id = f.org_id
		LEFT JOIN authorities a ON a.org_id = f.org_id AND a.app_id = f.app_id AND a.authority_id = $3
		LEFT JOIN (SELECT subject, until, proved_at FROM nodes
			WHERE org_id = $1 AND app_id = $2 AND node_id >= $4 AND node_id <= $4 ORDER BY node_id LIMIT 1) n ON true
		LEFT JOIN (SELECT node_id, until, proved_at FROM nodes
			WHERE org_id = $1 AND app_id = $2 AND subject >= $5 AND subject <= $5 AND node_id <> $4 ORDER BY subject LIMIT 1) m ON true
		WHERE f.org_id = $1 AND f.app_id = $2 AND f.state <> 'destroyed'`, key.Org, key.App, signer, node, subject).Scan(
		&a.Formation.MeshID, &a.Formation.Policy, &a.Formation.State, &a.Formation.AuthorityPublicKey, &created, &quotas, &state,
		&mine.Subject, &until, &proved, &otherID, &otherUntil, &otherProved, &a.Revoked)
	if err := one(err, "no formation %q", key); err != nil {
		return a, err
	}
	a.Formation.Org, a.Formation.App, a.Formation.CreatedAt, a.Signer = key.Org, key.App, fromMicros(created), authority.State(state.String)
	if until.Valid {
		mine.ID, mine.Until, mine.ProvedAt = node, fromMicros(until.Int64), fromMicros(proved.Int64)
		a.Node = &mine
	}
	if otherID.Valid {
		other.ID, other.Subject, other.Until, other.ProvedAt = otherID.String, subject, fromMicros(otherUntil.Int64), fromMicros(otherProved.Int64)
		a.Other = &other
	}
	return a, json.Unmarshal([]byte(quotas), &a.Quotas)
}

// BindNode makes a node id the name of a key, whosever it was.
func (tx *Tx) BindNode(ctx context.Context, key tenant.Key, n authority.Node) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `INSERT INTO nodes (org_id, app_id, node_id, subject, until, proved_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (org_id, app_id, node_id) DO UPDATE SET subject = excluded.subject, until = excluded.until, proved_at = excluded.proved_at`,
		key.Org, key.App, n.ID, n.Subject, micros(n.Until), micros(n.ProvedAt))
	return err
}

// FreeNode takes a node id from its key.
func (tx *Tx) FreeNode(ctx context.Context, key tenant.Key, node string) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM nodes WHERE org_id = $1 AND app_id = $2 AND node_id = $3`, key.Org, key.App, node)
	return err
}

// FreeExpiredNodes frees the node ids whose time has passed, and whose last proof
// is so old that nobody would take it again. It returns how many there were.
func (tx *Tx) FreeExpiredNodes(ctx context.Context, key tenant.Key, now, provedBefore time.Time) (int, error) {
	res, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM nodes WHERE org_id = $1 AND app_id = $2 AND until <= $3 AND proved_at < $4`,
		key.Org, key.App, micros(now), micros(provedBefore))
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// AddCertificate keeps a certificate; fault.Conflict if it is there.
func (tx *Tx) AddCertificate(ctx context.Context, c authority.Certificate) error {
	_, err := tx.of(c.Key.Org).ExecContext(ctx, `INSERT INTO certificates (`+certificateColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, '', 0, '', '')`,
		c.Key.Org, c.Key.App, c.Number, c.Serial, c.Subject, c.NodeID, c.Tier, c.Permissions, micros(c.IssuedAt), micros(c.ExpiresAt), micros(c.RenewAfter),
		c.Authority, c.Encoded, c.By, c.Why, c.Rule, c.AdmittedBy, c.Replaces)
	if sqldb.IsDuplicate(err) {
		return fault.Conflict.New("this very certificate was issued already")
	}
	return err
}

// ReplaceCertificate writes down that a certificate was renewed to another.
func (tx *Tx) ReplaceCertificate(ctx context.Context, key tenant.Key, serial, by string) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `UPDATE certificates SET replaced_by = $4 WHERE org_id = $1 AND app_id = $2 AND serial = $3`, key.Org, key.App, serial, by)
	return err
}

// undestroyed leaves out what is left of a destroyed formation.
const undestroyed = ` AND EXISTS (SELECT 1 FROM formations f WHERE f.org_id = $1 AND f.app_id = $2 AND f.state <> 'destroyed')`

// Certificate returns a formation's certificate by its serial.
func (s queries) Certificate(ctx context.Context, key tenant.Key, serial string) (authority.Certificate, error) {
	c, err := scanCertificate(s.of(key.Org).QueryRowContext(ctx, `SELECT `+certificateColumns+` FROM certificates
		WHERE org_id = $1 AND app_id = $2 AND serial = $3`+undestroyed, key.Org, key.App, serial))
	return c, one(err, "no certificate %q", serial)
}

// NewestOf returns the newest certificate of a key under the node id that it has now;
// fault.NotFound if it has none, as after a revocation.
func (s queries) NewestOf(ctx context.Context, key tenant.Key, subject []byte) (authority.Certificate, error) {
	c, err := scanCertificate(s.of(key.Org).QueryRowContext(ctx, `SELECT `+certificateColumns+` FROM certificates
		WHERE org_id = $1 AND app_id = $2 AND node_id IN (SELECT n.node_id FROM nodes n WHERE n.org_id = $1 AND n.app_id = $2 AND n.subject = $3)
			AND subject = $3 ORDER BY number DESC LIMIT 1`, key.Org, key.App, subject))
	return c, one(err, "no certificate of this key")
}

// CertificatesOfNode returns up to limit certificates of a node id and a key, the
// newest first.
func (s queries) CertificatesOfNode(ctx context.Context, key tenant.Key, node string, subject []byte, limit int) ([]authority.Certificate, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+certificateColumns+` FROM certificates
		WHERE org_id = $1 AND app_id = $2 AND node_id = $3 AND subject = $4 ORDER BY number DESC LIMIT $5`, key.Org, key.App, node, subject, limit)
	return collect(rows, err, scanCertificate)
}

// After is where a page of certificates begins; the zero value is the beginning.
type After struct {
	Expires time.Time // of the one before, in a list by expiry
	Number  uint64
}

// Certificates returns up to limit of a formation's certificates, the newest first;
// those that a filter picks by expiry, the soonest first. fault.NotFound if there
// is no such formation.
func (s queries) Certificates(ctx context.Context, key tenant.Key, f authority.Filter, now time.Time, after After, limit int) ([]authority.Certificate, error) {
	query, args := `SELECT `+certificateColumns+` FROM certificates WHERE org_id = $1 AND app_id = $2`+undestroyed, []any{key.Org, key.App}
	where := func(format string, values ...any) {
		places := make([]any, len(values))
		for i := range values {
			places[i] = fmt.Sprintf("$%d", len(args)+i+1)
		}
		query, args = query+" AND "+fmt.Sprintf(format, places...), append(args, values...)
	}
	switch f.Standing {
	case authority.Good:
		where(`revoked_at = 0 AND expires_at > %s`, micros(now))
	case authority.Expired:
		where(`revoked_at = 0 AND expires_at <= %s`, micros(now))
	case authority.Revoked:
		where(`revoked_at <> 0`)
	}
	if f.NodeID != "" {
		where(`node_id = %s`, f.NodeID)
	}
	if f.Authority != "" {
		where(`authority_id = %s`, f.Authority)
	}
	order := ` ORDER BY number DESC`
	if !f.ExpiringBefore.IsZero() {
		where(`revoked_at = 0 AND expires_at > %s AND expires_at < %s`, micros(now), micros(f.ExpiringBefore))
		order = ` ORDER BY expires_at, number`
		if after.Number > 0 {
			where(`(expires_at, number) > (%s, %s)`, micros(after.Expires), after.Number)
		}
	} else if after.Number > 0 {
		where(`number < %s`, after.Number)
	}
	args = append(args, limit)
	rows, err := s.of(key.Org).QueryContext(ctx, query+order+fmt.Sprintf(` LIMIT $%d`, len(args)), args...)
	list, err := collect(rows, err, scanCertificate)
	if err == nil && len(list) == 0 {
		_, err = s.Formation(ctx, key)
	}
	return list, err
}

// RevokeKey revokes what a key has of certificates that are good, or were revoked
// with their authority, frees its node id and returns how many there were. The
// ledger is locked already.
func (tx *Tx) RevokeKey(ctx context.Context, key tenant.Key, node string, subject []byte, at time.Time, by, reason string) (int, error) {
	res, err := tx.of(key.Org).ExecContext(ctx, `UPDATE certificates SET revoked_at = $5, revoked_by = $6, reason = $7
		WHERE org_id = $1 AND app_id = $2 AND node_id = $3 AND subject = $4 AND (revoked_at = 0 OR reason IN (`+byAuthority+`)) AND expires_at > $5`,
		key.Org, key.App, node, subject, micros(at), by, reason)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, err
	}
	freed, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM nodes WHERE org_id = $1 AND app_id = $2 AND node_id = $3 AND subject = $4`, key.Org, key.App, node, subject)
	if err != nil {
		return 0, err
	}
	gone, err := freed.RowsAffected()
	if err == nil {
		err = tx.revised(ctx, key, gone)
	}
	return int(n), err
}

// RevokeSigned revokes what an authority has signed and is good, frees the node ids
// and returns how many there were. The ledger is locked already.
func (tx *Tx) RevokeSigned(ctx context.Context, key tenant.Key, authorityID string, at time.Time, by, reason string) (int, error) {
	return tx.revokeMany(ctx, key, at, by, reason, ` AND authority_id = $6`, authorityID)
}

// RevokeAllCertificates revokes all of a formation's certificates that are good,
// frees the node ids and returns how many there were.
func (tx *Tx) RevokeAllCertificates(ctx context.Context, key tenant.Key, at time.Time, by, reason string) (int, error) {
	if _, err := tx.LockLedger(ctx, key); err != nil {
		return 0, err
	}
	return tx.revokeMany(ctx, key, at, by, reason, ``)
}

func (tx *Tx) revokeMany(ctx context.Context, key tenant.Key, at time.Time, by, reason, which string, args ...any) (int, error) {
	res, err := tx.of(key.Org).ExecContext(ctx, `UPDATE certificates SET revoked_at = $3, revoked_by = $4, reason = $5
		WHERE org_id = $1 AND app_id = $2 AND revoked_at = 0 AND expires_at > $3`+which,
		append([]any{key.Org, key.App, micros(at), by, reason}, args...)...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, err
	}
	// A node that has a certificate of another authority too keeps its name.
	freed, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM nodes WHERE org_id = $1 AND app_id = $2 AND NOT EXISTS (
		SELECT 1 FROM certificates c WHERE c.org_id = nodes.org_id AND c.app_id = nodes.app_id AND c.node_id = nodes.node_id
			AND c.subject = nodes.subject AND c.revoked_at = 0 AND c.expires_at > $3)`, key.Org, key.App, micros(at))
	if err != nil {
		return 0, err
	}
	gone, err := freed.RowsAffected()
	if err == nil {
		err = tx.revised(ctx, key, gone)
	}
	return int(n), err
}

// revised counts a revocation that freed so many node ids.
func (tx *Tx) revised(ctx context.Context, key tenant.Key, freed int64) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `UPDATE ledgers SET revision = revision + 1, nodes = nodes - $3 WHERE org_id = $1 AND app_id = $2`, key.Org, key.App, freed)
	return err
}

// RevokedCertificates returns up to limit of a formation's revoked certificates that
// have not expired at the given time; those that were revoked with their authority
// come last.
func (s queries) RevokedCertificates(ctx context.Context, key tenant.Key, now time.Time, limit int) ([]authority.Certificate, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+certificateColumns+` FROM certificates
		WHERE org_id = $1 AND app_id = $2 AND revoked_at <> 0 AND expires_at > $3
		ORDER BY CASE WHEN reason IN (`+byAuthority+`) THEN 1 ELSE 0 END, number LIMIT $4`, key.Org, key.App, micros(now), limit)
	return collect(rows, err, scanCertificate)
}

// RevocationList returns the newest list of a formation that was signed; one that
// is all zero if none was yet.
func (s queries) RevocationList(ctx context.Context, key tenant.Key) (authority.List, error) {
	var l authority.List
	var made, good int64
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT version, revision, authority_id, made_at, good_until, encoded FROM revocation_lists
		WHERE org_id = $1 AND app_id = $2`, key.Org, key.App).Scan(&l.Version, &l.Revision, &l.Authority, &made, &good, &l.Encoded)
	l.MadeAt, l.GoodUntil = fromMicros(made), fromMicros(good)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return l, err
}

// PutRevocationList keeps a list in the place of the one before it; fault.Conflict
// if that is not the one that is there.
func (tx *Tx) PutRevocationList(ctx context.Context, key tenant.Key, l authority.List) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `INSERT INTO revocation_lists (org_id, app_id, version, revision, authority_id, made_at, good_until, encoded)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (org_id, app_id) DO UPDATE SET version = excluded.version, revision = excluded.revision, authority_id = excluded.authority_id,
			made_at = excluded.made_at, good_until = excluded.good_until, encoded = excluded.encoded
		WHERE revocation_lists.version = excluded.version - 1`,
		key.Org, key.App, l.Version, l.Revision, l.Authority, micros(l.MadeAt), micros(l.GoodUntil), l.Encoded)
	return affected(res, err, fault.Conflict, "the revocation list was renewed by somebody else")
}
