package store_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// certificateContract is what the store promises of certificates and who signs them.
var certificateContract = map[string]func(*testing.T, *store.Store){
	"authorities":      testAuthorities,
	"who signs":        testSigner,
	"many at once":     testIssuing,
	"many are judged":  testStandings,
	"many are counted": testTakeEnrollments,
	"a ledger":         testLedger,
	"certificates":     testCertificates,
	"revocation":       testRevocation,
	"revocation lists": testRevocationLists,
}

func TestCertificates(t *testing.T) {
	for name, test := range certificateContract {
		t.Run("sqlite/"+name, func(t *testing.T) {
			t.Parallel()
			run(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"), test)
		})
		t.Run("postgres/"+name, func(t *testing.T) {
			t.Parallel()
			run(t, testenv.Postgres(t), test)
		})
	}
}

// enroll gives n nodes a certificate each, signed by the authority of the genesis.
func enroll(t *testing.T, s *store.Store, n int) []authority.Certificate {
	t.Helper()
	addOrg(t, s, key.Org)
	addFormation(t, s, key)
	var out []authority.Certificate
	inTx(t, s, func(tx *store.Tx) error {
		out = nil
		l, err := tx.LockLedger(t.Context(), key)
		if err != nil {
			return err
		}
		for i := range n {
			c := authority.Certificate{Key: key, Number: l.Issued + 1, Serial: fmt.Sprint("s", i), Subject: []byte{byte(i)}, NodeID: fmt.Sprint("n", i), Tier: 1, Permissions: 3,
				IssuedAt: store.Precise(now), ExpiresAt: store.Precise(now.Add(time.Hour)), RenewAfter: store.Precise(now.Add(time.Minute)), Authority: authority.GenesisID, Encoded: []byte{1}, By: "me"}
			if err := tx.BindNode(t.Context(), key, authority.Node{ID: c.NodeID, Subject: c.Subject, Until: c.ExpiresAt, ProvedAt: store.Precise(now)}); err != nil {
				return err
			}
			if err := tx.AddCertificate(t.Context(), c); err != nil {
				return err
			}
			l.Issued, l.Nodes = l.Issued+1, l.Nodes+1
			out = append(out, c)
		}
		return tx.SetLedger(t.Context(), key, l)
	})
	return out
}

func testAuthorities(t *testing.T, s *store.Store) {
	ctx := t.Context()
	_, err := s.Authorities(ctx, key)
	wantFault(t, err, fault.NotFound)
	_, err = s.ActiveAuthority(ctx, key)
	wantFault(t, err, fault.NotFound)
	enroll(t, s, 2)
	next := authority.Authority{Key: key, ID: "a2", PublicKey: []byte{9}, State: authority.Next, Sealed: []byte("sealed"), CreatedAt: store.Precise(now.Add(time.Hour))}
	inTx(t, s, func(tx *store.Tx) error { return tx.AddAuthority(ctx, next) })
	other := next
	other.ID, other.PublicKey = "a3", []byte{8}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.AddAuthority(ctx, other) }), fault.Conflict)

	genesis, err := s.ActiveAuthority(ctx, key)
	if err != nil || genesis.ID != authority.GenesisID {
		t.Fatal(genesis, err)
	}
	genesis.State, genesis.ReplacedAt = authority.Retiring, store.Precise(now)
	next.State, next.ActivatedAt = authority.Active, store.Precise(now)
	inTx(t, s, func(tx *store.Tx) error {
		if err := tx.SetAuthority(ctx, genesis); err != nil {
			return err
		}
		return tx.SetAuthority(ctx, next)
	})
	all, err := s.Authorities(ctx, key)
	if diff := cmp.Diff([]authority.Authority{next, genesis}, all); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if f, err := s.Formation(ctx, key); err != nil || f.AuthorityPublicKey[0] != 9 {
		t.Errorf("the formation shows %v, %v", f.AuthorityPublicKey, err)
	}
	hanging, err := s.Hanging(ctx, key, now)
	if diff := cmp.Diff(map[string]int{authority.GenesisID: 2}, hanging); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func testLedger(t *testing.T, s *store.Store) {
	ctx := t.Context()
	_, err := s.Ledger(ctx, key)
	wantFault(t, err, fault.NotFound)
	_, err = s.Certificates(ctx, key, authority.Filter{}, now, store.After{}, 10)
	wantFault(t, err, fault.NotFound)
	enroll(t, s, 3)
	l, err := s.Ledger(ctx, key)
	if diff := cmp.Diff(authority.Ledger{Issued: 3, Nodes: 3}, l); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.FreeNode(ctx, key, "n0") })
	var freed int
	inTx(t, s, func(tx *store.Tx) (err error) {
		freed, err = tx.FreeExpiredNodes(ctx, key, now.Add(2*time.Hour), now.Add(time.Hour))
		return err
	})
	if freed != 2 {
		t.Errorf("%d node ids were freed", freed)
	}
}

func testCertificates(t *testing.T, s *store.Store) {
	ctx := t.Context()
	made := enroll(t, s, 3)
	inTx(t, s, func(tx *store.Tx) error {
		a, err := tx.Admission(ctx, key, authority.GenesisID, "n1", []byte{1})
		if err == nil && (a.Signer != authority.Active || a.Node == nil || a.Other != nil || a.Revoked) {
			t.Errorf("%+v", a)
		}
		return err
	})
	inTx(t, s, func(tx *store.Tx) error { return tx.ReplaceCertificate(ctx, key, "s0", "s1") })
	made[0].ReplacedBy = "s1"
	got, err := s.Certificate(ctx, key, "s0")
	if diff := cmp.Diff(made[0], got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	list, err := s.CertificatesOfNode(ctx, key, "n2", []byte{2}, 10)
	if diff := cmp.Diff(made[2:], list); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for name, c := range map[string]struct {
		filter authority.Filter
		after  store.After
		want   []string
	}{
		"all":           {authority.Filter{}, store.After{}, []string{"s2", "s1", "s0"}},
		"the next page": {authority.Filter{}, store.After{Number: 2}, []string{"s0"}},
		"good ones":     {authority.Filter{Standing: authority.Good}, store.After{}, []string{"s2", "s1", "s0"}},
		"a node's":      {authority.Filter{NodeID: "n1"}, store.After{}, []string{"s1"}},
		"by expiry":     {authority.Filter{ExpiringBefore: now.Add(2 * time.Hour)}, store.After{}, []string{"s0", "s1", "s2"}},
		"revoked ones":  {authority.Filter{Standing: authority.Revoked}, store.After{}, nil},
	} {
		list, err := s.Certificates(ctx, key, c.filter, now, c.after, 10)
		var serials []string
		for _, c := range list {
			serials = append(serials, c.Serial)
		}
		if diff := cmp.Diff(c.want, serials); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func testRevocation(t *testing.T, s *store.Store) {
	ctx := t.Context()
	enroll(t, s, 3)
	revoke := func(do func(tx *store.Tx) (int, error), want int) {
		t.Helper()
		var n int
		inTx(t, s, func(tx *store.Tx) (err error) { n, err = do(tx); return err })
		if n != want {
			t.Errorf("%d were revoked, want %d", n, want)
		}
	}
	revoke(func(tx *store.Tx) (int, error) {
		return tx.RevokeKey(ctx, key, "n0", []byte{0}, store.Precise(now), "me", "lost")
	}, 1)
	gone, err := s.RevokedCertificates(ctx, key, now, 10)
	if err != nil || len(gone) != 1 || gone[0].Serial != "s0" || gone[0].Reason != "lost" {
		t.Errorf("%+v %v", gone, err)
	}
	revoke(func(tx *store.Tx) (int, error) {
		return tx.RevokeSigned(ctx, key, "another", store.Precise(now), "me", "all of it")
	}, 0)
	revoke(func(tx *store.Tx) (int, error) {
		return tx.RevokeAllCertificates(ctx, key, store.Precise(now), "me", "all of it")
	}, 2)
	if l, err := s.Ledger(ctx, key); err != nil || l.Nodes != 0 || l.Revision != 3 {
		t.Errorf("%+v %v", l, err)
	}
}

func testRevocationLists(t *testing.T, s *store.Store) {
	ctx := t.Context()
	enroll(t, s, 0)
	if l, err := s.RevocationList(ctx, key); err != nil || l.Version != 0 {
		t.Errorf("%+v %v", l, err)
	}
	list := authority.List{Version: 1, Revision: 1, Authority: authority.GenesisID, MadeAt: store.Precise(now), Encoded: []byte("list")}
	inTx(t, s, func(tx *store.Tx) error { return tx.PutRevocationList(ctx, key, list) })
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.PutRevocationList(ctx, key, list) }), fault.Conflict)
	list.Version = 2
	inTx(t, s, func(tx *store.Tx) error { return tx.PutRevocationList(ctx, key, list) })
	got, err := s.RevocationList(ctx, key)
	if diff := cmp.Diff(list, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
