package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func testAuditCursors(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	rings := func() (orgs []string) {
		t.Helper()
		out, err := s.Outbox(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if o.Event.Type() == event.AuditLinkedType {
				orgs = append(orgs, o.Event.Subject())
			}
		}
		return orgs
	}
	act := func(org tenant.OrgID, n int) {
		t.Helper()
		for range n {
			inTx(t, s, func(tx *store.Tx) error {
				return tx.AppendAudit(ctx, store.Audit{Org: org, At: now, Actor: "a", Action: "test.act", Target: "x", Detail: map[string]any{}})
			})
		}
		if _, err := s.LinkAudit(ctx, org, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	sink := delivery.Sink{ID: "s1", Org: "acme", Kind: delivery.File, Source: delivery.AuditTrail, Formations: []string{}, Config: []byte("{}"), State: delivery.Active, CreatedAt: now}
	rival := sink
	rival.Org = "rival"
	// Before there is a trail its end is its beginning.
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateSink(ctx, sink) })
	act("acme", 2)
	act("rival", 3)
	if got := rings(); !slices.Equal(got, []string{"acme"}) {
		t.Errorf("rings for %v: a trail that nobody wants needs no ring", got)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateSink(ctx, rival) })

	if got, err := s.Sink(ctx, "acme", "s1"); err != nil || got.Source != delivery.AuditTrail {
		t.Errorf("%q %v", got.Source, err)
	}
	lag := func(org tenant.OrgID, at time.Time) delivery.Lag {
		t.Helper()
		l, err := s.TrailLag(ctx, org, "s1", at)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := lag("acme", now.Add(time.Minute)); l.Events != 2 || l.Seconds < 59 || l.Seconds > 61 {
		t.Errorf("%+v", l)
	}
	if l := lag("rival", now); l.Events != 0 {
		t.Errorf("one that begins at the end is behind: %+v", l)
	}
	behind := func(at time.Time) []tenant.OrgID {
		t.Helper()
		orgs, err := s.TrailsBehind(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		return orgs
	}
	if got := behind(now); !slices.Equal(got, []tenant.OrgID{"acme"}) {
		t.Errorf("behind: %v", got)
	}
	c, err := s.AuditCursor(ctx, "acme", "s1")
	if err != nil || c.Seq != 0 {
		t.Errorf("%+v %v", c, err)
	}
	c.Seq, c.Attempts, c.LastError, c.NextAttemptAt = 1, 2, "no", store.Precise(now.Add(time.Hour))
	inTx(t, s, func(tx *store.Tx) error { return tx.SaveAuditCursor(ctx, c) })
	if got, err := s.AuditCursor(ctx, "acme", "s1"); err != nil || got != c {
		t.Errorf("%+v, want %+v: %v", got, c, err)
	}
	if got, err := s.AuditCursor(ctx, "rival", "s1"); err != nil || got.Seq != 3 {
		t.Errorf("the sink of that name of another organization: %+v %v", got, err)
	}
	if got := behind(now); len(got) != 0 {
		t.Errorf("it waits, and yet is behind: %v", got)
	}
	if got := behind(now.Add(time.Hour)); len(got) != 1 {
		t.Errorf("it is due, and not behind: %v", got)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.WakeSink(ctx, "acme", "s1") })
	if got, err := s.AuditCursor(ctx, "acme", "s1"); err != nil || got.Seq != 1 || got.Attempts != 0 || !got.NextAttemptAt.IsZero() {
		t.Errorf("woken: %+v %v", got, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.SetSinkState(ctx, "acme", "s1", delivery.Paused, "") })
	if got := behind(now); len(got) != 0 {
		t.Errorf("paused, and yet behind: %v", got)
	}

	far := uint64(9)
	late := sink
	late.ID, late.Start = "s2", delivery.Start{Position: &far}
	if err := s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateSink(ctx, late) }); !errors.Is(err, fault.Invalid) {
		t.Errorf("a start behind the end: %v", err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteSink(ctx, "acme", "s1") })
	if err := s.InTx(ctx, func(tx *store.Tx) error { return tx.SaveAuditCursor(ctx, c) }); !errors.Is(err, fault.NotFound) {
		t.Errorf("the cursor of a sink that is gone: %v", err)
	}
	if _, err := s.AuditCursor(ctx, "acme", "s1"); !errors.Is(err, fault.NotFound) {
		t.Errorf("the cursor of a sink that is gone: %v", err)
	}
}
