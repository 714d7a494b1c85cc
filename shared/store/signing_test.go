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
	put(key("acme", "1", at), at)
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
