package federation_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const trailReader = "the-admin-token"

// world is the function on a store of its own.
type world struct {
	t        *testing.T
	store    *store.Store
	url      string
	key      audit.Key
	function *federation.Function
	now      time.Time
	http.Handler
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldAt(t, "sqlite:"+t.TempDir()+"/store.db")
}

// newWorldAt is newWorld on a database that may be there already.
func newWorldAt(t *testing.T, url string) *world {
	t.Helper()
	w := &world{t: t, url: url, now: time.Date(2026, 3, 4, 5, 6, 7, 123_456_000, time.UTC)}
	st, err := store.Open(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	w.store = st
	w.use(strings.Repeat("07", 32))
	return w
}

// use opens the function with an audit key, on the same store.
func (w *world) use(keys string) {
	w.t.Helper()
	key, err := audit.ParseKey(keys)
	if err != nil {
		w.t.Fatal(err)
	}
	w.key = key
	w.function = federation.New(federation.Deps{
		Store: w.store, Notify: func() {}, Key: key, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
	})
	mux := web.Mux(w.function.Routes(), web.Options{Authorize: access.NewBootstrap(trailReader).Authorize})
	w.Handler = openapitest.New(w.t).Handler(w.t, mux)
}

func (w *world) get(path string, status int) []byte {
	w.t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Authorization", "Bearer "+trailReader)
	out := httptest.NewRecorder()
	w.ServeHTTP(out, r)
	if out.Code != status {
		w.t.Fatalf("GET %s: %d, want %d: %s", path, out.Code, status, out.Body)
	}
	return out.Body.Bytes()
}

// act appends an entry, a second after the one before.
func (w *world) act(org tenant.OrgID, action, actor, target string) {
	w.t.Helper()
	w.now = w.now.Add(time.Second)
	w.tx(func(tx *store.Tx) error {
		return tx.AppendAudit(w.t.Context(), store.Audit{Org: org, At: w.now, Actor: actor, Action: action, Target: target, RequestID: "r-1"})
	})
}

func (w *world) tx(fn func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.store.InTx(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// org makes an organization, with the entry of that.
func (w *world) org(org tenant.OrgID) {
	w.t.Helper()
	w.tx(func(tx *store.Tx) error {
		return tx.CreateOrg(w.t.Context(), tenant.Org{ID: org, DisplayName: "X", Quotas: tenant.DefaultQuotas(), CreatedAt: w.now})
	})
	w.act(org, audit.OrgCreate, "root", string(org))
}

func (w *world) deleteOrg(org tenant.OrgID) {
	w.t.Helper()
	w.tx(func(tx *store.Tx) error { return tx.DeleteOrg(w.t.Context(), org) })
	w.act(org, "org.delete", "root", string(org))
}

// sweep is one round of what keeps trails linked and signed.
func (w *world) sweep() error {
	w.t.Helper()
	for _, s := range w.function.Events() {
		if s.Type == event.PingType {
			return s.Handle(context.Background(), event.Ping(w.now))
		}
	}
	w.t.Fatal("the sweep is not heard")
	return nil
}

// tamper changes the database as somebody might who can write to it.
func (w *world) tamper(statement string, args ...any) {
	w.t.Helper()
	db, err := sqldb.Open(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.InTx(w.t.Context(), func(tx *sql.Tx) error {
		res, err := tx.ExecContext(w.t.Context(), statement, args...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			w.t.Fatalf("%s changed nothing: %v", statement, err)
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

// verify checks an export with the gateway's key.
func (w *world) verify(data []byte, terms audit.Terms) audit.Report {
	w.t.Helper()
	terms.Keys, terms.MaxFindings = []audit.PublicKey{w.key.Public()}, 10
	r, err := audit.Verify(strings.NewReader(string(data)), terms)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

type page[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

func decode[T any](t *testing.T, body []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

// walk reads all pages of a list and returns what f says of each item.
func walk[T any](w *world, path string, f func(T) string) []string {
	w.t.Helper()
	var out []string
	for next := path; ; {
		p := decode[page[T]](w.t, w.get(next, 200))
		for _, item := range p.Items {
			out = append(out, f(item))
		}
		if p.Next == nil {
			return out
		}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		next = path + sep + "cursor=" + *p.Next
	}
}
