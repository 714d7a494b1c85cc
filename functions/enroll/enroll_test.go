package enroll_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const admin = "the-admin-token"

var key = tenant.Key{Org: "acme", App: "logistics"}

// world is the function on a store of its own, with a formation in it.
type world struct {
	t     testing.TB
	url   string
	store *store.Store
	keys  *keyring.Keyring
	http.Handler
	tokens token.Key
	log    journal

	mu  sync.Mutex
	now time.Time
}

// engines are the stores to be tried.
var engines = map[string]func(testing.TB) string{
	"sqlite":   func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "store.db") },
	"postgres": func(t testing.TB) string { return testenv.Postgres(t) },
}

func newWorld(t testing.TB, change ...func(*enroll.Deps)) *world {
	t.Helper()
	return openWorld(t, engines["sqlite"](t), change...)
}

// openWorld opens the function on the store of a URL and makes the formation if it
// is not there.
func openWorld(t testing.TB, url string, change ...func(*enroll.Deps)) *world {
	t.Helper()
	st, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	kek, err := envelope.ParseKEK(strings.Repeat("42", 32))
	if err != nil {
		t.Fatal(err)
	}
	local, err := envelope.NewLocal(kek)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, url: url, store: st, now: time.Date(2026, 3, 4, 5, 6, 7, 123_456_789, time.FixedZone("", 3600))}
	w.keys = keyring.New(keyring.Deps{
		Default: local.KeyID(), Root: st.Root, Provider: func(string) (envelope.KeyProvider, error) { return local, nil },
	})
	w.tokens, err = token.ParseKey(strings.Repeat("17", 32))
	if err != nil {
		t.Fatal(err)
	}
	d := enroll.Deps{
		Store: st, Keys: w.keys, Tokens: w.tokens, Random: &counter{n: 200}, Notify: func() {}, Log: slog.New(slog.NewJSONHandler(&w.log, nil)), Now: w.time,
	}
	for _, c := range change {
		c(&d)
	}
	mux := web.Mux(enroll.New(d).Routes(), web.Options{Authorize: access.NewBootstrap(admin).Authorize})
	w.Handler = mux
	if tt, ok := t.(*testing.T); ok {
		w.Handler = openapitest.New(tt).Handler(tt, mux)
	}
	if _, err := st.Formation(t.Context(), key); err != nil {
		w.formation(key, 100)
	}
	return w
}

// counter is randomness that a test can repeat.
type counter struct {
	mu sync.Mutex
	n  byte
}

func (c *counter) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	for i := range b {
		b[i] = c.n
	}
	return len(b), nil
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// later lets time pass.
func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// formation makes an organization and a formation with its root of trust.
func (w *world) formation(key tenant.Key, peers int) {
	w.t.Helper()
	seed := genesis.Secret(bytes.Repeat([]byte{7}, 32))
	root, err := genesis.FromSeed(string(key.App), tenant.Controlled, 1, seed)
	if err != nil {
		w.t.Fatal(err)
	}
	plain, err := root.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	sealed, err := w.keys.Seal(w.t.Context(), keyring.OfGenesis(key), plain)
	if err != nil {
		w.t.Fatal(err)
	}
	quotas := tenant.DefaultQuotas()
	quotas.MaxPeersPerFormation = peers
	if err := w.store.InTx(w.t.Context(), func(tx *store.Tx) error {
		if err := tx.CreateOrg(w.t.Context(), tenant.Org{ID: key.Org, DisplayName: "Acme", Quotas: quotas, CreatedAt: store.Precise(w.now)}); err != nil {
			return err
		}
		if err := tx.CreateFormation(w.t.Context(), tenant.Formation{
			Org: key.Org, App: key.App, MeshID: root.MeshID(), Policy: tenant.Controlled, State: tenant.Active,
			AuthorityPublicKey: root.AuthorityPublicKey(), CreatedAt: store.Precise(w.now),
		}); err != nil {
			return err
		}
		return tx.PutGenesis(w.t.Context(), key, sealed)
	}); err != nil {
		w.t.Fatal(err)
	}
}

const base = "/orgs/acme/formations/logistics"

// call makes a request as the administrator, or as nobody.
func (w *world) call(method, path string, body any, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	var text string
	switch b := body.(type) {
	case nil:
	case string:
		text = b
	default:
		out, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(out)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(text))
	r.Header.Set("Authorization", "Bearer "+admin)
	r.Header.Set("X-Request-Id", "r-1")
	if text != "" {
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
func (w *world) do(method, path string, body any, status int) []byte {
	w.t.Helper()
	got := w.call(method, path, body)
	if got.Code != status {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, got.Code, status, got.Body)
	}
	return got.Body.Bytes()
}

// node is a node with a key of its own.
type node struct {
	id      string
	private ed25519.PrivateKey
}

func newNode(id string, seed byte) node {
	return node{id, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))}
}

func (n node) public() []byte { return n.private.Public().(ed25519.PublicKey) }

// proves is the node's proof for a purpose at a time.
func (n node) proves(purpose authority.Purpose, serial string, at time.Time) map[string]any {
	p := authority.Possession{
		Purpose: purpose, Key: key, MeshID: meshID, NodeID: n.id, Subject: n.public(), Serial: serial, At: at.Truncate(time.Millisecond),
	}
	return map[string]any{"timestamp_ms": at.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(n.private, p.Message()))}
}

// meshID is that of the formation's seed.
var meshID = func() string {
	g, err := genesis.FromSeed("logistics", tenant.Controlled, 1, genesis.Secret(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		panic(err)
	}
	return g.MeshID()
}()

// order is a request for a certificate; more is laid over it.
func (w *world) order(n node, more map[string]any) map[string]any {
	out := map[string]any{"public_key": hex.EncodeToString(n.public()), "node_id": n.id, "proof": n.proves(authority.ForIssue, "", w.time())}
	maps.Copy(out, more)
	return out
}

// certificate is what a test looks at.
type certificate struct {
	Serial      string    `json:"serial"`
	State       string    `json:"state"`
	NodeID      string    `json:"node_id"`
	Authority   string    `json:"authority_id"`
	Certificate []byte    `json:"certificate"`
	IssuedAt    time.Time `json:"issued_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	RenewAfter  time.Time `json:"renew_after"`
	Replaces    string    `json:"replaces"`
	ReplacedBy  string    `json:"replaced_by"`
	Reason      string    `json:"reason"`
}

func parse[T any](t testing.TB, b []byte) T {
	t.Helper()
	var out T
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return out
}

// issue has a certificate issued.
func (w *world) issue(n node) certificate {
	w.t.Helper()
	return parse[certificate](w.t, w.do("POST", base+"/certificates", w.order(n, nil), 201))
}

func (w *world) get(serial string) certificate {
	w.t.Helper()
	return parse[certificate](w.t, w.do("GET", base+"/certificates/"+serial, nil, 200))
}

func (w *world) renew(n node, serial string) *httptest.ResponseRecorder {
	w.t.Helper()
	return w.call("POST", base+"/certificates/"+serial+"/renew", map[string]any{"proof": n.proves(authority.ForRenewal, serial, w.time())}, "Authorization", "")
}

type authorities struct {
	Items []struct {
		ID           string `json:"authority_id"`
		PublicKey    string `json:"public_key"`
		State        string `json:"state"`
		Certificates int    `json:"certificates"`
	} `json:"items"`
}

// states are the authorities' states and how much hangs on each, the oldest first.
func (w *world) states() (out []string) {
	w.t.Helper()
	items := parse[authorities](w.t, w.do("GET", base+"/authority", nil, 200)).Items
	for i := len(items) - 1; i >= 0; i-- {
		out = append(out, fmt.Sprintf("%s %d", items[i].State, items[i].Certificates))
	}
	return out
}

// authority returns the id of the newest authority in a state.
func (w *world) authority(state string) string {
	w.t.Helper()
	for _, a := range parse[authorities](w.t, w.do("GET", base+"/authority", nil, 200)).Items {
		if a.State == state {
			return a.ID
		}
	}
	w.t.Fatalf("no authority is %s", state)
	return ""
}
