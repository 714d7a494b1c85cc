// Package sqldb opens Postgres or SQLite by URL and hides the few places where
// they differ, so that the SQL above it is written once. It runs transactions
// and migrations; it knows no table.
//
//	sqlite:/var/lib/peat/gateway.db     a file, made if it is not there
//	postgres://user@host/db             anything pgx understands
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Engine is the kind of database behind a DB.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// DB is an open database. Reads and writes have pools of their own, since SQLite
// has one writer and should not make readers wait for it.
type DB struct {
	Engine Engine
	read   *sql.DB
	write  *sql.DB
	texts  texts
	writer group  // SQLite's
	groups groups // Postgres's

	security *RowSecurity // Postgres's; nil: none
	roles    Roles

	readings, writings statements    // SQLite's
	checkpoints        *checkpointer // SQLite's; nil until Open has succeeded
}

// Open connects to the database and proves that it answers.
func Open(ctx context.Context, databaseURL string) (*DB, error) {
	db, err := open(databaseURL)
	if err != nil {
		return nil, err
	}
	// Pinging the writer first lets SQLite create its file before a reader looks for it.
	if err := errors.Join(db.write.PingContext(ctx), db.read.PingContext(ctx)); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open %s database: %w", db.Engine, redact(err))
	}
	if db.Engine == SQLite {
		db.checkpoints = startCheckpointer(db.read)
	}
	return db, nil
}

func open(databaseURL string) (*DB, error) {
	if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
		return openSQLite(path)
	}
	if isPostgres(databaseURL) {
		return openPostgres(databaseURL)
	}
	return nil, errors.New("database URL must begin with sqlite: or postgres://")
}

func openSQLite(path string) (*DB, error) {
	q := url.Values{}
	q.Add("_pragma", "busy_timeout(10000)")
	q.Add("_pragma", "journal_mode(WAL)")
	// FULL: an acknowledged change survives a power cut, not only a crash of ours.
	q.Add("_pragma", "synchronous(FULL)")
	q.Add("_pragma", "foreign_keys(1)")
	q.Add("_pragma", "cache_size(-16384)")
	// Pages, 64 MB: the checkpointer comes long before that.
	q.Add("_pragma", "wal_autocheckpoint(16384)")
	// What a statement or a savepoint may have to undo is a few pages, which are
	// written to a file otherwise.
	q.Add("_pragma", "temp_store(MEMORY)")
	// Immediate transactions: SQLite has one writer, and finding that out at
	// commit is worse than finding it out at begin.
	q.Set("_txlock", "immediate")
	write, err := sql.Open("sqlite", "file:"+escapePath(path)+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open sqlite: %w", err)
	}
	write.SetMaxOpenConns(1)
	q.Del("_txlock")
	q.Add("_pragma", "query_only(1)")
	read, err := sql.Open("sqlite", "file:"+escapePath(path)+"?"+q.Encode())
	if err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("open sqlite: %w", err)
	}
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8)
	return &DB{Engine: SQLite, read: read, write: write, readings: statements{pool: read}, writings: statements{pool: write}}, nil
}

// escapePath keeps '?', '#' and '%' in a file name from being read as URL syntax.
func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

func openPostgres(databaseURL string) (*DB, error) {
	pool, err := sql.Open("pgx", databaseURL)
	if err != nil {
		return nil, errors.New("open postgres: the URL cannot be read")
	}
	limitPool(pool)
	return &DB{Engine: Postgres, read: pool, write: pool}, nil
}

func limitPool(pool *sql.DB) {
	// All are kept while there is work: one that is made anew costs the server more
	// than many statements, and has every plan to make again.
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	pool.SetConnMaxIdleTime(5 * time.Minute)
}

// redact keeps a password in a connection string out of an error's text: pgx
// quotes the string when it cannot read it.
func redact(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		return errors.New("the URL cannot be read")
	}
	return err
}

// Close lets all connections go.
func (db *DB) Close() error {
	if db.read == db.write {
		return db.write.Close()
	}
	db.checkpoints.close()
	db.readings.close()
	db.writings.close()
	return errors.Join(db.read.Close(), db.write.Close())
}

// Ping reports whether the database answers a query now.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return db.read.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

// Reader runs single statements outside a transaction; on SQLite it cannot write.
func (db *DB) Reader() *sql.DB { return db.read }

// ForUpdate is the clause that locks the rows a SELECT in a transaction reads.
// SQLite needs none: its transactions hold the only write lock already.
func (db *DB) ForUpdate() string {
	if db.Engine == Postgres {
		return " FOR UPDATE"
	}
	return ""
}

// Limits of the retry of transactions that lost against another.
const (
	txAttempts = 8
	txBackoff  = 5 * time.Millisecond
)

// InTx runs fn in a transaction and commits it. If the database says that the
// transaction lost against another, fn runs again: it must have no effect but on
// tx. Nothing slow belongs in fn, since locks are held meanwhile.
func (db *DB) InTx(ctx context.Context, fn func(*sql.Tx) error) error {
	return db.retry(ctx, func() error { return db.once(ctx, fn) })
}

func (db *DB) retry(ctx context.Context, once func() error) error {
	var err error
	for attempt := range txAttempts {
		if err = once(); !isRetryable(err) {
			return err
		}
		wait := time.Duration(float64(txBackoff<<attempt) * (0.5 + rand.Float64()))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return fmt.Errorf("transaction lost %d times: %w", txAttempts, err)
}

// Snapshot runs fn in a transaction that only reads, and sees the database as of
// one moment. It holds up nobody.
func (db *DB) Snapshot(ctx context.Context, fn func(*sql.Tx) error) error {
	var options *sql.TxOptions
	if db.Engine == Postgres {
		options = &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	tx, err := db.read.BeginTx(ctx, options) // SQLite's readers see one moment anyway
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to commit
	return fn(tx)
}

func (db *DB) once(ctx context.Context, fn func(*sql.Tx) error) error {
	db.writings.prepareWanted(ctx)
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// Deferred, so that a panic in fn rolls back as well; after Commit it does nothing.
	defer func() { _ = tx.Rollback() }()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	db.checkpoints.committed()
	return nil
}

func isRetryable(err error) bool {
	if errors.Is(err, errAgain) {
		return true
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01" // serialization failure, deadlock
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code()&0xff == sqlite3.SQLITE_BUSY
	}
	return false
}

// IsDuplicate reports whether err is the refusal of a second row with one key.
func IsDuplicate(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505"
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE
	}
	return false
}

// IsMissingParent reports whether err is the refusal of a row whose parent is not there.
func IsMissingParent(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23503"
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
	}
	return false
}
