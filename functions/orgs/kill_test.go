package orgs_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint/faultpointtest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// large is what a formation has that is not gone in one piece.
const large = 2*store.SweepBatch + 1

// TestKilledWhileCreating kills the process at every step of a formation's creation:
// it is there with all that belongs to it, or not at all, and can be made.
func TestKilledWhileCreating(t *testing.T) {
	if faultpointtest.Child() {
		w := openWorld(t, os.Getenv("STORE"), quiet)
		w.formation("acme", "logistics")
		return
	}
	killed(t, "create/", func(t *testing.T, w *world) {}, func(t *testing.T, w *world, step string) {
		there := w.whole(t, logistics)
		if want := step == "create/committed"; there != want {
			t.Errorf("there: %v", there)
		}
		if !there {
			w.formation("acme", "logistics")
			w.whole(t, logistics)
		}
	})
}

// TestKilledWhileDestroying kills it at every step of the destruction of a large
// formation, its sweep included: it is there and whole, or it is gone, with a record,
// and what is left is swept by the next.
func TestKilledWhileDestroying(t *testing.T) {
	if faultpointtest.Child() {
		w := openWorld(t, os.Getenv("STORE"), quiet)
		w.do("DELETE", path, "", 204)
		_ = bus.Dispatch(t.Context(), w.function.Events(), event.Ping(time.Now()))
		return
	}
	before := func(t *testing.T, w *world) {
		w.formation("acme", "logistics")
		w.append(logistics, large)
	}
	killed(t, "destroy/", before, func(t *testing.T, w *world, step string) {
		there := w.whole(t, logistics)
		if want := step != "destroy/committed" && step != "destroy/swept"; there != want {
			t.Errorf("there: %v", there)
		}
		if there {
			if log, err := w.store.ChangesAfter(t.Context(), logistics, 0, 10*large, 1<<30); err != nil || len(log) != large {
				t.Errorf("%d changes are left, %v", len(log), err)
			}
			w.do("DELETE", path, "", 204)
		}
		if got := w.destructions(""); len(got.Items) != 1 || got.Items[0].Signature == "" || got.Items[0].Position != large {
			t.Errorf("%+v", got)
		}
		if err := bus.Dispatch(t.Context(), w.function.Events(), event.Ping(time.Now())); err != nil {
			t.Fatal(err)
		}
		w.formation("acme", "logistics")
		w.whole(t, logistics)
		if log, err := w.store.ChangesAfter(t.Context(), logistics, 0, 10, 1<<20); err != nil || len(log) != 0 {
			t.Errorf("the next one inherits %d changes, %v", len(log), err)
		}
	})
}

// killed runs the calling test as a victim of each step, on both engines.
func killed(t *testing.T, prefix string, before func(t *testing.T, w *world), after func(t *testing.T, w *world, step string)) {
	for _, step := range faultpointtest.Complete(t, ".", prefix) {
		t.Run(step, func(t *testing.T) {
			engines(t, func(t *testing.T, url string) {
				w := openWorld(t, url, quiet)
				w.org("acme")
				before(t, w)
				faultpointtest.Kill(t, step, 1, "STORE="+url)
				after(t, w, step)
			})
		})
	}
}

// whole fails unless a formation is there with its root of trust, authority, audit
// entry and event, or nothing of it but what tells of its end. It reports which.
func (w *world) whole(t *testing.T, key tenant.Key) bool {
	t.Helper()
	ctx := t.Context()
	f, err := w.store.Formation(ctx, key)
	there := err == nil
	if err != nil && !errors.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	_, genesisErr := w.store.Genesis(ctx, key)
	if (genesisErr == nil) != there {
		t.Errorf("there %v, its genesis: %v", there, genesisErr)
	}
	a, authorityErr := w.store.ActiveAuthority(ctx, key)
	if (authorityErr == nil) != there || there && !bytes.Equal(a.PublicKey, f.AuthorityPublicKey) {
		t.Errorf("there %v, its authority: %v", there, authorityErr)
	}
	count := func(all []string, what string) (n int) {
		for _, s := range all {
			if s == what {
				n++
			}
		}
		return n
	}
	events, acts := w.events(), w.actions()
	slices.Sort(events)
	made, ended := count(acts, "formation.create "+string(key.App)), count(acts, "formation.delete "+string(key.App))
	if made-ended != map[bool]int{true: 1, false: 0}[there] {
		t.Errorf("there %v, audited: %v", there, acts)
	}
	if count(events, "formation.created") != made || count(events, "formation.deleted") != ended {
		t.Errorf("told %v, audited %v", events, acts)
	}
	records, err := w.store.Destructions(ctx, key.Org, time.Time{}, "", 100)
	if err != nil || len(records) != ended {
		t.Errorf("%d ended, %d records, %v", ended, len(records), err)
	}
	return there
}
