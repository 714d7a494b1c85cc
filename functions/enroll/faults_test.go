package enroll_test

import (
	"context"
	"crypto/ed25519"
	"database/sql"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
)

// whole is what the function needs of a keyring.
type whole interface {
	Seal(ctx context.Context, rec envelope.Record, plaintext []byte) ([]byte, error)
	Sign(ctx context.Context, root keyring.Root, use func(ed25519.PrivateKey) error) error
}

// brokenKeys is a key service that is down.
type brokenKeys struct{}

func (brokenKeys) Seal(context.Context, envelope.Record, []byte) ([]byte, error) { return nil, errDown }

func (brokenKeys) Sign(context.Context, keyring.Root, func(ed25519.PrivateKey) error) error {
	return errDown
}

// fragile is a key service that is down while a test says so.
type fragile struct {
	whole
	down *bool
}

func (f fragile) Sign(ctx context.Context, root keyring.Root, use func(ed25519.PrivateKey) error) error {
	if *f.down {
		return errDown
	}
	return f.whole.Sign(ctx, root, use)
}

// between calls a test back after each signature and before what it is for.
type between struct {
	whole
	then func()
}

func (b between) Sign(ctx context.Context, root keyring.Root, use func(ed25519.PrivateKey) error) error {
	err := b.whole.Sign(ctx, root, use)
	b.then()
	return err
}

// suspend suspends the formation as whoever else does it would.
func (w *world) suspend() {
	w.t.Helper()
	w.alter(`UPDATE formations SET state = 'suspended'`)
}

// alter changes the database behind the function's back.
func (w *world) alter(statement string) {
	w.t.Helper()
	db, err := sqldb.Open(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.InTx(w.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(statement)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}
