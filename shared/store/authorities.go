package store

import (
	"context"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const authorityColumns = `org_id, app_id, authority_id, public_key, state, sealed, reason, created_at, activated_at, replaced_at, ended_at`

func scanAuthority(r row) (authority.Authority, error) {
	var a authority.Authority
	var created, activated, replaced, ended int64
	err := r.Scan(&a.Key.Org, &a.Key.App, &a.ID, &a.PublicKey, &a.State, &a.Sealed, &a.Reason, &created, &activated, &replaced, &ended)
	a.CreatedAt, a.ActivatedAt, a.ReplacedAt, a.EndedAt = fromMicros(created), fromMicros(activated), fromMicros(replaced), fromMicros(ended)
	return a, err
}

// Authorities returns all that sign, signed or will sign a formation's
// certificates, the newest first; fault.NotFound if there is no such formation.
func (s queries) Authorities(ctx context.Context, key tenant.Key) ([]authority.Authority, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+authorityColumns+` FROM authorities
		WHERE org_id = $1 AND app_id = $2 ORDER BY created_at DESC, authority_id DESC`, key.Org, key.App)
	list, err := collect(rows, err, scanAuthority)
	if err != nil || len(list) > 0 {
		return list, err
	}
	f, err := s.Formation(ctx, key)
	if err != nil {
		return nil, err
	}
	return []authority.Authority{first(f)}, nil
}

// ActiveAuthority returns the one that signs a formation's certificates now.
func (s queries) ActiveAuthority(ctx context.Context, key tenant.Key) (authority.Authority, error) {
	a, err := scanAuthority(s.of(key.Org).QueryRowContext(ctx, `SELECT `+authorityColumns+` FROM authorities
		WHERE org_id = $1 AND app_id = $2 AND state = 'active'`, key.Org, key.App))
	if err = one(err, "no formation %q", key); !isNotFound(err) {
		return a, err
	}
	f, err := s.Formation(ctx, key)
	return first(f), err
}

// first is a formation's authority when nobody has written one down: what made the
// formation may have been of the day before there were others.
func first(f tenant.Formation) authority.Authority {
	return authority.Authority{
		Key: tenant.Key{Org: f.Org, App: f.App}, ID: authority.GenesisID, PublicKey: f.AuthorityPublicKey,
		State: authority.Active, CreatedAt: f.CreatedAt, ActivatedAt: f.CreatedAt,
	}
}

// RootOf returns where the private key of an authority is kept.
func (s queries) RootOf(ctx context.Context, a authority.Authority) (keyring.Root, error) {
	out := keyring.Root{Record: keyring.OfGenesis(a.Key), PublicKey: a.PublicKey}
	var shut int64
	err := s.of(a.Key.Org).QueryRowContext(ctx, `SELECT sealed, shut_at FROM genesis WHERE org_id = $1 AND app_id = $2`, a.Key.Org, a.Key.App).Scan(&out.Sealed, &shut)
	out.Shut = shut != 0
	if a.ID != authority.GenesisID {
		out.Record, out.Sealed = keyring.OfAuthority(a.Key, a.ID), a.Sealed
	}
	return out, one(err, "no genesis of %q", a.Key)
}

// AddAuthority keeps a new authority; fault.Conflict if the formation has one in
// that state already.
func (tx *Tx) AddAuthority(ctx context.Context, a authority.Authority) error {
	_, err := tx.of(a.Key.Org).ExecContext(ctx, `INSERT INTO authorities (`+authorityColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		a.Key.Org, a.Key.App, a.ID, a.PublicKey, a.State, a.Sealed, a.Reason,
		micros(a.CreatedAt), micros(a.ActivatedAt), micros(a.ReplacedAt), micros(a.EndedAt))
	switch {
	case sqldb.IsDuplicate(err):
		return fault.Conflict.New("the formation has an authority that is %s already", a.State)
	case sqldb.IsMissingParent(err):
		return fault.NotFound.New("no formation %q", a.Key)
	}
	return err
}

// SetAuthority changes an authority's state, reason and times. The formation shows
// the key of the one that is active.
func (tx *Tx) SetAuthority(ctx context.Context, a authority.Authority) error {
	res, err := tx.of(a.Key.Org).ExecContext(ctx, `UPDATE authorities SET state = $4, reason = $5, activated_at = $6, replaced_at = $7, ended_at = $8
		WHERE org_id = $1 AND app_id = $2 AND authority_id = $3`,
		a.Key.Org, a.Key.App, a.ID, a.State, a.Reason, micros(a.ActivatedAt), micros(a.ReplacedAt), micros(a.EndedAt))
	if err := affected(res, err, fault.NotFound, "no authority %q", a.ID); err != nil {
		return err
	}
	if a.State != authority.Active {
		return nil
	}
	_, err = tx.of(a.Key.Org).ExecContext(ctx, `UPDATE formations SET authority_key = $3 WHERE org_id = $1 AND app_id = $2`, a.Key.Org, a.Key.App, a.PublicKey)
	return err
}

// Hanging counts the certificates that are good at the given time, by the
// authority that signed them.
func (s queries) Hanging(ctx context.Context, key tenant.Key, now time.Time) (map[string]int, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT authority_id, count(*) FROM certificates
		WHERE org_id = $1 AND app_id = $2 AND revoked_at = 0 AND expires_at > $3 GROUP BY authority_id`, key.Org, key.App, micros(now))
	type count struct {
		id string
		n  int
	}
	list, err := collect(rows, err, func(r row) (c count, err error) { return c, r.Scan(&c.id, &c.n) })
	out := map[string]int{}
	for _, c := range list {
		out[c.id] = c.n
	}
	return out, err
}

// LockLedger returns a formation's ledger and keeps others from issuing, revoking
// and changing the authority until the transaction ends.
func (tx *Tx) LockLedger(ctx context.Context, key tenant.Key) (authority.Ledger, error) {
	l, err := tx.lockLedger(ctx, key)
	if !isNotFound(err) {
		return l, err
	}
	f, err := tx.Formation(ctx, key)
	if err != nil {
		return l, err
	}
	if err := tx.openLedger(ctx, f); err != nil {
		return l, err
	}
	return tx.lockLedger(ctx, key)
}

func (tx *Tx) lockLedger(ctx context.Context, key tenant.Key) (authority.Ledger, error) {
	var l authority.Ledger
	err := tx.of(key.Org).QueryRowContext(ctx, `SELECT issued, nodes, revision FROM ledgers WHERE org_id = $1 AND app_id = $2`+tx.forUpdate,
		key.Org, key.App).Scan(&l.Issued, &l.Nodes, &l.Revision)
	return l, one(err, "no formation %q", key)
}

// openLedger gives a formation its ledger and its first authority. Doing it twice
// is harmless.
func (tx *Tx) openLedger(ctx context.Context, f tenant.Formation) error {
	if _, err := tx.of(f.Org).ExecContext(ctx, `INSERT INTO ledgers (org_id, app_id, issued, nodes, revision) VALUES ($1, $2, 0, 0, 0)
		ON CONFLICT DO NOTHING`, f.Org, f.App); err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	a := first(f)
	_, err := tx.of(f.Org).ExecContext(ctx, `INSERT INTO authorities (`+authorityColumns+`) VALUES ($1, $2, $3, $4, $5, NULL, '', $6, $7, 0, 0)
		ON CONFLICT DO NOTHING`, f.Org, f.App, a.ID, a.PublicKey, a.State, micros(a.CreatedAt), micros(a.ActivatedAt))
	return err
}

// SetLedger keeps what became of a ledger that was locked.
func (tx *Tx) SetLedger(ctx context.Context, key tenant.Key, l authority.Ledger) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `UPDATE ledgers SET issued = $3, nodes = $4, revision = $5 WHERE org_id = $1 AND app_id = $2`,
		key.Org, key.App, l.Issued, l.Nodes, l.Revision)
	return err
}

// Ledger returns a formation's ledger as it stands.
func (s queries) Ledger(ctx context.Context, key tenant.Key) (authority.Ledger, error) {
	var l authority.Ledger
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT issued, nodes, revision FROM ledgers WHERE org_id = $1 AND app_id = $2`,
		key.Org, key.App).Scan(&l.Issued, &l.Nodes, &l.Revision)
	if err = one(err, "no formation %q", key); isNotFound(err) {
		_, err = s.Formation(ctx, key) // one whose ledger is not open yet has an empty one
	}
	return l, err
}
