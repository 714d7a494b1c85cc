package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// act appends one entry.
func act(t *testing.T, s *store.Store, org tenant.OrgID, action string, at time.Time) {
	t.Helper()
	if err := s.InTx(t.Context(), func(tx *store.Tx) error {
		return tx.AppendAudit(t.Context(), store.Audit{Org: org, At: at, Actor: "ann", Action: action, Target: "x", RequestID: "r"})
	}); err != nil {
		t.Fatal(err)
	}
}

// link links all that waits and returns how much that was.
func link(t *testing.T, s *store.Store) int {
	t.Helper()
	total := 0
	for org := tenant.OrgID(""); ; {
		next, err := s.NextUnlinked(t.Context(), org)
		if err != nil {
			t.Fatal(err)
		}
		if next == "" {
			return total
		}
		for org = next; ; {
			n, err := s.LinkAudit(t.Context(), org, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if total += n; n == 0 {
				break
			}
		}
	}
}

// wholeChain reads a chain and checks each link.
func wholeChain(t *testing.T, s *store.Store, org tenant.OrgID) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	var prev audit.Hash
	for {
		page, err := s.ChainEntries(t.Context(), org, uint64(len(all)), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if e.Seq != uint64(len(all))+1 || e.Prev != prev || !e.Intact() {
				t.Fatalf("entry %d of %q comes after %d, intact: %v", e.Seq, org, len(all), e.Intact())
			}
			prev = e.Hash
			all = append(all, e)
		}
		if len(page) == 0 {
			return all
		}
	}
}

func testAuditChain(t *testing.T, s *store.Store) {
	for i := range 700 { // more than a batch
		act(t, s, "acme", fmt.Sprintf("a.%d", i), now.Add(time.Duration(i)*time.Millisecond))
	}
	act(t, s, "rival", "a.rival", now)
	act(t, s, "", "key.rewrap", now)
	if got, err := s.ChainEntries(t.Context(), "acme", 0, 10); err != nil || len(got) != 0 {
		t.Errorf("%d entries have a place before they are linked, %v", len(got), err)
	}
	if n := link(t, s); n != 702 {
		t.Errorf("linked %d", n)
	}
	if n := link(t, s); n != 0 {
		t.Errorf("linked %d a second time", n)
	}
	list := wholeChain(t, s, "acme")
	if len(list) != 700 || list[0].Action != "a.0" || list[699].Action != "a.699" {
		t.Errorf("%d entries", len(list))
	}
	if len(wholeChain(t, s, "rival")) != 1 || len(wholeChain(t, s, audit.Gateway)) != 1 {
		t.Error("the others' chains")
	}
	c, err := s.AuditChain(t.Context(), "acme")
	if diff := cmp.Diff(store.Chain{Org: "acme", Seq: 700, Hash: list[699].Hash, Since: 1}, c); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := s.AuditChain(t.Context(), "nobody"); !errors.Is(err, fault.NotFound) {
		t.Error(err)
	}
	// An organization that is made anew goes on with the chain, and begins in it.
	act(t, s, "acme", audit.OrgCreate, now.Add(time.Hour))
	link(t, s)
	if c, err := s.AuditChain(t.Context(), "acme"); err != nil || c.Seq != 701 || c.Since != 701 {
		t.Errorf("%+v %v", c, err)
	}
}

// testAuditRace has entries appended and linked by many at once.
func testAuditRace(t *testing.T, s *store.Store) {
	const writers, each = 6, 40
	orgs := []tenant.OrgID{"acme", "rival"}
	var appending, linking sync.WaitGroup
	var over atomic.Bool
	errs := make(chan error, 100)
	for w := range writers {
		appending.Go(func() {
			for i := range each {
				if err := s.InTx(t.Context(), func(tx *store.Tx) error {
					return tx.AppendAudit(t.Context(), store.Audit{Org: orgs[(w+i)%2], At: now, Actor: fmt.Sprint(w), Action: "a.b", Target: fmt.Sprint(i)})
				}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for l := range 3 {
		linking.Go(func() {
			for !over.Load() {
				if _, err := s.LinkAudit(t.Context(), orgs[l%2], time.Time{}); err != nil && !errors.Is(err, fault.Stale) {
					errs <- err
					return
				}
			}
		})
	}
	appending.Wait()
	over.Store(true)
	linking.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	link(t, s)
	total := 0
	for _, org := range orgs {
		total += len(wholeChain(t, s, org))
	}
	if total != writers*each {
		t.Errorf("%d entries, want %d", total, writers*each)
	}
}

func testAuditHeads(t *testing.T, s *store.Store) {
	key, err := audit.LoadOrCreateKey(t.TempDir() + "/key")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		act(t, s, "acme", "a.b", now.Add(time.Duration(i)*time.Second))
	}
	link(t, s)
	list := wholeChain(t, s, "acme")
	add := func(h audit.Head) error {
		return s.InTx(t.Context(), func(tx *store.Tx) error { return tx.AddAuditHead(t.Context(), h) })
	}
	second := key.Head("acme", 2, list[1].Hash, now)
	for range 2 { // twice, as two replicas may
		if err := add(second); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(key.Head("acme", 1, list[0].Hash, now)); err != nil {
		t.Fatal(err)
	}
	if err := add(key.Head("acme", 4, list[0].Hash, now)); !errors.Is(err, fault.NotFound) {
		t.Errorf("a head beyond the end: %v", err)
	}
	if err := add(key.Head("rival", 1, list[0].Hash, now)); !errors.Is(err, fault.NotFound) {
		t.Errorf("a head of no chain: %v", err)
	}
	unsigned, err := s.UnsignedChains(t.Context(), "", 10)
	if err != nil || len(unsigned) != 1 || unsigned[0].Signed != 2 {
		t.Errorf("%+v %v", unsigned, err)
	}
	heads, err := s.AuditHeads(t.Context(), "acme", 1, 10)
	if diff := cmp.Diff([]audit.Head{second}, heads); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if got, err := s.AuditHead(t.Context(), "acme", 2); err != nil || !got.Genuine() {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := s.AuditHead(t.Context(), "rival", 2); !errors.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if err := add(key.Head("acme", 3, list[2].Hash, now)); err != nil {
		t.Fatal(err)
	}
	if unsigned, err := s.UnsignedChains(t.Context(), "", 10); err != nil || len(unsigned) != 0 {
		t.Errorf("%+v %v", unsigned, err)
	}
	if all, err := s.AuditChains(t.Context(), "", 10); err != nil || len(all) != 1 {
		t.Errorf("%+v %v", all, err)
	}
}

func testAuditSearch(t *testing.T, s *store.Store) {
	for i, a := range []string{"org.create", "sink.create", "sink.change", "sinks.none", "org.update", "sink.delete"} {
		act(t, s, "acme", a, now.Add(time.Duration(i)*time.Second))
	}
	act(t, s, "rival", "sink.create", now)
	link(t, s)
	for name, tc := range map[string]struct {
		q     store.AuditQuery
		limit int
		want  []uint64
	}{
		"all, newest first": {store.AuditQuery{}, 10, []uint64{6, 5, 4, 3, 2, 1}},
		"a page":            {store.AuditQuery{Before: 5}, 2, []uint64{4, 3}},
		"from a number":     {store.AuditQuery{From: 5}, 10, []uint64{6, 5}},
		"an action":         {store.AuditQuery{Action: "sink.change"}, 10, []uint64{3}},
		"actions of a noun": {store.AuditQuery{Action: "sink."}, 10, []uint64{6, 3, 2}},
		"an actor":          {store.AuditQuery{Actor: "ann"}, 1, []uint64{6}},
		"another actor":     {store.AuditQuery{Actor: "bob"}, 10, nil},
		"a target":          {store.AuditQuery{Target: "y"}, 10, nil},
		"a time":            {store.AuditQuery{Since: now.Add(time.Second), Until: now.Add(3 * time.Second)}, 10, []uint64{3, 2}},
	} {
		if tc.q.Before == 0 {
			tc.q.Before = 1000
		}
		list, err := s.SearchAudit(t.Context(), "acme", tc.q, tc.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for _, e := range list {
			got = append(got, e.Seq)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// testAuditIsHeard: whoever links is told of what was committed, and of nothing else.
func testAuditIsHeard(t *testing.T, s *store.Store) {
	heard := 0
	s.OnAudit(func(org tenant.OrgID) {
		if heard++; org != "acme" {
			t.Errorf("heard of %q", org)
		}
	})
	act(t, s, "acme", "a.b", now)
	if heard != 1 {
		t.Errorf("heard %d after an act", heard)
	}
	_ = s.InTx(t.Context(), func(tx *store.Tx) error { return nil })
	_ = s.InTx(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.AppendAudit(t.Context(), store.Audit{Org: "acme", At: now}), context.Canceled)
	})
	if heard != 1 || link(t, s) != 1 {
		t.Errorf("heard %d after what was no act", heard)
	}
}
