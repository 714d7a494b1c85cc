package store_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func testDestructions(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	var want []tenant.SignedDestruction
	for _, id := range []string{"d1", "d2", "d3"} {
		d := tenant.SignedDestruction{ID: id, At: store.Precise(now), Statement: []byte("of " + id), Signature: []byte("sig")}
		want = append(want, d)
		inTx(t, s, func(tx *store.Tx) error { return tx.AddDestruction(t.Context(), "acme", d) })
	}
	got, err := s.Destructions(t.Context(), "acme", time.Time{}, "d1", 10)
	if diff := cmp.Diff(want[1:], got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if got, err := s.Destructions(t.Context(), "acme", now.Add(time.Minute), "", 10); len(got) != 0 || err != nil {
		t.Errorf("of an organization that was made later: %v, %v", got, err)
	}
}

// testRequestClaims sends requests that name themselves, for an organization and for none.
func testRequestClaims(t *testing.T, s *store.Store) {
	done := 0
	h := web.Mux([]web.Route{
		{Pattern: "POST /orgs", Need: web.GatewayAdmin, Once: true, Handle: once(s, &done)},
		{Pattern: "POST /orgs/{org}/things", Need: web.OrgAdmin, Once: true, Handle: once(s, &done)},
	}, web.Options{
		Authorize:  func(r *http.Request, _ web.Role) (context.Context, error) { return r.Context(), nil },
		Claims:     s,
		Caller:     func(context.Context) string { return "ann" },
		OnceSecret: []byte("secret"),
	})
	for _, path := range []string{"/orgs", "/orgs/acme/things"} {
		before := done
		for range 3 {
			for body, want := range map[string]int{"good": 201, "bad": 409} {
				r := httptest.NewRequest("POST", path, strings.NewReader(body))
				r.Header.Set("Idempotency-Key", "k-"+body)
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != want {
					t.Fatalf("POST %s: %d %s", path, w.Code, w.Body)
				}
			}
		}
		if done != before+1 {
			t.Errorf("POST %s was carried out %d times", path, done-before)
		}
	}
	// One whose process died is another's after a while.
	at := store.Precise(now)
	c := web.Claim{Scope: "acme", Key: []byte("k"), Digest: []byte("d"), ID: "first", At: at, Stale: at.Add(-time.Minute), Until: at.Add(time.Hour)}
	if got, err := s.Claim(t.Context(), c); err != nil || !got.Mine {
		t.Fatalf("%+v %v", got, err)
	}
	c.ID, c.At, c.Stale = "second", at.Add(2*time.Minute), at.Add(time.Minute)
	if got, err := s.Claim(t.Context(), c); err != nil || !got.Mine {
		t.Errorf("of the dead: %+v %v", got, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.ForgetClaims(t.Context(), at.Add(2*time.Hour)) })
	c.ID = "third"
	if got, err := s.Claim(t.Context(), c); err != nil || !got.Mine {
		t.Errorf("forgotten: %+v %v", got, err)
	}
	// And one whose time is up is forgotten by whoever comes next.
	c.ID, c.At, c.Stale, c.Until = "fourth", at.Add(3*time.Hour), at.Add(2*time.Hour), at.Add(4*time.Hour)
	if got, err := s.Claim(t.Context(), c); err != nil || !got.Mine {
		t.Errorf("out of time: %+v %v", got, err)
	}
}

// once carries out what is good in a transaction of its own, and counts it.
func once(s *store.Store, done *int) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		if string(body) != "good" {
			return fault.Conflict.New("no")
		}
		if err := s.InTx(r.Context(), func(*store.Tx) error { return nil }); err != nil {
			return err
		}
		*done++
		w.WriteHeader(http.StatusCreated)
		return nil
	}
}

func testLocked(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addSink(t, s, "s1", delivery.Start{}, "*")
	inTx(t, s, func(tx *store.Tx) error {
		f, errF := tx.LockFormation(ctx, key)
		sink, errS := tx.LockSink(ctx, "acme", "s1")
		formations, errN := tx.CountFormations(ctx, "acme")
		sinks, errM := tx.CountSinks(ctx, "acme")
		if f.App != key.App || sink.ID != "s1" || formations != 1 || sinks != 1 {
			t.Errorf("%+v %+v %d %d", f, sink, formations, sinks)
		}
		return errors.Join(errF, errS, errN, errM)
	})
}

func testOrgKeyIsItsOwn(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	inTx(t, s, func(tx *store.Tx) error { return tx.SetOrgKey(ctx, "acme", "local:one", now) })
	if id, since, err := s.OrgKey(ctx, "acme"); id != "local:one" || !since.Equal(store.Precise(now)) || err != nil {
		t.Errorf("%q %s %v", id, since, err)
	}
	if id, _, err := s.OrgKey(ctx, "rival"); id != "" || err != nil {
		t.Errorf("another's: %q %v", id, err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.SetOrgKey(ctx, "acme", "", now) })
	if id, _, err := s.OrgKey(ctx, "acme"); id != "" || err != nil {
		t.Errorf("taken away: %q %v", id, err)
	}
}

func testRootOf(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	inTx(t, s, func(tx *store.Tx) error { return tx.PutGenesis(ctx, key, []byte("sealed genesis")) })
	for id, want := range map[string]string{authority.GenesisID: "sealed genesis", "a2": "sealed a2"} {
		root, err := s.RootOf(ctx, authority.Authority{Key: key, ID: id, PublicKey: []byte{1}, Sealed: []byte("sealed a2")})
		if err != nil || string(root.Sealed) != want || root.Shut {
			t.Errorf("%s: %+v %v", id, root, err)
		}
	}
}
