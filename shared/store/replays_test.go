package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func testReplays(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	other := chain("d2", 1, 2)
	for i := range other {
		other[i].Actor = "bb"
	}
	appendAll(t, s, key, append(chain("d1", 1, 4), other...)) // d1 at 1 to 4, d2 at 5 and 6
	hold(t, s, "s1", "d1", 3, delivery.Parked)
	base := delivery.Replay{Org: "acme", Sink: "s1", ID: "r1", App: key.App, From: 1, To: 6, Rate: 7, State: delivery.Running, CreatedAt: store.Precise(now)}
	for name, tc := range map[string]struct {
		change func(*delivery.Replay)
		want   []uint64
	}{
		"all but what is held": {func(*delivery.Replay) {}, []uint64{1, 2, 5, 6}},
		"a range":              {func(p *delivery.Replay) { p.Position, p.To = 1, 5 }, []uint64{2, 5}},
		"a document":           {func(p *delivery.Replay) { p.Document = "d2" }, []uint64{5, 6}},
		"an author":            {func(p *delivery.Replay) { p.Actor = "aa" }, []uint64{1, 2}},
		"another sink's":       {func(p *delivery.Replay) { p.Sink = "s2" }, []uint64{1, 2, 3, 4, 5, 6}},
		"another organization": {func(p *delivery.Replay) { p.Org = "rival" }, nil},
	} {
		p := base
		tc.change(&p)
		log, err := s.ReplayChanges(ctx, p, 10, 1<<20)
		var got []uint64
		for _, c := range log {
			got = append(got, c.Position)
		}
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
		if n, err := s.CountReplay(ctx, p); err != nil || n != uint64(len(tc.want)) {
			t.Errorf("%s: %d counted, %v", name, n, err)
		}
	}
	second := base
	second.ID = "r2"
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateReplay(ctx, second) })
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateReplay(ctx, base) })
	running, ok, err := s.RunningReplay(ctx, key, "s1")
	if diff := cmp.Diff(base, running); err != nil || !ok || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	base.State, base.Position, base.Delivered, base.Refused, base.Attempts, base.LastError = delivery.Cancelled, 4, 3, 1, 2, "x"
	base.NextAttemptAt, base.EndedAt = store.Precise(now.Add(time.Minute)), store.Precise(now.Add(time.Hour))
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveReplay(ctx, base) })
	got, err := s.Replay(ctx, "acme", "s1", "r1")
	if diff := cmp.Diff(base, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.SaveReplay(ctx, base) }), fault.Stale)
	if running, _, err = s.RunningReplay(ctx, key, "s1"); err != nil || running.ID != "r2" {
		t.Errorf("%+v %v", running, err)
	}
	if apps, err := s.RunningReplays(ctx, "acme", "s1"); err != nil || len(apps) != 1 || apps[0] != key.App {
		t.Errorf("%v %v", apps, err)
	}
	if list, err := s.Replays(ctx, "acme", "s1", "r1", 10); err != nil || len(list) != 1 || list[0].ID != "r2" {
		t.Errorf("%v %v", list, err)
	}
	_, err = s.Replay(ctx, "rival", "s1", "r1")
	wantFault(t, err, fault.NotFound)
	later := tenant.Key{Org: "acme", App: "later"}
	addFormation(t, s, later)
	second.App, second.ID = "later", "r3"
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateReplay(ctx, second) }), fault.Conflict)
}

func testAttempts(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	h := hold(t, s, "s1", "d1", 3, delivery.Retrying)
	hold(t, s, "s1", "d2", 1, delivery.Retrying)
	add := func(held string, i int) {
		inTx(t, s, func(tx *store.Tx) error {
			return tx.AddAttempt(ctx, "acme", "s1", delivery.Attempt{Held: held, Seq: uint64(i), At: store.Precise(now), Status: "503", Error: fmt.Sprint(i, "\x00"), Excerpt: "e\xff"})
		})
	}
	add("h-d2", 1)
	for i := range 53 {
		add(h.ID, i)
	}
	got, err := s.Attempts(ctx, "acme", "s1", h.ID)
	if err != nil || len(got) != 50 || got[0].Seq != 3 || got[49].Seq != 52 {
		t.Errorf("%d attempts, %v", len(got), err)
	}
	want := delivery.Attempt{Held: h.ID, Seq: 52, At: store.Precise(now), Status: "503", Error: "52\uFFFD", Excerpt: "e\uFFFD"}
	if diff := cmp.Diff(want, got[len(got)-1]); diff != "" {
		t.Error(diff)
	}
	if got, err = s.Attempts(ctx, "acme", "s1", "h-d2"); err != nil || len(got) != 1 {
		t.Errorf("of another document: %d, %v", len(got), err)
	}
	if got, err = s.Attempts(ctx, "rival", "s1", h.ID); err != nil || len(got) != 0 {
		t.Errorf("another organization sees %d, %v", len(got), err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.ReleaseHeld(ctx, h) })
	if got, err = s.Attempts(ctx, "acme", "s1", h.ID); err != nil || len(got) != 0 {
		t.Errorf("of a document that is held no more: %d, %v", len(got), err)
	}
}
