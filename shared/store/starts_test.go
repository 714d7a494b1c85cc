package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// branches is a document whose changes are: a; b and c after a; d after both; e after c.
func branches(document string) []change.Settled {
	deps := [][]string{nil, {"a"}, {"a"}, {"b", "c"}, {"c"}}
	var out []change.Settled
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		c := change.Change{Hash: hash(document + name), Actor: "aa", ActorSeq: uint64(i), Raw: []byte("r"), Patches: []byte("[]")}
		for _, d := range deps[i] {
			c.Deps = append(c.Deps, hash(document+d))
		}
		s := change.Follow(c, document, uint64(i+1), nil)
		s.ReceivedAt, s.Origin = store.Precise(now.Add(time.Duration(i)*time.Minute)), change.Sync
		out = append(out, s)
	}
	return out
}

func testStarts(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	appendAll(t, s, key, branches("x"))
	at := func(minutes float64) *time.Time {
		v := now.Add(time.Duration(minutes * float64(time.Minute)))
		return &v
	}
	place := func(n uint64) *uint64 { return &n }
	heads := func(names ...string) delivery.Start {
		out := delivery.Start{Heads: map[string][]change.Hash{"x": nil}}
		for _, n := range names {
			out.Heads["x"] = append(out.Heads["x"], hash("x"+n))
		}
		return out
	}
	n := 0
	for name, tc := range map[string]struct {
		start           delivery.Start
		position, floor uint64
	}{
		"now":                         {delivery.Start{}, 5, 0},
		"the beginning":               {delivery.Start{Beginning: true}, 0, 0},
		"a position":                  {delivery.Start{Position: place(2)}, 2, 0},
		"the end as a position":       {delivery.Start{Position: place(5)}, 5, 0},
		"before all time":             {delivery.Start{Time: at(-1)}, 0, 0},
		"the time of a change":        {delivery.Start{Time: at(2)}, 2, 0},
		"between two":                 {delivery.Start{Time: at(2.5)}, 3, 0},
		"after all time":              {delivery.Start{Time: at(99)}, 5, 0},
		"all heads":                   {heads("d", "e"), 0, 5},
		"one branch, the other is in": {heads("d"), 0, 4},
		"a branch that lacks another": {heads("e"), 0, 1},
		"the first":                   {heads("a"), 0, 1},
		"a head that is not known":    {heads("z"), 0, 0},
		"one known, one not":          {heads("b", "z"), 0, 2},
	} {
		n++
		id := string(rune('A' + n))
		addSink(t, s, id, tc.start, string(key.App))
		c, err := s.Cursor(ctx, key, id)
		if err != nil || c.Position != tc.position || c.StartPosition != tc.position {
			t.Errorf("%s: %+v %v, want position %d", name, c, err, tc.position)
		}
		r, err := s.Receipts(ctx, key, id, []string{"x"})
		if err != nil || r["x"].Floor != tc.floor || r["x"].Count != 0 {
			t.Errorf("%s: %+v %v, want floor %d", name, r, err, tc.floor)
		}
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error {
		return tx.CreateSink(ctx, delivery.Sink{ID: "far", Org: "acme", Formations: []string{string(key.App)}, Config: []byte("{}"), Start: delivery.Start{Position: place(6)}})
	}), fault.Invalid)
	if p, err := s.PositionAt(ctx, key, *at(3)); err != nil || p != 3 {
		t.Errorf("PositionAt: %d %v", p, err)
	}
	_, err := s.PositionAt(ctx, tenant.Key{Org: "rival", App: key.App}, *at(3))
	wantFault(t, err, fault.NotFound)
}

func testUpdateSink(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	sink := addSink(t, s, "s1", delivery.Start{}, "*")
	want := sink
	want.Config, want.Format = []byte(`{"path":"y"}`), delivery.Raw
	want.Filter, want.Retry = filter.Spec{Documents: []string{"a*"}, Where: "true"}, &delivery.Retry{Ladder: []string{"1s"}, For: "1m"}
	want.State, want.Sealed = delivery.Paused, []byte("t") // are not UpdateSink's to change
	update := func(in delivery.Sink) (out delivery.Sink, err error) {
		err = s.InTx(ctx, func(tx *store.Tx) error {
			out, err = tx.UpdateSink(ctx, in)
			return err
		})
		return out, err
	}
	got, err := update(want)
	if err != nil || got.Revision != 1 {
		t.Fatalf("%+v %v", got, err)
	}
	want.Revision, want.State, want.Sealed = 1, delivery.Active, sink.Sealed
	if got, err = s.Sink(ctx, "acme", "s1"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err = update(sink) // as it was before somebody else changed it
	wantFault(t, err, fault.Stale)
	want.Org = "rival"
	_, err = update(want)
	wantFault(t, err, fault.Stale)
	want.Org, want.Filter, want.Retry, want.Claim, want.Sealed = "acme", filter.Spec{}, nil, "mine", []byte("t")
	inTx(t, s, func(tx *store.Tx) error {
		want, err = tx.UpdateSinkAndSecrets(ctx, want)
		return err
	})
	if got, err = s.Sink(ctx, "acme", "s1"); err != nil || !got.Filter.IsZero() || got.Retry != nil || string(got.Sealed) != "t" {
		t.Errorf("%+v %v", got, err)
	}
	second := addSink(t, s, "s2", delivery.Start{}, "*")
	second.Claim = "mine"
	_, err = update(second)
	wantFault(t, err, fault.Conflict)
}

func testOweAnew(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	addSink(t, s, "s2", delivery.Start{Beginning: true}, "*")
	// At 1 to 3 a, at 4 to 6 b, at 7 c; the cursor is at 6, b is held from its second.
	appendAll(t, s, key, append(append(chain("a", 1, 3), chain("b", 1, 3)...), chain("c", 1, 1)...))
	inTx(t, s, func(tx *store.Tx) error {
		return tx.SaveCursor(ctx, delivery.Cursor{Org: "acme", Sink: "s1", App: key.App, Position: 6})
	})
	hold(t, s, "s1", "b", 2, delivery.Parked)
	r := completeness.Receipt{Document: "a"}
	r.Add(1, hash("a1"))
	r.Add(2, hash("a2"))
	saveReceipts(t, s, r)
	inTx(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.OweAnew(ctx, "acme", "s1"), tx.OweAnew(ctx, "rival", "s2"))
	})
	want := map[string]completeness.Receipt{
		"a": {Document: "a", Floor: 3, Seq: 2, Hash: hash("a2")}, // it still knows what it got last
		"b": {Document: "b", Floor: 1},
		"c": {Document: "c"},
	}
	got, err := s.Receipts(ctx, key, "s1", nil)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if got, err = s.Receipts(ctx, key, "s2", nil); err != nil || len(got) != 0 {
		t.Errorf("another sink: %v %v", got, err)
	}
}
