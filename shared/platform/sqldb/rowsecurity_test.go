package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

var (
	tables = fstest.MapFS{"1.sql": {Data: []byte(`CREATE TABLE things (owner TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (owner, name));
CREATE TABLE parts (owner TEXT NOT NULL, name TEXT NOT NULL, FOREIGN KEY (owner, name) REFERENCES things ON DELETE CASCADE);
CREATE TABLE weather (sky TEXT NOT NULL);
CREATE TABLE hidden (x TEXT NOT NULL)`)}}
	security = sqldb.RowSecurity{Column: "owner", Setting: "test.owner", Tables: map[string]sqldb.Grants{
		"migrations": {Runtime: "SELECT"},
		"weather":    {Runtime: "SELECT,INSERT"},
	}}
)

// admin runs statements as the server's superuser, whom no policy holds.
func admin(t *testing.T, databaseURL string, statements ...string) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	for _, s := range statements {
		if _, err := db.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func open(t *testing.T, databaseURL string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.OpenSecured(t.Context(), databaseURL, databaseURL, tables, security)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// filled is a database with a thing each of two owners, and its URL.
func filled(t *testing.T) (*sqldb.DB, string) {
	t.Helper()
	databaseURL := testenv.Postgres(t)
	db := open(t, databaseURL)
	admin(t, databaseURL, `INSERT INTO things VALUES ('a', 'x'), ('b', 'x'), ('b', 'y')`, `INSERT INTO weather VALUES ('blue')`, `INSERT INTO hidden VALUES ('h')`)
	return db, databaseURL
}

const readThings = `SELECT owner || name FROM things ORDER BY 1`

func things(ctx context.Context, q sqldb.Querier) ([]string, error) {
	rows, err := q.QueryContext(ctx, readThings)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := []string{}
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

func wantThings(t *testing.T, q sqldb.Querier, want ...string) {
	t.Helper()
	got, err := things(t.Context(), q)
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

// scopes are what there is, with what each sees.
var scopes = map[string]struct {
	scope sqldb.Scope
	sees  []string
}{
	"nobody":   {sqldb.Scope{}, nil},
	"a":        {sqldb.Owner("a"), []string{"ax"}},
	"b":        {sqldb.Owner("b"), []string{"bx", "by"}},
	"no one":   {sqldb.Owner("c"), nil},
	"empty":    {sqldb.Owner(""), nil},
	"star":     {sqldb.Owner("*"), nil},
	"everyone": {sqldb.Everyone(), []string{"ax", "bx", "by"}},
}

func TestScopes(t *testing.T) {
	db, _ := filled(t)
	for name, c := range scopes {
		t.Run(name, func(t *testing.T) {
			wantThings(t, db.Scoped(db.Reader(), c.scope), c.sees...)
			if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
				wantThings(t, db.Scoped(tx, c.scope), c.sees...)
				return nil
			}); err != nil {
				t.Error(err)
			}
			if err := db.Snapshot(t.Context(), func(tx *sql.Tx) error {
				wantThings(t, db.Scoped(tx, c.scope), c.sees...)
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a statement that names none", func(t *testing.T) { wantThings(t, db.Reader()) })
}

// TestScopesInOneTransaction goes from each scope to each other one.
func TestScopesInOneTransaction(t *testing.T) {
	db, _ := filled(t)
	if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
		for _, from := range scopes {
			for _, to := range scopes {
				for range 2 { // the second time says nothing to the server
					wantThings(t, db.Scoped(tx, from.scope), from.sees...)
				}
				wantThings(t, db.Scoped(tx, to.scope), to.sees...)
			}
			wantThings(t, tx)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestScopesAcrossSavepoints: what is rolled back takes with it what the server was
// told of scopes, also after a failure, when nothing else is heard.
func TestScopesAcrossSavepoints(t *testing.T) {
	db, _ := filled(t)
	if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
		exec := func(statement string) {
			if _, err := tx.ExecContext(t.Context(), statement); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
		for _, from := range scopes {
			for _, within := range scopes {
				for _, to := range scopes {
					for _, fails := range []bool{false, true} {
						wantThings(t, db.Scoped(tx, from.scope), from.sees...)
						exec(`SAVEPOINT x`)
						wantThings(t, db.Scoped(tx, within.scope), within.sees...)
						if fails {
							if _, err := db.Scoped(tx, within.scope).ExecContext(t.Context(), `SELECT 1 / 0`); err == nil {
								t.Error("it did not fail")
							}
						}
						exec(`ROLLBACK TO SAVEPOINT x`)
						wantThings(t, db.Scoped(tx, to.scope), to.sees...)
						exec(`RELEASE SAVEPOINT x`)
						wantThings(t, db.Scoped(tx, to.scope), to.sees...)
					}
				}
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestScopesOfWriting(t *testing.T) {
	for name, c := range map[string]struct {
		scope     sqldb.Scope
		statement string
		want      string // a count of rows, or a class of failure
	}{
		"one's own is added":                 {sqldb.Owner("a"), `INSERT INTO things VALUES ('a', 'z')`, "1"},
		"another's is not":                   {sqldb.Owner("a"), `INSERT INTO things VALUES ('b', 'z')`, "42501"},
		"a part of one's own":                {sqldb.Owner("a"), `INSERT INTO parts VALUES ('a', 'x')`, "1"},
		"a part of another's":                {sqldb.Owner("a"), `INSERT INTO parts VALUES ('b', 'x')`, "42501"},
		"a part of nothing":                  {sqldb.Owner("a"), `INSERT INTO parts VALUES ('a', 'none')`, "23503"},
		"one's own is changed":               {sqldb.Owner("a"), `UPDATE things SET name = 'n'`, "1"},
		"and not given away":                 {sqldb.Owner("a"), `UPDATE things SET owner = 'b', name = 'n'`, "42501"},
		"another's is not changed":           {sqldb.Owner("a"), `UPDATE things SET name = 'n' WHERE owner = 'b'`, "0"},
		"nor replaced":                       {sqldb.Owner("a"), `INSERT INTO things VALUES ('b', 'x') ON CONFLICT (owner, name) DO UPDATE SET name = 'n'`, "42501"},
		"only one's own is deleted":          {sqldb.Owner("b"), `DELETE FROM things`, "2"},
		"nobody adds nothing":                {sqldb.Scope{}, `INSERT INTO things VALUES ('a', 'z')`, "42501"},
		"nor what is nobody's":               {sqldb.Owner(""), `INSERT INTO things VALUES ('', 'z')`, "42501"},
		"nobody deletes nothing":             {sqldb.Scope{}, `DELETE FROM things`, "0"},
		"the system only reads":              {sqldb.Everyone(), `DELETE FROM things`, "42501"},
		"nobody empties a table":             {sqldb.Owner("a"), `TRUNCATE parts`, "42501"},
		"nobody switches it off":             {sqldb.Owner("a"), `ALTER TABLE things DISABLE ROW LEVEL SECURITY`, "42501"},
		"what is nobody's needs no scope":    {sqldb.Scope{}, `INSERT INTO weather VALUES ('grey')`, "1"},
		"but has only what is granted":       {sqldb.Scope{}, `DELETE FROM weather`, "42501"},
		"a table that was forgotten is shut": {sqldb.Owner("a"), `INSERT INTO hidden VALUES ('x')`, "42501"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, _ := filled(t)
			var got string
			run := func(q sqldb.Querier) {
				res, err := db.Scoped(q, c.scope).ExecContext(t.Context(), c.statement)
				if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
					got = pg.Code
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				n, err := res.RowsAffected()
				if err != nil {
					t.Fatal(err)
				}
				got = fmt.Sprint(n)
			}
			rollback := errors.New("so that it can be done once more")
			if err := db.InTx(t.Context(), func(tx *sql.Tx) error { run(tx); return rollback }); !errors.Is(err, rollback) {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("in a transaction: %s, want %s", got, c.want)
			}
			if run(db.Reader()); got != c.want {
				t.Errorf("outside: %s, want %s", got, c.want)
			}
		})
	}
}

// TestACascadeIsTheOwners deletes what belongs to a thing with it, though its policies
// are asked as well.
func TestACascadeIsTheOwners(t *testing.T) {
	db, databaseURL := filled(t)
	admin(t, databaseURL, `INSERT INTO parts VALUES ('a', 'x')`)
	if _, err := db.Scoped(db.Reader(), sqldb.Owner("a")).ExecContext(t.Context(), `DELETE FROM things`); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.Scoped(db.Reader(), sqldb.Everyone()).QueryRowContext(t.Context(), `SELECT count(*) FROM parts`).Scan(&n); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// TestNothingOutlivesATransaction does on one connection whatever may leave a scope
// behind, and looks each time at what the next statement finds.
func TestNothingOutlivesATransaction(t *testing.T) {
	db, _ := filled(t)
	db.Reader().SetMaxOpenConns(1)
	a, all := sqldb.Owner("a"), sqldb.Everyone()
	roles := sqldb.RolesOf(currentDatabase(t, db))
	clean := func(t *testing.T) {
		t.Helper()
		wantThings(t, db.Reader())
		if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
			wantThings(t, tx)
			var role, owner string
			err := tx.QueryRowContext(t.Context(), `SELECT current_user, COALESCE(current_setting('test.owner', true), '')`).Scan(&role, &owner)
			if role != roles.Runtime || owner != "" {
				t.Errorf("role %s, owner %q", role, owner)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	for name, leave := range map[string]func(context.Context, sqldb.Scope) error{
		"a read": func(ctx context.Context, s sqldb.Scope) error {
			_, err := things(ctx, db.Scoped(db.Reader(), s))
			return err
		},
		"a row of several": func(ctx context.Context, s sqldb.Scope) error {
			var x string
			return db.Scoped(db.Reader(), s).QueryRowContext(ctx, readThings).Scan(&x)
		},
		"a read that fails": func(ctx context.Context, s sqldb.Scope) error {
			return failing(db.Scoped(db.Reader(), s).QueryRowContext(ctx, `SELECT 1 / (SELECT count(*) - count(*) FROM things)`).Scan(new(int)))
		},
		"a statement nobody understands": func(ctx context.Context, s sqldb.Scope) error {
			_, err := db.Scoped(db.Reader(), s).ExecContext(ctx, `SELEKT`)
			return failing(err)
		},
		"an argument that does not fit": func(ctx context.Context, s sqldb.Scope) error {
			_, err := db.Scoped(db.Reader(), s).ExecContext(ctx, `SELECT $1::bigint`, "x")
			return failing(err)
		},
		"a read that nobody waited for": func(ctx context.Context, s sqldb.Scope) error {
			ctx, cancel := context.WithCancel(ctx)
			rows, err := db.Scoped(db.Reader(), s).QueryContext(ctx, `SELECT repeat('x', 1000) FROM generate_series(1, 100000)`)
			cancel()
			if err != nil {
				return nil // cancelled before it began
			}
			_ = rows.Close() // that it was cancelled
			return nil
		},
		"a transaction": func(ctx context.Context, s sqldb.Scope) error {
			return db.InTx(ctx, func(tx *sql.Tx) error {
				_, err := things(ctx, db.Scoped(tx, s))
				return err
			})
		},
		"a snapshot": func(ctx context.Context, s sqldb.Scope) error {
			return db.Snapshot(ctx, func(tx *sql.Tx) error {
				_, err := things(ctx, db.Scoped(tx, s))
				return err
			})
		},
		"a transaction that is given up": func(ctx context.Context, s sqldb.Scope) error {
			return failing(db.InTx(ctx, func(tx *sql.Tx) error {
				_, err := things(ctx, db.Scoped(tx, s))
				return errors.Join(err, errors.New("given up"))
			}))
		},
		"a transaction that fails": func(ctx context.Context, s sqldb.Scope) error {
			return failing(db.InTx(ctx, func(tx *sql.Tx) error {
				_, err := db.Scoped(tx, s).ExecContext(ctx, `SELECT 1 / (SELECT count(*) - count(*) FROM things)`)
				return err
			}))
		},
		"a transaction whose context ends": func(ctx context.Context, s sqldb.Scope) error {
			ctx, cancel := context.WithCancel(ctx)
			return failing(db.InTx(ctx, func(tx *sql.Tx) error {
				_, err := things(ctx, db.Scoped(tx, s))
				cancel()
				return err
			}))
		},
		"a panic": func(ctx context.Context, s sqldb.Scope) (err error) {
			defer func() { _ = recover() }()
			return db.InTx(ctx, func(tx *sql.Tx) error {
				_, _ = things(ctx, db.Scoped(tx, s))
				panic("at the disco")
			})
		},
		"a role that is let go": func(ctx context.Context, s sqldb.Scope) error {
			_, err := db.Scoped(db.Reader(), s).ExecContext(ctx, `RESET ROLE`)
			return err
		},
	} {
		for scope, s := range map[string]sqldb.Scope{"one's own": a, "everyone's": all} {
			t.Run(name+" in "+scope, func(t *testing.T) {
				if err := leave(t.Context(), s); err != nil {
					t.Error(err)
				}
				clean(t)
			})
		}
	}
}

// failing turns an expected error around.
func failing(err error) error {
	if err == nil {
		return errors.New("it did not fail")
	}
	return nil
}

func currentDatabase(t *testing.T, db *sqldb.DB) (name string) {
	t.Helper()
	if err := db.Reader().QueryRowContext(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestScopedValues compares what a statement answers with its scope and without.
func TestScopedValues(t *testing.T) {
	db := open(t, testenv.Postgres(t))
	for _, expression := range []string{
		`'text'`, `''`, `NULL`, `NULL::bytea`, `true`, `false`, `1::smallint`, `-2::int`, `9223372036854775807`, `1.5::real`, `1.5::double precision`,
		`'\x00ff'::bytea`, `''::bytea`, `12.50::numeric`, `'name'::name`, `1::oid`,
	} {
		var plain, scoped any
		query := `SELECT ` + expression
		err := db.Reader().QueryRowContext(t.Context(), query).Scan(&plain)
		scopedErr := db.Scoped(db.Reader(), sqldb.Owner("a")).QueryRowContext(t.Context(), query).Scan(&scoped)
		if (err == nil) != (scopedErr == nil) {
			t.Errorf("%s: %v, with a scope %v", expression, err, scopedErr)
		}
		if diff := cmp.Diff(plain, scoped); diff != "" || err != nil {
			t.Errorf("%s: %v %s", expression, err, diff)
		}
	}
}
