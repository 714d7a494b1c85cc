package federation_test

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const adminToken = "the-admin-token"

// tokenWorld is the function on a store of its own, behind a gate that knows service
// tokens, at a time that the test sets.
type tokenWorld struct {
	t     *testing.T
	store *store.Store
	key   token.Key
	now   time.Time
	http.Handler
}

func newTokenWorld(t *testing.T, change ...func(*federation.Deps)) *tokenWorld {
	t.Helper()
	st, err := store.Open(t.Context(), "sqlite:"+t.TempDir()+"/store.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	key, err := token.ParseKey(strings.Repeat("42", 32))
	if err != nil {
		t.Fatal(err)
	}
	w := &tokenWorld{t: t, store: st, key: key, now: time.Date(2026, 3, 4, 5, 6, 7, 123_456_789, time.UTC)}
	now := func() time.Time { return w.now }
	d := federation.Deps{Store: st, Tokens: key, Random: &shared{from: rand.NewChaCha8([32]byte{1})}, Notify: func() {}, Now: now}
	for _, c := range change {
		c(&d)
	}
	gate := access.Gate{
		Bootstrap: access.NewBootstrap(adminToken),
		Services:  access.NewChecker(access.CheckerDeps{Directory: st, Key: key, Now: now}),
	}
	w.Handler = openapitest.New(t).Handler(t, web.Mux(federation.New(d).Routes(), web.Options{Authorize: gate.Authorize}))
	w.org("acme", 10)
	w.org("rival", 10)
	w.formation("acme", "logistics")
	w.formation("acme", "medevac")
	return w
}

func (w *tokenWorld) org(id tenant.OrgID, tokens int) {
	w.t.Helper()
	quotas := tenant.DefaultQuotas()
	quotas.MaxTokens = tokens
	w.inTx(func(tx *store.Tx) error {
		return tx.CreateOrg(context.Background(), tenant.Org{ID: id, DisplayName: string(id), Quotas: quotas, CreatedAt: w.now})
	})
}

func (w *tokenWorld) formation(org tenant.OrgID, app tenant.AppID) {
	w.t.Helper()
	w.inTx(func(tx *store.Tx) error {
		return tx.CreateFormation(context.Background(), tenant.Formation{Org: org, App: app, MeshID: "ABCD1234", Policy: tenant.Controlled,
			State: tenant.Active, AuthorityPublicKey: []byte{1}, CreatedAt: w.now})
	})
}

func (w *tokenWorld) inTx(fn func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.store.InTx(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// as makes a request with a bearer token.
func (w *tokenWorld) as(bearer, method, path, body string) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("X-Request-Id", "r-1")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	out := httptest.NewRecorder()
	w.ServeHTTP(out, r)
	return out
}

// do is a request of the administrator that must be answered with the status; it
// returns the body.
func (w *tokenWorld) do(method, path, body string, status int) []byte {
	w.t.Helper()
	got := w.as(adminToken, method, path, body)
	if got.Code != status {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, got.Code, status, got.Body)
	}
	return got.Body.Bytes()
}

// made is what of a new token the tests go on with.
type made struct {
	ID    string `json:"token_id"`
	Token string `json:"token"`
}

func (w *tokenWorld) make(path, body string) made {
	w.t.Helper()
	var m made
	if err := json.Unmarshal(w.do("POST", path, body, 201), &m); err != nil || m.ID == "" || m.Token == "" {
		w.t.Fatalf("%+v %v", m, err)
	}
	return m
}

// actions are what the audit trail tells, and what it says beside.
func (w *tokenWorld) actions() (list []string, details string) {
	w.t.Helper()
	trail, err := w.store.AuditTrail(context.Background(), "acme", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range trail {
		if a.RequestID != "r-1" || a.Actor == "" {
			w.t.Errorf("%s by %q in %q", a.Action, a.Actor, a.RequestID)
		}
		list = append(list, a.Action+" "+a.Target)
		text, err := json.Marshal(a)
		if err != nil {
			w.t.Fatal(err)
		}
		details += string(text)
	}
	return list, details
}

// shared lets several draw from one source of chance.
type shared struct {
	mu   sync.Mutex
	from io.Reader
}

func (s *shared) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from.Read(p)
}
