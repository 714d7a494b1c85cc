package orgs_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

const onceKey = "5d3f6a0e-8b1c-4c55-9a55-0d6f7c1a2b3c"

// TestThirtyTwoEqualRequestsAreOne on both engines: one formation is made, and all
// are answered alike.
func TestThirtyTwoEqualRequestsAreOne(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := openWorld(t, url, quiet)
		w.org("acme")
		var mu sync.Mutex
		answers, replayed := map[string]int{}, 0
		together(32, func(int) {
			got := w.call("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, "Idempotency-Key", onceKey)
			mu.Lock()
			defer mu.Unlock()
			answers[fmt.Sprint(got.Code, got.Header().Get("Location"), got.Header().Get("ETag"), got.Header().Get("Content-Type"), got.Body)]++
			if got.Header().Get("Idempotency-Replayed") == "true" {
				replayed++
			}
		})
		if len(answers) != 1 || replayed != 31 {
			t.Errorf("%d replayed, %d different answers: %v", replayed, len(answers), answers)
		}
		for answer := range answers {
			if answer[:3] != "201" {
				t.Error(answer)
			}
		}
		if list, err := w.store.Formations(t.Context(), "acme", "", "", 10); err != nil || len(list) != 1 {
			t.Errorf("%v %v", list, err)
		}
	})
}

func TestWhatAKeyMeans(t *testing.T) {
	const body = `{"app_id":"logistics"}`
	post := func(w *world, headers ...string) int {
		return w.call("POST", "/orgs/acme/formations", body, headers...).Code
	}
	for name, tc := range map[string]struct {
		then func(t *testing.T, w *world) int
		want int
	}{
		"the same again": {func(t *testing.T, w *world) int { return post(w, "Idempotency-Key", onceKey) }, 201},
		"without a key":  {func(t *testing.T, w *world) int { return post(w) }, 409},
		"another key":    {func(t *testing.T, w *world) int { return post(w, "Idempotency-Key", "other") }, 409},
		"another body": {func(t *testing.T, w *world) int {
			return w.call("POST", "/orgs/acme/formations", `{"app_id":"medevac"}`, "Idempotency-Key", onceKey).Code
		}, 422},
		"another organization": {func(t *testing.T, w *world) int {
			w.org("rival")
			return w.call("POST", "/orgs/rival/formations", body, "Idempotency-Key", onceKey).Code
		}, 201},
		"another route": {func(t *testing.T, w *world) int {
			return w.call("POST", "/orgs", `{"org_id":"x","display_name":"X"}`, "Idempotency-Key", onceKey).Code
		}, 201},
		"a key of spaces": {func(t *testing.T, w *world) int { return post(w, "Idempotency-Key", "a b") }, 400},
		"a key without end": {func(t *testing.T, w *world) int {
			return post(w, "Idempotency-Key", string(bytes.Repeat([]byte("x"), 256)))
		}, 400},
		"nobody": {func(t *testing.T, w *world) int { return post(w, "Idempotency-Key", onceKey, "Authorization", "") }, 401},
		"where it is nothing": {func(t *testing.T, w *world) int {
			return w.call("POST", path+"/suspend", "", "Idempotency-Key", "a b").Code
		}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.org("acme")
			if got := post(w, "Idempotency-Key", onceKey); got != 201 {
				t.Fatal(got)
			}
			if got := tc.then(t, w); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

// TestWhatFailedMayBeSentAgain: only success is remembered.
func TestWhatFailedMayBeSentAgain(t *testing.T) {
	w := newWorld(t)
	w.do("POST", "/orgs", `{"org_id":"acme","display_name":"A","quotas":{"max_formations":0}}`, 201)
	post := func() int {
		return w.call("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, "Idempotency-Key", onceKey).Code
	}
	if got := post(); got != http.StatusTooManyRequests {
		t.Fatal(got)
	}
	w.do("PATCH", "/orgs/acme", `{"quotas":{"max_formations":1}}`, 200)
	if got := post(); got != http.StatusCreated {
		t.Error(got)
	}
}

// TestAnswersAreSealed: who reads the store does not read answers, and with another
// secret of the gateway nobody does.
func TestAnswersAreSealed(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.call("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, "Idempotency-Key", onceKey)
	var kept []byte
	claims := spy{w.store, func(c web.Claimed) { kept = c.Answer }}
	other := openClaims(t, w, claims, "the-admin-token")
	if got := other.call("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, "Idempotency-Key", onceKey); got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	if len(kept) == 0 || bytes.Contains(kept, []byte("logistics")) || bytes.Contains(kept, []byte("mesh_id")) {
		t.Errorf("kept: %q", kept)
	}
	other = openClaims(t, w, claims, "another-secret")
	if got := other.call("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, "Idempotency-Key", onceKey); got.Code != 409 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// TestADeadProcessLeavesNothingTwice: one that died before it did anything is taken
// over in time, one that died after is not carried out again.
func TestADeadProcessLeavesNothingTwice(t *testing.T) {
	const body = `{"app_id":"logistics"}`
	for name, tc := range map[string]struct {
		claims func(s *store.Store) web.Claims
		first  int
		want   int
	}{
		"before it was done": {func(s *store.Store) web.Claims { return dying{s, false} }, 429, 201},
		"after it was done":  {func(s *store.Store) web.Claims { return dying{s, true} }, 201, 409},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			quota := 1
			if tc.first == 429 {
				quota = 0
			}
			w.do("POST", "/orgs", fmt.Sprintf(`{"org_id":"acme","display_name":"A","quotas":{"max_formations":%d}}`, quota), 201)
			dead := openClaims(t, w, tc.claims(w.store), token)
			if got := dead.call("POST", "/orgs/acme/formations", body, "Idempotency-Key", onceKey); got.Code != tc.first {
				t.Fatalf("%d %s", got.Code, got.Body)
			}
			w.do("PATCH", "/orgs/acme", `{"quotas":{"max_formations":1}}`, 200)
			if got := w.call("POST", "/orgs/acme/formations", body, "Idempotency-Key", onceKey); got.Code != tc.want {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			if list, err := w.store.Formations(t.Context(), "acme", "", "", 10); err != nil || len(list) != 1 {
				t.Errorf("%v %v", list, err)
			}
		})
	}
}

// spy sees what is remembered.
type spy struct {
	*store.Store
	see func(web.Claimed)
}

func (s spy) Claim(ctx context.Context, c web.Claim) (web.Claimed, error) {
	got, err := s.Store.Claim(ctx, c)
	s.see(got)
	return got, err
}

// dying is a process that died two minutes ago, on the way: what it would have said
// afterwards is not said.
type dying struct {
	*store.Store
	done bool
}

func (d dying) Claim(ctx context.Context, c web.Claim) (web.Claimed, error) {
	c.At = c.At.Add(-2 * time.Minute)
	return d.Store.Claim(ctx, c)
}

func (dying) Finish(context.Context, web.Claim, []byte) error { return nil }
func (dying) Release(context.Context, web.Claim) error        { return nil }

// openClaims opens the function of a world with other claims and another secret.
func openClaims(t *testing.T, w *world, claims web.Claims, secret string) *world {
	other := *w
	mux := web.Mux(w.function.Routes(), web.Options{
		Authorize: access.NewBootstrap(token).Authorize, Claims: claims, Caller: access.NameOf, OnceSecret: []byte(secret),
	})
	other.Handler = openapitest.New(t).Handler(t, mux)
	return &other
}
