package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// MaxPolicyVersions is how many versions of a policy are kept.
const MaxPolicyVersions = 100

const policyColumns = `version, document, made_at, made_by, note, restores`

func scanPolicyVersion(r row) (policy.Version, error) {
	var v policy.Version
	var text string
	var at int64
	if err := r.Scan(&v.Number, &text, &at, &v.By, &v.Note, &v.Restores); err != nil {
		return v, err
	}
	v.At = fromMicros(at)
	// Strictly: a condition that this program does not know yet must not be passed over.
	var err error
	v.Document, err = policy.ParseDocument([]byte(text))
	v.Document.Version = v.Number
	return v, err
}

// Policy returns the rules of an organization; the zero Document if it has none.
func (s queries) Policy(ctx context.Context, org tenant.OrgID) (policy.Document, error) {
	v, err := s.LatestPolicy(ctx, tenant.Key{Org: org})
	return v.Document, err
}

// latestOfBoth selects from the newest version of an organization's rules and of a
// formation's own: one step into the index for each, for this is asked with every
// decision.
func latestOfBoth(columns string) string {
	one := `SELECT * FROM (SELECT ` + columns + ` FROM policies WHERE org_id = $1 AND scope = `
	return one + `'' ORDER BY version DESC LIMIT 1) o UNION ALL ` + one + `$2 ORDER BY version DESC LIMIT 1) f`
}

// PolicyFor returns the rules that decide on a formation's nodes, of its organization
// and its own, and their digests; each is zero if there are none.
func (s queries) PolicyFor(ctx context.Context, key tenant.Key) (policy.Sources, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, latestOfBoth(`scope, digest, `+policyColumns), key.Org, key.App)
	type scoped struct {
		scope tenant.AppID
		policy.Source
	}
	list, err := collect(rows, err, func(r row) (scoped, error) {
		var out scoped
		v, err := scanPolicyVersion(scanner(func(dest ...any) error { return r.Scan(append([]any{&out.scope, &out.Digest}, dest...)...) }))
		out.Document = v.Document
		return out, err
	})
	out := policy.Sources{App: key.App}
	for _, p := range list {
		if p.scope == "" {
			out.Org = p.Source
		} else {
			out.Formation = p.Source
		}
	}
	return out, err
}

// scanner is a row that is read together with something before it.
type scanner func(dest ...any) error

func (s scanner) Scan(dest ...any) error { return s(dest...) }

// PolicyDigests is PolicyFor of the digests alone.
func (s queries) PolicyDigests(ctx context.Context, key tenant.Key) (policy.Sources, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, latestOfBoth(`scope, digest, version`), key.Org, key.App)
	out := policy.Sources{App: key.App}
	_, err = collect(rows, err, func(r row) (struct{}, error) {
		var scope tenant.AppID
		var p policy.Source
		err := r.Scan(&scope, &p.Digest, &p.Document.Version)
		if scope == "" {
			out.Org = p
		} else {
			out.Formation = p
		}
		return struct{}{}, err
	})
	return out, err
}

// LatestPolicy returns the version that counts of the rules of an organization, or,
// if the key names one, of a formation's own; the zero Version if there is none.
func (s queries) LatestPolicy(ctx context.Context, scope tenant.Key) (policy.Version, error) {
	v, err := scanPolicyVersion(s.of(scope.Org).QueryRowContext(ctx, `SELECT `+policyColumns+` FROM policies
		WHERE org_id = $1 AND scope = $2 ORDER BY version DESC LIMIT 1`, scope.Org, scope.App))
	if errors.Is(err, sql.ErrNoRows) {
		return policy.Version{}, nil
	}
	return v, err
}

// PolicyVersion returns one version.
func (s queries) PolicyVersion(ctx context.Context, scope tenant.Key, version int64) (policy.Version, error) {
	v, err := scanPolicyVersion(s.of(scope.Org).QueryRowContext(ctx, `SELECT `+policyColumns+` FROM policies
		WHERE org_id = $1 AND scope = $2 AND version = $3`, scope.Org, scope.App, version))
	return v, one(err, "no version %d of the policy is kept", version)
}

// PolicyVersions returns up to limit versions before one, the newest first.
func (s queries) PolicyVersions(ctx context.Context, scope tenant.Key, before int64, limit int) ([]policy.Version, error) {
	rows, err := s.of(scope.Org).QueryContext(ctx, `SELECT `+policyColumns+` FROM policies
		WHERE org_id = $1 AND scope = $2 AND version < $3 ORDER BY version DESC LIMIT $4`, scope.Org, scope.App, before, limit)
	return collect(rows, err, scanPolicyVersion)
}

// PutPolicy adds a version, which is the one that counts from now on, and forgets the
// oldest if there are too many. Its number must be the next: fault.Conflict if
// somebody else was first.
func (tx *Tx) PutPolicy(ctx context.Context, scope tenant.Key, v policy.Version) error {
	if _, err := tx.LockOrg(ctx, scope.Org); err != nil {
		return err
	}
	if scope.App != "" {
		// A row may be left of one that was destroyed.
		if _, err := tx.Formation(ctx, scope); err != nil {
			return err
		}
	}
	last, err := tx.LatestPolicy(ctx, scope)
	if err != nil {
		return err
	}
	if v.Number != last.Number+1 {
		return fault.Conflict.New("the policy was changed meanwhile")
	}
	text, err := v.Document.Text()
	if err != nil {
		return err
	}
	_, err = tx.of(scope.Org).ExecContext(ctx, `INSERT INTO policies (org_id, scope, app_id, digest, `+policyColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, scope.Org, scope.App, sql.NullString{String: string(scope.App), Valid: scope.App != ""},
		policy.Digest(text), v.Number, string(text), micros(v.At), v.By, v.Note, v.Restores)
	switch {
	case sqldb.IsMissingParent(err):
		return fault.NotFound.New("no formation %q", scope)
	case err != nil:
		return err
	}
	_, err = tx.of(scope.Org).ExecContext(ctx, `DELETE FROM policies WHERE org_id = $1 AND scope = $2 AND version <= $3`,
		scope.Org, scope.App, v.Number-MaxPolicyVersions)
	return err
}

// pruneBatch is how many decisions at most are forgotten at once. It is more than
// are added between two times that this happens, see RecordDecision.
const pruneBatch = 256

// RecordDecision keeps a decision, redacted, and now and then forgets the oldest:
// about policy.MaxDecisions are kept of an organization.
func (tx *Tx) RecordDecision(ctx context.Context, org tenant.OrgID, r policy.Record) error {
	if r.ID == "" {
		r.ID = newID(r.At)
	}
	r.Claims = policy.Redact(r.Claims)
	claims, request, decision, err := r.Text()
	if err != nil {
		return err
	}
	_, err = tx.of(org).ExecContext(ctx, `INSERT INTO decisions (org_id, decision_id, app_id, at, allowed, claims, request, decision)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		org, r.ID, r.Request.Key.App, micros(r.At), r.Decision.Allowed, string(claims), string(request), string(decision))
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no formation %q", tenant.Key{Org: org, App: r.Request.Key.App})
	}
	// The end of an id is chance: one in 32 looks what is to go, so that the others
	// need not count.
	if err != nil || r.ID[len(r.ID)-1] != '0' {
		return err
	}
	// Those whom others forget at this moment are skipped: nobody waits for this.
	skip := ""
	if tx.forUpdate != "" {
		skip = tx.forUpdate + " SKIP LOCKED"
	}
	_, err = tx.of(org).ExecContext(ctx, `DELETE FROM decisions WHERE org_id = $1 AND decision_id IN (
		SELECT d.decision_id FROM decisions d WHERE d.org_id = $1 ORDER BY d.decision_id DESC LIMIT $2 OFFSET $3`+skip+`)`,
		org, pruneBatch, policy.MaxDecisions)
	return err
}

const decisionColumns = `org_id, decision_id, at, claims, request, decision`

func scanDecision(r row) (policy.Record, error) {
	var org tenant.OrgID
	var id, claims, request, decision string
	var at int64
	if err := r.Scan(&org, &id, &at, &claims, &request, &decision); err != nil {
		return policy.Record{}, err
	}
	out, err := policy.ReadRecord(org, []byte(claims), []byte(request), []byte(decision))
	out.ID, out.At = id, fromMicros(at)
	return out, err
}

// Decision returns a decision that is kept, of an organization or, if the key names
// one, of a formation.
func (s queries) Decision(ctx context.Context, scope tenant.Key, id string) (policy.Record, error) {
	d, err := scanDecision(s.of(scope.Org).QueryRowContext(ctx, `SELECT `+decisionColumns+` FROM decisions
		WHERE org_id = $1 AND decision_id = $2 AND ($3 = '' OR app_id = $3)`, scope.Org, id, scope.App))
	return d, one(err, "no decision %q is kept", id)
}

// Decisions returns up to limit decisions before one, the newest first, of an
// organization or, if the key names one, of a formation. An empty id is after all.
func (s queries) Decisions(ctx context.Context, scope tenant.Key, before string, limit int) ([]policy.Record, error) {
	if before == "" {
		before = "z" // after every id
	}
	rows, err := s.of(scope.Org).QueryContext(ctx, `SELECT `+decisionColumns+` FROM decisions
		WHERE org_id = $1 AND decision_id < $2 AND ($3 = '' OR app_id = $3) ORDER BY decision_id DESC LIMIT $4`, scope.Org, before, scope.App, limit)
	return collect(rows, err, scanDecision)
}
