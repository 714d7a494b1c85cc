package gateway_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// noAct is each route that changes something, or looks as if it did, and leaves no
// entry, with the reason.
var noAct = map[string]string{
	"POST /orgs/{org}/cdc/sinks/preview":                         "it changes nothing",
	"POST /orgs/{org}/formations/{app}/cdc/sinks/preview":        "it changes nothing",
	"POST /orgs/{org}/policy/check":                              "it changes nothing",
	"POST /orgs/{org}/policy/evaluate":                           "it changes nothing",
	"POST /orgs/{org}/policy/replay":                             "it changes nothing",
	"POST /orgs/{org}/formations/{app}/policy/check":             "it changes nothing",
	"POST /orgs/{org}/formations/{app}/policy/evaluate":          "it changes nothing",
	"POST /orgs/{org}/formations/{app}/policy/replay":            "it changes nothing",
	"POST /orgs/{org}/formations/{app}/cdc/consumers/{name}/ack": "a receiver says how far it is, all the time; going back is an act",
}

// TestEveryActIsRecorded takes every route by which something is changed, and looks
// for the entry it must leave: whose act it was, in which request.
func TestEveryActIsRecorded(t *testing.T) {
	w := newActs(t)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	w.act("POST /orgs", "", `{"org_id":"acme","display_name":"Acme"}`)
	w.act("PATCH /orgs/{org}", "", `{"display_name":"ACME"}`)
	w.act("POST /orgs/{org}/formations", "", `{"app_id":"logistics"}`)
	w.act("PATCH /orgs/{org}/formations/{app}", "", `{"enrollment_policy":"strict"}`)
	w.act("POST /orgs/{org}/formations/{app}/suspend", "", "")
	w.act("POST /orgs/{org}/formations/{app}/resume", "", "")
	formation := tenant.Key{Org: "acme", App: "logistics"}
	w.log(formation, 40)
	w.act("PUT /orgs/{org}/key", "", `{"key_id":"`+w.key()+`"}`)
	w.act("DELETE /orgs/{org}/key", "", "")

	w.act("PUT /orgs/{org}/key", "", fmt.Sprintf(`{"key_id":%q}`, w.get("/orgs/acme/key")["key_id"]))
	w.act("DELETE /orgs/{org}/key", "", "")
	w.act("PATCH /orgs/{org}/formations/{app}", "", `{"enrollment_policy":"strict"}`)
	w.act("POST /orgs/{org}/formations/{app}/suspend", "", `{}`)
	w.act("POST /orgs/{org}/formations/{app}/resume", "", `{}`)
	w.tokens()
	w.policies()
	w.waiting(formation)
	w.certificates(formation)

	ticket := w.act("POST /orgs/{org}/formations/{app}/sync-tickets", "", `{"peer_id":"p"}`)["ticket_id"]
	w.act("DELETE /orgs/{org}/formations/{app}/sync-tickets/{ticket}", fmt.Sprint("ticket=", ticket), "")
	consumer := "/orgs/{org}/formations/{app}/cdc/consumers/{name}"
	w.act("PUT "+consumer, "name=c", `{"start":"now"}`)
	w.act("PUT "+consumer, "name=c", `{"format":"raw"}`)
	w.act("DELETE "+consumer, "name=c", "")
	w.act("POST /orgs/{org}/cdc/signing-keys/rotate", "", `{}`)

	enrollment := "/orgs/{org}/formations/{app}/enrollment/tokens"
	token := fmt.Sprint("token=", w.act("POST "+enrollment, "", `{"label":"a"}`)["token_id"])
	w.act("POST "+enrollment+"/{token}/revoke", token, `{"certificates":true}`)
	w.act("DELETE "+enrollment+"/{token}", token, "")
	token = fmt.Sprint("token=", w.act("POST /orgs/{org}/tokens", "", `{"label":"a","role":"viewer"}`)["token_id"])
	w.act("POST /orgs/{org}/tokens/{token}/revoke", token, "")

	w.providers()
	for _, base := range []string{"/orgs/{org}/formations/{app}/cdc/sinks", "/orgs/{org}/cdc/sinks"} {
		formations := ""
		if base == "/orgs/{org}/cdc/sinks" {
			formations = `"formations":["logistics"],`
		}
		made := w.act("POST "+base, "", `{"kind":"webhook",`+formations+`"config":{"url":"`+receiver.URL+`"}}`)
		id := fmt.Sprint(made["sink_id"])
		sink := "sink=" + id
		w.act("PATCH "+base+"/{sink}", sink, `{"format":"both"}`)
		w.act("POST "+base+"/{sink}/rotate-secret", sink, `{}`)
		w.act("POST "+base+"/{sink}/test", sink, "")
		w.act("POST "+base+"/{sink}/check", sink, "")
		w.act("POST "+base+"/{sink}/pause", sink, "")
		w.act("POST "+base+"/{sink}/resume", sink, "")
		w.act("POST "+base+"/{sink}/disable", sink, `{"reason":"the test"}`)
		for n, decision := range []string{"redrive", "skip", "purge"} {
			held := w.park(formation, id, n)
			w.act("POST "+base+"/{sink}/dead-letters/{id}/"+decision, sink+"&id="+held, "")
			w.park(formation, id, 10+n)
			w.act("POST "+base+"/{sink}/dead-letters/"+decision, sink, `{"all":true}`)
		}
		replay := w.act("POST "+base+"/{sink}/replays", sink, `{"formation":"logistics"}`)["replay_id"]
		w.act("POST "+base+"/{sink}/replays/{replay}/cancel", fmt.Sprint(sink, "&replay=", replay), "")
		w.act("DELETE "+base+"/{sink}", sink, "")
	}
	w.act("DELETE /orgs/{org}/formations/{app}", "", "")
	w.act("DELETE /orgs/{org}", "", "")
	w.complete()
}

// tokens takes the routes of both kinds of tokens.
func (w *acts) tokens() {
	w.t.Helper()
	enrollment := "/orgs/{org}/formations/{app}/enrollment/tokens"
	made := fmt.Sprint("token=", w.act("POST "+enrollment, "", `{"label":"trucks"}`)["token_id"])
	w.act("POST "+enrollment+"/{token}/revoke", made, `{}`)
	w.act("DELETE "+enrollment+"/{token}", made, "")
	made = fmt.Sprint("token=", w.act("POST /orgs/{org}/tokens", "", `{"label":"exporter","role":"viewer"}`)["token_id"])
	w.act("POST /orgs/{org}/tokens/{token}/revoke", made, "")
}

// policies takes the routes by which rules are changed.
func (w *acts) policies() {
	w.t.Helper()
	for _, base := range []string{"/orgs/{org}/policy", "/orgs/{org}/formations/{app}/policy"} {
		w.act("PUT "+base, "", `{"rules":[{"id":"all","effect":"allow"}]}`)
		w.act("PUT "+base, "", `{"rules":[]}`)
		w.act("POST "+base+"/rollback", "", `{"version":1}`)
	}
}

// waiting takes the routes of nodes that wait for an administrator, and of those who
// are with the organization no more. The formation is strict.
func (w *acts) waiting(key tenant.Key) {
	w.t.Helper()
	token := w.call("POST", "/orgs/acme/formations/logistics/enrollment/tokens", `{"label":"trucks","max_uses":2}`, "looking")["token"]
	meshID := fmt.Sprint(w.get("/orgs/acme/formations/logistics")["mesh_id"])
	for i, decision := range []string{"approve", "deny"} {
		private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 100)}, ed25519.SeedSize))
		at := time.Now().Truncate(time.Millisecond)
		possession := authority.Possession{
			Purpose: authority.ForEnroll, Key: key, MeshID: meshID, NodeID: decision, Subject: private.Public().(ed25519.PublicKey), At: at,
		}
		wish, err := json.Marshal(map[string]any{
			"token": token, "public_key": hex.EncodeToString(possession.Subject), "node_id": decision,
			"proof": map[string]any{"timestamp_ms": at.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(private, possession.Message()))},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		waits := w.call("POST", "/orgs/acme/formations/logistics/enroll", string(wish), "looking")["enrollment_id"]
		w.act("POST /orgs/{org}/formations/{app}/enrollments/{enrollment}/"+decision, fmt.Sprint("enrollment=", waits), `{"note":"the test"}`)
	}
	w.act("POST /orgs/{org}/identity/offboard", "", `{"provider_id":"idp","subject":"ann","certificates":true}`)
	w.act("POST /orgs/{org}/identity/reinstate", "", `{"provider_id":"idp","subject":"ann"}`)
}

// providers takes the routes of identity providers.
func (w *acts) providers() {
	w.t.Helper()
	const base = "/orgs/{org}/identity-providers"
	made := w.act("POST "+base, "", `{"kind":"introspection","label":"a","config":{"introspection_url":"http://127.0.0.1:1/x","client_id":"a","client_secret":"b","any_audience":true}}`)
	provider := fmt.Sprint("provider=", made["provider_id"])
	w.act("PATCH "+base+"/{provider}", provider, `{"label":"b"}`)
	w.act("POST "+base+"/{provider}/disable", provider, "")
	w.act("POST "+base+"/{provider}/enable", provider, "")
	w.act("POST "+base+"/{provider}/rotate-secret", provider, `{"client_secret":"c"}`)
	w.act("POST "+base+"/{provider}/check", provider, "")
	w.act("DELETE "+base+"/{provider}", provider, "")
}

// certificates takes the routes of certificates and of the authorities that sign them.
func (w *acts) certificates(key tenant.Key) {
	w.t.Helper()
	base := "/orgs/{org}/formations/{app}"
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := private.Public().(ed25519.PublicKey)
	at := time.Now().Truncate(time.Millisecond)
	possession := authority.Possession{
		Purpose: authority.ForIssue, Key: key, MeshID: fmt.Sprint(w.get("/orgs/acme/formations/logistics")["mesh_id"]), NodeID: "n1", Subject: public, At: at,
	}
	order, err := json.Marshal(map[string]any{
		"public_key": hex.EncodeToString(public), "node_id": "n1",
		"proof": map[string]any{"timestamp_ms": at.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(private, possession.Message()))},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	serial := w.act("POST "+base+"/certificates", "", string(order))["serial"]
	w.act("POST "+base+"/certificates/{serial}/revoke", fmt.Sprint("serial=", serial), `{"reason":"device_lost"}`)
	w.act("POST "+base+"/authority/prepare", "", "")
	w.act("POST "+base+"/authority/activate", "", "")
	w.act("POST "+base+"/authority/retire", "", `{"authority_id":"genesis","force":true}`)
	w.act("POST "+base+"/authority/prepare", "", "")
	next := w.get("/orgs/acme/formations/logistics/authority")
	w.act("POST "+base+"/authority/taint", "", fmt.Sprintf(`{"authority_id":%q,"reason":"stolen"}`, activeOf(next)))
}

// activeOf is the id of the authority that signs.
func activeOf(answer map[string]any) any {
	list, _ := answer["items"].([]any)
	for _, item := range list {
		if a, ok := item.(map[string]any); ok && a["state"] == "active" {
			return a["authority_id"]
		}
	}
	return nil
}

// acts calls routes and looks at the audit trail.
type acts struct {
	t       *testing.T
	handler http.Handler
	store   *store.Store
	routes  []web.Route
	taken   map[string]bool
	n       int
}

func newActs(t *testing.T) *acts {
	t.Helper()
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	host, err := gateway.NewHost(settings(t, map[string]string{"PEAT_DATABASE_URL": url, "PEAT_WEBHOOK_ALLOW": "127.0.0.0/8", "PEAT_IDENTITY_ALLOW": "127.0.0.0/8"}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	w := &acts{t: t, taken: map[string]bool{}}
	var names []string
	for _, e := range gateway.Catalog() {
		p, err := e.Open(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := p.(io.Closer); ok {
			t.Cleanup(func() { _ = c.Close() })
		}
		if r, ok := p.(gateway.Router); ok {
			names = append(names, e.Name)
			w.routes = append(w.routes, r.Routes()...)
		}
	}
	if w.store, err = host.Store(t.Context()); err != nil {
		t.Fatal(err)
	}
	serving, err := host.Open(t.Context(), names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serving.Close() })
	w.handler = serving
	return w
}

// key is the id of the gateway's own key, which an organization may have by name.
func (w *acts) key() string {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/orgs/acme/key", nil)
	r.Header.Set("Authorization", "Bearer token")
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	var out struct {
		ID string `json:"key_id"`
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil || out.ID == "" {
		w.t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	return out.ID
}

// act takes a route, with acme and logistics and the given values in its path, and
// fails unless that leaves an entry. It returns the answer.
func (w *acts) act(pattern, values, body string) map[string]any {
	w.t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	for value := range strings.SplitSeq("org=acme&app=logistics&"+values, "&") {
		name, v, _ := strings.Cut(value, "=")
		path = strings.ReplaceAll(path, "{"+name+"}", v)
	}
	w.n++
	request := fmt.Sprintf("act-%d", w.n)
	answer := w.call(method, path, body, request)
	w.taken[pattern] = true
	trail, err := w.store.AuditTrail(w.t.Context(), "acme", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	found := slices.ContainsFunc(trail, func(a store.Audit) bool {
		return a.RequestID == request && a.Actor == "bootstrap-admin" && a.Action != "" && a.Target != ""
	})
	if !found {
		w.t.Errorf("%s leaves no entry", pattern)
	}
	return answer
}

func (w *acts) get(path string) map[string]any {
	w.t.Helper()
	return w.call("GET", path, "", "looking")
}

// call makes a request as the administrator and returns the answer.
func (w *acts) call(method, path, body, request string) map[string]any {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	r.Header.Set("X-Request-Id", request)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	out := httptest.NewRecorder()
	w.handler.ServeHTTP(out, r)
	if out.Code >= 300 {
		w.t.Fatalf("%s %s: %d: %s", method, path, out.Code, out.Body)
	}
	var answer map[string]any
	_ = json.Unmarshal(out.Body.Bytes(), &answer) // some answer nothing
	return answer
}

// complete fails for every route that was neither taken nor excused.
func (w *acts) complete() {
	w.t.Helper()
	for _, r := range w.routes {
		if strings.HasPrefix(r.Pattern, "GET ") || r.Need == web.Anyone || w.taken[r.Pattern] || noAct[r.Pattern] != "" {
			continue
		}
		w.t.Errorf("%s changes something, and nothing here shows that this is recorded", r.Pattern)
	}
	for pattern := range noAct {
		if !slices.ContainsFunc(w.routes, func(r web.Route) bool { return r.Pattern == pattern }) {
			w.t.Errorf("there is no route %q", pattern)
		}
	}
}

// log gives a formation documents with one change each.
func (w *acts) log(key tenant.Key, n int) {
	w.t.Helper()
	var batch []change.Settled
	for i := range n {
		batch = append(batch, change.Settled{
			Change: change.Change{Hash: change.Hash{byte(i + 1)}, Raw: []byte{1}, Patches: []byte("[]")}, Document: fmt.Sprintf("d%d", i), Seq: 1,
			ReceivedAt: time.Now(), Origin: change.Sync,
		})
	}
	w.tx(func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.AppendChanges(ctx, key, batch)
		return err
	})
}

// park makes a dead letter of a document and returns its id.
func (w *acts) park(key tenant.Key, sink string, n int) string {
	w.t.Helper()
	id := ulid.Make().String()
	w.tx(func(ctx context.Context, tx *store.Tx) error {
		return tx.SaveHeld(ctx, delivery.Held{
			ID: id, Org: key.Org, App: key.App, Sink: sink, Document: fmt.Sprintf("d%d", n), FromSeq: 1, Hash: change.Hash{byte(n + 1)},
			State: delivery.Parked, Since: time.Now(),
		})
	})
	return id
}

func (w *acts) tx(fn func(context.Context, *store.Tx) error) {
	w.t.Helper()
	if err := w.store.InTx(w.t.Context(), func(tx *store.Tx) error { return fn(w.t.Context(), tx) }); err != nil {
		w.t.Fatal(err)
	}
}
