package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func testCompared(t *testing.T, s *store.Store) {
	ctx := t.Context()
	other := tenant.Key{Org: "acme", App: "other"}
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addFormation(t, s, other)
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	due := func(before time.Time) (apps []tenant.AppID) {
		t.Helper()
		list, err := s.ComparisonsDue(ctx, before, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			apps = append(apps, c.Key.App)
		}
		return apps
	}
	if got := due(now); got != nil {
		t.Errorf("nothing was delivered: %v", got)
	}
	for _, k := range []tenant.Key{key, other} {
		inTx(t, s, func(tx *store.Tx) error {
			return tx.SaveCursor(ctx, delivery.Cursor{Org: "acme", Sink: "s1", App: k.App, Position: 1})
		})
	}
	want := store.Compared{Key: key, Sink: "s1", At: store.Precise(now), Found: 2, Result: `{"found":2}`}
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCompared(ctx, want) })
	if diff := cmp.Diff([]tenant.AppID{"other"}, due(now)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]tenant.AppID{"other", key.App}, due(now.Add(time.Hour))); diff != "" {
		t.Error(diff)
	}
	got, err := s.Compared(ctx, "acme", "s1")
	if diff := cmp.Diff([]store.Compared{want}, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if got, err = s.Compared(ctx, "rival", "s1"); err != nil || len(got) != 0 {
		t.Errorf("another organization sees %v %v", got, err)
	}
	if n, err := s.Incomplete(ctx); err != nil || n[delivery.File] != 1 {
		t.Errorf("%v %v", n, err)
	}
	inTx(t, s, func(tx *store.Tx) error {
		return tx.SaveCursor(ctx, delivery.Cursor{Org: "acme", Sink: "s1", App: key.App, Position: 2})
	})
	if n, err := s.Incomplete(ctx); err != nil || n[delivery.File] != 1 {
		t.Errorf("the cursor's move forgot it: %v %v", n, err)
	}
	want.Found = 0
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCompared(ctx, want) })
	if n, err := s.Incomplete(ctx); err != nil || len(n) != 0 {
		t.Errorf("%v %v", n, err)
	}
	want.Sink = "gone"
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCompared(ctx, want) })
}

func testSnapshot(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	err := s.InSnapshot(ctx, func(snap *store.Snapshot) error {
		before, err := snap.Cursor(ctx, key, "s1")
		if err != nil {
			return err
		}
		inTx(t, s, func(tx *store.Tx) error {
			return tx.SaveCursor(ctx, delivery.Cursor{Org: "acme", Sink: "s1", App: key.App, Position: 5})
		})
		after, err := snap.Cursor(ctx, key, "s1")
		if after != before {
			t.Errorf("%+v, then %+v", before, after)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
