package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func testChallenges(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	other := tenant.Key{Org: "acme", App: "medevac"}
	addFormation(t, s, other)
	c := enrollment.Challenge{Nonce: []byte{1, 2, 3}, ExpiresAt: now.Add(time.Minute)}
	for _, k := range []tenant.Key{key, other} {
		inTx(t, s, func(tx *store.Tx) error { return tx.UseChallenge(ctx, k, c) })
		wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.UseChallenge(ctx, k, c) }), fault.Conflict)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.ForgetChallenges(ctx, now) })
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.UseChallenge(ctx, key, c) }), fault.Conflict)
	inTx(t, s, func(tx *store.Tx) error { return tx.ForgetChallenges(ctx, now.Add(time.Minute)) })
	inTx(t, s, func(tx *store.Tx) error { return tx.UseChallenge(ctx, key, c) })
}

// application is a node that waits since now.
func application(id string, subject byte) enrollment.Application {
	at := store.Precise(now)
	return enrollment.Application{
		Key: key, ID: id, Subject: []byte{subject}, NodeID: "n" + id, ProvedAt: at, Standing: enrollment.Waiting,
		Grant: enrollment.Grant{Tier: cert.Tactical, Permissions: cert.Relay}, Validity: time.Hour, Credentials: true,
		Rule: "contractors", AdmittedBy: "identity:idp/ann", Evidence: []byte(`{"subject":"ann"}`),
		Voucher: enrollment.Voucher{Provider: "idp", Claimant: "ann", Digest: "d", VouchedAt: at, Session: at.Add(time.Hour), RefreshAt: at.Add(2 * time.Hour)},
		Secret:  []byte("hash"), CreatedAt: at, ExpiresAt: at.Add(time.Hour),
	}
}

func testApplications(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	add := func(a enrollment.Application) error {
		return s.InTx(ctx, func(tx *store.Tx) error { return tx.AddApplication(ctx, a) })
	}
	first, second, third := application("a1", 1), application("a2", 2), application("a3", 3)
	second.Voucher, second.AdmittedBy = enrollment.Voucher{}, "token:t1"
	for _, a := range []enrollment.Application{first, second, third} {
		if err := add(a); err != nil {
			t.Fatal(err)
		}
		got, err := s.Application(ctx, key, a.ID)
		if diff := cmp.Diff(a, got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		got, err = s.ApplicationOf(ctx, key, a.Subject)
		if diff := cmp.Diff(a, got); diff != "" || err != nil {
			t.Errorf("by its key: %v %s", err, diff)
		}
	}
	wantFault(t, add(application("a4", 1)), fault.Conflict)

	stranger := tenant.Key{Org: "acme", App: "medevac"}
	_, err := s.Application(ctx, stranger, "a1")
	wantFault(t, err, fault.NotFound)
	_, err = s.ApplicationOf(ctx, stranger, first.Subject)
	wantFault(t, err, fault.NotFound)
	_, err = s.Applications(ctx, stranger, "", now, "", 10)
	wantFault(t, err, fault.NotFound)

	inTx(t, s, func(tx *store.Tx) error {
		return tx.SetApplicationSecret(ctx, key, "a3", []byte("other"), store.Precise(now.Add(time.Second)))
	})
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.SetApplicationSecret(ctx, stranger, "a3", []byte("other"), now) }), fault.NotFound)
	third.Secret, third.ProvedAt = []byte("other"), store.Precise(now.Add(time.Second))

	for id, standing := range map[string]enrollment.Standing{"a1": enrollment.Accepted, "a2": enrollment.Rejected} {
		var a enrollment.Application
		inTx(t, s, func(tx *store.Tx) (err error) {
			if a, err = tx.Application(ctx, key, id); err != nil {
				return err
			}
			decided := false
			if a, decided, err = a.Decide(standing, "ann", "why", store.Precise(now)); err != nil || !decided {
				return fmt.Errorf("%v %w", decided, err)
			}
			a.Serial = "serial of " + id
			return tx.DecideApplication(ctx, a)
		})
		wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.DecideApplication(ctx, a) }), fault.Conflict)
	}
	got, err := s.Application(ctx, key, "a1")
	first.Standing, first.DecidedBy, first.Note, first.DecidedAt, first.Serial = enrollment.Accepted, "ann", "why", store.Precise(now), "serial of a1"
	if diff := cmp.Diff(first, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}

	for _, tc := range []struct {
		standing enrollment.Standing
		at       time.Time
		after    string
		want     string
	}{
		{"", now, "", "[a1 a2 a3]"},
		{"", now, "a1", "[a2 a3]"},
		{enrollment.Waiting, now, "", "[a3]"},
		{enrollment.Waiting, now.Add(time.Hour), "", "[]"},
		{enrollment.Lapsed, now, "", "[]"},
		{enrollment.Lapsed, now.Add(time.Hour), "", "[a3]"},
		{enrollment.Accepted, now, "", "[a1]"},
		{enrollment.Rejected, now, "", "[a2]"},
	} {
		list, err := s.Applications(ctx, key, tc.standing, tc.at, tc.after, 10)
		ids := []string{}
		for _, a := range list {
			ids = append(ids, a.ID)
		}
		if err != nil || fmt.Sprint(ids) != tc.want {
			t.Errorf("%q at %s after %q: %v, want %s: %v", tc.standing, tc.at, tc.after, ids, tc.want, err)
		}
	}

	// One whose time is up makes room for another of its key, and is forgotten one day.
	again := application("a5", 3)
	again.CreatedAt, again.ExpiresAt = again.CreatedAt.Add(time.Hour), again.ExpiresAt.Add(time.Hour)
	if err := add(again); err != nil {
		t.Error(err)
	}
	if got, err := s.Application(ctx, key, "a3"); err != nil || got.Standing != enrollment.Lapsed {
		t.Errorf("%+v %v", got, err)
	}
	late := application("a6", 6)
	late.CreatedAt, late.ExpiresAt = late.CreatedAt.Add(32*24*time.Hour), late.ExpiresAt.Add(32*24*time.Hour)
	if err := add(late); err != nil {
		t.Error(err)
	}
	if list, err := s.Applications(ctx, key, "", now, "", 10); err != nil || len(list) != 1 {
		t.Errorf("%d are left: %v", len(list), err)
	}
}

// testApplicationRace has many apply at once: a key waits once, and no more wait than
// may.
func testApplicationRace(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	var in, twice, full atomic.Int64
	var wg sync.WaitGroup
	for i := range 3 * enrollment.MaxWaitingOfClaimant {
		a := application(fmt.Sprintf("a%02d", i), byte(i/2))
		wg.Go(func() {
			err := s.InTx(ctx, func(tx *store.Tx) error {
				if _, err := tx.LockLedger(ctx, key); err != nil {
					return err
				}
				return tx.AddApplication(ctx, a)
			})
			switch {
			case err == nil:
				in.Add(1)
			case errors.Is(err, fault.Conflict):
				twice.Add(1)
			case errors.Is(err, fault.Exhausted):
				full.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in.Load() != enrollment.MaxWaitingOfClaimant || in.Load()+twice.Load()+full.Load() != 3*enrollment.MaxWaitingOfClaimant {
		t.Errorf("%d wait, %d came twice, %d were too many", in.Load(), twice.Load(), full.Load())
	}
}

func testVouchers(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	other := tenant.Key{Org: "acme", App: "medevac"}
	addFormation(t, s, other)
	at := store.Precise(now)
	v := enrollment.Voucher{Provider: "idp", Claimant: "ann", Digest: "d1", VouchedAt: at, Session: at.Add(time.Hour)}
	for _, k := range []tenant.Key{key, other} {
		for _, subject := range []byte{1, 2} {
			inTx(t, s, func(tx *store.Tx) error {
				return tx.PutVoucher(ctx, enrollment.Vouched{Key: k, Subject: []byte{subject}, Voucher: v})
			})
		}
	}
	if got, gone, err := s.Voucher(ctx, key, []byte{9}); got.IsSet() || gone || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	v.Digest, v.RefreshAt = "d2", at.Add(2*time.Hour)
	inTx(t, s, func(tx *store.Tx) error {
		return tx.PutVoucher(ctx, enrollment.Vouched{Key: key, Subject: []byte{1}, Voucher: v})
	})
	got, gone, err := s.Voucher(ctx, key, []byte{1})
	if diff := cmp.Diff(v, got); diff != "" || gone || err != nil {
		t.Errorf("%v %v %s", gone, err, diff)
	}
	var all []string
	var after enrollment.Vouched
	for {
		page, err := s.VouchedFor(ctx, "acme", "idp", "ann", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, p := range page {
			all = append(all, fmt.Sprintf("%s %x", p.Key.App, []byte(p.Subject)))
		}
		after = page[len(page)-1]
	}
	if diff := cmp.Diff([]string{"logistics 01", "logistics 02", "medevac 01", "medevac 02"}, all); diff != "" {
		t.Error(diff)
	}
	if list, err := s.VouchedFor(ctx, "acme", "idp", "bob", enrollment.Vouched{}, 3); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}

	n := authority.Node{ID: "alpha", Subject: []byte{1}, Until: at.Add(time.Hour), ProvedAt: at}
	inTx(t, s, func(tx *store.Tx) error { return tx.BindNode(ctx, key, n) })
	prove := func(subject byte, at time.Time) error {
		return s.InTx(ctx, func(tx *store.Tx) error { return tx.ProveNode(ctx, key, "alpha", []byte{subject}, at) })
	}
	wantFault(t, prove(1, at), fault.Conflict)
	wantFault(t, prove(2, at.Add(time.Second)), fault.Conflict)
	if err := prove(1, at.Add(time.Second)); err != nil {
		t.Error(err)
	}
	wantFault(t, prove(1, at.Add(time.Second)), fault.Conflict)

	// The certificate that counts is the newest under the key's node id.
	_, err = s.NewestOf(ctx, key, []byte{1})
	wantFault(t, err, fault.NotFound)
	for i, node := range []string{"alpha", "alpha", "once"} {
		inTx(t, s, func(tx *store.Tx) error {
			return tx.AddCertificate(ctx, authority.Certificate{
				Key: key, Number: uint64(i + 1), Serial: fmt.Sprint(i), Subject: []byte{1}, NodeID: node, Encoded: []byte{1}, IssuedAt: at, ExpiresAt: at.Add(time.Hour), Authority: "genesis",
			})
		})
	}
	if c, err := s.NewestOf(ctx, key, []byte{1}); err != nil || c.Number != 2 {
		t.Errorf("%+v %v", c, err)
	}
	_, err = s.NewestOf(ctx, key, []byte{2})
	wantFault(t, err, fault.NotFound)
}

func testOffboarding(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	at := store.Precise(now)
	o := enrollment.Offboarding{Provider: "idp", Claimant: "ann", At: at, By: "bob", Reason: "left"}
	inTx(t, s, func(tx *store.Tx) error {
		return tx.PutVoucher(ctx, enrollment.Vouched{Key: key, Subject: []byte{1}, Voucher: enrollment.Voucher{Provider: "idp", Claimant: "ann"}})
	})
	for _, reason := range []string{"left", "later"} {
		inTx(t, s, func(tx *store.Tx) error {
			again := o
			again.Reason = reason
			return tx.Offboard(ctx, "acme", again)
		})
	}
	inTx(t, s, func(tx *store.Tx) error {
		return tx.Offboard(ctx, "acme", enrollment.Offboarding{Provider: "idp", Claimant: "bea", At: at})
	})
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.Offboard(ctx, "nobody", o) }), fault.NotFound)
	for claimant, want := range map[string]bool{"ann": true, "bob": false} {
		if got, err := s.Offboarded(ctx, "acme", "idp", claimant); got != want || err != nil {
			t.Errorf("%s: %v %v", claimant, got, err)
		}
	}
	if _, gone, err := s.Voucher(ctx, key, []byte{1}); !gone || err != nil {
		t.Errorf("%v %v", gone, err)
	}
	list, err := s.Offboardings(ctx, "acme", enrollment.Offboarding{}, 1)
	if diff := cmp.Diff([]enrollment.Offboarding{o}, list); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if list, err := s.Offboardings(ctx, "acme", o, 9); err != nil || len(list) != 1 || list[0].Claimant != "bea" {
		t.Errorf("%v %v", list, err)
	}
	_, err = s.Offboardings(ctx, "nobody", o, 9)
	wantFault(t, err, fault.NotFound)
	inTx(t, s, func(tx *store.Tx) error { return tx.Reinstate(ctx, "acme", "idp", "ann") })
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.Reinstate(ctx, "acme", "idp", "ann") }), fault.NotFound)
}
