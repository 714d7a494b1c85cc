package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Lease is the right to be the only one who does something, for a while. Its
// epoch grows by one with every taking, and every write under the lease carries
// it: a holder who was paused too long cannot write any more.
type Lease struct {
	Name    string
	Holder  string
	Address string // where the holder can be reached
	Epoch   uint64
	Until   time.Time
}

// HeldError reports that somebody else has the lease.
type HeldError struct{ Lease Lease }

func (e *HeldError) Error() string {
	return "lease " + e.Lease.Name + " is held by " + e.Lease.Holder
}

// Unwrap makes it a fault.Conflict.
func (e *HeldError) Unwrap() error { return fault.Conflict }

// TakeLease takes the lease from now on for the given time, or returns a
// *HeldError. A holder may take its own lease again (it may have been restarted):
// the epoch grows all the same, and with it ends what it did before.
func (s *Store) TakeLease(ctx context.Context, name, holder, address string, now time.Time, life time.Duration) (Lease, error) {
	want := Lease{Name: name, Holder: holder, Address: address, Epoch: 1, Until: Precise(now.Add(life))}
	err := s.InTx(ctx, func(tx *Tx) error {
		var old Lease
		var until int64
		err := tx.unowned().QueryRowContext(ctx, `SELECT holder, address, epoch, until FROM leases WHERE name = $1`+tx.forUpdate, name).
			Scan(&old.Holder, &old.Address, &old.Epoch, &until)
		if errors.Is(err, sql.ErrNoRows) {
			// Two may get here at once on Postgres; the one who comes second waits and then changes no row.
			res, err := tx.unowned().ExecContext(ctx, `INSERT INTO leases (name, holder, address, epoch, until)
				VALUES ($1, $2, $3, 1, $4) ON CONFLICT (name) DO NOTHING`, name, holder, address, micros(want.Until))
			want.Epoch = 1
			return affected(res, err, fault.Conflict, "lease %s was just taken", name)
		}
		if err != nil {
			return err
		}
		old.Name, old.Until = name, fromMicros(until)
		if old.Holder != holder && old.Until.After(now) {
			return &HeldError{old}
		}
		want.Epoch = old.Epoch + 1
		_, err = tx.unowned().ExecContext(ctx, `UPDATE leases SET holder = $2, address = $3, epoch = $4, until = $5 WHERE name = $1`,
			name, holder, address, want.Epoch, micros(want.Until))
		return err
	})
	return want, err
}

// RenewLease makes a lease last longer; fault.Stale if it is not the holder's any more.
func (s *Store) RenewLease(ctx context.Context, l Lease, now time.Time, life time.Duration) (Lease, error) {
	l.Until = Precise(now.Add(life))
	err := s.InTx(ctx, func(tx *Tx) error {
		res, err := tx.unowned().ExecContext(ctx, `UPDATE leases SET until = $3 WHERE name = $1 AND epoch = $2`,
			l.Name, l.Epoch, micros(l.Until))
		return affected(res, err, fault.Stale, "lease %s was taken over", l.Name)
	})
	return l, err
}

// ReleaseLease lets others take the lease at once. Releasing what was taken over
// already does nothing.
func (s *Store) ReleaseLease(ctx context.Context, l Lease) error {
	return s.InTx(ctx, func(tx *Tx) error {
		_, err := tx.unowned().ExecContext(ctx, `UPDATE leases SET until = 0, holder = '' WHERE name = $1 AND epoch = $2`, l.Name, l.Epoch)
		return err
	})
}

// Guard makes the transaction fail with fault.Stale unless the lease is still
// the one that was taken, and keeps it from being taken over until the
// transaction has ended.
func (tx *Tx) Guard(ctx context.Context, l Lease) error {
	var epoch uint64
	err := tx.unowned().QueryRowContext(ctx, `SELECT epoch FROM leases WHERE name = $1`+tx.forUpdate, l.Name).Scan(&epoch)
	if err != nil {
		return one(err, "no lease %s", l.Name)
	}
	if epoch != l.Epoch {
		return fault.Stale.New("lease %s was taken over", l.Name)
	}
	return nil
}
