package store_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func testDeadLetters(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	appendAll(t, s, key, append(chain("d1", 1, 7), chain("d2", 1, 3)...))
	addSink(t, s, "s1", delivery.Start{Beginning: true}, "*")
	hold(t, s, "s1", "d2", 1, delivery.Retrying)
	want := hold(t, s, "s1", "d1", 3, delivery.Parked)
	want.LastError, want.Excerpt, want.Waiting = "a\uFFFDb", "c\uFFFD", 4
	list, err := s.DeadLetters(ctx, "acme", "s1", delivery.DeadLetters{}, "", 10)
	if diff := cmp.Diff([]delivery.Held{want}, list); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	one, err := s.DeadLetter(ctx, "acme", "s1", "h-d1")
	if diff := cmp.Diff(want, one); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if all, err := s.Held(ctx, key, "s1"); err != nil || len(all) != 2 {
		t.Errorf("%v %v", all, err)
	}
	decide := func(id string, d delivery.Decision) (h delivery.Held, err error) {
		err = s.InTx(ctx, func(tx *store.Tx) error {
			h, err = tx.Decide(ctx, "acme", "s1", id, d, now)
			return err
		})
		return h, err
	}
	_, err = decide("none", delivery.Redrive)
	wantFault(t, err, fault.NotFound)
	_, err = decide("h-d2", delivery.Redrive)
	wantFault(t, err, fault.Conflict)
	h, err := decide("h-d1", delivery.Skip)
	if err != nil || h.State != delivery.Redriving || h.SkipSeq != 3 || h.PurgeTo != 0 || h.Attempts != 0 || !h.NextAttemptAt.IsZero() {
		t.Errorf("%+v %v", h, err)
	}
	_, err = decide("h-d1", delivery.Skip)
	wantFault(t, err, fault.Conflict)
	hold(t, s, "s1", "d1", 4, delivery.Parked)
	if h, err = decide("h-d1", delivery.Purge); err != nil || h.State != delivery.Redriving || h.PurgeTo != 7 {
		t.Errorf("%+v %v", h, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.ReleaseHeld(ctx, h) })
	if all, err := s.Held(ctx, key, "s1"); err != nil || len(all) != 1 {
		t.Errorf("%v %v", all, err)
	}
}

func testDeadLettersAreFound(t *testing.T, s *store.Store) {
	ctx := t.Context()
	other := tenant.Key{Org: "acme", App: "other"}
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addFormation(t, s, other)
	for _, sink := range []string{"s1", "s2"} {
		addSink(t, s, sink, delivery.Start{Beginning: true}, "*")
	}
	for i, h := range []delivery.Held{
		{App: key.App, Document: "a", State: delivery.Parked, LastError: "503: 100% busy_x"},
		{App: other.App, Document: "a", State: delivery.Parked, LastError: "400"},
		{App: key.App, Document: "b", State: delivery.Redriving, LastError: "100 and busy!"},
		{App: key.App, Document: "c", State: delivery.Retrying},
		{App: key.App, Document: "d", State: delivery.Parked},
	} {
		h.Org, h.Sink, h.ID, h.FromSeq = "acme", "s1", fmt.Sprint("h", i), 1
		inTx(t, s, func(tx *store.Tx) error { return tx.SaveHeld(ctx, h) })
	}
	for name, tc := range map[string]struct {
		which delivery.DeadLetters
		after string
		limit int
		want  []string
	}{
		"what waits for an operator": {delivery.DeadLetters{}, "", 9, []string{"h0", "h1", "h2", "h4"}},
		"a page":                     {delivery.DeadLetters{}, "h0", 2, []string{"h1", "h2"}},
		"by state":                   {delivery.DeadLetters{State: delivery.Retrying}, "", 9, []string{"h3"}},
		"by formation":               {delivery.DeadLetters{App: other.App}, "", 9, []string{"h1"}},
		"by document":                {delivery.DeadLetters{Document: "a"}, "", 9, []string{"h0", "h1"}},
		"by error":                   {delivery.DeadLetters{Error: "BUSY"}, "", 9, []string{"h0", "h2"}},
		"signs that mean something":  {delivery.DeadLetters{Error: "100% busy_"}, "", 9, []string{"h0"}},
		"the sign that escapes":      {delivery.DeadLetters{Error: "busy!"}, "", 9, []string{"h2"}},
		"what no text can hold":      {delivery.DeadLetters{Error: "\x00\xff", Document: "\x00"}, "", 9, nil},
		"by id":                      {delivery.DeadLetters{IDs: []string{"h4", "none", "h0"}}, "", 9, []string{"h0", "h4"}},
		"no ids":                     {delivery.DeadLetters{IDs: []string{}}, "", 9, nil},
	} {
		found, err := s.DeadLetters(ctx, "acme", "s1", tc.which, tc.after, tc.limit)
		var got []string
		for _, h := range found {
			got = append(got, h.ID)
		}
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	for _, who := range []struct {
		org  tenant.OrgID
		sink string
	}{{"rival", "s1"}, {"acme", "s2"}} {
		if found, err := s.DeadLetters(ctx, who.org, who.sink, delivery.DeadLetters{}, "", 9); err != nil || len(found) != 0 {
			t.Errorf("%v sees %v %v", who, found, err)
		}
		_, err := s.DeadLetter(ctx, who.org, who.sink, "h0")
		wantFault(t, err, fault.NotFound)
	}
	var done []delivery.Held
	inTx(t, s, func(tx *store.Tx) (err error) {
		done, err = tx.DecideAll(ctx, "acme", "s1", delivery.DeadLetters{}, delivery.Redrive, "h0", 9, now)
		return err
	})
	if len(done) != 2 || done[0].ID != "h1" || done[1].ID != "h4" || done[1].State != delivery.Redriving {
		t.Errorf("%+v", done)
	}
	if left, err := s.DeadLetters(ctx, "acme", "s1", delivery.DeadLetters{State: delivery.Parked}, "", 9); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}
