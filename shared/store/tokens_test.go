package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func serviceToken(id string, formations ...string) access.ServiceToken {
	return access.ServiceToken{Org: "acme", ID: id, Label: "builds", Hash: []byte("hash of " + id), Role: "viewer", Formations: formations,
		CreatedAt: store.Precise(now), CreatedBy: "ann", ExpiresAt: store.Precise(now.Add(time.Hour))}
}

func testServiceTokens(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	addFormation(t, s, key)
	addFormation(t, s, tenant.Key{Org: "acme", App: "medevac"})
	every := serviceToken("t1", "*")
	every.Scopes = []access.Scope{"documents:read", "sinks:write"}
	some := serviceToken("t2", "logistics", "medevac")
	for _, tok := range []access.ServiceToken{every, some} {
		inTx(t, s, func(tx *store.Tx) error { return tx.CreateServiceToken(ctx, tok) })
	}
	for _, want := range []access.ServiceToken{every, some} {
		got, err := s.ServiceTokenByHash(ctx, want.Hash)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("by its hash: %v %s", err, diff)
		}
		got, err = s.ServiceToken(ctx, "acme", want.ID)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("by its id: %v %s", err, diff)
		}
		_, err = s.ServiceToken(ctx, "rival", want.ID)
		wantFault(t, err, fault.NotFound)
	}
	list, err := s.ServiceTokens(ctx, "acme", "t1", 10)
	if diff := cmp.Diff([]access.ServiceToken{some}, list); diff != "" || err != nil {
		t.Errorf("the list: %v %s", err, diff)
	}
	if list, err := s.ServiceTokens(ctx, "rival", "", 10); len(list) != 0 || err != nil {
		t.Errorf("another's list: %v %v", list, err)
	}
	_, err = s.ServiceTokens(ctx, "nobody", "", 10)
	wantFault(t, err, fault.NotFound)
	_, err = s.ServiceTokenByHash(ctx, []byte("no such hash"))
	wantFault(t, err, fault.NotFound)

	err = s.InTx(ctx, func(tx *store.Tx) error {
		return tx.CreateServiceToken(ctx, serviceToken("t3", "logistics", "nowhere"))
	})
	if f := fault.Of(err); !errors.Is(err, fault.Invalid) || f.Fields[0].Pointer != "/formations/1" {
		t.Errorf("for a formation that is not there: %v", err)
	}
	homeless := serviceToken("t3", "*")
	homeless.Org = "nobody"
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateServiceToken(ctx, homeless) }), fault.NotFound)

	// Its end: noted once.
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.RevokeServiceToken(ctx, "rival", "t1", now) }), fault.NotFound)
	for i := range 2 {
		inTx(t, s, func(tx *store.Tx) error {
			return tx.RevokeServiceToken(ctx, "acme", "t1", now.Add(time.Duration(i+1)*time.Minute))
		})
	}
	if got, err := s.ServiceToken(ctx, "acme", "t1"); err != nil || !got.RevokedAt.Equal(now.Add(time.Minute)) {
		t.Errorf("revoked at %v, %v", got.RevokedAt, err)
	}

	// Its use: noted once in a while.
	for _, step := range []struct{ since, now, want time.Duration }{{-10, 0, 0}, {-5, 5, 0}, {3, 13, 13}} {
		if err := s.SeeServiceToken(ctx, "acme", "t2", now.Add(step.since*time.Minute), now.Add(step.now*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.ServiceToken(ctx, "acme", "t2"); err != nil || !got.LastUsedAt.Equal(now.Add(step.want*time.Minute)) {
			t.Errorf("at %d: last used at %v, %v", step.now, got.LastUsedAt, err)
		}
	}

	// What can be used is counted, and what cannot goes in time.
	count := func(at time.Time, want int) {
		t.Helper()
		if n, err := s.CountTokens(ctx, "acme", at); n != want || err != nil {
			t.Errorf("%d tokens, %v; want %d", n, err, want)
		}
	}
	count(now, 1)
	count(now.Add(time.Hour), 0)
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteDeadServiceTokens(ctx, "acme", now.Add(2*time.Minute)) })
	if list, err := s.ServiceTokens(ctx, "acme", "", 10); len(list) != 1 || list[0].ID != "t2" || err != nil {
		t.Errorf("left are %v, %v", list, err)
	}

	// A formation takes with it what is for it, and made anew it gets nothing back.
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	addFormation(t, s, key)
	if got, err := s.ServiceToken(ctx, "acme", "t2"); err != nil || got.Covers("logistics") || !got.Covers("medevac") {
		t.Errorf("it is for %v, %v", got.Formations, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, tenant.Key{Org: "acme", App: "medevac"}) })
	if got, err := s.ServiceToken(ctx, "acme", "t2"); err != nil || got.EveryFormation() || len(got.Formations) != 0 {
		t.Errorf("for nothing any more, it is for %v, %v", got.Formations, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "acme") })
	_, err = s.ServiceTokenByHash(ctx, some.Hash)
	wantFault(t, err, fault.NotFound)
}

func enrollmentToken(id string, uses int) enrollment.Token {
	return enrollment.Token{Org: key.Org, App: key.App, ID: id, Label: "trucks", Hash: []byte("hash of " + id), MaxUses: uses,
		Grant:     enrollment.Grant{Tier: cert.Tactical, Permissions: cert.Standard},
		CreatedAt: store.Precise(now), CreatedBy: "ann", ExpiresAt: store.Precise(now.Add(time.Hour))}
}

func addEnrollmentToken(t *testing.T, s *store.Store, tok enrollment.Token) {
	t.Helper()
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateEnrollmentToken(t.Context(), tok) })
}

func use(ctx context.Context, s *store.Store, key tenant.Key, at time.Time, hashes ...[]byte) (tok enrollment.Token, err error) {
	err = s.InTx(ctx, func(tx *store.Tx) error {
		tok, err = tx.UseEnrollmentToken(ctx, key, hashes, at)
		return err
	})
	return tok, err
}

func testEnrollmentTokens(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	medevac := tenant.Key{Org: "acme", App: "medevac"}
	addFormation(t, s, medevac)
	tok := enrollmentToken("t1", 2)
	addEnrollmentToken(t, s, tok)
	addEnrollmentToken(t, s, enrollmentToken("t2", 1))

	if got, err := s.EnrollmentToken(ctx, key, "t1"); err != nil || !cmp.Equal(tok, got) {
		t.Errorf("%v %s", err, cmp.Diff(tok, got))
	}
	_, err := s.EnrollmentToken(ctx, medevac, "t1")
	wantFault(t, err, fault.NotFound)
	// By hash it is found as it stands, and only in its own formation.
	if got, err := s.FindEnrollmentToken(ctx, key, [][]byte{[]byte("newer"), tok.Hash}); err != nil || !cmp.Equal(tok, got) {
		t.Errorf("%v %s", err, cmp.Diff(tok, got))
	}
	for _, elsewhere := range []tenant.Key{medevac, {Org: "rival", App: key.App}} {
		_, err = s.FindEnrollmentToken(ctx, elsewhere, [][]byte{tok.Hash})
		wantFault(t, err, fault.Unauthenticated)
	}
	_, err = s.FindEnrollmentToken(ctx, key, [][]byte{[]byte("nobody's")})
	wantFault(t, err, fault.Unauthenticated)
	if list, err := s.EnrollmentTokens(ctx, key, "t1", 10); len(list) != 1 || list[0].ID != "t2" || err != nil {
		t.Errorf("the list: %v %v", list, err)
	}
	if list, err := s.EnrollmentTokens(ctx, medevac, "", 10); len(list) != 0 || err != nil {
		t.Errorf("another's list: %v %v", list, err)
	}
	_, err = s.EnrollmentTokens(ctx, tenant.Key{Org: "acme", App: "nowhere"}, "", 10)
	wantFault(t, err, fault.NotFound)
	homeless := enrollmentToken("t9", 1)
	homeless.App = "nowhere"
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateEnrollmentToken(ctx, homeless) }), fault.NotFound)
	if n, err := s.CountTokens(ctx, "acme", now); n != 2 || err != nil {
		t.Errorf("%d tokens, %v", n, err)
	}

	// A use that came to nothing is none.
	failed := errors.New("no certificate after all")
	if err := s.InTx(ctx, func(tx *store.Tx) error {
		if _, err := tx.UseEnrollmentToken(ctx, key, [][]byte{tok.Hash}, now); err != nil {
			return err
		}
		return failed
	}); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	got, err := use(ctx, s, key, now.Add(time.Minute), []byte("under a newer key"), tok.Hash)
	tok.Uses, tok.UsedAt = 1, store.Precise(now.Add(time.Minute))
	if diff := cmp.Diff(tok, got); diff != "" || err != nil {
		t.Errorf("the first use: %v %s", err, diff)
	}

	for name, tc := range map[string]struct {
		key  tenant.Key
		hash []byte
		at   time.Time
		says string
	}{
		"never there":            {key, []byte("no such hash"), now, "the enrollment token is not known"},
		"of another formation":   {medevac, tok.Hash, now, "the enrollment token is not known"},
		"of another's formation": {tenant.Key{Org: "rival", App: key.App}, tok.Hash, now, "the enrollment token is not known"},
		"at its last moment":     {key, tok.Hash, tok.ExpiresAt, "the enrollment token has expired"},
	} {
		if _, err := use(ctx, s, tc.key, tc.at, tc.hash); !errors.Is(err, fault.Unauthenticated) || err.Error() != tc.says {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := use(ctx, s, key, now, tok.Hash); err != nil {
		t.Errorf("the last use: %v", err)
	}
	if _, err := use(ctx, s, key, now, tok.Hash); !errors.Is(err, fault.Unauthenticated) || err.Error() != "the enrollment token is used up" {
		t.Errorf("one use too many: %v", err)
	}
	for _, reason := range []string{"lost", "again"} {
		inTx(t, s, func(tx *store.Tx) error { return tx.RevokeEnrollmentToken(ctx, key, "t2", reason, now) })
	}
	if _, err := use(ctx, s, key, now, []byte("hash of t2")); !errors.Is(err, fault.Unauthenticated) || err.Error() != "the enrollment token was revoked" {
		t.Errorf("revoked: %v", err)
	}
	if got, err := s.EnrollmentToken(ctx, key, "t2"); err != nil || got.Reason != "lost" || got.Uses != 0 {
		t.Errorf("%+v %v", got, err)
	}
	if n, err := s.CountTokens(ctx, "acme", now); n != 0 || err != nil {
		t.Errorf("%d tokens, %v", n, err)
	}
	for _, act := range []func(tx *store.Tx) error{
		func(tx *store.Tx) error { return tx.RevokeEnrollmentToken(ctx, medevac, "t2", "", now) },
		func(tx *store.Tx) error { return tx.DeleteEnrollmentToken(ctx, medevac, "t2") },
	} {
		wantFault(t, s.InTx(ctx, act), fault.NotFound)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteEnrollmentToken(ctx, key, "t2") })
	_, err = s.EnrollmentToken(ctx, key, "t2")
	wantFault(t, err, fault.NotFound)

	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	addFormation(t, s, key)
	if _, err := use(ctx, s, key, now, tok.Hash); err == nil || err.Error() != "the enrollment token is not known" {
		t.Errorf("a formation made anew: %v", err)
	}
}

func testTokenRace(t *testing.T, s *store.Store) { tokenRace(t, s) }

// tokenRace lets 64 use a token of ten uses at once, over these stores of one database.
func tokenRace(t *testing.T, stores ...*store.Store) {
	s := stores[0]
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	tok := enrollmentToken("t1", 10)
	addEnrollmentToken(t, s, tok)
	var won, lost atomic.Int32
	var mu sync.Mutex
	numbers := map[int]bool{}
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range 64 {
		s := stores[i%len(stores)]
		all.Go(func() {
			<-begin
			got, err := use(t.Context(), s, key, now, tok.Hash)
			switch {
			case err == nil:
				won.Add(1)
				mu.Lock()
				numbers[got.Uses] = true
				mu.Unlock()
			case errors.Is(err, fault.Unauthenticated) && err.Error() == "the enrollment token is used up":
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	close(begin)
	all.Wait()
	if won.Load() != 10 || lost.Load() != 54 || len(numbers) != 10 {
		t.Errorf("%d got in, as the %v; %d did not", won.Load(), numbers, lost.Load())
	}
	if got, err := s.EnrollmentToken(t.Context(), key, "t1"); err != nil || got.Uses != 10 {
		t.Errorf("%d uses are counted, %v", got.Uses, err)
	}
}

func TestTwoProcessesShareATokensUses(t *testing.T) {
	for name, url := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": func() string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			at := url()
			if at == "" {
				at = testenv.Postgres(t)
			}
			var stores []*store.Store
			for range 2 {
				s, err := store.Open(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
				stores = append(stores, s)
			}
			tokenRace(t, stores...)
		})
	}
}

func testRevokeAdmitted(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	tok := enrollmentToken("t1", 10)
	admitted := []string{tok.Rule(), tok.Rule(), "token:t2", ""}
	inTx(t, s, func(tx *store.Tx) error {
		if _, err := tx.LockLedger(ctx, key); err != nil {
			return err
		}
		for i, by := range admitted {
			subject := bytes.Repeat([]byte{byte(i)}, 32)
			if err := tx.AddCertificate(ctx, authority.Certificate{Key: key, Number: uint64(i + 1), Serial: fmt.Sprint(i), Subject: subject,
				NodeID: fmt.Sprint("n", i), Encoded: []byte{1}, IssuedAt: now, ExpiresAt: now.Add(time.Hour), Authority: "genesis", AdmittedBy: by}); err != nil {
				return err
			}
		}
		return nil
	})
	inTx(t, s, func(tx *store.Tx) error {
		n, err := tx.RevokeAdmitted(ctx, key, tok.Rule(), now.Add(time.Minute), "ann", "lost")
		if n != 2 {
			t.Errorf("%d were revoked", n)
		}
		return err
	})
	for i, by := range admitted {
		c, err := s.Certificate(ctx, key, fmt.Sprint(i))
		if err != nil || (c.Standing(now.Add(2*time.Minute)) == authority.Revoked) != (by == tok.Rule()) {
			t.Errorf("admitted by %q, it is %s, %v", by, c.Standing(now.Add(2*time.Minute)), err)
		}
	}
}

// testTokensOfALargeFormation: of one that is removed piece by piece the tokens go at
// once, and none is made for what is left.
func testTokensOfALargeFormation(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	large(t, s, key)
	addEnrollmentToken(t, s, enrollmentToken("t1", 10))
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateServiceToken(ctx, serviceToken("s1", string(key.App))) })
	if n, err := s.CountTokens(ctx, "acme", now); err != nil || n != 2 {
		t.Errorf("%d tokens, %v", n, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	if n, err := s.CountTokens(ctx, "acme", now); err != nil || n != 1 {
		t.Errorf("%d tokens, %v", n, err)
	}
	if _, err := use(ctx, s, key, now, []byte("hash of t1")); err == nil || err.Error() != "the enrollment token is not known" {
		t.Errorf("its token: %v", err)
	}
	if got, err := s.ServiceToken(ctx, "acme", "s1"); err != nil || got.Covers(key.App) {
		t.Errorf("a token for it is for %v, %v", got.Formations, err)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateEnrollmentToken(ctx, enrollmentToken("t2", 1)) }), fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateServiceToken(ctx, serviceToken("s2", string(key.App))) }), fault.Invalid)
}
