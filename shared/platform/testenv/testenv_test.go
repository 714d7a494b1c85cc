package testenv

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
)

// recorder is a test that only notes how it ended.
type recorder struct {
	testing.TB
	failed, skipped bool
}

func (*recorder) Helper()                 {}
func (r *recorder) Fatalf(string, ...any) { r.failed = true }
func (r *recorder) Skipf(string, ...any)  { r.skipped = true }

func TestMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		require string
		failed  bool
	}{
		"nothing is required":     {"", false},
		"another is required":     {"nats", false},
		"it is required":          {"postgres", true},
		"it is one of several":    {"nats, postgres,node", true},
		"a longer name is not it": {"postgresql", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PEAT_TEST_REQUIRE", tc.require)
			var r recorder
			Missing(&r, "postgres", "not here")
			if r.failed != tc.failed || r.skipped == tc.failed {
				t.Errorf("failed %t, skipped %t; want failed %t", r.failed, r.skipped, tc.failed)
			}
		})
	}
}

func TestRoot(t *testing.T) {
	if _, err := os.Stat(filepath.Join(Root(t), "shared", "platform", "testenv", "testenv.go")); err != nil {
		t.Fatal(err)
	}
}

func TestPostgres(t *testing.T) {
	execute := func(url, statement string) error {
		db, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return err
		}
		defer db.Close(t.Context())
		_, err = db.Exec(t.Context(), statement)
		return err
	}
	var gone string
	t.Run("each test has its own", func(t *testing.T) {
		a, b := Postgres(t), Postgres(t)
		gone = a
		for _, url := range []string{a, b} {
			if err := execute(url, "CREATE TABLE only_here (n int)"); err != nil {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
	if gone == "" || keep() {
		return
	}
	t.Run("it is gone afterwards", func(t *testing.T) {
		if err := execute(gone, "SELECT 1"); err == nil {
			t.Errorf("%s still answers", gone)
		}
	})
}
