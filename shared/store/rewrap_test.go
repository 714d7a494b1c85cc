package store_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func localKey(t testing.TB, n byte) *envelope.Local {
	t.Helper()
	l, err := envelope.NewLocal(envelope.NewKEK([32]byte{n}))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ring has the keys given, seals with the first and keeps no data key.
func ring(t testing.TB, s *store.Store, keys ...envelope.KeyProvider) *keyring.Keyring {
	t.Helper()
	d := keyring.Deps{
		Default: keys[0].KeyID(), Root: s.Root,
		Provider: func(id string) (envelope.KeyProvider, error) {
			for _, k := range keys {
				if k.KeyID() == id {
					return k, nil
				}
			}
			return nil, errors.New("not here")
		},
		KeyOf: func(ctx context.Context, org tenant.OrgID) (string, error) {
			id, _, err := s.OrgKey(ctx, org)
			return id, err
		},
		Mark: func(ctx context.Context, key tenant.Key, shut bool) error {
			at := time.Time{}
			if shut {
				at = now
			}
			return s.InTx(ctx, func(tx *store.Tx) error { return tx.MarkShut(ctx, key, at) })
		},
	}
	for _, k := range keys {
		d.Old = append(d.Old, k.KeyID())
	}
	return keyring.New(d)
}

// found makes a formation with a genesis that is real.
func found(ctx context.Context, s *store.Store, k *keyring.Keyring, key tenant.Key) error {
	g, err := genesis.FromSeed(string(key.App), tenant.Controlled, 0, genesis.Secret{1, byte(len(key.App))})
	if err != nil {
		return err
	}
	plain, err := g.Encode()
	if err != nil {
		return err
	}
	sealed, err := k.Seal(ctx, keyring.OfGenesis(key), plain)
	if err != nil {
		return err
	}
	return s.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.CreateFormation(ctx, tenant.Formation{Org: key.Org, App: key.App, MeshID: g.MeshID(), Policy: g.Policy, State: tenant.Active,
			AuthorityPublicKey: g.AuthorityPublicKey(), CreatedAt: store.Precise(now)}); err != nil {
			return err
		}
		return tx.PutGenesis(ctx, key, sealed)
	})
}

func sinkSecrets(t testing.TB, k *keyring.Keyring, org tenant.OrgID, id, text string) []byte {
	t.Helper()
	blob, err := k.Seal(t.Context(), keyring.OfSink(org, id), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// populate makes two organizations, with n formations each, a second authority of one
// of them, a sink and a signing key: 2n+6 records.
func populate(t testing.TB, s *store.Store, k *keyring.Keyring, n int) {
	t.Helper()
	ctx := t.Context()
	for _, org := range []tenant.OrgID{"acme", "rival"} {
		err := s.InTx(ctx, func(tx *store.Tx) error {
			return tx.CreateOrg(ctx, tenant.Org{ID: org, DisplayName: "x", Quotas: tenant.DefaultQuotas(), CreatedAt: store.Precise(now)})
		})
		for i := range n {
			err = errors.Join(err, found(ctx, s, k, tenant.Key{Org: org, App: tenant.AppID(fmt.Sprintf("app-%03d", i))}))
		}
		seed, sealErr := k.Seal(ctx, keyring.OfSigningKey(org, "k1"), make([]byte, ed25519.SeedSize))
		next := tenant.Key{Org: org, App: "app-000"}
		authoritySeed, authorityErr := k.Seal(ctx, keyring.OfAuthority(next, "a2"), make([]byte, ed25519.SeedSize))
		err = errors.Join(err, sealErr, authorityErr, s.InTx(ctx, func(tx *store.Tx) error {
			if err := tx.ReplaceSigningKey(ctx, delivery.SigningKey{Org: org, ID: "k1", Public: []byte("p"), Sealed: seed, CreatedAt: store.Precise(now)}, now); err != nil {
				return err
			}
			if err := tx.AddAuthority(ctx, authority.Authority{Key: next, ID: "a2", State: authority.Next, PublicKey: []byte("p"), Sealed: authoritySeed, CreatedAt: store.Precise(now)}); err != nil {
				return err
			}
			return tx.CreateSink(ctx, delivery.Sink{ID: "s1", Org: org, Kind: delivery.File, Formations: []string{"*"}, Config: []byte(`{}`),
				Sealed: sinkSecrets(t, k, org, "s1", "hush"), Format: delivery.Both, State: delivery.Active, CreatedAt: store.Precise(now)})
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
}

func rewrapOf(s *store.Store, k *keyring.Keyring) *keyring.Rewrap {
	var n atomic.Int64
	return &keyring.Rewrap{
		Keys: k, Records: s.Records("operator", func() time.Time { return now }), Now: func() time.Time { return now },
		NewID: func() string { return fmt.Sprintf("run-%d-%d", os.Getpid(), n.Add(1)) },
	}
}

// allOpen fails unless every record opens with the keys given.
func allOpen(t *testing.T, s *store.Store, want int, keys ...envelope.KeyProvider) {
	t.Helper()
	r, err := ring(t, s, keys...).Verify(t.Context(), s.Records("operator", time.Now), "")
	if err != nil || r.Failed != 0 || r.Opened != want {
		t.Errorf("%d records open, want %d: %+v, %v", r.Opened, want, r.Failures, err)
	}
}

func testRewrap(t *testing.T, s *store.Store) {
	ctx := t.Context()
	old, next, own := localKey(t, 1), localKey(t, 2), localKey(t, 3)
	populate(t, s, ring(t, s, old), 110)
	const all = 2 * (110 + 3)
	inTx(t, s, func(tx *store.Tx) error { return tx.SetOrgKey(ctx, "rival", own.KeyID(), now) })
	keys := ring(t, s, next, own, old)

	w := rewrapOf(s, keys)
	w.DryRun = true
	got, err := w.Run(ctx)
	if err != nil || got.Counts != (keyring.Counts{Resealed: all}) || got.Left != all || len(got.Failures) != 0 {
		t.Fatalf("dry run: %+v, %v", got, err)
	}
	allOpen(t, s, all, old) // nothing was written

	w = rewrapOf(s, keys)
	w.Scope = "rival"
	if got, err = w.Run(ctx); err != nil || got.Counts != (keyring.Counts{Resealed: all / 2}) || got.Left != 0 {
		t.Fatalf("one organization: %+v, %v", got, err)
	}
	allOpen(t, s, all, old, own)

	if got, err = rewrapOf(s, keys).Run(ctx); err != nil || got.Counts != (keyring.Counts{Resealed: all / 2, Already: all / 2}) || got.Left != 0 {
		t.Fatalf("all: %+v, %v", got, err)
	}
	allOpen(t, s, all, next, own) // the old key is not needed any more
	status, err := keys.Status(ctx, s.Records("", time.Now), "")
	want := []keyring.Holding{
		{Org: "acme", Kind: keyring.Authority, KeyID: next.KeyID(), Version: 2, Current: true, Count: 1},
		{Org: "acme", Kind: keyring.Genesis, KeyID: next.KeyID(), Version: 2, Current: true, Count: 110},
		{Org: "acme", Kind: keyring.SigningKey, KeyID: next.KeyID(), Version: 2, Current: true, Count: 1},
		{Org: "acme", Kind: keyring.Sink, KeyID: next.KeyID(), Version: 2, Current: true, Count: 1},
		{Org: "rival", Kind: keyring.Authority, KeyID: own.KeyID(), Version: 2, Current: true, Count: 1},
		{Org: "rival", Kind: keyring.Genesis, KeyID: own.KeyID(), Version: 2, Current: true, Count: 110},
		{Org: "rival", Kind: keyring.SigningKey, KeyID: own.KeyID(), Version: 2, Current: true, Count: 1},
		{Org: "rival", Kind: keyring.Sink, KeyID: own.KeyID(), Version: 2, Current: true, Count: 1},
	}
	if diff := cmp.Diff(want, status); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	if sink, err := s.Sink(ctx, "acme", "s1"); err != nil || sink.Revision != 0 {
		t.Errorf("the sink counts as changed: %+v, %v", sink, err)
	}
	trail, err := s.AuditTrail(ctx, "acme", 100)
	sum := 0.0
	for _, a := range trail {
		if a.Action == "keys.rewrap" && a.Actor == "operator" {
			sum += a.Detail["records"].(float64)
		}
	}
	if err != nil || sum != all/2 {
		t.Errorf("the audit trail knows of %v records, %v", sum, err)
	}
}

// TestRewrapLeavesWhatDoesNotOpen: it is named and counted, everything else goes on.
func TestRewrapLeavesWhatDoesNotOpen(t *testing.T) {
	run(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"), func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		old, lost, next := localKey(t, 1), localKey(t, 9), localKey(t, 2)
		populate(t, s, ring(t, s, old), 3)
		damage := func(app string, change func([]byte) []byte) {
			t.Helper()
			rec := keyring.OfGenesis(tenant.Key{Org: "acme", App: tenant.AppID(app)})
			was, err := s.Sealed(ctx, rec)
			if err != nil {
				t.Fatal(err)
			}
			inTx(t, s, func(tx *store.Tx) error { return tx.Reseal(ctx, rec, was, change(was)) })
		}
		damage("app-000", func(b []byte) []byte { b = append([]byte(nil), b...); b[len(b)-1] ^= 1; return b })
		damage("app-001", func([]byte) []byte { return []byte("in the clear") })
		foreign, err := ring(t, s, lost).Seal(ctx, keyring.OfGenesis(tenant.Key{Org: "acme", App: "app-002"}), []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		damage("app-002", func([]byte) []byte { return foreign })

		got, err := rewrapOf(s, ring(t, s, next, old)).Run(ctx)
		if err != nil || got.Counts != (keyring.Counts{Resealed: 9, Failed: 3}) || got.Left != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		want := []keyring.Failure{
			{Org: "acme", App: "app-000", Kind: keyring.Genesis, Reason: "it does not open: not ours or not intact"},
			{Org: "acme", App: "app-001", Kind: keyring.Genesis, Reason: "it is not sealed at all"},
			{Org: "acme", App: "app-002", Kind: keyring.Genesis, Reason: "its key is not here, or the organization may not use it"},
		}
		if diff := cmp.Diff(want, got.Failures); diff != "" {
			t.Error(diff)
		}
		r, err := ring(t, s, next, old).Verify(ctx, s.Records("", time.Now), "")
		if diff := cmp.Diff(want, r.Failures); diff != "" || r.Opened != 9 || err != nil {
			t.Errorf("%s %+v %v", diff, r, err)
		}
		shut, err := s.Shut(ctx, "acme", "a", "z")
		if diff := cmp.Diff(map[tenant.AppID]bool{"app-000": true, "app-001": true, "app-002": true}, shut); diff != "" || err != nil {
			t.Errorf("verify marks them: %s %v", diff, err)
		}
	})
}

// sulking is a key service that answers a number of times, and then as told.
type sulking struct {
	*envelope.Local
	left atomic.Int64
	then func() error
}

func (k *sulking) Unwrap(ctx context.Context, rec envelope.Record, wrapped []byte) ([]byte, error) {
	if k.left.Add(-1) < 0 {
		if err := k.then(); err != nil {
			return nil, err
		}
	}
	return k.Local.Unwrap(ctx, rec, wrapped)
}

func testRewrapResumes(t *testing.T, s *store.Store) {
	old, next := localKey(t, 1), localKey(t, 2)
	populate(t, s, ring(t, s, old), 110)
	const all = 2 * (110 + 3)
	ctx, cancel := context.WithCancel(t.Context())
	tired := &sulking{Local: old, then: func() error { cancel(); return nil }}
	tired.left.Store(150)
	got, err := rewrapOf(s, ring(t, s, next, tired)).Run(ctx)
	if !errors.Is(err, context.Canceled) || got.Counts.Resealed != 113 {
		t.Fatalf("broken off: %+v, %v", got, err)
	}
	allOpen(t, s, all, next, old)
	first := got.ID
	if got, err = rewrapOf(s, ring(t, s, next, old)).Run(t.Context()); err != nil || !got.Resumed || got.ID != first ||
		got.Counts != (keyring.Counts{Resealed: all}) || got.Left != 0 {
		t.Errorf("taken up: %+v, %v", got, err)
	}
	allOpen(t, s, all, next)
	// A run of another scope, and one that is begun anew, are other runs.
	tired.left.Store(0)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	if _, err := rewrapOf(s, ring(t, s, old, &sulking{Local: next, then: func() error { cancel(); return nil }})).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w := rewrapOf(s, ring(t, s, old, next))
	w.Restart = true
	if got, err = w.Run(t.Context()); err != nil || got.Resumed || got.Counts.Resealed != all {
		t.Errorf("begun anew: %+v, %v", got, err)
	}
	if _, err := s.Rewrap(t.Context(), ""); !errors.Is(err, fault.NotFound) {
		t.Errorf("a run is left over: %v", err)
	}
}

// TestRewrapDoesNotWaitForOneServiceAgainAndAgain: a record whose key service does
// not answer costs the patience of one call, not of one for each record.
func TestRewrapDoesNotWaitForOneServiceAgainAndAgain(t *testing.T) {
	run(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"), func(t *testing.T, s *store.Store) {
		old, next := localKey(t, 1), localKey(t, 2)
		populate(t, s, ring(t, s, old), 5)
		calls := 0
		away := &sulking{Local: old, then: func() error { calls++; return envelope.ErrUnavailable }}
		got, err := rewrapOf(s, ring(t, s, next, away)).Run(t.Context())
		if err != nil || got.Counts != (keyring.Counts{Failed: 16}) || got.Left != 16 || calls != 2 || len(got.Failures) != 16 {
			t.Errorf("%d calls, %+v, %v", calls, got, err)
		}
	})
}

// meddling lets others write after a page was read.
type meddling struct {
	keyring.Records
	meddle func(envelope.Record)
}

func (m meddling) Reseal(ctx context.Context, r keyring.Run, org tenant.OrgID, all []keyring.Reseal) ([]keyring.Reseal, error) {
	for _, one := range all {
		m.meddle(one.Record)
	}
	return m.Records.Reseal(ctx, r, org, all)
}

// testRewrapYields: who writes a record while it is sealed anew wins.
func testRewrapYields(t *testing.T, s *store.Store) {
	ctx := t.Context()
	old, next := localKey(t, 1), localKey(t, 2)
	oldRing, newRing := ring(t, s, old), ring(t, s, next, old)
	populate(t, s, oldRing, 3)
	w := rewrapOf(s, newRing)
	once := map[envelope.Record]bool{}
	w.Records = meddling{w.Records, func(rec envelope.Record) {
		if once[rec] {
			return
		}
		once[rec] = true
		switch {
		case rec.Kind == keyring.Sink && rec.Org == "acme":
			// By a process that has not heard of the new key.
			inTx(t, s, func(tx *store.Tx) error {
				sink, err := tx.Sink(ctx, "acme", "s1")
				if err != nil {
					return err
				}
				sink.Sealed = sinkSecrets(t, oldRing, "acme", "s1", "changed")
				_, err = tx.UpdateSinkAndSecrets(ctx, sink)
				return err
			})
		case rec.App == "app-001" && rec.Org == "acme":
			inTx(t, s, func(tx *store.Tx) error {
				return tx.DestroyFormation(ctx, tenant.Key{Org: "acme", App: "app-001"})
			})
		}
	}}
	got, err := w.Run(ctx)
	if err != nil || got.Counts != (keyring.Counts{Resealed: 11, Gone: 1}) || got.Left != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	allOpen(t, s, 11, next)
	sink, err := s.Sink(ctx, "acme", "s1")
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := newRing.Open(ctx, keyring.OfSink("acme", "s1"), sink.Sealed); err != nil || string(plain) != "changed" {
		t.Errorf("the write was lost: %q, %v", plain, err)
	}
	// A patch that leaves the secrets alone does not bring the old envelope back.
	stale := sink
	stale.Sealed, stale.Format = sinkSecrets(t, oldRing, "acme", "s1", "changed"), delivery.Raw
	inTx(t, s, func(tx *store.Tx) error { _, err := tx.UpdateSink(ctx, stale); return err })
	allOpen(t, s, 11, next)
	// Somebody who writes all the time is not waited for.
	w = rewrapOf(s, ring(t, s, old, next))
	w.Scope = "acme"
	w.Records = meddling{w.Records, func(rec envelope.Record) {
		if rec.Kind != keyring.Sink {
			return
		}
		was, err := s.Sealed(ctx, rec)
		if err != nil {
			t.Fatal(err)
		}
		inTx(t, s, func(tx *store.Tx) error {
			return tx.Reseal(ctx, rec, was, sinkSecrets(t, newRing, "acme", "s1", "changed"))
		})
	}}
	if got, err = w.Run(ctx); err != nil || got.Counts != (keyring.Counts{Resealed: 4, Failed: 1}) || got.Failures[0].Reason != "others keep changing it" {
		t.Errorf("%+v, %v", got, err)
	}
}
