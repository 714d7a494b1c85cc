package enroll_test

import (
	"context"
	"crypto/ed25519"
	"database/sql"

	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// whole is what the function needs of a keyring.
type whole interface {
	Seal(ctx context.Context, rec envelope.Record, plaintext []byte) ([]byte, error)
	Sign(ctx context.Context, root keyring.Root, use func(ed25519.PrivateKey) error) error
	Credentials(ctx context.Context, key tenant.Key, sealed []byte) (genesis.Credentials, error)
}

// brokenKeys is a key service that is down.
type brokenKeys struct{}

func (brokenKeys) Seal(context.Context, envelope.Record, []byte) ([]byte, error) { return nil, errDown }

func (brokenKeys) Credentials(context.Context, tenant.Key, []byte) (genesis.Credentials, error) {
	return genesis.Credentials{}, errDown
}

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

// betweenKeys puts between before the keys of a world.
func betweenKeys(then func()) func(*enroll.Deps) {
	return func(d *enroll.Deps) { d.Keys = between{d.Keys.(whole), then} }
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
