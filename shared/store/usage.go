package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Usage is what of an organization's quotas is in use. What a quota allows for each
// formation is told of the formation that has most of it.
type Usage struct {
	Formations            int `json:"formations"`
	PeersPerFormation     int `json:"peers_per_formation"` // nodes with a certificate
	SessionsPerFormation  int `json:"sessions_per_formation"`
	Documents             int `json:"documents"` // in all formations together
	DocumentsPerFormation int `json:"documents_per_formation"`
	CDCSinks              int `json:"cdc_sinks"`
	Tokens                int `json:"tokens"` // that can be used, of services and for enrollment
	EnrollmentsLastHour   int `json:"enrollments_last_hour"`
	BytesStored           int `json:"bytes_stored"`
}

// Usage counts what an organization has.
func (s queries) Usage(ctx context.Context, org tenant.OrgID, now time.Time) (Usage, error) {
	all, err := s.Usages(ctx, org, org, now)
	return all[org], err
}

// Usages counts what each organization has whose id is between two, these included.
// It costs a few queries, however many organizations there are; all but the sinks,
// the tokens and the enrollments are counted already.
func (s queries) Usages(ctx context.Context, from, to tenant.OrgID, now time.Time) (map[tenant.OrgID]Usage, error) {
	out := map[tenant.OrgID]Usage{}
	for what, q := range map[string]struct {
		query string
		args  []any
		into  func(u *Usage) []any
	}{
		"formations": {`SELECT f.org_id, count(*), COALESCE(sum(f.documents), 0), COALESCE(max(f.documents), 0), COALESCE(sum(f.bytes), 0),
				COALESCE(max(CASE WHEN l.until > $3 THEN f.sessions END), 0)
			FROM formations f LEFT JOIN leases l ON l.name = 'watch/' || f.org_id || '/' || f.app_id
			WHERE f.org_id >= $1 AND f.org_id <= $2 AND f.state <> 'destroyed' GROUP BY f.org_id`, []any{micros(now)},
			func(u *Usage) []any {
				return []any{&u.Formations, &u.Documents, &u.DocumentsPerFormation, &u.BytesStored, &u.SessionsPerFormation}
			}},
		"peers": {`SELECT org_id, max(nodes) FROM ledgers WHERE org_id >= $1 AND org_id <= $2 GROUP BY org_id`, nil,
			func(u *Usage) []any { return []any{&u.PeersPerFormation} }},
		"sinks": {`SELECT org_id, count(*) FROM sinks WHERE org_id >= $1 AND org_id <= $2 GROUP BY org_id`, nil,
			func(u *Usage) []any { return []any{&u.CDCSinks} }},
		"tokens": {`SELECT org_id, count(*) FROM (
				SELECT org_id FROM service_tokens WHERE org_id >= $1 AND org_id <= $2 AND revoked_at = 0 AND expires_at > $3
				UNION ALL
				SELECT org_id FROM enrollment_tokens WHERE org_id >= $1 AND org_id <= $2 AND revoked_at = 0 AND expires_at > $3 AND uses < max_uses
			) t GROUP BY org_id`, []any{micros(now)},
			func(u *Usage) []any { return []any{&u.Tokens} }},
		"enrollments": {`SELECT org_id, sum(count) FROM enrollment_counts WHERE org_id >= $1 AND org_id <= $2 AND minute > $3 GROUP BY org_id`,
			[]any{minuteOf(now) - enrollmentMinutes},
			func(u *Usage) []any { return []any{&u.EnrollmentsLastHour} }},
	} {
		args := append([]any{from, to}, q.args...)
		var rows *sql.Rows
		var err error
		if from == to {
			rows, err = s.of(from).QueryContext(ctx, q.query, args...)
		} else {
			rows, err = s.everywhere("a gateway administrator lists the organizations").QueryContext(ctx, q.query, args...)
		}
		_, err = collect(rows, err, func(r row) (struct{}, error) {
			var org tenant.OrgID
			var counted Usage // scanned into first: which organization it is comes with it
			if err := r.Scan(append([]any{&org}, q.into(&counted)...)...); err != nil {
				return struct{}{}, err
			}
			u := out[org]
			for i, v := range q.into(&counted) {
				*q.into(&u)[i].(*int) = *v.(*int)
			}
			out[org] = u
			return struct{}{}, nil
		})
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", what, err)
		}
	}
	return out, nil
}

// FormationUsage is what one formation has of what its organization's quotas allow
// each.
type FormationUsage struct {
	Peers     int `json:"peers"`
	Sessions  int `json:"sessions"`
	Documents int `json:"documents"`
	Bytes     int `json:"bytes_stored"`
}

// FormationUsage counts what a formation has.
func (s queries) FormationUsage(ctx context.Context, key tenant.Key, now time.Time) (FormationUsage, error) {
	var u FormationUsage
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT f.documents, f.bytes, COALESCE(g.nodes, 0), CASE WHEN l.until > $3 THEN f.sessions ELSE 0 END
		FROM formations f LEFT JOIN ledgers g ON g.org_id = f.org_id AND g.app_id = f.app_id
		LEFT JOIN leases l ON l.name = 'watch/' || f.org_id || '/' || f.app_id
		WHERE f.org_id = $1 AND f.app_id = $2 AND f.state <> 'destroyed'`, key.Org, key.App, micros(now)).
		Scan(&u.Documents, &u.Bytes, &u.Peers, &u.Sessions)
	return u, one(err, "no formation %q", key)
}

// CountFormations is how many formations an organization has.
func (s queries) CountFormations(ctx context.Context, org tenant.OrgID) (int, error) {
	var n int
	err := s.of(org).QueryRowContext(ctx, `SELECT count(*) FROM formations WHERE org_id = $1 AND state <> 'destroyed'`, org).Scan(&n)
	return n, err
}

// CountSinks is how many sinks an organization has.
func (s queries) CountSinks(ctx context.Context, org tenant.OrgID) (int, error) {
	var n int
	err := s.of(org).QueryRowContext(ctx, `SELECT count(*) FROM sinks WHERE org_id = $1`, org).Scan(&n)
	return n, err
}

// SetWatched records what whoever watches a formation has counted in it. The caller
// guards the transaction with the formation's lease.
func (tx *Tx) SetWatched(ctx context.Context, key tenant.Key, documents, sessions int) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `UPDATE formations SET documents = $3, sessions = $4 WHERE org_id = $1 AND app_id = $2`,
		key.Org, key.App, documents, sessions)
	return err
}

// Bounds of what may be appended without anybody waiting: so little, while so much
// is left that a thousand who do it at once stay within the quota.
const (
	unlockedBytes = 1 << 20
	unlockedRoom  = 1 << 30
)

// TakeBytes fails with fault.Exhausted if an organization's logs may not grow by so
// much. Far from the limit, appends to several formations do not wait for each
// other; near it they do, so that all of them together stay within.
func (tx *Tx) TakeBytes(ctx context.Context, org tenant.OrgID, weight int) error {
	o, err := tx.Org(ctx, org)
	limit := o.Quotas.MaxBytesStored
	if err != nil || limit == 0 {
		return err
	}
	stored, err := tx.bytesStored(ctx, org)
	if err != nil {
		return err
	}
	lock := tx.forUpdate
	if lock != "" && weight <= unlockedBytes && stored+unlockedRoom <= limit {
		lock = " FOR SHARE"
	}
	// Whoever is near the limit waits here for those that were not.
	if _, err := tx.of(org).ExecContext(ctx, `SELECT 1 FROM orgs WHERE org_id = $1`+lock, org); err != nil {
		return err
	}
	if stored, err = tx.bytesStored(ctx, org); err != nil {
		return err
	}
	if stored+weight > limit {
		return tenant.Exceeded(tenant.MaxBytesStored, limit)
	}
	return nil
}

func (s queries) bytesStored(ctx context.Context, org tenant.OrgID) (int, error) {
	var n int
	err := s.of(org).QueryRowContext(ctx, `SELECT COALESCE(sum(bytes), 0) FROM formations WHERE org_id = $1 AND state <> 'destroyed'`, org).Scan(&n)
	return n, err
}

// enrollmentMinutes is over how long enrollments are counted.
const enrollmentMinutes = 60

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// TakeEnrollment counts one enrollment, or fails with fault.Exhausted if there were
// as many within the hour as the organization's quota allows. Those of one
// organization wait for each other, so call it late in the transaction.
func (tx *Tx) TakeEnrollment(ctx context.Context, org tenant.OrgID, now time.Time) error {
	o, err := tx.LockOrg(ctx, org)
	if err != nil {
		return err
	}
	limit, minute := o.Quotas.MaxEnrollmentsPerHour, minuteOf(now)
	var count, others int
	err = tx.of(org).QueryRowContext(ctx, `INSERT INTO enrollment_counts (org_id, minute, count) VALUES ($1, $2, 1)
		ON CONFLICT (org_id, minute) DO UPDATE SET count = enrollment_counts.count + 1
		RETURNING count, COALESCE((SELECT sum(e.count) FROM enrollment_counts e WHERE e.org_id = $1 AND e.minute > $3 AND e.minute <> $2), 0)`,
		org, minute, minute-enrollmentMinutes).Scan(&count, &others)
	switch {
	case err != nil:
		return err
	case count+others > limit:
		return tx.enrollmentsExhausted(ctx, org, limit, now)
	case count > 1:
		return nil
	}
	return tx.forgetEnrollments(ctx, org, minute)
}

// forgetEnrollments removes the counts that are too old to matter in a minute.
func (tx *Tx) forgetEnrollments(ctx context.Context, org tenant.OrgID, minute int64) error {
	_, err := tx.of(org).ExecContext(ctx, `DELETE FROM enrollment_counts WHERE org_id = $1 AND minute <= $2`, org, minute-enrollmentMinutes)
	return err
}

// enrollmentsExhausted is the refusal of one enrollment too many, which is counted
// already; with it goes its count. There is room once enough of the oldest are an
// hour old.
func (tx *Tx) enrollmentsExhausted(ctx context.Context, org tenant.OrgID, limit int, now time.Time) error {
	rows, err := tx.of(org).QueryContext(ctx, `SELECT minute, count FROM enrollment_counts WHERE org_id = $1 AND minute > $2 ORDER BY minute`,
		org, minuteOf(now)-enrollmentMinutes)
	type bucket struct {
		minute int64
		count  int
	}
	buckets, err := collect(rows, err, func(r row) (b bucket, err error) { return b, r.Scan(&b.minute, &b.count) })
	if err != nil {
		return err
	}
	sum := -1
	for _, b := range buckets {
		sum += b.count
	}
	wait := time.Hour // if none are allowed, there never is
	for _, b := range buckets {
		if sum -= b.count; sum < limit {
			wait = time.Unix((b.minute+enrollmentMinutes)*60, 0).Sub(now)
			break
		}
	}
	return fault.RetryIn(tenant.Exceeded(tenant.MaxEnrollmentsPerHour, limit), wait)
}
