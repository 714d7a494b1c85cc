package orgs_test

import (
	"context"
	crypto "crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/orgs"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

const token = "the-admin-token"

// world is the function on a store of its own.
type world struct {
	t        *testing.T
	store    *store.Store
	keys     envelope.KeyProvider
	deps     orgs.Deps
	notified int
	function *orgs.Function
	http.Handler
}

// newWorld opens the function; change may replace what it is given.
func newWorld(t *testing.T, change ...func(*orgs.Deps)) *world {
	t.Helper()
	return openWorld(t, "sqlite:"+t.TempDir()+"/store.db", change...)
}

// engines runs a test on each.
func engines(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("SQLite", func(t *testing.T) { test(t, "sqlite:"+t.TempDir()+"/store.db") })
	t.Run("Postgres", func(t *testing.T) { test(t, testenv.Postgres(t)) })
}

// openWorld opens the function on the store of a URL.
func openWorld(t *testing.T, url string, change ...func(*orgs.Deps)) *world {
	t.Helper()
	st, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return openOn(t, st, change...)
}

// quiet is for tests with many at once: chance that may be shared, and no count.
func quiet(d *orgs.Deps) { d.Random, d.Notify, d.Now = crypto.Reader, func() {}, time.Now }

// openOn opens the function on a store that is there.
func openOn(t *testing.T, st *store.Store, change ...func(*orgs.Deps)) *world {
	t.Helper()
	kek, err := envelope.ParseKEK(strings.Repeat("42", 32))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := envelope.NewLocal(kek)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: st, keys: keys}
	d := orgs.Deps{
		Log:   slog.New(slog.DiscardHandler),
		Store: st, Keys: keyring.Single(keys), Random: rand.NewChaCha8([32]byte{1}), Notify: func() { w.notified++ },
		// More precise than the store: what is answered must be what is kept.
		Now: func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 123_456_789, time.FixedZone("", 3600)) },
	}
	for _, c := range change {
		c(&d)
	}
	w.deps, w.function = d, orgs.New(d)
	mux := web.Mux(w.function.Routes(), web.Options{
		Authorize: access.NewBootstrap(token).Authorize, Claims: st, Caller: access.NameOf, OnceSecret: []byte(token),
	})
	w.Handler = openapitest.New(t).Handler(t, mux)
	return w
}

// call makes a request as the administrator; headers are names and values, and
// an empty value takes one away.
func (w *world) call(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("X-Request-Id", "r-1")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	out := httptest.NewRecorder()
	w.ServeHTTP(out, r)
	return out
}

// do is call that must be answered with the status; it returns the body.
func (w *world) do(method, path, body string, status int) []byte {
	w.t.Helper()
	got := w.call(method, path, body)
	if got.Code != status {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, got.Code, status, got.Body)
	}
	return got.Body.Bytes()
}

func (w *world) org(id string) {
	w.t.Helper()
	w.do("POST", "/orgs", `{"org_id":"`+id+`","display_name":"`+strings.ToUpper(id)+`"}`, 201)
}

func (w *world) formation(org, app string) {
	w.t.Helper()
	w.do("POST", "/orgs/"+org+"/formations", `{"app_id":"`+app+`"}`, 201)
}

// events are the types in the outbox, without what all have.
func (w *world) events() []string {
	w.t.Helper()
	waiting, err := w.store.Outbox(context.Background(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	var types []string
	for _, o := range waiting {
		t := strings.TrimPrefix(o.Event.Type(), "com.defenseunicorns.peat.gateway.")
		types = append(types, strings.TrimSuffix(t, ".v1"))
	}
	return types
}

// actions are what the audit trail of an organization tells.
func (w *world) actions() []string {
	w.t.Helper()
	trail, err := w.store.AuditTrail(context.Background(), "acme", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, a := range trail {
		if a.Actor != "bootstrap-admin" || a.RequestID != "r-1" {
			w.t.Errorf("%s by %q in %q", a.Action, a.Actor, a.RequestID)
		}
		out = append(out, a.Action+" "+a.Target)
	}
	return out
}

// brokenReader has no randomness to give.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// brokenKeys is a key service that is down.
type brokenKeys struct{}

var errDown = errors.New("dial 10.1.2.3: refused")

func (brokenKeys) KeyID() string { return "broken" }

func (brokenKeys) Wrap(context.Context, envelope.Record, []byte) ([]byte, error) {
	return nil, errDown
}

func (brokenKeys) Unwrap(context.Context, envelope.Record, []byte) ([]byte, error) {
	return nil, errDown
}

// TestContract shows every answer that a client written today relies on.
func TestContract(t *testing.T) {
	w := newWorld(t)
	for _, step := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"org_created", "POST", "/orgs", `{"org_id":"acme","display_name":"Acme Défense","quotas":{"max_formations":2}}`, 201},
		{"org_created_defaults", "POST", "/orgs", `{"org_id":"Zed_1","display_name":"Z"}`, 201},
		{"org", "GET", "/orgs/acme", "", 200},
		{"org_list", "GET", "/orgs", "", 200},
		{"org_list_page", "GET", "/orgs?limit=1", "", 200},
		{"org_patched_name", "PATCH", "/orgs/acme", `{"display_name":"Acme"}`, 200},
		{"org_patched_quota", "PATCH", "/orgs/acme", `{"quotas":{"max_cdc_sinks":0}}`, 200},
		{"org_patched_nothing", "PATCH", "/orgs/acme", `{}`, 200},
		{"formation_list_empty", "GET", "/orgs/acme/formations", "", 200},
		{"formation_created", "POST", "/orgs/acme/formations", `{"app_id":"logistics","enrollment_policy":"strict"}`, 201},
		{"formation_created_default", "POST", "/orgs/acme/formations", `{"app_id":"medevac"}`, 201},
		{"formation", "GET", "/orgs/acme/formations/logistics", "", 200},
		{"formation_list", "GET", "/orgs/acme/formations?limit=1", "", 200},
		{"org_with_usage", "GET", "/orgs/acme", "", 200},
		{"formation_over_quota", "POST", "/orgs/acme/formations", `{"app_id":"third"}`, 429},
		{"formation_duplicate", "POST", "/orgs/acme/formations", `{"app_id":"medevac"}`, 409},
		{"org_duplicate", "POST", "/orgs", `{"org_id":"acme","display_name":"Again"}`, 409},
		{"org_delete_refused", "DELETE", "/orgs/acme", "", 409},
		{"formation_deleted", "DELETE", "/orgs/acme/formations/logistics", "", 204},
		{"formation_gone", "GET", "/orgs/acme/formations/logistics", "", 404},
		{"formation_deleted_twice", "DELETE", "/orgs/acme/formations/logistics", "", 404},
		{"formation_last_deleted", "DELETE", "/orgs/acme/formations/medevac", "", 204},
		{"org_deleted", "DELETE", "/orgs/acme", "", 204},
		{"org_gone", "GET", "/orgs/acme", "", 404},
	} {
		body := w.do(step.method, step.path, step.body, step.status)
		if step.status == http.StatusNoContent {
			if len(body) != 0 {
				t.Errorf("%s: %s", step.name, body)
			}
			continue
		}
		goldentest.Check(t, "testdata/"+step.name+".json", goldentest.JSON(t, body))
	}
}

func TestListsWalkThroughEverything(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"c", "a", "e", "b", "d"} {
		w.org(id)
		w.formation("c", "app-"+id)
	}
	for _, path := range []string{"/orgs", "/orgs/c/formations"} {
		var got []string
		next := path + "?limit=2"
		for next != "" {
			var page struct {
				Items []map[string]any `json:"items"`
				Next  *string          `json:"next"`
			}
			if err := json.Unmarshal(w.do("GET", next, "", 200), &page); err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Items {
				id, ok := item["app_id"].(string)
				if !ok {
					id, _ = item["org_id"].(string)
				}
				got = append(got, strings.TrimPrefix(id, "app-"))
			}
			next = ""
			if page.Next != nil {
				next = path + "?limit=2&cursor=" + *page.Next
			}
		}
		if strings.Join(got, "") != "abcde" {
			t.Errorf("%s: %v", path, got)
		}
	}
}
