package store

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// PutVoucher keeps what a provider said of whom a key belongs to, in the place of
// what was said before.
func (tx *Tx) PutVoucher(ctx context.Context, v enrollment.Vouched) error {
	_, err := tx.of(v.Key.Org).ExecContext(ctx, `INSERT INTO vouchers (org_id, app_id, subject, provider, claimant, digest, vouched_at, session_end, refresh_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (org_id, app_id, subject) DO UPDATE SET provider = excluded.provider, claimant = excluded.claimant, digest = excluded.digest,
			vouched_at = excluded.vouched_at, session_end = excluded.session_end, refresh_at = excluded.refresh_at`,
		v.Key.Org, v.Key.App, hex.EncodeToString(v.Subject), v.Provider, v.Claimant, v.Digest, micros(v.VouchedAt), micros(v.Session), micros(v.RefreshAt))
	return err
}

// Voucher returns who vouched for a key, and whether they are with the organization
// no more; one that is not set if nobody did.
func (s queries) Voucher(ctx context.Context, key tenant.Key, subject []byte) (v enrollment.Voucher, offboarded bool, err error) {
	var vouched, session, refresh int64
	err = one(s.of(key.Org).QueryRowContext(ctx, `SELECT v.provider, v.claimant, v.digest, v.vouched_at, v.session_end, v.refresh_at,
			EXISTS (SELECT 1 FROM offboarded o WHERE o.org_id = $1 AND o.provider = v.provider AND o.claimant = v.claimant)
		FROM vouchers v WHERE v.org_id = $1 AND v.app_id = $2 AND v.subject = $3`, key.Org, key.App, hex.EncodeToString(subject)).
		Scan(&v.Provider, &v.Claimant, &v.Digest, &vouched, &session, &refresh, &offboarded), "nobody vouched")
	if isNotFound(err) {
		return enrollment.Voucher{}, false, nil
	}
	v.VouchedAt, v.Session, v.RefreshAt = fromMicros(vouched), fromMicros(session), fromMicros(refresh)
	return v, offboarded, err
}

// VouchedFor returns up to limit keys of somebody, in all of the organization's
// formations, that come after the given one.
func (s queries) VouchedFor(ctx context.Context, org tenant.OrgID, provider, claimant string, after enrollment.Vouched, limit int) ([]enrollment.Vouched, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT app_id, subject FROM vouchers
		WHERE org_id = $1 AND provider = $2 AND claimant = $3 AND (app_id > $4 OR app_id = $4 AND subject > $5) ORDER BY app_id, subject LIMIT $6`,
		org, provider, claimant, after.Key.App, hex.EncodeToString(after.Subject), limit)
	return collect(rows, err, func(r row) (enrollment.Vouched, error) {
		out := enrollment.Vouched{Key: tenant.Key{Org: org}}
		var subject string
		err := r.Scan(&out.Key.App, &subject)
		if err == nil {
			out.Subject, err = hex.DecodeString(subject)
		}
		out.Provider, out.Claimant = provider, claimant
		return out, err
	})
}

// Offboard notes that somebody is with the organization no more. Doing it again
// changes nothing.
func (tx *Tx) Offboard(ctx context.Context, org tenant.OrgID, o enrollment.Offboarding) error {
	_, err := tx.of(org).ExecContext(ctx, `INSERT INTO offboarded (org_id, provider, claimant, at, by_whom, reason) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (org_id, provider, claimant) DO NOTHING`, org, o.Provider, o.Claimant, micros(o.At), o.By, o.Reason)
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no organization %q", org)
	}
	return err
}

// Reinstate takes an offboarding back; fault.NotFound if there was none.
func (tx *Tx) Reinstate(ctx context.Context, org tenant.OrgID, provider, claimant string) error {
	res, err := tx.of(org).ExecContext(ctx, `DELETE FROM offboarded WHERE org_id = $1 AND provider = $2 AND claimant = $3`, org, provider, claimant)
	return affected(res, err, fault.NotFound, "nobody of this name was offboarded")
}

// Offboarded tells whether somebody is with the organization no more.
func (s queries) Offboarded(ctx context.Context, org tenant.OrgID, provider, claimant string) (bool, error) {
	var gone bool
	err := s.of(org).QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM offboarded WHERE org_id = $1 AND provider = $2 AND claimant = $3)`,
		org, provider, claimant).Scan(&gone)
	return gone, err
}

// Offboardings returns up to limit of an organization's offboardings that come after
// the given one; fault.NotFound if there is no such organization.
func (s queries) Offboardings(ctx context.Context, org tenant.OrgID, after enrollment.Offboarding, limit int) ([]enrollment.Offboarding, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT provider, claimant, at, by_whom, reason FROM offboarded
		WHERE org_id = $1 AND (provider > $2 OR provider = $2 AND claimant > $3) ORDER BY provider, claimant LIMIT $4`, org, after.Provider, after.Claimant, limit)
	list, err := collect(rows, err, func(r row) (o enrollment.Offboarding, err error) {
		var at int64
		err = r.Scan(&o.Provider, &o.Claimant, &at, &o.By, &o.Reason)
		o.At = fromMicros(at)
		return o, err
	})
	if err == nil && len(list) == 0 {
		_, err = s.Org(ctx, org)
	}
	return list, err
}

// ProveNode notes a newer proof of a key, for something else than a certificate;
// fault.Conflict if the proof was used already or a newer one was, or the node id is
// not the key's.
func (tx *Tx) ProveNode(ctx context.Context, key tenant.Key, node string, subject []byte, at time.Time) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `UPDATE nodes SET proved_at = $5 WHERE org_id = $1 AND app_id = $2 AND node_id = $3 AND subject = $4 AND proved_at < $5`,
		key.Org, key.App, node, subject, micros(at))
	return affected(res, err, fault.Conflict, "the proof was used already, or a newer one was")
}
