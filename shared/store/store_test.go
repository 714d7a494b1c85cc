package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// contract is what the store promises, on every engine.
var contract = map[string]func(*testing.T, *store.Store){
	"organizations":                     testOrgs,
	"formations":                        testFormations,
	"a transaction is whole or nothing": testRollback,
	"the log is numbered without gaps":  testLog,
	"what an author writes is kept":     testHostileText,
	"concurrent appends":                testConcurrentAppends,
	"leases fence":                      testLeases,
	"leases are taken once":             testLeaseRace,
	"tickets":                           testTickets,
	"sinks and cursors":                 testSinks,
	"dead letters":                      testDeadLetters,
	"dead letters are found":            testDeadLettersAreFound,
	"lag":                               testLag,
	"lag in bytes":                      testLagBytes,
	"traces":                            testTraces,
	"a formation made anew is behind":   testBehindAnew,
	"outbox":                            testOutbox,
	"audit outlives the organization":   testAudit,
	"audit is chained":                  testAuditChain,
	"audit is chained by many at once":  testAuditRace,
	"audit heads":                       testAuditHeads,
	"audit is searched":                 testAuditSearch,
	"audit is heard":                    testAuditIsHeard,
	"audit goes to sinks":               testAuditCursors,
	"signing keys":                      testSigningKeys,
	"identity providers":                testProviders,
	"keys of issuers":                   testIssuerKeys,
	"proofs are used once":              testUsedProofs,
	"a proof is used by one of many":    testProofRace,
	"service tokens":                    testServiceTokens,
	"enrollment tokens":                 testEnrollmentTokens,
	"logins":                            testLogins,
	"what comes once comes once":        testLoginOnceRace,
	"a token has no use too many":       testTokenRace,
	"policies":                          testPolicies,
	"decisions":                         testDecisions,
	"policies of a large formation":     testPoliciesOfALargeFormation,
	"what a token admitted is revoked":  testRevokeAdmitted,
	"tokens of a large formation":       testTokensOfALargeFormation,
	"challenges are answered once":      testChallenges,
	"nodes that wait":                   testApplications,
	"a key waits once":                  testApplicationRace,
	"who vouched for a key":             testVouchers,
	"who is offboarded":                 testOffboarding,
	"a claim is one sink's alone":       testClaims,
	"receipts":                          testReceipts,
	"omissions":                         testOmissions,
	"comparisons":                       testCompared,
	"a snapshot is of one moment":       testSnapshot,
	"replays":                           testReplays,
	"starts":                            testStarts,
	"a sink is changed":                 testUpdateSink,
	"attempts are bounded":              testAttempts,
	"a filter that is changed":          testOweAnew,
	"organizations do not see others":   testIsolation,
	"a destroyed formation leaves":      testDestroy,
	"an organization with remains":      testOrgWithRemains,
	"usage":                             testUsages,
	"one name is taken once":            testSameNameTwice,
	"enrollments are counted":           testEnrollmentQuota,
	"bytes are counted":                 testBytesQuota,
	"formations move":                   testMoves,
	"sealed records":                    testSealed,
	"keys of organizations":             testOrgKeys,
	"formations that do not open":       testShut,
	"runs of re-wrapping":               testRewrapRuns,
	"re-wrapping":                       testRewrap,
	"re-wrapping is taken up again":     testRewrapResumes,
	"re-wrapping while others write":    testRewrapYields,
	"re-wrapping while enrolling":       testRewrapDuringIssue,
}

func TestSQLite(t *testing.T) {
	for name, test := range contract {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, "sqlite:"+filepath.Join(t.TempDir(), "a ? strange #name%.db"), test)
		})
	}
}

func TestPostgres(t *testing.T) {
	for name, test := range contract {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, testenv.Postgres(t), test)
		})
	}
}

func run(t *testing.T, url string, test func(*testing.T, *store.Store)) {
	s, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	attack(t, s)
	test(t, s)
}

var (
	now = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	key = tenant.Key{Org: "acme", App: "logistics"}
)

func TestOpenRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, url := range []string{"", "mysql://x", "postgres://user:hush@[::1", "postgres://user:hush@127.0.0.1:1/x", "postgres://user:hush@host:port/x", "sqlite:/does/not/exist/x.db"} {
		_, err := store.Open(t.Context(), url)
		if err == nil {
			t.Errorf("Open(%q) succeeded", url)
		} else if strings.Contains(err.Error(), "hush") {
			t.Errorf("the password is in %q", err)
		}
	}
}

func TestOpenTwiceKeepsWhatIsThere(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	run(t, url, func(t *testing.T, s *store.Store) { addOrg(t, s, "acme") })
	run(t, url, func(t *testing.T, s *store.Store) {
		if _, err := s.Org(t.Context(), "acme"); err != nil {
			t.Error(err)
		}
	})
}

func inTx(t *testing.T, s *store.Store, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := s.InTx(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func wantFault(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
	}
}

func addOrg(t *testing.T, s *store.Store, id tenant.OrgID) tenant.Org {
	t.Helper()
	o := tenant.Org{ID: id, DisplayName: "The " + string(id), Quotas: tenant.DefaultQuotas(), CreatedAt: store.Precise(now), Revision: 1}
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateOrg(t.Context(), o) })
	return o
}

func addFormation(t *testing.T, s *store.Store, k tenant.Key) tenant.Formation {
	t.Helper()
	f := tenant.Formation{Org: k.Org, App: k.App, MeshID: "ABCD1234", Policy: tenant.Strict, State: tenant.Active,
		AuthorityPublicKey: []byte{1, 2, 3}, CreatedAt: store.Precise(now), Revision: 1}
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateFormation(t.Context(), f) })
	return f
}

func hash(s string) (h change.Hash) {
	copy(h[:], s)
	return h
}

// chain makes n changes of one document, each after the one before.
func chain(document string, from uint64, n int) []change.Settled {
	var out []change.Settled
	var prev *change.Hash
	if from > 1 {
		p := hash(fmt.Sprint(document, from-1))
		prev = &p
	}
	for i := range uint64(n) {
		h := hash(fmt.Sprint(document, from+i))
		c := change.Change{Hash: h, Actor: "aa", ActorSeq: from + i, StartOp: from + i, Time: -5, Message: "m",
			Raw: []byte{0, 1, 255}, Patches: []byte(`[{"action":"put"}]`)}
		if prev != nil {
			c.Deps = []change.Hash{*prev, hash("other")}
		}
		s := change.Follow(c, document, from+i, prev)
		s.ReceivedAt, s.Origin = store.Precise(now), change.Sync
		out = append(out, s)
		prev = &h
	}
	return out
}

func appendAll(t *testing.T, s *store.Store, k tenant.Key, batch []change.Settled) uint64 {
	t.Helper()
	var last uint64
	inTx(t, s, func(tx *store.Tx) (err error) {
		last, err = tx.AppendChanges(t.Context(), k, batch)
		return err
	})
	return last
}

func testOrgs(t *testing.T, s *store.Store) {
	ctx := t.Context()
	want := addOrg(t, s, "b")
	addOrg(t, s, "a")
	addOrg(t, s, "c")
	got, err := s.Org(ctx, "b")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Org: %v\n%s", err, diff)
	}
	page, err := s.Orgs(ctx, "a", 1)
	if err != nil || len(page) != 1 || page[0].ID != "b" {
		t.Errorf("Orgs after a: %v %v", page, err)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateOrg(ctx, want) }), fault.Conflict)
	want.DisplayName, want.Quotas.MaxFormations = "Other", 0
	inTx(t, s, func(tx *store.Tx) error { return tx.UpdateOrg(ctx, want) })
	if got, _ = s.Org(ctx, "b"); got.DisplayName != "Other" || got.Quotas.MaxFormations != 0 {
		t.Errorf("after update: %+v", got)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.UpdateOrg(ctx, tenant.Org{ID: "none"}) }), fault.NotFound)

	addFormation(t, s, tenant.Key{Org: "b", App: "x"})
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "b") }), fault.Conflict)
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, tenant.Key{Org: "b", App: "x"}) })
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "b") })
	_, err = s.Org(ctx, "b")
	wantFault(t, err, fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "b") }), fault.NotFound)
}

func testFormations(t *testing.T, s *store.Store) {
	ctx := t.Context()
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error {
		return tx.CreateFormation(ctx, tenant.Formation{Org: "none", App: "x", AuthorityPublicKey: []byte{1}})
	}), fault.NotFound)
	_, err := s.Formations(ctx, "none", "", "", 10)
	wantFault(t, err, fault.NotFound)
	addOrg(t, s, "acme")
	want := addFormation(t, s, key)
	got, err := s.Formation(ctx, key)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Formation: %v\n%s", err, diff)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateFormation(ctx, want) }), fault.Conflict)
	list, err := s.Formations(ctx, "acme", "", "", 10)
	if err != nil || len(list) != 1 {
		t.Errorf("Formations: %v %v", list, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.PutGenesis(ctx, key, []byte("sealed")) })
	if sealed, err := s.Genesis(ctx, key); string(sealed) != "sealed" || err != nil {
		t.Errorf("Genesis: %q %v", sealed, err)
	}
	appendAll(t, s, key, chain("d", 1, 3))
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	_, err = s.Genesis(ctx, key)
	wantFault(t, err, fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) }), fault.NotFound)

	addFormation(t, s, key) // the same name again inherits nothing
	if p, err := s.Position(ctx, key); p != 0 || err != nil {
		t.Errorf("position of the new one: %d %v", p, err)
	}
	if n, err := s.CountDocuments(ctx, key); n != 0 || err != nil {
		t.Errorf("documents of the new one: %d %v", n, err)
	}
}

func testRollback(t *testing.T, s *store.Store) {
	boom := errors.New("boom")
	err := s.InTx(t.Context(), func(tx *store.Tx) error {
		if err := tx.CreateOrg(t.Context(), tenant.Org{ID: "acme", DisplayName: "x"}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("InTx = %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = s.InTx(t.Context(), func(tx *store.Tx) error {
			_ = tx.CreateOrg(t.Context(), tenant.Org{ID: "acme", DisplayName: "x"})
			panic("boom")
		})
	}()
	_, err = s.Org(t.Context(), "acme")
	wantFault(t, err, fault.NotFound)
	addOrg(t, s, "acme") // nothing is left locked
}

func testLog(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	if p := appendAll(t, s, key, chain("d1", 1, 100)); p != 100 {
		t.Errorf("position after 100 = %d", p)
	}
	if p := appendAll(t, s, key, append(chain("d2", 1, 5), chain("d1", 101, 4)...)); p != 109 {
		t.Errorf("position after 109 = %d", p)
	}
	want := chain("d1", 1, 104)
	for i := range want {
		want[i].Position = uint64(i) + 1
		if i >= 100 {
			want[i].Position += 5
		}
	}
	got, err := s.DocumentChanges(ctx, key, "d1", 1, 109, 1000, 1<<20)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("DocumentChanges: %v\n%s", err, diff)
	}
	got, err = s.DocumentChanges(ctx, key, "d1", 101, 107, 1000, 1<<20)
	if err != nil || len(got) != 2 || got[0].Seq != 101 {
		t.Errorf("DocumentChanges from 101 up to 107: %d %v", len(got), err)
	}
	got, err = s.ChangesAfter(ctx, key, 98, 4, 1<<20)
	if err != nil || len(got) != 4 || got[0].Position != 99 || got[3].Document != "d2" {
		t.Errorf("ChangesAfter 98: %v %v", got, err)
	}
	if got, err = s.ChangesAfter(ctx, key, 0, 100, 1); err != nil || len(got) != 1 {
		t.Errorf("ChangesAfter with one byte to spare: %d %v, want one change", len(got), err)
	}
	var seqs []uint64
	err = s.RawChanges(ctx, key, "d2", func(seq uint64, raw []byte) error {
		seqs = append(seqs, seq)
		return nil
	})
	if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5}, seqs); err != nil || diff != "" {
		t.Errorf("RawChanges: %v %s", err, diff)
	}
	// The same seq again is refused, whoever sends it.
	if err := s.InTx(ctx, func(tx *store.Tx) error {
		_, err := tx.AppendChanges(ctx, key, chain("d2", 5, 1))
		return err
	}); err == nil {
		t.Error("a seq was given out twice")
	}
	if p, _ := s.Position(ctx, key); p != 109 {
		t.Errorf("position after a refused append = %d", p)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error {
		_, err := tx.AppendChanges(ctx, tenant.Key{Org: "acme", App: "none"}, chain("d", 1, 1))
		return err
	}), fault.NotFound)
}

func testHostileText(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	batch := chain("d", 1, 1)
	batch[0].Message = "a\x00b\xffc"
	batch[0].Patches = []byte("[\"\\u0000\"]")
	batch[0].ActorSeq, batch[0].StartOp, batch[0].Time = 1<<53, 1<<32-1, -1<<63
	appendAll(t, s, key, batch)
	got, err := s.ChangesAfter(t.Context(), key, 0, 10, 1<<20)
	if err != nil || got[0].Message != "a\uFFFDb\uFFFDc" || string(got[0].Patches) != "[\"\\u0000\"]" || got[0].Time != -1<<63 {
		t.Errorf("%+v %v", got, err)
	}
}

func testConcurrentAppends(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	const writers, each = 4, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := s.InTx(t.Context(), func(tx *store.Tx) error {
					_, err := tx.AppendChanges(t.Context(), key, chain(fmt.Sprint("d", w), uint64(i)+1, 1))
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.ChangesAfter(t.Context(), key, 0, 1000, 1<<20)
	if err != nil || len(got) != writers*each {
		t.Fatalf("%d changes, %v", len(got), err)
	}
	seqs := map[string]uint64{}
	for i, c := range got {
		if c.Position != uint64(i)+1 || c.Seq != seqs[c.Document]+1 {
			t.Fatalf("entry %d has position %d and seq %d of %s", i, c.Position, c.Seq, c.Document)
		}
		seqs[c.Document] = c.Seq
	}
}

func testLeases(t *testing.T, s *store.Store) {
	ctx := t.Context()
	first, err := s.TakeLease(ctx, "watch/acme/x", "one", "10.0.0.1:1", now, time.Minute)
	if err != nil || first.Epoch != 1 {
		t.Fatalf("%+v %v", first, err)
	}
	_, err = s.TakeLease(ctx, "watch/acme/x", "two", "", now, time.Minute)
	var heldBy *store.HeldError
	if !errors.As(err, &heldBy) || heldBy.Lease.Holder != "one" || heldBy.Lease.Address != "10.0.0.1:1" {
		t.Errorf("second holder: %v", err)
	}
	wantFault(t, err, fault.Conflict)
	first, err = s.RenewLease(ctx, first, now.Add(time.Minute), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.TakeLease(ctx, "watch/acme/x", "two", "", now.Add(90*time.Second), time.Minute); err == nil {
		t.Error("a renewed lease was taken")
	}
	second, err := s.TakeLease(ctx, "watch/acme/x", "two", "", now.Add(3*time.Minute), time.Minute)
	if err != nil || second.Epoch != 2 {
		t.Fatalf("expired lease: %+v %v", second, err)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.Guard(ctx, first) }), fault.Stale)
	inTx(t, s, func(tx *store.Tx) error { return tx.Guard(ctx, second) })
	_, err = s.RenewLease(ctx, first, now, time.Hour)
	wantFault(t, err, fault.Stale)
	if err := s.ReleaseLease(ctx, first); err != nil {
		t.Error(err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.Guard(ctx, second) }) // not the first one's to release
	if err := s.ReleaseLease(ctx, second); err != nil {
		t.Error(err)
	}
	third, err := s.TakeLease(ctx, "watch/acme/x", "one", "", now, time.Minute)
	if err != nil || third.Epoch != 3 {
		t.Errorf("released lease: %+v %v", third, err)
	}
	again, err := s.TakeLease(ctx, "watch/acme/x", "one", "", now, time.Minute)
	if err != nil || again.Epoch != 4 {
		t.Errorf("the same holder, restarted: %+v %v", again, err)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.Guard(ctx, third) }), fault.Stale)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.Guard(ctx, store.Lease{Name: "none"}) }), fault.NotFound)
}

func testLeaseRace(t *testing.T, s *store.Store) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			if _, err := s.TakeLease(t.Context(), "one", fmt.Sprint("holder", i), "", now, time.Minute); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			} else if !errors.Is(err, fault.Conflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d holders of one lease", won)
	}
}

func testTickets(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ticket := store.Ticket{Org: key.Org, App: key.App, ID: "t1", Hash: []byte("h1"), CreatedAt: store.Precise(now), ExpiresAt: store.Precise(now.Add(time.Hour))}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateTicket(ctx, ticket) }), fault.NotFound)
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateTicket(ctx, ticket) })
	got, err := s.TicketByHash(ctx, key, []byte("h1"))
	if diff := cmp.Diff(ticket, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	_, err = s.TicketByHash(ctx, tenant.Key{Org: "acme", App: "other"}, []byte("h1"))
	wantFault(t, err, fault.NotFound)
	for peer, want := range map[string]string{"p1": "p1"} {
		if got, err := s.BindTicket(ctx, key, "t1", peer); got != want || err != nil {
			t.Errorf("bind: %q %v", got, err)
		}
	}
	if got, err := s.BindTicket(ctx, key, "t1", "p2"); got != "p1" || err != nil {
		t.Errorf("bind by a second peer: %q %v", got, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.RevokeTicket(ctx, key, "t1", now) })
	inTx(t, s, func(tx *store.Tx) error { return tx.RevokeTicket(ctx, key, "t1", now.Add(time.Hour)) })
	if got, _ = s.TicketByHash(ctx, key, []byte("h1")); !got.RevokedAt.Equal(store.Precise(now)) {
		t.Errorf("revoked at %v", got.RevokedAt)
	}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.RevokeTicket(ctx, key, "none", now) }), fault.NotFound)
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteExpiredTickets(ctx, now.Add(2*time.Hour)) })
	if list, err := s.Tickets(ctx, key, "", 10); len(list) != 0 || err != nil {
		t.Errorf("%v %v", list, err)
	}
}

func addSink(t *testing.T, s *store.Store, id string, start delivery.Start, formations ...string) delivery.Sink {
	t.Helper()
	sink := delivery.Sink{ID: id, Org: "acme", Kind: delivery.File, Source: delivery.Changes, Formations: formations, Config: []byte(`{"path":"x"}`), Sealed: []byte("s"),
		Format: delivery.Both, Start: start, State: delivery.Active, CreatedAt: store.Precise(now)}
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateSink(t.Context(), sink) })
	return sink
}

func testSinks(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	appendAll(t, s, key, chain("d", 1, 7))
	want := addSink(t, s, "s1", delivery.Start{}, "*")
	got, err := s.Sink(ctx, "acme", "s1")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	addSink(t, s, "s2", delivery.Start{Beginning: true}, string(key.App))
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error {
		return tx.CreateSink(ctx, delivery.Sink{ID: "s3", Org: "acme", Formations: []string{"none"}, Config: []byte("{}")})
	}), fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error {
		return tx.CreateSink(ctx, delivery.Sink{ID: "s3", Org: "none", Formations: []string{"*"}, Config: []byte("{}")})
	}), fault.NotFound)
	if list, err := s.Sinks(ctx, "acme", "s1", 10); err != nil || len(list) != 1 || list[0].ID != "s2" {
		t.Errorf("Sinks after s1: %v %v", list, err)
	}
	for sink, want := range map[string]uint64{"s1": 7, "s2": 0} {
		if c, err := s.Cursor(ctx, key, sink); err != nil || c.Position != want {
			t.Errorf("cursor of %s = %d %v, want %d", sink, c.Position, err, want)
		}
	}
	later := tenant.Key{Org: "acme", App: "later"}
	addFormation(t, s, later)
	c, err := s.Cursor(ctx, later, "s1")
	if err != nil || c.Position != 0 {
		t.Errorf("cursor in a formation made later: %+v %v", c, err)
	}
	c.Position, c.Attempts, c.NextAttemptAt, c.LastError = 3, 2, store.Precise(now), "down"
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCursor(ctx, c) })
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCursor(ctx, c) })
	saved, err := s.Cursor(ctx, later, "s1")
	if diff := cmp.Diff(c, saved); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.WakeSink(ctx, "acme", "s1") })
	if saved, _ = s.Cursor(ctx, later, "s1"); saved.Attempts != 0 || !saved.NextAttemptAt.IsZero() || saved.Position != 3 {
		t.Errorf("after waking: %+v", saved)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.SetSinkState(ctx, "acme", "s1", delivery.Paused, "") })
	inTx(t, s, func(tx *store.Tx) error { return tx.MarkSink(ctx, "acme", "s1", delivery.Failing, "down") })
	if got, _ = s.Sink(ctx, "acme", "s1"); got.State != delivery.Paused {
		t.Errorf("a paused sink became %s", got.State)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteSink(ctx, "acme", "s1") })
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.DeleteSink(ctx, "acme", "s1") }), fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.SaveCursor(ctx, c) }), fault.NotFound)
}

func hold(t *testing.T, s *store.Store, sink, document string, from uint64, state delivery.HeldState) delivery.Held {
	t.Helper()
	h := delivery.Held{Org: "acme", Sink: sink, App: key.App, Document: document, ID: "h-" + document, FromSeq: from, Hash: hash("x"),
		State: state, Attempts: 3, NextAttemptAt: store.Precise(now.Add(time.Minute)), LastError: "a\x00b", Excerpt: "c\xff", Since: store.Precise(now)}
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveHeld(t.Context(), h) })
	return h
}

func testLag(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	sink := addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	lag := func() delivery.Lag {
		t.Helper()
		l, err := s.Lag(ctx, sink, now.Add(10*time.Second))
		if err != nil || len(l) != 1 || l[0].App != key.App {
			t.Fatalf("%v %v", l, err)
		}
		return l[0].Lag
	}
	behind := func() int {
		t.Helper()
		keys, err := s.Behind(ctx, now)
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	if l := lag(); l != (delivery.Lag{}) || behind() != 0 {
		t.Errorf("empty log: %+v, %d behind", l, behind())
	}
	appendAll(t, s, key, append(chain("d1", 1, 7), chain("d2", 1, 3)...))
	if l := lag(); l.Events != 10 || l.Seconds != 10 || behind() != 1 {
		t.Errorf("nothing delivered: %+v, %d behind", l, behind())
	}
	// Delivered up to 8, but d1 is held from its third change on: 5 of it and 2 of d2 are missing.
	c := delivery.Cursor{Org: "acme", Sink: "s1", App: key.App, Position: 8}
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCursor(ctx, c) })
	h := hold(t, s, "s1", "d1", 3, delivery.Parked)
	if l := lag(); l.Events != 7 || l.Seconds != 10 {
		t.Errorf("some held: %+v", l)
	}
	// A held document's changes beyond the cursor count once.
	c.Position = 5
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCursor(ctx, c) })
	if l := lag(); l.Events != 3+5 {
		t.Errorf("held, cursor inside the document: %+v", l)
	}
	c.Position = 10
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCursor(ctx, c) })
	if behind() != 0 {
		t.Error("only a parked document is left, and the sweep would ring for it")
	}
	h.State, h.NextAttemptAt = delivery.Retrying, store.Precise(now)
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveHeld(ctx, h) })
	if behind() != 1 {
		t.Error("the sweep misses a document that is due")
	}
	c.NextAttemptAt = now.Add(time.Second)
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveCursor(ctx, c) })
	if behind() != 0 {
		t.Error("the sweep rings for a sink that is not due")
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.WakeSink(ctx, "acme", "s1") })
	inTx(t, s, func(tx *store.Tx) error { return tx.SetSinkState(ctx, "acme", "s1", delivery.Paused, "") })
	if behind() != 0 {
		t.Error("the sweep rings for a paused sink")
	}
}

// Changes weigh their raw bytes and their patches, one by one, however they are
// divided into statements and transactions.
func testLagBytes(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	sink := addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	lag := func(position uint64) uint64 {
		t.Helper()
		c := delivery.Cursor{Org: "acme", Sink: "s1", App: key.App, Position: position}
		inTx(t, s, func(tx *store.Tx) error { return tx.SaveCursor(t.Context(), c) })
		l, err := s.Lag(t.Context(), sink, now)
		if err != nil || len(l) != 1 {
			t.Fatalf("%v %v", l, err)
		}
		return l[0].Bytes
	}
	if got := lag(0); got != 0 {
		t.Errorf("an empty log weighs %d", got)
	}
	var weights []uint64
	seq := uint64(1)
	for _, n := range []int{1, 75, 3} { // 75 is 64, 8 and three single ones
		batch := chain("d", seq, n)
		for i := range batch {
			batch[i].Raw, batch[i].Patches = make([]byte, seq), make([]byte, 2*seq)
			weights = append(weights, 3*seq)
			seq++
		}
		appendAll(t, s, key, batch)
	}
	var total uint64
	for i := len(weights); i >= 0; i-- {
		if got := lag(uint64(i)); got != total {
			t.Errorf("behind position %d there are %d bytes, not %d", i, total, got)
		}
		if i > 0 {
			total += weights[i-1]
		}
	}
	addFormation(t, s, tenant.Key{Org: "acme", App: "other"})
	appendAll(t, s, tenant.Key{Org: "acme", App: "other"}, chain("d", 1, 2))
	if l, err := s.Lag(t.Context(), sink, now); err != nil || len(l) != 2 || l[0].Bytes != total || l[1].Bytes != 2*21 {
		t.Errorf("two formations: %+v %v", l, err)
	}
}

func testTraces(t *testing.T, s *store.Store) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	batch := chain("d", 1, 2)
	batch[1].Trace = parent
	appendAll(t, s, key, batch)
	got, err := s.ChangesAfter(t.Context(), key, 0, 10, 1<<20)
	if err != nil || len(got) != 2 || got[0].Trace != "" || got[1].Trace != parent {
		t.Errorf("%+v %v", got, err)
	}
	// What waits in the outbox stays in the trace that it came from.
	inTx(t, s, func(tx *store.Tx) error {
		return tx.Enqueue(tracing.With(t.Context(), parent), event.OrgCreated(tenant.Org{ID: "acme"}, now))
	})
	out, err := s.Outbox(t.Context(), 10)
	if err != nil || len(out) != 1 || out[0].Event.Extensions()[tracing.Extension] != parent {
		t.Errorf("%v %v", out, err)
	}
}

// A formation that is made anew has no cursors, and is behind all the same at the
// sinks that name it.
func testBehindAnew(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	other := addFormation(t, s, tenant.Key{Org: "acme", App: "medical"})
	addSink(t, s, "s1", delivery.Start{}, string(key.App))
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(t.Context(), key) })
	addFormation(t, s, key)
	appendAll(t, s, key, chain("d", 1, 1))
	appendAll(t, s, tenant.Key{Org: other.Org, App: other.App}, chain("d", 1, 1))
	if keys, err := s.Behind(t.Context(), now); err != nil || len(keys) != 1 || keys[0] != key {
		t.Errorf("%v %v", keys, err)
	}
}

func testOutbox(t *testing.T, s *store.Store) {
	ctx := t.Context()
	org := tenant.Org{ID: "acme", DisplayName: "x"}
	first, second := event.OrgCreated(org, now), event.OrgDeleted(org, now.Add(time.Millisecond)) // within one there is no order
	inTx(t, s, func(tx *store.Tx) error { return tx.Enqueue(ctx, first) })
	inTx(t, s, func(tx *store.Tx) error { return tx.Enqueue(ctx, second) })
	got, err := s.Outbox(ctx, 10)
	if err != nil || len(got) != 2 || got[0].Event.ID() != first.ID() || string(got[1].Event.Data()) != string(second.Data()) {
		t.Fatalf("%v %v", got, err)
	}
	for range 2 {
		inTx(t, s, func(tx *store.Tx) error { return tx.Published(ctx, got[0].ID) })
	}
	if got, err = s.Outbox(ctx, 10); err != nil || len(got) != 1 || got[0].Event.Type() != event.OrgDeletedType {
		t.Errorf("%v %v", got, err)
	}
	inTx(t, s, func(tx *store.Tx) error {
		for range 73 { // of each size of a statement
			if err := tx.Enqueue(ctx, first); err != nil {
				return err
			}
		}
		return nil
	})
	var ids []string
	if got, err = s.Outbox(ctx, 100); err != nil || len(got) != 74 {
		t.Fatalf("%d %v", len(got), err)
	}
	for _, o := range got {
		if o.Event.ID() == first.ID() {
			ids = append(ids, o.ID)
		}
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.Published(ctx, ids...) })
	if got, err = s.Outbox(ctx, 100); err != nil || len(got) != 1 || got[0].Event.Type() != event.OrgDeletedType {
		t.Errorf("%v %v", got, err)
	}
}

func testAudit(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	want := store.Audit{Org: "acme", At: store.Precise(now), Actor: "admin", Action: "org.create", Target: "acme", RequestID: "r1",
		Detail: map[string]any{"display_name": "x"}}
	inTx(t, s, func(tx *store.Tx) error { return tx.AppendAudit(ctx, want) })
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "acme") })
	got, err := s.AuditTrail(ctx, "acme", 10)
	if diff := cmp.Diff([]store.Audit{want}, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func testIsolation(t *testing.T, s *store.Store) {
	ctx := context.Background()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	addFormation(t, s, key)
	addFormation(t, s, tenant.Key{Org: "rival", App: key.App})
	appendAll(t, s, key, chain("d", 1, 2))
	addSink(t, s, "s1", delivery.Start{}, "*")
	other := tenant.Key{Org: "rival", App: key.App}
	if got, err := s.ChangesAfter(ctx, other, 0, 10, 1<<20); len(got) != 0 || err != nil {
		t.Errorf("changes: %v %v", got, err)
	}
	if got, err := s.DocumentChanges(ctx, other, "d", 1, 10, 10, 1<<20); len(got) != 0 || err != nil {
		t.Errorf("document: %v %v", got, err)
	}
	_, err := s.Sink(ctx, "rival", "s1")
	wantFault(t, err, fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.DeleteSink(ctx, "rival", "s1") }), fault.NotFound)
	if c, err := s.Cursor(ctx, other, "s1"); c.Position != 0 || err != nil {
		t.Errorf("cursor: %+v %v", c, err)
	}
	if keys, err := s.Behind(ctx, now); len(keys) != 0 || err != nil {
		t.Errorf("behind: %v %v", keys, err)
	}
}

func testClaims(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := map[string]int{}
	for i := range 8 {
		org := []tenant.OrgID{"acme", "rival"}[i%2]
		for _, claim := range []string{"a.ndjson", ""} {
			wg.Go(func() {
				err := s.InTx(t.Context(), func(tx *store.Tx) error {
					return tx.CreateSink(t.Context(), delivery.Sink{ID: fmt.Sprint("s", i, claim), Org: org, Kind: delivery.File,
						Formations: []string{"*"}, Config: []byte("{}"), Claim: claim})
				})
				if err != nil && !errors.Is(err, fault.Conflict) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					kept[claim]++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if kept["a.ndjson"] != 1 || kept[""] != 8 {
		t.Errorf("kept %v", kept)
	}
}
