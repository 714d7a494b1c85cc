package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// large makes a formation with more in it than is removed at once, and something in
// every table that hangs on it.
func large(t *testing.T, s *store.Store, k tenant.Key) {
	t.Helper()
	ctx := t.Context()
	addFormation(t, s, k)
	for d := range 3 {
		appendAll(t, s, k, chain(fmt.Sprint("d", d), 1, store.SweepBatch))
	}
	sink := delivery.Sink{ID: "s-" + string(k.Org), Org: k.Org, Kind: delivery.File, Formations: []string{string(k.App)}, Config: []byte("{}"),
		State: delivery.Active, Format: delivery.Patches, Start: delivery.Start{Beginning: true}}
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateSink(ctx, sink) })
	inTx(t, s, func(tx *store.Tx) error {
		return errors.Join(
			tx.PutGenesis(ctx, k, []byte("sealed")),
			tx.CreateTicket(ctx, store.Ticket{Org: k.Org, App: k.App, ID: "t", Hash: []byte(k.String()), CreatedAt: now, ExpiresAt: now}),
			tx.CreateConsumer(ctx, delivery.Consumer{Org: k.Org, App: k.App, Name: "c", Format: delivery.Patches, CreatedAt: now, SeenAt: now}),
			tx.SaveReceipts(ctx, k, sink.ID, []completeness.Receipt{{Document: "d0", Seq: 1, Count: 1}}),
		)
	})
}

func testDestroy(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	twin := tenant.Key{Org: "rival", App: key.App}
	large(t, s, key)
	large(t, s, twin)
	neighbour := tenant.Key{Org: "acme", App: key.App + "s"}
	addFormation(t, s, neighbour)
	appendAll(t, s, neighbour, chain("d", 1, 3))

	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	gone := map[string]func() error{
		"the formation": func() error { _, err := s.Formation(ctx, key); return err },
		"its genesis":   func() error { _, err := s.Genesis(ctx, key); return err },
		"its position":  func() error { _, err := s.Position(ctx, key); return err },
		"its tickets":   func() error { _, err := s.Tickets(ctx, key, "", 10); return err },
		"its consumers": func() error { _, err := s.Consumer(ctx, key, "c"); return err },
		"its authority": func() error { _, err := s.ActiveAuthority(ctx, key); return err },
		"its usage":     func() error { _, err := s.FormationUsage(ctx, key, now); return err },
		"a lock on it": func() error {
			return s.InTx(ctx, func(tx *store.Tx) error { _, err := tx.LockFormation(ctx, key); return err })
		},
		"an append": func() error {
			return s.InTx(ctx, func(tx *store.Tx) error { _, err := tx.AppendChanges(ctx, key, chain("e", 1, 1)); return err })
		},
		"a cursor": func() error {
			return s.InTx(ctx, func(tx *store.Tx) error {
				return tx.SaveCursor(ctx, delivery.Cursor{Org: key.Org, Sink: "s-acme", App: key.App})
			})
		},
		"a second end": func() error {
			return s.InTx(ctx, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
		},
	}
	for what, find := range gone {
		if err := find(); !errors.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, err := s.Formations(ctx, "acme", "", "", 10); err != nil || len(list) != 1 || list[0].App != neighbour.App {
		t.Errorf("listed: %v %v", list, err)
	}
	if u, err := s.Usage(ctx, "acme", now); err != nil || u.Formations != 1 || u.Documents != 1 {
		t.Errorf("usage: %+v %v", u, err)
	}
	if behind, err := s.Behind(ctx, now); err != nil || len(behind) != 1 || behind[0] != twin {
		t.Errorf("behind: %v %v", behind, err)
	}

	// Until the last of it is gone, nobody gets its name, or its organization's.
	again := tenant.Formation{Org: key.Org, App: key.App, MeshID: "FFFFFFFF", State: tenant.Active, AuthorityPublicKey: []byte{9}, CreatedAt: now}
	make := func() error { return s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateFormation(ctx, again) }) }
	pieces := 0
	for done := false; !done; pieces++ {
		if pieces > 100 {
			t.Fatal("it does not come to an end")
		}
		if err := make(); !errors.Is(err, fault.Conflict) || fault.Of(err).After == 0 {
			t.Fatalf("after %d pieces: %v", pieces, err)
		}
		left, err := s.Destroyed(ctx, 10)
		if diff := cmp.Diff([]tenant.Key{key}, left); diff != "" || err != nil {
			t.Fatalf("%v %s", err, diff)
		}
		inTx(t, s, func(tx *store.Tx) (err error) { done, err = tx.Sweep(ctx, key); return err })
	}
	if pieces < 4 { // three of the log alone
		t.Errorf("removed in %d pieces", pieces)
	}
	inTx(t, s, func(tx *store.Tx) error { // once more is harmless
		done, err := tx.Sweep(ctx, key)
		if !done {
			t.Error("there is more")
		}
		return err
	})
	if err := make(); err != nil {
		t.Fatal(err)
	}
	if log, err := s.ChangesAfter(ctx, key, 0, 10, 1<<20); err != nil || len(log) != 0 {
		t.Errorf("inherited %d changes, %v", len(log), err)
	}
	if u, err := s.FormationUsage(ctx, key, now); err != nil || u != (store.FormationUsage{}) {
		t.Errorf("inherited %+v, %v", u, err)
	}
	if c, err := s.Cursor(ctx, key, "s-acme"); err != nil || c.Position != 0 || c.StartPosition != 0 {
		t.Errorf("inherited %+v, %v", c, err)
	}
	for k, want := range map[tenant.Key]int{twin: 3 * store.SweepBatch, neighbour: 3} {
		if log, err := s.ChangesAfter(ctx, k, 0, 10_000, 1<<30); err != nil || len(log) != want {
			t.Errorf("%s has %d changes, %v", k, len(log), err)
		}
	}
}

func testOrgWithRemains(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	large(t, s, key)
	drop := func() error { return s.InTx(ctx, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "acme") }) }
	wantFault(t, drop(), fault.Conflict)
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	if err := drop(); !errors.Is(err, fault.Conflict) || fault.Of(err).After == 0 {
		t.Errorf("with remains: %v", err)
	}
	for done := false; !done; {
		inTx(t, s, func(tx *store.Tx) (err error) { done, err = tx.Sweep(ctx, key); return err })
	}
	if err := drop(); err != nil {
		t.Error(err)
	}
}

func testUsages(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, org := range []tenant.OrgID{"a", "b", "c", "d"} {
		addOrg(t, s, org)
	}
	for app, documents := range map[tenant.AppID]int{"x": 2, "y": 5} {
		k := tenant.Key{Org: "b", App: app}
		addFormation(t, s, k)
		for d := range documents {
			appendAll(t, s, k, chain(fmt.Sprint("d", d), 1, 2))
		}
	}
	addFormation(t, s, tenant.Key{Org: "c", App: "x"})
	sink := delivery.Sink{ID: "s1", Org: "c", Formations: []string{"x"}, Config: []byte("{}")}
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateSink(ctx, sink) })
	lease, err := s.TakeLease(ctx, "watch/b/x", "me", "", now, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	inTx(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.Guard(ctx, lease), tx.SetWatched(ctx, tenant.Key{Org: "b", App: "x"}, 2, 7), tx.TakeEnrollment(ctx, "c", now))
	})
	f, err := s.Formation(ctx, tenant.Key{Org: "b", App: "y"})
	if err != nil || f.Documents != 5 || f.Bytes == 0 {
		t.Fatalf("%+v %v", f, err)
	}
	x, err := s.Formation(ctx, tenant.Key{Org: "b", App: "x"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Usages(ctx, "b", "c", now)
	want := map[tenant.OrgID]store.Usage{
		"b": {Formations: 2, Documents: 7, DocumentsPerFormation: 5, SessionsPerFormation: 7, BytesStored: f.Bytes + x.Bytes},
		"c": {Formations: 1, CDCSinks: 1, EnrollmentsLastHour: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	// Sessions are as old as the lease of who counted them.
	if u, err := s.Usage(ctx, "b", now.Add(2*time.Minute)); err != nil || u.SessionsPerFormation != 0 {
		t.Errorf("%+v %v", u, err)
	}
}

func testSameNameTwice(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	var made, refused atomic.Int32
	together(64, func(int) {
		f := tenant.Formation{Org: key.Org, App: key.App, MeshID: "ABCD1234", State: tenant.Active, AuthorityPublicKey: []byte{1}, CreatedAt: now}
		err := s.InTx(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.LockOrg(t.Context(), key.Org); err != nil {
				return err
			}
			return tx.CreateFormation(t.Context(), f)
		})
		switch {
		case err == nil:
			made.Add(1)
		case errors.Is(err, fault.Conflict):
			refused.Add(1)
		default:
			t.Error(err)
		}
	})
	if made.Load() != 1 || refused.Load() != 63 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
}

// together calls n functions at once and waits for them.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	all.Wait()
}

func testEnrollmentQuota(t *testing.T, s *store.Store) {
	ctx := t.Context()
	o := addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	o.Quotas.MaxEnrollmentsPerHour = 10
	inTx(t, s, func(tx *store.Tx) error { return tx.UpdateOrg(ctx, o) })
	take := func(at time.Time) error {
		return s.InTx(ctx, func(tx *store.Tx) error { return tx.TakeEnrollment(ctx, "acme", at) })
	}
	var won, lost atomic.Int32
	together(64, func(int) {
		switch err := take(now); {
		case err == nil:
			won.Add(1)
		case errors.Is(err, fault.Exhausted) && fault.Of(err).Limit.Name == tenant.MaxEnrollmentsPerHour:
			lost.Add(1)
		default:
			t.Error(err)
		}
	})
	if won.Load() != 10 || lost.Load() != 54 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.TakeEnrollment(ctx, "rival", now) })
	err := take(now.Add(30 * time.Minute))
	wantFault(t, err, fault.Exhausted)
	// When it says so, there is room, and not a minute before.
	after := fault.Of(err).After
	if after <= 0 || after > 31*time.Minute {
		t.Errorf("try again in %v", after)
	}
	wantFault(t, take(now.Add(30*time.Minute+after-time.Minute)), fault.Exhausted)
	if err := take(now.Add(30*time.Minute + after)); err != nil {
		t.Error(err)
	}
}

func testBytesQuota(t *testing.T, s *store.Store) {
	ctx := t.Context()
	o := addOrg(t, s, "acme")
	piece := chain("d", 1, 1)
	weight := len(piece[0].Raw) + len(piece[0].Patches)
	if weight == 0 {
		t.Fatal("a change weighs nothing")
	}
	o.Quotas.MaxBytesStored = 10 * weight
	inTx(t, s, func(tx *store.Tx) error { return tx.UpdateOrg(ctx, o) })
	for i := range 64 {
		addFormation(t, s, tenant.Key{Org: "acme", App: tenant.AppID(fmt.Sprint("f", i))})
	}
	var stored, refused atomic.Int32
	together(64, func(i int) {
		err := s.InTx(ctx, func(tx *store.Tx) error {
			if err := tx.TakeBytes(ctx, "acme", weight); err != nil {
				return err
			}
			_, err := tx.AppendChanges(ctx, tenant.Key{Org: "acme", App: tenant.AppID(fmt.Sprint("f", i))}, chain("d", 1, 1))
			return err
		})
		switch {
		case err == nil:
			stored.Add(1)
		case errors.Is(err, fault.Exhausted) && fault.Of(err).Limit.Name == tenant.MaxBytesStored:
			refused.Add(1)
		default:
			t.Error(err)
		}
	})
	if u, err := s.Usage(ctx, "acme", now); err != nil || stored.Load() != 10 || refused.Load() != 54 || u.BytesStored != 10*weight {
		t.Errorf("%d stored, %d refused: %+v %v", stored.Load(), refused.Load(), u, err)
	}
}

func testMoves(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	f := addFormation(t, s, key)
	f.State = tenant.Suspended
	inTx(t, s, func(tx *store.Tx) error { return tx.UpdateFormation(ctx, f) })
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { _, err := tx.AppendChanges(ctx, key, chain("d", 1, 1)); return err }), fault.NotFound)
	got, err := s.Formation(ctx, key)
	if err != nil || got.State != tenant.Suspended || got.Revision != 2 {
		t.Errorf("%+v %v", got, err)
	}
	for state, want := range map[tenant.State]int{tenant.Suspended: 1, tenant.Active: 0, "": 1, tenant.Destroyed: 0} {
		if list, err := s.Formations(ctx, "acme", state, "", 10); err != nil || len(list) != want {
			t.Errorf("%q: %v %v", state, list, err)
		}
	}
	f.State = tenant.Active
	inTx(t, s, func(tx *store.Tx) error { return tx.UpdateFormation(ctx, f) })
	appendAll(t, s, key, chain("d", 1, 1))
}
