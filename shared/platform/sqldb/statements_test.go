package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

func openNumbers(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec(`CREATE TABLE numbers (n BIGINT PRIMARY KEY, name TEXT)`); err != nil {
			return err
		}
		for n := range 10 {
			if _, err := tx.Exec(`INSERT INTO numbers VALUES (?, ?)`, n, fmt.Sprint("n", n)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestAQuestionInsideItsOwnAnswer asks, in one transaction, what is being answered.
func TestAQuestionInsideItsOwnAnswer(t *testing.T) {
	db := openNumbers(t)
	const rows, row = `SELECT n FROM numbers WHERE n >= $1 ORDER BY n`, `SELECT name FROM numbers WHERE n = $1`
	for round := range 3 { // in the second and third the statements are kept
		for name, in := range map[string]func(func(Querier) error) error{
			"a transaction": func(fn func(Querier) error) error {
				return db.InTx(t.Context(), func(tx *sql.Tx) error { return fn(db.Dialect(tx)) })
			},
			"a snapshot": func(fn func(Querier) error) error {
				return db.Snapshot(t.Context(), func(tx *sql.Tx) error { return fn(db.SnapshotDialect(tx)) })
			},
			"no transaction": func(fn func(Querier) error) error { return fn(db.Dialect(db.Reader())) },
		} {
			var got []string
			err := in(func(q Querier) error {
				got = nil
				return each(q, rows, 7, func(n int) error {
					return each(q, rows, n, func(m int) error {
						var name string
						err := q.QueryRowContext(context.Background(), row, m).Scan(&name)
						got = append(got, name)
						return err
					})
				})
			})
			if err != nil || fmt.Sprint(got) != "[n7 n8 n9 n8 n9 n9]" {
				t.Errorf("round %d, %s: %v, %v", round, name, got, err)
			}
		}
	}
}

func each(q Querier, query string, arg int, do func(n int) error) error {
	rows, err := q.QueryContext(context.Background(), query, arg)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return err
		}
		if err := do(n); err != nil {
			return err
		}
	}
	return rows.Err()
}

func TestStatementsThatAreKept(t *testing.T) {
	db := openNumbers(t)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 200 {
				n := (g + i) % 10
				var name string
				if err := db.Dialect(db.Reader()).QueryRowContext(t.Context(), `SELECT name FROM numbers WHERE n = $1`, n).Scan(&name); err != nil || name != fmt.Sprint("n", n) {
					t.Errorf("%q, %v", name, err)
				}
				if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
					_, err := db.Dialect(tx).ExecContext(t.Context(), `UPDATE numbers SET name = $2 WHERE n = $1`, n, fmt.Sprint("n", n))
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if len(db.readings.known) != 1 || len(db.writings.known) != 1 {
		t.Errorf("%d and %d statements are kept", len(db.readings.known), len(db.writings.known))
	}
	// A table that changes under a kept statement.
	if err := db.InTx(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(`DROP TABLE numbers`); return err }); err != nil {
		t.Fatal(err)
	}
	var name string
	if err := db.Dialect(db.Reader()).QueryRowContext(t.Context(), `SELECT name FROM numbers WHERE n = $1`, 1).Scan(&name); err == nil {
		t.Error("it is answered from a table that is gone")
	}
}

func TestStatementsAreFew(t *testing.T) {
	db := openNumbers(t)
	for round := range 2 {
		for i := range maxStatements + 50 {
			var n int
			query := fmt.Sprintf(`SELECT n + %d FROM numbers WHERE n = $1`, i)
			if err := db.Dialect(db.Reader()).QueryRowContext(t.Context(), query, 1).Scan(&n); err != nil || n != i+1 {
				t.Fatalf("round %d: %d, %v", round, n, err)
			}
			if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
				return db.Dialect(tx).QueryRowContext(t.Context(), query, 2).Scan(&n)
			}); err != nil || n != i+2 {
				t.Fatalf("round %d: %d, %v", round, n, err)
			}
		}
	}
	for _, s := range []*statements{&db.readings, &db.writings} {
		if len(s.known) > maxStatements {
			t.Errorf("%d statements are kept", len(s.known))
		}
	}
	for range 2 {
		if err := db.Dialect(db.Reader()).QueryRowContext(t.Context(), `SELECT nothing FROM nowhere`).Scan(new(int)); err == nil {
			t.Error("nonsense is answered")
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	fresh := openNumbers(t)
	_ = fresh.Dialect(fresh.Reader()).QueryRowContext(gone, `SELECT 7`).Scan(new(int))
	var n int
	if err := fresh.Dialect(fresh.Reader()).QueryRowContext(t.Context(), `SELECT 7`).Scan(&n); err != nil || n != 7 {
		t.Errorf("after one who went away: %d, %v", n, err)
	}
}
