package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Certificates of one organization that are issued at the same time are decided on
// and kept in few statements. Where there is one row to a statement elsewhere, here
// there are as many as sqldb.DB.RowsAtOnce.

// Signer is what a certificate is signed with.
type Signer struct {
	Formation tenant.Formation
	Authority authority.Authority // the one that signs now
	Root      keyring.Root        // where its private key is
}

// Signer returns who signs a formation's certificates now; fault.NotFound if there
// is no such formation.
func (s queries) Signer(ctx context.Context, key tenant.Key) (Signer, error) {
	var out Signer
	var created, shut int64
	var id sql.NullString
	var public, sealed []byte
	f := &out.Formation
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT f.org_id, f.app_id, f.mesh_id, f.policy, f.state, f.authority_key, f.created_at, f.revision,
			g.sealed, g.shut_at, a.authority_id, a.public_key, a.sealed
		FROM formations f JOIN genesis g ON g.org_id = f.org_id AND g.app_id = f.app_id
		LEFT JOIN authorities a ON a.org_id = f.org_id AND a.app_id = f.app_id AND a.state = 'active'
		WHERE f.org_id = $1 AND f.app_id = $2 AND f.state <> 'destroyed'`, key.Org, key.App).Scan(
		&f.Org, &f.App, &f.MeshID, &f.Policy, &f.State, &f.AuthorityPublicKey, &created, &f.Revision, &out.Root.Sealed, &shut, &id, &public, &sealed)
	if err := one(err, "no formation %q", key); err != nil {
		return out, err
	}
	f.CreatedAt = fromMicros(created)
	out.Authority = first(*f)
	out.Root.Record, out.Root.Shut = keyring.OfGenesis(key), shut != 0
	if id.Valid {
		out.Authority = authority.Authority{Key: key, ID: id.String, PublicKey: public, State: authority.Active, Sealed: sealed}
	}
	if out.Authority.ID != authority.GenesisID {
		out.Root.Record, out.Root.Sealed = keyring.OfAuthority(key, out.Authority.ID), sealed
	}
	out.Root.PublicKey = f.AuthorityPublicKey // what everybody is shown
	return out, nil
}

// Issuing is what decides on all certificates of a formation.
type Issuing struct {
	Formation tenant.Formation // its policy and state alone
	Ledger    authority.Ledger
	Authority string // the id of the one that signs now
}

// LockIssuing returns a formation in which certificates are to be issued, and keeps it
// from changing until the transaction ends. fault.NotFound if there is none, or if its
// ledger is not open yet.
//
// Who locks several does so in the order of their ids, and locks the organization
// last: that is the order of everybody who takes these locks.
func (tx *Tx) LockIssuing(ctx context.Context, key tenant.Key) (Issuing, error) {
	var out Issuing
	var err error
	if out.Ledger, err = tx.lockLedger(ctx, key); err != nil {
		return out, err
	}
	// Read after the ledger's lock is had, which keeps all of it from changing.
	err = tx.of(key.Org).QueryRowContext(ctx, `SELECT f.policy, f.state, a.authority_id
		FROM formations f JOIN authorities a ON a.org_id = f.org_id AND a.app_id = f.app_id AND a.state = 'active'
		WHERE f.org_id = $1 AND f.app_id = $2 AND f.state <> 'destroyed'`, key.Org, key.App).
		Scan(&out.Formation.Policy, &out.Formation.State, &out.Authority)
	out.Formation.Org, out.Formation.App = key.Org, key.App
	return out, one(err, "no formation %q", key)
}

// places are the places of n arguments, beginning with one.
func places(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "$%d", from+i)
	}
	return b.String()
}

// rowsOf are the places of n rows of arguments.
func rowsOf(n, columns int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("(" + places(1+i*columns, columns) + ")")
	}
	return b.String()
}

// atOnce calls do with all, piece by piece, each as long as the database likes.
func atOnce[T any](s queries, all []T, do func([]T) error) error {
	for limit := s.db.RowsAtOnce(); len(all) > 0; {
		n := min(limit, len(all))
		if err := do(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// Applicant is a node id and a key that are to have a certificate.
type Applicant struct {
	App     tenant.AppID
	Node    string
	Subject []byte
}

// Standing is what is known of an applicant.
type Standing struct {
	Node    *authority.Node // whose name the node id is; nil if nobody's
	Other   bool            // the key has another name
	Revoked bool            // a certificate of the key was revoked once, and not with its authority
}

// Standings is what Admission tells of a node id and a key, of many.
func (tx *Tx) Standings(ctx context.Context, org tenant.OrgID, all []Applicant) ([]Standing, error) {
	out := make([]Standing, 0, len(all))
	err := atOnce(tx.queries, all, func(some []Applicant) error {
		var query strings.Builder
		args := []any{org}
		for i, a := range some {
			if i > 0 {
				query.WriteString(` UNION ALL `)
			}
			// The node id as a range in its order: see Admission.
			app, node, subject := 3*i+2, 3*i+3, 3*i+4
			mine := func(column string) string {
				return fmt.Sprintf(`(SELECT n.%s FROM nodes n WHERE n.org_id = $1 AND n.app_id = $%d AND n.node_id >= $%d AND n.node_id <= $%d ORDER BY n.node_id LIMIT 1)`,
					column, app, node, node)
			}
			fmt.Fprintf(&query, `SELECT %d, %s, %s, %s,
				CASE WHEN EXISTS (SELECT 1 FROM nodes n WHERE n.org_id = $1 AND n.app_id = $%[5]d AND n.subject = $%[7]d AND n.node_id <> $%[6]d) THEN 1 ELSE 0 END,
				CASE WHEN EXISTS (SELECT 1 FROM certificates c WHERE c.org_id = $1 AND c.app_id = $%[5]d AND c.subject = $%[7]d
					AND c.revoked_at <> 0 AND c.reason NOT IN (`+byAuthority+`)) THEN 1 ELSE 0 END`,
				i, mine("subject"), mine("until"), mine("proved_at"), app, node, subject)
			args = append(args, a.App, a.Node, a.Subject)
		}
		if len(some) == 1 { // SQLite keeps the statements of single rows prepared
			s, err := scanStanding(tx.of(org).QueryRowContext(ctx, query.String(), args...), some)
			out = append(out, s)
			return err
		}
		rows, err := tx.of(org).QueryContext(ctx, query.String()+` ORDER BY 1`, args...)
		found, err := collect(rows, err, func(r row) (Standing, error) { return scanStanding(r, some) })
		out = append(out, found...)
		return err
	})
	return out, err
}

func scanStanding(r row, of []Applicant) (Standing, error) {
	var s Standing
	var i, other, revoked int
	var subject []byte
	var until, proved sql.NullInt64
	if err := r.Scan(&i, &subject, &until, &proved, &other, &revoked); err != nil {
		return s, err
	}
	if until.Valid {
		s.Node = &authority.Node{ID: of[i].Node, Subject: subject, Until: fromMicros(until.Int64), ProvedAt: fromMicros(proved.Int64)}
	}
	s.Other, s.Revoked = other != 0, revoked != 0
	return s, nil
}

// TakeEnrollments is TakeEnrollment of n, by who has locked the organization: all of
// them, or none, and false.
func (tx *Tx) TakeEnrollments(ctx context.Context, o tenant.Org, now time.Time, n int) (bool, error) {
	minute := minuteOf(now)
	var count int
	err := tx.of(o.ID).QueryRowContext(ctx, `INSERT INTO enrollment_counts (org_id, minute, count)
		SELECT $1, CAST($2 AS BIGINT), CAST($4 AS BIGINT) WHERE CAST($4 AS BIGINT) + COALESCE((SELECT sum(e.count) FROM enrollment_counts e WHERE e.org_id = $1 AND e.minute > $3), 0) <= CAST($5 AS BIGINT)
		ON CONFLICT (org_id, minute) DO UPDATE SET count = enrollment_counts.count + excluded.count
		RETURNING count`, o.ID, minute, minute-enrollmentMinutes, n, o.Quotas.MaxEnrollmentsPerHour).Scan(&count)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	case count > n:
		return true, nil
	}
	return true, tx.forgetEnrollments(ctx, o.ID, minute)
}

// Batch is what is kept of certificates of one organization that are issued together.
type Batch struct{ rows []issued }

type issued struct {
	certificate authority.Certificate
	node        authority.Node
	audit       Audit
	event       cloudevents.Event
}

// Add adds a certificate, whose name its node id becomes, and what is told of it.
func (b *Batch) Add(c authority.Certificate, n authority.Node, a Audit, e cloudevents.Event) {
	b.rows = append(b.rows, issued{c, n, a, e})
}

// BindNodes is BindNode of a batch in which each node id is there once.
func (tx *Tx) BindNodes(ctx context.Context, org tenant.OrgID, b Batch) error {
	return atOnce(tx.queries, b.rows, func(some []issued) error {
		args := make([]any, 0, 6*len(some))
		for _, r := range some {
			args = append(args, org, r.certificate.Key.App, r.node.ID, r.node.Subject, micros(r.node.Until), micros(r.node.ProvedAt))
		}
		_, err := tx.of(org).ExecContext(ctx, `INSERT INTO nodes (org_id, app_id, node_id, subject, until, proved_at) VALUES `+rowsOf(len(some), 6)+`
			ON CONFLICT (org_id, app_id, node_id) DO UPDATE SET subject = excluded.subject, until = excluded.until, proved_at = excluded.proved_at`, args...)
		return err
	})
}

// AddCertificates keeps the certificates of a batch.
func (tx *Tx) AddCertificates(ctx context.Context, org tenant.OrgID, b Batch) error {
	return atOnce(tx.queries, b.rows, func(some []issued) error {
		args := make([]any, 0, 22*len(some))
		for _, r := range some {
			c := r.certificate
			args = append(args, org, c.Key.App, c.Number, c.Serial, c.Subject, c.NodeID, c.Tier, c.Permissions, micros(c.IssuedAt), micros(c.ExpiresAt), micros(c.RenewAfter),
				c.Authority, c.Encoded, c.By, c.Why, c.Rule, c.AdmittedBy, c.Replaces, "", 0, "", "")
		}
		_, err := tx.of(org).ExecContext(ctx, `INSERT INTO certificates (`+certificateColumns+`) VALUES `+rowsOf(len(some), 22), args...)
		return err
	})
}

// AppendAudits is AppendAudit of a batch.
func (tx *Tx) AppendAudits(ctx context.Context, org tenant.OrgID, b Batch) error {
	tx.audited(org)
	return atOnce(tx.queries, b.rows, func(some []issued) error {
		args := make([]any, 0, 8*len(some))
		for _, r := range some {
			a, detail, err := r.audit.Clean()
			if err != nil {
				return err
			}
			args = append(args, org, newID(a.At), micros(a.At), a.Actor, a.Action, a.Target, a.RequestID, string(detail))
		}
		_, err := tx.of(org).ExecContext(ctx, `INSERT INTO audit (org_id, audit_id, at, actor, action, target, request_id, detail) VALUES `+rowsOf(len(some), 8), args...)
		return err
	})
}

// EnqueueAll is Enqueue of a batch, whose events are in their traces already.
func (tx *Tx) EnqueueAll(ctx context.Context, b Batch) error {
	return atOnce(tx.queries, b.rows, func(some []issued) error {
		args := make([]any, 0, 3*len(some))
		for _, r := range some {
			text, err := r.event.MarshalJSON()
			if err != nil {
				return fmt.Errorf("encode event: %w", err)
			}
			args = append(args, newID(time.Now()), string(text), micros(r.event.Time()))
		}
		_, err := tx.unowned().ExecContext(ctx, `INSERT INTO outbox (outbox_id, event, created_at) VALUES `+rowsOf(len(some), 3), args...)
		return err
	})
}
