package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func testSigningKeys(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	at := store.Precise(now)
	key := func(org, id string, at time.Time) delivery.SigningKey {
		return delivery.SigningKey{Org: tenant.OrgID(org), ID: id, Public: []byte("p" + id), Sealed: []byte("s" + id), CreatedAt: at}
	}
	put := func(k delivery.SigningKey, retire time.Time) {
		t.Helper()
		inTx(t, s, func(tx *store.Tx) error { return tx.ReplaceSigningKey(ctx, k, retire) })
	}
	ids := func(org string, at time.Time) []string {
		t.Helper()
		keys, err := s.SigningKeys(ctx, tenant.OrgID(org), at)
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, k := range keys {
			out = append(out, k.ID)
		}
		return out
	}
	webhook := delivery.Sink{ID: "h", Org: "acme", Kind: delivery.Webhook, Formations: []string{"*"}, Config: []byte("{}"), State: delivery.Active, CreatedAt: now}
	other, foreign := webhook, webhook
	other.ID, other.Kind, foreign.Org = "o", delivery.NATS, "rival"
	for _, sink := range []delivery.Sink{webhook, other, foreign} {
		inTx(t, s, func(tx *store.Tx) error { return tx.CreateSink(ctx, sink) })
	}
	put(key("acme", "1", at), at)
	for _, want := range []struct {
		sink     delivery.Sink
		revision uint64
	}{{webhook, 1}, {other, 0}, {foreign, 0}} {
		if got, err := s.Sink(ctx, want.sink.Org, want.sink.ID); err != nil || got.Revision != want.revision {
			t.Errorf("%s of %s has revision %d, want %d: %v", want.sink.ID, want.sink.Org, got.Revision, want.revision, err)
		}
	}
	put(key("rival", "9", at), at)
	put(key("acme", "2", at.Add(time.Hour)), at.Add(3*time.Hour))
	put(key("acme", "3", at.Add(2*time.Hour)), at.Add(9*time.Hour)) // does not lengthen what the first has left
	for after, want := range map[time.Duration][]string{
		2 * time.Hour: {"3", "2", "1"}, 3*time.Hour - 1000: {"3", "2", "1"}, 3 * time.Hour: {"3", "2"}, 9 * time.Hour: {"3"}, 9999 * time.Hour: {"3"},
	} {
		if diff := cmp.Diff(want, ids("acme", at.Add(after))); diff != "" {
			t.Errorf("after %s: %s", after, diff)
		}
	}
	put(key("acme", "4", at.Add(4*time.Hour)), at.Add(4*time.Hour)) // ends all the others at once
	if diff := cmp.Diff([]string{"4"}, ids("acme", at.Add(4*time.Hour))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"9"}, ids("rival", at)); diff != "" {
		t.Error(diff)
	}
	keys, err := s.SigningKeys(ctx, "acme", at.Add(4*time.Hour))
	if diff := cmp.Diff([]delivery.SigningKey{key("acme", "4", at.Add(4*time.Hour))}, keys); diff != "" || err != nil {
		t.Error(diff, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "acme") })
	if got := ids("acme", at); len(got) != 0 {
		t.Errorf("%v outlive their organization", got)
	}
}
