package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func identityProvider(org tenant.OrgID, id string) identity.Provider {
	return identity.Provider{
		Key: identity.Key{Org: org, ID: id}, Kind: identity.OIDC, Label: "of " + id, Issuer: "https://" + id + ".example", Enabled: true,
		Config: []byte(`{"a":1}`), Sealed: []byte("s" + id), Version: 1, CreatedAt: store.Precise(now), UpdatedAt: store.Precise(now),
	}
}

func testProviders(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	create := func(p identity.Provider) error {
		return s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateProvider(ctx, p) })
	}
	a, b, foreign := identityProvider("acme", "a"), identityProvider("acme", "b"), identityProvider("rival", "a")
	b.Sealed, b.Kind, b.Enabled = nil, identity.MTLS, false
	for _, p := range []identity.Provider{b, a, foreign} { // one issuer may vouch for several organizations
		if err := create(p); err != nil {
			t.Fatal(err)
		}
	}
	again := identityProvider("acme", "c")
	again.Issuer = a.Issuer
	wantFault(t, create(again), fault.Conflict)
	again.Kind = identity.Introspection
	wantFault(t, create(again), fault.Conflict)
	// What a server is called in SAML may be what its tokens call it.
	again.Kind = identity.SAML
	if err := create(again); err != nil {
		t.Error(err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteProvider(ctx, "acme", again.ID) })
	wantFault(t, create(identityProvider("nobody", "a")), fault.NotFound)

	got, err := s.Providers(ctx, "acme")
	if diff := cmp.Diff([]identity.Provider{a, b}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if got, err := s.ProvidersAfter(ctx, "acme", "a", 1); err != nil || len(got) != 1 || got[0].ID != "b" {
		t.Error(got, err)
	}
	_, err = s.Provider(ctx, "rival", "b")
	wantFault(t, err, fault.NotFound)

	a.Label, a.Issuer, a.Enabled, a.Config, a.UpdatedAt = "other", "https://other.example", false, []byte(`{"a":2}`), store.Precise(now.Add(time.Hour))
	sealed := a.Sealed
	a.Sealed = []byte("not written")
	inTx(t, s, func(tx *store.Tx) error {
		if _, err := tx.LockProvider(ctx, "acme", "a"); err != nil {
			return err
		}
		changed, err := tx.UpdateProvider(ctx, a)
		if err == nil && changed.Version != 2 {
			t.Errorf("version %d", changed.Version)
		}
		return err
	})
	stale := a
	a.Version, a.Sealed = 2, sealed
	one, err := s.Provider(ctx, "acme", "a")
	if diff := cmp.Diff(a, one); diff != "" || err != nil {
		t.Error(diff, err)
	}
	update := func(p identity.Provider) error {
		return s.InTx(ctx, func(tx *store.Tx) error { _, err := tx.UpdateProviderAndSecrets(ctx, p); return err })
	}
	wantFault(t, update(stale), fault.Stale)
	taken := a
	taken.Issuer = b.Issuer
	wantFault(t, update(taken), fault.Conflict)
	a.Sealed = []byte("new")
	if err := update(a); err != nil {
		t.Fatal(err)
	}
	if blob, err := s.Sealed(ctx, keyring.OfProvider("acme", "a")); err != nil || string(blob) != "new" {
		t.Errorf("%q %v", blob, err)
	}
	del := func(org tenant.OrgID, id string) error {
		return s.InTx(ctx, func(tx *store.Tx) error { return tx.DeleteProvider(ctx, org, id) })
	}
	wantFault(t, del("rival", "b"), fault.NotFound)
	if err := del("acme", "b"); err != nil {
		t.Error(err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "acme") })
	if got, err := s.Providers(ctx, "acme"); len(got) != 0 || err != nil {
		t.Errorf("%v outlive their organization: %v", got, err)
	}
	if got, err := s.Providers(ctx, "rival"); len(got) != 1 || err != nil {
		t.Errorf("%v %v", got, err)
	}
}

func testUsedProofs(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	at := store.Precise(now)
	use := func(org tenant.OrgID, issuer, id string, at time.Time) error {
		return s.InTx(t.Context(), func(tx *store.Tx) error {
			return tx.UseProof(context.Background(), org, issuer, id, at, at.Add(time.Minute))
		})
	}
	for _, one := range []struct {
		org        tenant.OrgID
		issuer, id string
		at         time.Time
		kind       fault.Kind // empty: it may be used
	}{
		{"acme", "i", "1", at, ""},
		{"acme", "i", "1", at.Add(59 * time.Second), fault.Conflict},
		{"acme", "i", "2", at, ""},
		{"acme", "i1", "", at, ""}, // not the first, written apart differently
		{"rival", "i", "1", at, ""},
		{"nobody", "i", "1", at, fault.NotFound},
		{"acme", "i", "1", at.Add(time.Minute), ""}, // what asks must have refused it by then: it is forgotten
	} {
		err := use(one.org, one.issuer, one.id, one.at)
		if one.kind != "" {
			wantFault(t, err, one.kind)
		} else if err != nil {
			t.Errorf("%+v: %v", one, err)
		}
	}
}

// testProofRace uses one proof many times at once.
func testProofRace(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	var won atomic.Int32
	together(16, func(int) {
		err := s.InTx(t.Context(), func(tx *store.Tx) error {
			return tx.UseProof(context.Background(), "acme", "i", "1", now, now.Add(time.Minute))
		})
		if err == nil {
			won.Add(1)
			return
		}
		if got := fault.Of(err); got == nil || got.Kind != fault.Conflict {
			t.Error(fmt.Errorf("a loser: %w", err))
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d have used it", won.Load())
	}
}
