package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func saveReceipts(t *testing.T, s *store.Store, receipts ...completeness.Receipt) {
	t.Helper()
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveReceipts(t.Context(), key, "s1", receipts) })
}

func testReceipts(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	addSink(t, s, "s2", delivery.Start{Beginning: true}, "*")
	const n = 64 + 8 + 3 // every size of statement
	var all []completeness.Receipt
	for i := range uint64(n) {
		r := completeness.Receipt{Document: fmt.Sprintf("d%03d", i), Floor: i}
		r.Add(i+1, hash(fmt.Sprint(i)))
		all = append(all, r)
	}
	saveReceipts(t, s, all...)
	for i := range all {
		all[i].Add(all[i].Seq+1, hash("next"))
		all[i].Floor++
	}
	saveReceipts(t, s, all...)
	saveReceipts(t, s)

	want := map[string]completeness.Receipt{}
	var names []string
	for _, r := range all {
		want[r.Document] = r
		names = append(names, r.Document)
	}
	for name, documents := range map[string][]string{"all": nil, "each by its name": append(names, "none")} {
		got, err := s.Receipts(ctx, key, "s1", documents)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	for name, documents := range map[string][]string{"no names": {}, "a name that has none": {"none"}} {
		if got, err := s.Receipts(ctx, key, "s1", documents); err != nil || len(got) != 0 {
			t.Errorf("%s: %v %v", name, err, got)
		}
	}
	var streamed []completeness.Receipt
	err := s.EachReceipt(ctx, key, "s1", func(r completeness.Receipt) error {
		streamed = append(streamed, r)
		return nil
	})
	if diff := cmp.Diff(all, streamed); err != nil || diff != "" {
		t.Errorf("streamed: %v\n%s", err, diff)
	}
	enough := errors.New("enough")
	if err := s.EachReceipt(ctx, key, "s1", func(completeness.Receipt) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("stopped by the caller: %v", err)
	}

	for name, other := range map[string]struct {
		key  tenant.Key
		sink string
	}{
		"another sink":         {key, "s2"},
		"another organization": {tenant.Key{Org: "rival", App: key.App}, "s1"},
		"another formation":    {tenant.Key{Org: key.Org, App: "medical"}, "s1"},
	} {
		for _, documents := range [][]string{nil, names} {
			if got, err := s.Receipts(ctx, other.key, other.sink, documents); err != nil || len(got) != 0 {
				t.Errorf("%s: %v %v", name, err, got)
			}
		}
	}
	if err := s.InTx(ctx, func(tx *store.Tx) error { return tx.SaveReceipts(ctx, key, "none", all[:1]) }); err == nil {
		t.Error("a sink that is not there has a receipt")
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteSink(ctx, "acme", "s1") })
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	if got, err := s.Receipts(ctx, key, "s1", nil); err != nil || len(got) != 0 {
		t.Errorf("a sink made anew: %v %v", err, got)
	}
}

func testOmissions(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	add := func(document string, from, to uint64, kind completeness.OmissionKind, at time.Time) completeness.Omission {
		o := completeness.Omission{Document: document, From: from, To: to, Kind: kind, At: store.Precise(at)}
		inTx(t, s, func(tx *store.Tx) error { return tx.AddOmission(ctx, key, "s1", o) })
		return o
	}
	third := add("b", 3, 3, completeness.Skip, now)
	second := add("a", 12, 12, completeness.Skip, now)
	add("a", 9, 9, completeness.Skip, now)
	first := add("a", 9, 11, completeness.Purge, now.Add(time.Hour))
	got, err := s.Omissions(ctx, key, "s1")
	if diff := cmp.Diff([]completeness.Omission{first, second, third}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, other := range []tenant.Key{{Org: "rival", App: key.App}, {Org: key.Org, App: "medical"}} {
		if got, err := s.Omissions(ctx, other, "s1"); err != nil || len(got) != 0 {
			t.Errorf("%s: %v %v", other, err, got)
		}
	}
}
