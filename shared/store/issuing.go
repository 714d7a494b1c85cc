package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Certificates of one organization that are issued at the same time are decided on
// and kept in few statements: see sqldb.DB.RowsAtOnce.

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

var applicantColumns = []sqldb.Column{{Name: "app", Type: sqldb.Text}, {Name: "node", Type: sqldb.Text}, {Name: "subject", Type: sqldb.Bytes}}

// Standings is what Admission tells of a node id and a key, of many.
//
// What is asked for is asked for as a range in an order: see Admission.
func (tx *Tx) Standings(ctx context.Context, org tenant.OrgID, all []Applicant) ([]Standing, error) {
	mine := func(column string) string {
		return `(SELECT n.` + column + ` FROM nodes n WHERE n.org_id = $1 AND n.app_id = v.app AND n.node_id >= v.node AND n.node_id <= v.node ORDER BY n.node_id LIMIT 1)`
	}
	out := make([]Standing, 0, len(all))
	err := atOnce(tx.queries, all, func(some []Applicant) error {
		rows := make([][]any, len(some))
		for i, a := range some {
			rows[i] = []any{a.App, a.Node, a.Subject}
		}
		from, args := tx.db.Table(2, applicantColumns, rows)
		query := `SELECT v.nth, ` + mine("subject") + `, ` + mine("until") + `, ` + mine("proved_at") + `,
				(SELECT n.node_id FROM nodes n WHERE n.org_id = $1 AND n.app_id = v.app AND n.subject >= v.subject AND n.subject <= v.subject ORDER BY n.subject LIMIT 1),
				CASE WHEN EXISTS (SELECT 1 FROM certificates c WHERE c.org_id = $1 AND c.app_id = v.app AND c.subject = v.subject
					AND c.revoked_at <> 0 AND c.reason NOT IN (` + byAuthority + `)) THEN 1 ELSE 0 END
			FROM ` + from + ` ORDER BY v.nth`
		args = append([]any{org}, args...)
		if len(some) == 1 { // SQLite keeps prepared what is asked for one row
			s, err := scanStanding(tx.of(org).QueryRowContext(ctx, query, args...), some)
			out = append(out, s)
			return err
		}
		found, err := tx.of(org).QueryContext(ctx, query, args...)
		list, err := collect(found, err, func(r row) (Standing, error) { return scanStanding(r, some) })
		out = append(out, list...)
		return err
	})
	return out, err
}

func scanStanding(r row, of []Applicant) (Standing, error) {
	var s Standing
	var nth, revoked int
	var subject []byte
	var until, proved sql.NullInt64
	var name sql.NullString
	if err := r.Scan(&nth, &subject, &until, &proved, &name, &revoked); err != nil {
		return s, err
	}
	node := of[nth-1].Node
	if until.Valid {
		s.Node = &authority.Node{ID: node, Subject: subject, Until: fromMicros(until.Int64), ProvedAt: fromMicros(proved.Int64)}
	}
	s.Other, s.Revoked = name.Valid && name.String != node, revoked != 0
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

var nodeColumns = []sqldb.Column{
	{Name: "org_id", Type: sqldb.Text}, {Name: "app_id", Type: sqldb.Text}, {Name: "node_id", Type: sqldb.Text},
	{Name: "subject", Type: sqldb.Bytes}, {Name: "until", Type: sqldb.BigInt}, {Name: "proved_at", Type: sqldb.BigInt},
}

// BindNodes is BindNode of a batch in which each node id is there once.
func (tx *Tx) BindNodes(ctx context.Context, org tenant.OrgID, b Batch) error {
	return atOnce(tx.queries, b.rows, func(some []issued) error {
		rows := make([][]any, len(some))
		for i, r := range some {
			rows[i] = []any{org, r.certificate.Key.App, r.node.ID, r.node.Subject, micros(r.node.Until), micros(r.node.ProvedAt)}
		}
		insert, args := tx.db.Insert("nodes", nodeColumns, rows)
		_, err := tx.of(org).ExecContext(ctx, insert+`
			ON CONFLICT (org_id, app_id, node_id) DO UPDATE SET subject = excluded.subject, until = excluded.until, proved_at = excluded.proved_at`, args...)
		return err
	})
}

var certificateTypes = columnsOf(certificateColumns, map[string]string{
	"number": sqldb.BigInt, "subject": sqldb.Bytes, "tier": sqldb.BigInt, "permissions": sqldb.BigInt, "issued_at": sqldb.BigInt,
	"expires_at": sqldb.BigInt, "renew_after": sqldb.BigInt, "encoded": sqldb.Bytes, "revoked_at": sqldb.BigInt,
})

// columnsOf are columns of text, save those whose types are named.
func columnsOf(names string, types map[string]string) []sqldb.Column {
	var out []sqldb.Column
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		out = append(out, sqldb.Column{Name: name, Type: cmp.Or(types[name], sqldb.Text)})
	}
	return out
}

// AddCertificates keeps the certificates of a batch.
func (tx *Tx) AddCertificates(ctx context.Context, org tenant.OrgID, b Batch) error {
	return atOnce(tx.queries, b.rows, func(some []issued) error {
		rows := make([][]any, len(some))
		for i, r := range some {
			c := r.certificate
			rows[i] = []any{org, c.Key.App, c.Number, c.Serial, c.Subject, c.NodeID, c.Tier, c.Permissions, micros(c.IssuedAt), micros(c.ExpiresAt), micros(c.RenewAfter),
				c.Authority, c.Encoded, c.By, c.Why, c.Rule, c.AdmittedBy, c.Replaces, "", 0, "", ""}
		}
		insert, args := tx.db.Insert("certificates", certificateTypes, rows)
		_, err := tx.of(org).ExecContext(ctx, insert, args...)
		return err
	})
}

var auditTypes = columnsOf("org_id, audit_id, at, actor, action, target, request_id, detail", map[string]string{"at": sqldb.BigInt})

// AppendAudits is AppendAudit of a batch.
func (tx *Tx) AppendAudits(ctx context.Context, org tenant.OrgID, b Batch) error {
	tx.audited(org)
	return atOnce(tx.queries, b.rows, func(some []issued) error {
		rows := make([][]any, len(some))
		for i, r := range some {
			a, detail, err := r.audit.Clean()
			if err != nil {
				return err
			}
			rows[i] = []any{org, newID(a.At), micros(a.At), a.Actor, a.Action, a.Target, a.RequestID, string(detail)}
		}
		insert, args := tx.db.Insert("audit", auditTypes, rows)
		_, err := tx.of(org).ExecContext(ctx, insert, args...)
		return err
	})
}

var outboxTypes = columnsOf("outbox_id, event, created_at", map[string]string{"created_at": sqldb.BigInt})

// EnqueueAll is Enqueue of a batch, whose events are in their traces already.
func (tx *Tx) EnqueueAll(ctx context.Context, b Batch) error {
	return atOnce(tx.queries, b.rows, func(some []issued) error {
		rows := make([][]any, len(some))
		for i, r := range some {
			text, err := r.event.MarshalJSON()
			if err != nil {
				return fmt.Errorf("encode event: %w", err)
			}
			rows[i] = []any{newID(time.Now()), string(text), micros(r.event.Time())}
		}
		insert, args := tx.db.Insert("outbox", outboxTypes, rows)
		_, err := tx.unowned().ExecContext(ctx, insert, args...)
		return err
	})
}
