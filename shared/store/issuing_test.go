package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// testIssuing keeps certificates of one organization together, few and many, and
// finds what each of them by itself would have left.
func testIssuing(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, key.Org)
	addFormation(t, s, key)
	for _, n := range []int{1, 2, 37} { // more than one statement takes
		before, err := s.Ledger(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		var want []authority.Certificate
		inTx(t, s, func(tx *store.Tx) error {
			want = nil
			in, err := tx.LockIssuing(ctx, key)
			if err != nil || in.Authority != authority.GenesisID || in.Formation.State != tenant.Active || in.Ledger != before {
				t.Fatalf("%+v, %v", in, err)
			}
			var b store.Batch
			for i := range n {
				in.Ledger.Issued, in.Ledger.Nodes = in.Ledger.Issued+1, in.Ledger.Nodes+1
				c := authority.Certificate{Key: key, Number: in.Ledger.Issued, Serial: fmt.Sprint("s", n, ".", i), Subject: []byte(fmt.Sprint(n, ".", i)), NodeID: fmt.Sprint("n", n, ".", i),
					IssuedAt: store.Precise(now), ExpiresAt: store.Precise(now.Add(time.Hour)), RenewAfter: store.Precise(now.Add(time.Minute)),
					Authority: authority.GenesisID, Encoded: []byte{1}, By: "me", Rule: "administrator"}
				b.Add(c, authority.Node{ID: c.NodeID, Subject: c.Subject, Until: c.ExpiresAt, ProvedAt: store.Precise(now)},
					audit.Act{Org: key.Org, At: store.Precise(now), Actor: "me", Action: "certificate.issue", Target: c.Serial, Detail: map[string]any{"token": "x"}},
					event.Certificate(event.CertificateIssuedType, event.CertificateData{Org: key.Org, App: key.App, Serial: c.Serial}, now))
				want = append([]authority.Certificate{c}, want...)
			}
			for _, err := range []error{tx.BindNodes(ctx, key.Org, b), tx.AddCertificates(ctx, key.Org, b), tx.AppendAudits(ctx, key.Org, b), tx.EnqueueAll(ctx, b)} {
				if err != nil {
					return err
				}
			}
			return tx.SetLedger(ctx, key, in.Ledger)
		})
		got, err := s.Certificates(ctx, key, authority.Filter{}, now, store.After{}, n)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		inTx(t, s, func(tx *store.Tx) error {
			for _, c := range got {
				a, err := tx.Admission(ctx, key, c.Authority, c.NodeID, c.Subject)
				if err != nil || a.Node == nil || a.Other != nil {
					t.Errorf("%s: %+v, %v", c.Serial, a, err)
				}
			}
			return nil
		})
	}
	trail, err := s.AuditTrail(ctx, key.Org, 100)
	if err != nil || len(trail) != 40 {
		t.Errorf("%d entries, %v", len(trail), err)
	}
	for _, a := range trail {
		if a.Detail["token"] == "x" {
			t.Error("a secret is in the audit trail")
		}
	}
	if waiting, err := s.Outbox(ctx, 100); err != nil || len(waiting) != 40 {
		t.Errorf("%d events, %v", len(waiting), err)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error {
		_, err := tx.LockIssuing(ctx, tenant.Key{Org: key.Org, App: "nothing"})
		return err
	}), fault.NotFound)
}

// testStandings tells of many applicants what Admission tells of each.
func testStandings(t *testing.T, s *store.Store) {
	ctx := t.Context()
	all := enroll(t, s, 3)
	inTx(t, s, func(tx *store.Tx) error {
		_, err := tx.RevokeKey(ctx, key, all[2].NodeID, all[2].Subject, now, "me", "lost")
		return err
	})
	node := func(c authority.Certificate) *authority.Node {
		return &authority.Node{ID: c.NodeID, Subject: c.Subject, Until: c.ExpiresAt, ProvedAt: store.Precise(now)}
	}
	applicants := []store.Applicant{
		{App: key.App, Node: "new", Subject: []byte("new")},
		{App: key.App, Node: all[0].NodeID, Subject: all[0].Subject},
		{App: key.App, Node: all[0].NodeID, Subject: all[1].Subject},
		{App: key.App, Node: "new", Subject: all[1].Subject},
		{App: key.App, Node: all[2].NodeID, Subject: all[2].Subject},
		{App: "another", Node: all[0].NodeID, Subject: all[0].Subject},
	}
	want := []store.Standing{{}, {Node: node(all[0])}, {Node: node(all[0]), Other: true}, {Other: true}, {Revoked: true}, {}}
	for len(applicants) < 40 { // more than one statement takes
		applicants, want = append(applicants, applicants[:6]...), append(want, want[:6]...)
	}
	for _, n := range []int{0, 1, 2, 6, len(want)} {
		inTx(t, s, func(tx *store.Tx) error {
			got, err := tx.Standings(ctx, key.Org, applicants[:n])
			if diff := cmp.Diff(want[:n], got); diff != "" {
				t.Errorf("%d: %s", n, diff)
			}
			return err
		})
	}
	inTx(t, s, func(tx *store.Tx) error {
		for i, a := range applicants[:5] {
			single, err := tx.Admission(ctx, key, authority.GenesisID, a.Node, a.Subject)
			if diff := cmp.Diff(want[i], store.Standing{Node: single.Node, Other: single.Other != nil, Revoked: single.Revoked}); diff != "" || err != nil {
				t.Errorf("%d alone: %v %s", i, err, diff)
			}
		}
		for i := range applicants[:5] { // each is a statement of its own, and reached as such
			got, err := tx.Standings(ctx, key.Org, applicants[i:i+1])
			if diff := cmp.Diff(want[i:i+1], got); diff != "" || err != nil {
				t.Errorf("%d: %v %s", i, err, diff)
			}
		}
		return nil
	})
}

// testTakeEnrollments takes all or nothing, together with those that are taken one by one.
func testTakeEnrollments(t *testing.T, s *store.Store) {
	o := addOrg(t, s, "acme")
	o.Quotas.MaxEnrollmentsPerHour = 10
	inTx(t, s, func(tx *store.Tx) error { return tx.UpdateOrg(t.Context(), o) })
	at := now
	for _, step := range []struct {
		later time.Duration
		n     int
		want  bool
	}{{0, 4, true}, {0, 3, true}, {0, 4, false}, {time.Minute, 4, false}, {0, 3, true}, {0, 1, false}, {59 * time.Minute, 8, false}, {0, 7, true}, {time.Minute, 3, true}} {
		at = at.Add(step.later)
		inTx(t, s, func(tx *store.Tx) error {
			locked, err := tx.LockOrg(t.Context(), "acme")
			if err != nil {
				return err
			}
			got, err := tx.TakeEnrollments(t.Context(), locked, at, step.n)
			if got != step.want {
				t.Errorf("%s, %d: %v", at, step.n, got)
			}
			return err
		})
	}
	wantFault(t, s.InTx(t.Context(), func(tx *store.Tx) error { return tx.TakeEnrollment(t.Context(), "acme", at) }), fault.Exhausted)
}

// testSigner is with the authority of the genesis, with another, and for nobody.
func testSigner(t *testing.T, s *store.Store) {
	ctx := t.Context()
	_, err := s.Signer(ctx, key)
	wantFault(t, err, fault.NotFound)
	addOrg(t, s, key.Org)
	f := addFormation(t, s, key)
	inTx(t, s, func(tx *store.Tx) error { return tx.PutGenesis(ctx, key, []byte("sealed genesis")) })
	check := func(id string, root keyring.Root) {
		t.Helper()
		got, err := s.Signer(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if got.Authority.ID != id || got.Authority.State != authority.Active {
			t.Errorf("%+v", got.Authority)
		}
		if diff := cmp.Diff(root, got.Root); diff != "" {
			t.Error(diff)
		}
		if got.Formation.MeshID != f.MeshID || got.Formation.State != f.State || got.Formation.Policy != f.Policy {
			t.Errorf("%+v", got.Formation)
		}
		same, err := s.Root(ctx, key)
		if diff := cmp.Diff(same, got.Root); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
	}
	check(authority.GenesisID, keyring.Root{Record: keyring.OfGenesis(key), Sealed: []byte("sealed genesis"), PublicKey: f.AuthorityPublicKey})
	inTx(t, s, func(tx *store.Tx) error {
		old, err := tx.ActiveAuthority(ctx, key)
		if err != nil {
			return err
		}
		old.State = authority.Retiring
		if err := tx.SetAuthority(ctx, old); err != nil {
			return err
		}
		next := authority.Authority{Key: key, ID: "a2", PublicKey: []byte{9}, State: authority.Next, Sealed: []byte("sealed"), CreatedAt: store.Precise(now)}
		if err := tx.AddAuthority(ctx, next); err != nil {
			return err
		}
		next.State = authority.Active
		return tx.SetAuthority(ctx, next)
	})
	check("a2", keyring.Root{Record: keyring.OfAuthority(key, "a2"), Sealed: []byte("sealed"), PublicKey: []byte{9}})
}
