package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

const accessPage = "docs/access.md"

// doors are the routes of every function that belong to the API.
func doors(t *testing.T) []web.Route {
	t.Helper()
	var out []web.Route
	for _, p := range parts(t) {
		if r, ok := p.(gateway.Router); ok {
			out = append(out, r.Routes()...)
		}
	}
	slices.SortFunc(out, func(a, b web.Route) int { return strings.Compare(byPath(a.Pattern), byPath(b.Pattern)) })
	return out
}

func byPath(pattern string) string {
	method, path, _ := strings.Cut(pattern, " ")
	return path + " " + method
}

// TestAccessDocument keeps the table of docs/access.md equal to the routes.
func TestAccessDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("| route | least role | scope | tokens kept to formations |\n| --- | --- | --- | --- |\n")
	for _, r := range doors(t) {
		scope, known := access.ScopeOf(r.Pattern, r.Need)
		reach := "–"
		switch {
		case r.Need == web.Anyone || r.Need == web.GatewayAdmin:
			scope = ""
		case !known:
			t.Errorf("%s is in no area of shared/access/scope.go, so no token with scopes may take it", r.Pattern)
		case strings.Contains(r.Pattern, "{app}"):
			reach = "theirs"
		default:
			reach = "none"
		}
		shown := "–"
		if scope != "" {
			shown = "`" + string(scope) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Pattern, r.Need, shown, reach)
	}
	page, err := os.ReadFile(accessPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- routes -->\n", "<!-- end of routes -->"
	head, rest, found := strings.Cut(string(page), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the table", accessPage)
	}
	golden(t, accessPage, head+begin+b.String()+end+tail)
}

// promise is one line of the table of docs/access.md.
type promise struct{ role, scope, reach string }

func promises(t *testing.T) map[string]promise {
	t.Helper()
	page, err := os.ReadFile(accessPage)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]promise{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) == 6 && strings.Contains(cells[1], " /") {
			for i := range cells {
				cells[i] = strings.Trim(cells[i], " `–")
			}
			out[cells[1]] = promise{cells[2], cells[3], cells[4]}
		}
	}
	return out
}

// caller is somebody who calls the API, and what the page promises them at a door.
type caller struct {
	name, token string
	role        string // in acme; empty: nobody
	app         string // the only formation that they may see; empty: all
	scope       string // the only one they have; empty: all
}

// expect is the status of a door of acme's formation app, 200 where it opens.
func (c caller) expect(p promise, app string) int {
	rank := map[string]int{"viewer": 1, "org-admin": 2, "gateway-admin": 3}
	switch {
	case p.role == "anyone" || c.role == "gateway-admin":
		return 200
	case c.role == "":
		return 401
	case c.app != "" && p.reach == "theirs" && c.app != app:
		return 404
	case rank[c.role] < rank[p.role]:
		return 403
	case c.app != "" && p.reach == "none":
		return 403
	case c.scope == "" || c.scope == p.scope:
		return 200
	case strings.HasSuffix(p.scope, ":read") && c.scope == strings.TrimSuffix(p.scope, "read")+"write":
		return 200
	}
	return 403
}

// gatewayUnderTest is every function in one process, with acme and its formations
// logistics and medevac.
type gatewayUnderTest struct {
	t       *testing.T
	serving *gateway.Serving
	host    *gateway.Host
	admin   string // the administrator's token
}

// stop lets everything go; what is still to be written is written first.
func (g *gatewayUnderTest) stop() { _, _ = g.serving.Close(), g.host.Close() }

func startAll(t *testing.T, logs io.Writer, more map[string]string) *gatewayUnderTest {
	t.Helper()
	host, err := gateway.NewHost(settings(t, more), logs)
	if err != nil {
		t.Fatal(err)
	}
	s, err := host.OpenDev(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	g := &gatewayUnderTest{t, s, host, host.Settings.AdminToken.Reveal()}
	t.Cleanup(g.stop)
	g.must("POST", "/orgs", `{"org_id":"acme","display_name":"Acme"}`, 201)
	g.must("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, 201)
	g.must("POST", "/orgs/acme/formations", `{"app_id":"medevac"}`, 201)
	return g
}

// call makes a request; a stream is left as soon as it begins.
func (g *gatewayUnderTest) call(token, method, path, body string) *httptest.ResponseRecorder {
	g.t.Helper()
	return call(g.t, g.serving, token, method, path, body)
}

func call(t *testing.T, h http.Handler, token, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := leaving{httptest.NewRecorder(), cancel}
	func() {
		defer func() { // how a handler breaks off an answer whose reader has left
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
		}()
		h.ServeHTTP(w, r.WithContext(ctx))
	}()
	return w.ResponseRecorder
}

// must is a call of the administrator that has to be answered so.
func (g *gatewayUnderTest) must(method, path, body string, status int) []byte {
	g.t.Helper()
	got := g.call(g.admin, method, path, body)
	if got.Code != status {
		g.t.Fatalf("%s %s: %d, want %d: %s", method, path, got.Code, status, got.Body)
	}
	return got.Body.Bytes()
}

// serviceToken makes a service token of acme.
func (g *gatewayUnderTest) serviceToken(body map[string]any) string {
	g.t.Helper()
	body["label"] = "test"
	text, err := json.Marshal(body)
	if err != nil {
		g.t.Fatal(err)
	}
	var made struct{ Token string }
	if err := json.Unmarshal(g.must("POST", "/orgs/acme/tokens", string(text), 201), &made); err != nil || made.Token == "" {
		g.t.Fatal(err)
	}
	return made.Token
}

// callers are one of every kind.
func (g *gatewayUnderTest) callers() []caller {
	g.t.Helper()
	out := []caller{
		{name: "nobody"},
		{name: "somebody with a made-up token", token: "x"},
		{name: "somebody with a mistyped token", token: "peat_svc_0"},
		{name: "the administrator", token: "token", role: "gateway-admin"},
	}
	for _, role := range []string{"viewer", "org-admin"} {
		out = append(out,
			caller{name: role, role: role, token: g.serviceToken(map[string]any{"role": role})},
			caller{name: role + " of logistics", role: role, app: "logistics", token: g.serviceToken(map[string]any{"role": role, "formations": []string{"logistics"}})})
	}
	for _, s := range access.Scopes() {
		out = append(out, caller{name: string(s), role: "org-admin", scope: string(s),
			token: g.serviceToken(map[string]any{"role": "org-admin", "scopes": []access.Scope{s}})})
	}
	return out
}

// TestEveryDoorForEveryCaller holds the functions' tables and the gate that stands
// before them to what docs/access.md says. The doors lead nowhere: some of the rooms
// behind them would be gone after the first visit.
func TestEveryDoorForEveryCaller(t *testing.T) {
	g := startAll(t, io.Discard, nil)
	callers := g.callers()
	promised := promises(t)
	gate, err := g.host.Gate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	routes := doors(t)
	for i := range routes {
		routes[i].Handle = func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(200)
			return nil
		}
	}
	h := web.Mux(routes, web.Options{Authorize: gate.Authorize})
	tried := 0
	for _, r := range routes {
		p, ok := promised[r.Pattern]
		if !ok {
			t.Errorf("%s is not in %s", r.Pattern, accessPage)
			continue
		}
		for _, c := range callers {
			for _, app := range []string{"logistics", "medevac"} {
				method, path := address(r.Pattern, "acme", app)
				got := call(t, h, c.token, method, path, "")
				if want := c.expect(p, app); got.Code != want {
					t.Errorf("%s at %s %s: %d, want %d: %s", c.name, method, path, got.Code, want, got.Body)
				}
				tried++
			}
		}
	}
	t.Logf("%d routes, %d callers, %d calls", len(routes), len(callers), tried)
}

// TestTheGateStandsBeforeEveryDoor calls the gateway as it is: whoever may not, does
// not get in; whoever may look, is let in to look.
func TestTheGateStandsBeforeEveryDoor(t *testing.T) {
	g := startAll(t, io.Discard, nil)
	callers := g.callers()
	for pattern, p := range promises(t) {
		for _, c := range callers {
			method, path := address(pattern, "acme", "medevac")
			want := c.expect(p, "medevac")
			if want == 200 && method != http.MethodGet || p.role == "anyone" {
				continue // this would change something, or is nobody's business
			}
			got := g.call(c.token, method, path, "")
			refused := got.Code == 401 || got.Code == 403
			if want != 200 && got.Code != want || want == 200 && refused {
				t.Errorf("%s at %s %s: %d, want %d: %s", c.name, method, path, got.Code, want, got.Body)
			}
		}
	}
}

// address fills in the wild cards of a pattern.
func address(pattern, org, app string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	var out []string
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "{org}":
			part = org
		case part == "{app}":
			part = app
		case strings.HasPrefix(part, "{"):
			part = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
		}
		out = append(out, part)
	}
	return method, strings.Join(out, "/")
}

// leaving is a client that leaves once an answer of success begins.
type leaving struct {
	*httptest.ResponseRecorder
	leave func()
}

func (l leaving) Flush() {
	l.ResponseRecorder.Flush()
	l.leave()
}

// TestATokenOfOneFormationReachesNoOther: a sink may serve several formations, and
// whoever changes it changes what leaves all of them.
func TestATokenOfOneFormationReachesNoOther(t *testing.T) {
	g := startAll(t, io.Discard, map[string]string{"PEAT_FILE_SINK_DIR": t.TempDir()})
	bearer := g.serviceToken(map[string]any{"role": "org-admin", "formations": []string{"logistics"}})
	ids := map[string]string{}
	for name, formations := range map[string][]string{"its own": {"logistics"}, "everybody's": {"*"}, "shared": {"logistics", "medevac"}} {
		body, err := json.Marshal(map[string]any{"kind": "file", "config": map[string]any{"path": strings.ReplaceAll(name, "'", "")}, "formations": formations})
		if err != nil {
			t.Fatal(err)
		}
		var made struct {
			ID string `json:"sink_id"`
		}
		if err := json.Unmarshal(g.must("POST", "/orgs/acme/cdc/sinks", string(body), 201), &made); err != nil {
			t.Fatal(err)
		}
		ids[name] = made.ID
	}
	const base = "/orgs/acme/formations/logistics/cdc/sinks"
	list := g.call(bearer, "GET", base, "").Body.String()
	for name, id := range ids {
		want, shown := 404, name == "its own"
		if shown {
			want = 200
		}
		if strings.Contains(list, id) != shown {
			t.Errorf("%s: the list is %s", name, list)
		}
		for _, act := range []struct{ method, path, body string }{
			{"GET", "", ""}, {"PATCH", "", `{"format":"raw"}`}, {"POST", "/pause", ""}, {"GET", "/dead-letters", ""}, {"POST", "/resume", ""},
		} {
			if got := g.call(bearer, act.method, base+"/"+id+act.path, act.body); got.Code != want {
				t.Errorf("%s: %s %s: %d, want %d: %s", name, act.method, act.path, got.Code, want, got.Body)
			}
			if got := g.call("token", act.method, base+"/"+id+act.path, act.body); got.Code != 200 {
				t.Errorf("the administrator, %s: %s %s: %d: %s", name, act.method, act.path, got.Code, got.Body)
			}
		}
	}
}

// TestAHiddenFormationLooksLikeNone: word for word.
func TestAHiddenFormationLooksLikeNone(t *testing.T) {
	g := startAll(t, io.Discard, nil)
	bearer := g.serviceToken(map[string]any{"role": "org-admin", "formations": []string{"logistics"}})
	hidden := g.call(bearer, "GET", "/orgs/acme/formations/medevac", "")
	none := g.call("token", "GET", "/orgs/acme/formations/nowhere", "")
	said := func(w *httptest.ResponseRecorder, name string) string {
		var p map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		delete(p, "request_id")
		return strings.ReplaceAll(fmt.Sprint(w.Code, p), name, "…")
	}
	if a, b := said(hidden, "medevac"), said(none, "nowhere"); a != b {
		t.Errorf("%s and %s can be told apart", a, b)
	}
}
