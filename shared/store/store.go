// Package store keeps what the domain packages describe. It holds SQL and
// nothing else: no rule about tenancy, keys or delivery belongs here.
//
// Every query on an organization's data takes the organization; what belongs to
// another is not found. Reads that need no transaction are methods of Store, and
// everything else of Tx; what both can do is a method of queries.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open store whose tables are up to date.
type Store struct {
	queries
	audited atomic.Pointer[func(tenant.OrgID)] // see OnAudit
	// around is put around what runs statements; tests see and change them with it.
	around func(sqldb.Querier) sqldb.Querier
}

func (s *Store) querier(q sqldb.Querier) sqldb.Querier {
	if s.around != nil {
		return s.around(q)
	}
	return q
}

// Tx is one transaction on the store.
type Tx struct {
	queries
	audits []tenant.OrgID // whose audit trails it has appended to
}

// queries are the statements that run alike inside a transaction and outside.
type queries struct {
	db        *sqldb.DB
	bare      sqldb.Querier // used through of, everywhere and unowned alone
	forUpdate string        // see sqldb.DB.ForUpdate; empty outside a transaction
}

// Open connects to the database of the URL (see package sqldb) and migrates it.
func Open(ctx context.Context, databaseURL string) (*Store, error) {
	return OpenOwned(ctx, databaseURL, databaseURL)
}

// OpenOwned is Open for a Postgres whose tables belong to another login, that of
// ownerURL: only migrations use it.
func OpenOwned(ctx context.Context, databaseURL, ownerURL string) (*Store, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := sqldb.OpenSecured(ctx, databaseURL, ownerURL, dir, security)
	if err != nil {
		return nil, err
	}
	return &Store{queries: queries{db: db, bare: db.Dialect(db.Reader())}}, nil
}

// Close lets the database go.
func (s *Store) Close() error { return s.db.Close() }

// Ping reports whether the store answers a query now.
func (s *Store) Ping(ctx context.Context) error { return s.db.Ping(ctx) }

// InTx runs fn in a transaction. fn may run more than once, so it must have no
// effect but on tx; nothing slow and no network belongs in it. If the request of ctx
// is to be carried out once, the transaction says that it was.
func (s *Store) InTx(ctx context.Context, fn func(tx *Tx) error) error {
	return s.inGroup(ctx, "", fn)
}

// InTxOn is InTx for work that begins by locking the formation's ledger: what
// waits for that lock at the same time shares a commit, as it does on SQLite in any
// case.
func (s *Store) InTxOn(ctx context.Context, key tenant.Key, fn func(tx *Tx) error) error {
	return s.inGroup(ctx, key.String(), fn)
}

func (s *Store) inGroup(ctx context.Context, name string, fn func(tx *Tx) error) error {
	var audits []tenant.OrgID
	err := s.db.InGroup(ctx, name, func(q sqldb.Querier) error {
		t := &Tx{queries: queries{db: s.db, bare: s.querier(q), forUpdate: s.db.ForUpdate()}}
		if err := fn(t); err != nil {
			return err
		}
		audits = t.audits
		return t.done(ctx)
	})
	if hear := s.audited.Load(); err == nil && hear != nil {
		for _, org := range audits {
			(*hear)(org)
		}
	}
	return err
}

// Refused tells whether a transaction came to nothing because the database refused
// what was in it. After another error it may have been kept.
func Refused(err error) bool { return sqldb.IsAnswer(err) }

// Snapshot is the store as of one moment.
type Snapshot struct {
	queries
}

// InSnapshot runs fn on the store as of one moment. It locks nothing, but what it
// takes long for the database has to keep.
func (s *Store) InSnapshot(ctx context.Context, fn func(s *Snapshot) error) error {
	return s.db.Snapshot(ctx, func(tx *sql.Tx) error {
		return fn(&Snapshot{queries{db: s.db, bare: s.querier(s.db.SnapshotDialect(tx))}})
	})
}

// Precise cuts a time to what both databases keep: microseconds, UTC.
func Precise(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// micros is how a time is kept; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// one turns "no row" into a fault that names what was looked for.
func one(err error, format string, args ...any) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.NotFound.New(format, args...)
	}
	return err
}

// affected returns a fault of the given kind if the statement changed no row.
func affected(res sql.Result, err error, kind fault.Kind, format string, args ...any) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return kind.New(format, args...)
	}
	return err
}

// collect reads all rows by scan and closes them.
func collect[T any](rows *sql.Rows, err error, scan func(row) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("scan: %w", err)
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// row is a *sql.Row or the current one of *sql.Rows.
type row interface{ Scan(dest ...any) error }
