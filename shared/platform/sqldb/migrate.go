package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// migrationLock is any number: it keeps two processes that start together from
// migrating one Postgres database twice.
const migrationLock = 0x70656174

// Migrate applies every *.sql file of dir that the database has not seen, in the
// order of their names, each in a transaction of its own. There is no way back:
// a migration is written so that the code of the day before still runs on it.
func (db *DB) Migrate(ctx context.Context, dir fs.FS) error {
	names, err := fs.Glob(dir, "*.sql")
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	slices.Sort(names)
	if err := db.InTx(ctx, func(tx *sql.Tx) error {
		if err := db.lockMigrations(ctx, tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)`)
		return err
	}); err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return fmt.Errorf("read migration: %w", err)
		}
		if err := db.InTx(ctx, func(tx *sql.Tx) error { return db.apply(ctx, tx, name, string(text)) }); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return nil
}

func (db *DB) lockMigrations(ctx context.Context, tx *sql.Tx) error {
	if db.Engine != Postgres {
		return nil // an immediate transaction is alone already
	}
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationLock)
	return err
}

func (db *DB) apply(ctx context.Context, tx *sql.Tx, name, text string) error {
	if err := db.lockMigrations(ctx, tx); err != nil {
		return err
	}
	var seen int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM migrations WHERE name = $1`, name).Scan(&seen); err != nil || seen > 0 {
		return err
	}
	if db.Engine == Postgres {
		if _, err := tx.ExecContext(ctx, `SELECT set_config($1, 'yes', true)`, migrating); err != nil {
			return err
		}
	}
	// pgx prepares statements one by one, so the file is cut at its semicolons;
	// migrations hold no other semicolon.
	for _, statement := range strings.Split(text, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO migrations (name) VALUES ($1)`, name)
	return err
}
