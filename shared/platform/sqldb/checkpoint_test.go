package sqldb

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestWhatIsWrittenAheadIsBroughtHome fills far more than the log may hold before
// SQLite would act by itself, piece by piece, and looks at both files.
func TestWhatIsWrittenAheadIsBroughtHome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	in := func(statement string, args ...any) {
		t.Helper()
		if err := db.InTx(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(statement, args...); return err }); err != nil {
			t.Fatal(err)
		}
	}
	in(`CREATE TABLE x (n BIGINT, b BLOB)`)
	in(`INSERT INTO x VALUES (1, ?)`, make([]byte, 1<<20))
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for deadline := time.Now().Add(time.Minute); size() < 1<<20; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the file has %d bytes", size())
		}
	}
	// The log begins anew once all of it is home, and does not grow for ever.
	for n := range 40 {
		in(`UPDATE x SET n = ?, b = ?`, n, make([]byte, 1<<20))
		time.Sleep(20 * time.Millisecond)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() > 36<<20 {
		t.Errorf("the log has %d bytes: %v", info.Size(), err)
	}
}
