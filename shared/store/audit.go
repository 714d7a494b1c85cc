package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Audit is one administrative act. Detail holds no secret.
type Audit = audit.Act

// AppendAudit writes an entry to the organization's audit trail. It waits for
// nobody: the entry gets its place in the chain later, from LinkAudit, so that acts
// of one organization need not queue for the end of its chain until their commits
// have reached the disk.
func (tx *Tx) AppendAudit(ctx context.Context, a Audit) error {
	a, detail, err := a.Clean()
	if err != nil {
		return err
	}
	tx.audited(a.Org)
	_, err = tx.of(a.Org).ExecContext(ctx, `INSERT INTO audit (org_id, audit_id, at, actor, action, target, request_id, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		a.Org, newID(a.At), micros(a.At), a.Actor, a.Action, a.Target, a.RequestID, string(detail))
	return err
}

// audited notes that the organization's trail has grown.
func (tx *Tx) audited(org tenant.OrgID) {
	if !slices.Contains(tx.audits, org) {
		tx.audits = append(tx.audits, org)
	}
}

// OnAudit has hear called after each commit of this process that appended to an
// audit trail, with whose trail it is. It must not wait.
func (s *Store) OnAudit(hear func(tenant.OrgID)) { s.audited.Store(&hear) }

const auditColumns = `org_id, seq, audit_id, at, actor, action, target, request_id, detail, hash`

func scanEntry(r row) (audit.Entry, error) {
	var e audit.Entry
	var at int64
	var detail, hash string
	if err := r.Scan(&e.Org, &e.Seq, &e.ID, &at, &e.Actor, &e.Action, &e.Target, &e.RequestID, &detail, &hash); err != nil {
		return audit.Entry{}, err
	}
	e.At, e.Detail = time.UnixMicro(at).UTC(), json.RawMessage(detail)
	if !json.Valid(e.Detail) {
		// Somebody was at the table. It must be possible to show what is there.
		e.Detail, _ = json.Marshal(detail)
	}
	if hash != "" {
		var err error
		if e.Hash, err = audit.ParseHash(hash); err != nil {
			e.Hash = audit.Hash{} // likewise: no entry has this one
		}
	}
	return e, nil
}

// AuditTrail returns up to limit acts of an organization, oldest first, whether
// they are linked by now or not.
func (s queries) AuditTrail(ctx context.Context, org tenant.OrgID, limit int) ([]Audit, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+auditColumns+` FROM audit WHERE org_id = $1 ORDER BY audit_id LIMIT $2`, org, limit)
	return collect(rows, err, func(r row) (Audit, error) {
		e, err := scanEntry(r)
		if err != nil {
			return Audit{}, err
		}
		a := Audit{Org: e.Org, At: e.At, Actor: e.Actor, Action: e.Action, Target: e.Target, RequestID: e.RequestID}
		return a, json.Unmarshal(e.Detail, &a.Detail)
	})
}

// NextUnlinked returns the first organization after the given one that has entries
// which are not in its chain; empty if there is none.
func (s queries) NextUnlinked(ctx context.Context, after tenant.OrgID) (tenant.OrgID, error) {
	var org sql.NullString
	err := s.everywhere("the sweep looks for what is due, whosever it is").QueryRowContext(ctx, `SELECT min(org_id) FROM audit WHERE seq = 0 AND org_id > $1`, after).Scan(&org)
	return tenant.OrgID(org.String), err
}

// Chain is the end of an organization's audit chain.
type Chain struct {
	Org    tenant.OrgID
	Seq    uint64 // of the newest entry
	Hash   audit.Hash
	Since  uint64 // with which the organization of this name began that came last
	Signed uint64 // how far there are heads
}

const chainColumns = `org_id, seq, hash, since, signed`

func scanChain(r row) (Chain, error) {
	var c Chain
	var hash string
	err := r.Scan(&c.Org, &c.Seq, &hash, &c.Since, &c.Signed)
	if err == nil && hash != "" {
		c.Hash, err = audit.ParseHash(hash)
	}
	return c, err
}

// AuditChain returns the end of an organization's chain; fault.NotFound if there
// never was an act.
func (s queries) AuditChain(ctx context.Context, org tenant.OrgID) (Chain, error) {
	c, err := scanChain(s.of(org).QueryRowContext(ctx, `SELECT `+chainColumns+` FROM audit_chains WHERE org_id = $1`, org))
	return c, one(err, "no organization %q", org)
}

// AuditChains returns up to limit chains whose organization comes after the given
// one: all that ever were, whether the organization is still there or not.
func (s queries) AuditChains(ctx context.Context, after tenant.OrgID, limit int) ([]Chain, error) {
	rows, err := s.everywhere("a gateway administrator lists the trails").QueryContext(ctx, `SELECT `+chainColumns+` FROM audit_chains WHERE org_id > $1 ORDER BY org_id LIMIT $2`, after, limit)
	return collect(rows, err, scanChain)
}

// UnsignedChains is AuditChains of those that do not end at their newest head.
func (s queries) UnsignedChains(ctx context.Context, after tenant.OrgID, limit int) ([]Chain, error) {
	rows, err := s.everywhere("the sweep looks for what is due, whosever it is").QueryContext(ctx, `SELECT `+chainColumns+` FROM audit_chains
		WHERE org_id > $1 AND signed <> seq ORDER BY org_id LIMIT $2`, after, limit)
	return collect(rows, err, scanChain)
}

// linkBatch is how many entries are linked in one transaction.
const linkBatch = 512

// LinkAudit puts the entries of an organization that wait for it at the end of its
// chain, up to a batch of them, and returns how many those were. It can be called
// by anybody at any time: the chain's row is locked, so that two who do it take
// turns, and all of it is one transaction, so that a crash leaves nothing behind.
//
// Only entries of acts since a time are looked for, unless that is zero. Whoever
// links all the time says one: what was linked lately is still in the way of who
// looks from the beginning, until Postgres has cleaned up.
func (s *Store) LinkAudit(ctx context.Context, org tenant.OrgID, since time.Time) (int, error) {
	n := 0
	after := ""
	if !since.IsZero() {
		var first ulid.ULID
		_ = first.SetTime(ulid.Timestamp(since))
		after = first.String()
	}
	// Most who ask find nothing to do, and shall not wait for a writer's turn.
	var waits bool
	err := s.of(org).QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM audit WHERE org_id = $1 AND seq = 0 AND audit_id >= $2)`, org, after).Scan(&waits)
	if err != nil || !waits {
		return 0, err
	}
	err = s.InTx(ctx, func(tx *Tx) error {
		n = 0
		c, err := tx.lockChain(ctx, org)
		if err != nil {
			return err
		}
		rows, err := tx.of(org).QueryContext(ctx, `SELECT `+auditColumns+` FROM audit
			WHERE org_id = $1 AND seq = 0 AND audit_id >= $2 ORDER BY audit_id LIMIT $3`, org, after, linkBatch)
		waiting, err := collect(rows, err, scanEntry)
		if err != nil || len(waiting) == 0 {
			return err
		}
		for i, e := range waiting {
			e = e.Link(c.Seq+1, c.Hash)
			if e.Action == audit.OrgCreate {
				c.Since = e.Seq
			}
			waiting[i], c.Seq, c.Hash = e, e.Seq, e.Hash
		}
		faultpoint.Hit("audit-link/read")
		for rest := waiting; len(rest) > 0; {
			size := sizeFor(len(rest))
			if err := tx.placeEntries(ctx, org, rest[:size]); err != nil {
				return err
			}
			rest = rest[size:]
			faultpoint.Hit("audit-link/placed")
		}
		n = len(waiting)
		_, err = tx.of(org).ExecContext(ctx, `UPDATE audit_chains SET seq = $2, hash = $3, since = $4 WHERE org_id = $1`,
			org, c.Seq, c.Hash.String(), c.Since)
		if err != nil {
			return err
		}
		faultpoint.Hit("audit-link/moved")
		return tx.ringForTrail(ctx, org, waiting[n-1].At)
	})
	if err != nil {
		return 0, fmt.Errorf("link audit entries: %w", err)
	}
	faultpoint.Hit("audit-link/committed")
	return n, nil
}

func (tx *Tx) lockChain(ctx context.Context, org tenant.OrgID) (Chain, error) {
	find := `SELECT ` + chainColumns + ` FROM audit_chains WHERE org_id = $1` + tx.forUpdate
	c, err := scanChain(tx.of(org).QueryRowContext(ctx, find, org))
	if !errors.Is(err, sql.ErrNoRows) {
		return c, err
	}
	if _, err := tx.of(org).ExecContext(ctx, `INSERT INTO audit_chains (org_id, seq, hash, since, signed) VALUES ($1, 0, '', 1, 0)
		ON CONFLICT (org_id) DO NOTHING`, org); err != nil {
		return Chain{}, err
	}
	return scanChain(tx.of(org).QueryRowContext(ctx, find, org))
}

// sizeFor is how many of n rows go into one statement.
func sizeFor(n int) int {
	for _, size := range rowSizes {
		if size <= n {
			return size
		}
	}
	return 1
}

// placeEntries gives entries their place. That each of them still waits is checked
// by counting: one that is gone, or was linked by other means, ends the transaction.
func (tx *Tx) placeEntries(ctx context.Context, org tenant.OrgID, entries []audit.Entry) error {
	// The first and the last bound what is looked at: Postgres takes the entries that
	// wait for a handful, and would go through all of them for each statement.
	var seqs, hashes, ids strings.Builder
	args := []any{org}
	for i, e := range entries {
		n := 3*i + 2
		fmt.Fprintf(&ids, `, $%d`, n)
		fmt.Fprintf(&seqs, ` WHEN $%d THEN CAST($%d AS BIGINT)`, n, n+1)
		fmt.Fprintf(&hashes, ` WHEN $%d THEN $%d`, n, n+2)
		args = append(args, e.ID, int64(e.Seq), e.Hash.String())
	}
	q := `UPDATE audit SET seq = CASE audit_id` + seqs.String() + ` END, hash = CASE audit_id` + hashes.String() + ` END
		WHERE org_id = $1 AND seq = 0 AND audit_id BETWEEN $2 AND ` + fmt.Sprintf(`$%d`, 3*len(entries)-1) + ` AND audit_id IN (` + ids.String()[2:] + `)`
	res, err := tx.of(org).ExecContext(ctx, q, args...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != int64(len(entries)) {
		return errors.Join(fault.Stale.New("audit entries of %q were touched while they were linked", org), err)
	}
	return nil
}

// ChainEntries returns up to limit entries of an organization's chain after the one
// with the given number, in their order.
func (s queries) ChainEntries(ctx context.Context, org tenant.OrgID, after uint64, limit int) ([]audit.Entry, error) {
	prev, err := s.entryHash(ctx, org, after)
	if err != nil {
		return nil, err
	}
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+auditColumns+` FROM audit
		WHERE org_id = $1 AND seq > $2 AND seq > 0 ORDER BY seq LIMIT $3`, org, after, limit)
	list, err := collect(rows, err, scanEntry)
	for i := range list {
		list[i].Prev, prev = prev, list[i].Hash
	}
	return list, err
}

// entryHash is the hash of an entry; all zeros before the first.
func (s queries) entryHash(ctx context.Context, org tenant.OrgID, seq uint64) (audit.Hash, error) {
	if seq == 0 {
		return audit.Hash{}, nil
	}
	var text string
	err := s.of(org).QueryRowContext(ctx, `SELECT hash FROM audit WHERE org_id = $1 AND seq = $2 AND seq > 0`, org, seq).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return audit.Hash{}, nil // somebody was at the table, and what follows shows it
	}
	if err != nil {
		return audit.Hash{}, err
	}
	h, err := audit.ParseHash(text)
	if err != nil {
		return audit.Hash{}, nil // likewise
	}
	return h, nil
}

// AuditQuery says which entries of a chain are wanted. What it leaves out does not limit.
type AuditQuery struct {
	From, Before  uint64 // the oldest number, and the one after the newest
	Since, Until  time.Time
	Action        string // or the beginning of it, if it ends with a dot
	Actor, Target string
}

// SearchAudit returns up to limit entries that a query wants, the newest first. It
// looks at those from q.From up to, and without, q.Before, which both must be given:
// it is for the caller to bound how many those are.
func (s queries) SearchAudit(ctx context.Context, org tenant.OrgID, q AuditQuery, limit int) ([]audit.Entry, error) {
	where := []string{`org_id = $1`, `seq >= $2`, `seq < $3`, `seq > 0`}
	args := []any{org, q.From, q.Before}
	and := func(condition string, arg any) {
		args = append(args, arg)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	if !q.Since.IsZero() {
		and(`at >= $%d`, micros(q.Since))
	}
	if !q.Until.IsZero() {
		and(`at < $%d`, micros(q.Until))
	}
	if prefix, ok := strings.CutSuffix(q.Action, "."); ok {
		and(`action >= $%d`, prefix+".")
		and(`action < $%d`, prefix+"/") // what comes after a dot
	} else if q.Action != "" {
		and(`action = $%d`, q.Action)
	}
	if q.Actor != "" {
		and(`actor = $%d`, q.Actor)
	}
	if q.Target != "" {
		and(`target = $%d`, q.Target)
	}
	args = append(args, limit)
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+auditColumns+` FROM audit WHERE `+strings.Join(where, ` AND `)+
		fmt.Sprintf(` ORDER BY seq DESC LIMIT $%d`, len(args)), args...)
	return collect(rows, err, scanEntry)
}

// AddAuditHead keeps a head. One that is there for the entry already stays.
func (tx *Tx) AddAuditHead(ctx context.Context, h audit.Head) error {
	if _, err := tx.of(h.Org).ExecContext(ctx, `INSERT INTO audit_heads (org_id, seq, hash, at, public, signature) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (org_id, seq) DO NOTHING`, h.Org, h.Seq, h.Hash.String(), micros(h.At), h.Key[:], h.Signature[:]); err != nil {
		return fmt.Errorf("keep audit head: %w", err)
	}
	faultpoint.Hit("audit-sign/kept")
	res, err := tx.of(h.Org).ExecContext(ctx, `UPDATE audit_chains SET signed = CASE WHEN signed < $2 THEN $2 ELSE signed END WHERE org_id = $1 AND seq >= $2`, h.Org, h.Seq)
	return affected(res, err, fault.NotFound, "no audit chain of %q that goes to %d", h.Org, h.Seq)
}

// AuditHeads returns up to limit heads of an organization after the one of the
// given entry, in their order.
func (s queries) AuditHeads(ctx context.Context, org tenant.OrgID, after uint64, limit int) ([]audit.Head, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT org_id, seq, hash, at, public, signature FROM audit_heads
		WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, org, after, limit)
	return collect(rows, err, scanHead)
}

// AuditHead returns the head of an entry.
func (s queries) AuditHead(ctx context.Context, org tenant.OrgID, seq uint64) (audit.Head, error) {
	h, err := scanHead(s.of(org).QueryRowContext(ctx, `SELECT org_id, seq, hash, at, public, signature FROM audit_heads
		WHERE org_id = $1 AND seq = $2`, org, seq))
	return h, one(err, "no head of entry %d", seq)
}

func scanHead(r row) (audit.Head, error) {
	var h audit.Head
	var at int64
	var hash string
	var public, signature []byte
	if err := r.Scan(&h.Org, &h.Seq, &hash, &at, &public, &signature); err != nil {
		return audit.Head{}, err
	}
	// What was tampered with is shown as what nobody signed.
	if parsed, err := audit.ParseHash(hash); err == nil {
		h.Hash = parsed
	}
	h.At = time.UnixMicro(at).UTC()
	copy(h.Key[:], public)
	copy(h.Signature[:], signature)
	return h, nil
}
