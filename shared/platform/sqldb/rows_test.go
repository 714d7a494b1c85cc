package sqldb_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestRows: what is inserted is read back by a table of the same rows, whatever their
// number and the names of their Go types.
func TestRows(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": func(t *testing.T) string { return testenv.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sqldb.Open(t.Context(), url(t))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			columns := []sqldb.Column{{Name: "id", Type: sqldb.Text}, {Name: "n", Type: sqldb.BigInt}, {Name: "data", Type: sqldb.Bytes}}
			type id string
			type record struct {
				nth  int
				id   id
				n    int64
				data string
			}
			exec := func(query string, args ...any) {
				t.Helper()
				if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
					_, err := db.Dialect(tx).ExecContext(t.Context(), query, args...)
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			exec(`CREATE TABLE things (id TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, data BYTEA NOT NULL)`)
			rows := [][]any{{id("a'b"), 7, []byte{0, 1}}, {id("ü, \"x\" {y}"), uint8(8), []byte{}}, {id(""), uint64(9), []byte("$1")}, {id("$2"), int64(-1), []byte{255}}}
			want := []record{{1, "a'b", 7, "\x00\x01"}, {2, `ü, "x" {y}`, 8, ""}, {3, "", 9, "$1"}, {4, "$2", -1, "\xff"}}
			for n := 1; n <= len(rows); n++ {
				exec(`DELETE FROM things`)
				insert, args := db.Insert("things", columns, rows[:n])
				exec(insert, args...)
				exec(insert+` ON CONFLICT (id) DO UPDATE SET n = excluded.n`, args...)
				table, args := db.Table(2, columns, rows[:n])
				found, err := db.Dialect(db.Reader()).QueryContext(t.Context(), `SELECT v.nth, t.id, t.n, t.data FROM `+table+` JOIN things t ON t.id = v.id AND t.n = v.n AND t.data = v.data
					WHERE t.n <> $1 ORDER BY v.nth`, append([]any{1000}, args...)...)
				if err != nil {
					t.Fatal(err)
				}
				var got []record
				for found.Next() {
					var r record
					var data []byte
					if err := found.Scan(&r.nth, &r.id, &r.n, &data); err != nil {
						t.Fatal(err)
					}
					r.data = string(data)
					got = append(got, r)
				}
				if err := found.Err(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want[:n], got, cmp.AllowUnexported(record{})); diff != "" {
					t.Errorf("%d rows: %s", n, diff)
				}
			}
		})
	}
}
