package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// eachStore runs a test on a gateway with acme and its rival, on every engine.
func eachStore(t *testing.T, test func(t *testing.T, g *gatewayUnderTest)) {
	for name, url := range map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": testenv.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			g := startAll(t, io.Discard, map[string]string{"PEAT_DATABASE_URL": url(t), "PEAT_FILE_SINK_DIR": t.TempDir()})
			g.must("POST", "/orgs", `{"org_id":"rival","display_name":"Rival"}`, 201)
			g.must("POST", "/orgs/rival/formations", `{"app_id":"logistics"}`, 201)
			test(t, g)
		})
	}
}

// made reads one member of what was created.
func (g *gatewayUnderTest) made(member, path, body string) string {
	g.t.Helper()
	var out map[string]any
	if err := json.Unmarshal(g.must("POST", path, body, 201), &out); err != nil {
		g.t.Fatal(err)
	}
	id, _ := out[member].(string)
	if id == "" {
		g.t.Fatalf("POST %s: no %s in %v", path, member, out)
	}
	return id
}

// secrets are words of acme's that nobody else may read.
var secrets = []string{"Acme", "hush-hush", "medevac"}

func tellsNothing(t *testing.T, what, body string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(body, s) {
			t.Errorf("%s: %q is in the answer: %s", what, s, body)
		}
	}
}

// TestEveryRouteForAnotherOrganization calls every route of every function at acme's
// as its rival's administrator: for the rival, acme is not there.
func TestEveryRouteForAnotherOrganization(t *testing.T) {
	eachStore(t, func(t *testing.T, g *gatewayUnderTest) {
		rival := g.made("token", "/orgs/rival/tokens", `{"label":"x","role":"org-admin"}`)
		tried := 0
		for _, r := range doors(t) {
			method, path := address(r.Pattern, "acme", "logistics")
			if r.Need == web.Anyone || !strings.Contains(r.Pattern, "{org}") {
				continue // docs/access.md says what these are
			}
			got := g.call(rival, method, path, "{}")
			if got.Code != http.StatusNotFound {
				t.Errorf("%s %s: %d, want 404: %s", method, path, got.Code, got.Body)
			}
			tellsNothing(t, method+" "+path, got.Body.String())
			tried++
		}
		t.Logf("%d routes", tried)
		if tried < 30 {
			t.Error("that cannot be all")
		}
	})
}

// TestEveryRouteWithAnothersIDs calls every route below the rival's path with the ids
// of acme's things, as somebody who may do everything. All exist, and none there.
func TestEveryRouteWithAnothersIDs(t *testing.T) {
	eachStore(t, func(t *testing.T, g *gatewayUnderTest) {
		const formation = "/orgs/acme/formations/logistics"
		ids := map[string]string{
			"{app}":      "medevac",
			"{provider}": g.made("provider_id", "/orgs/acme/identity-providers", `{"kind":"oidc","label":"hush-hush","config":{"issuer":"https://idp.example","audiences":["hush-hush"]}}`),
			"{sink}":     g.made("sink_id", "/orgs/acme/cdc/sinks", `{"kind":"file","config":{"path":"hush-hush"},"formations":["*"]}`),
			"{ticket}":   g.made("ticket_id", formation+"/sync-tickets", `{}`),
			"{name}":     "hush-hush",
			"{token}":    g.made("token_id", "/orgs/acme/tokens", `{"label":"hush-hush","role":"viewer"}`),
		}
		g.must("PUT", formation+"/cdc/consumers/hush-hush", `{}`, 201)
		tried := 0
		for _, r := range doors(t) {
			if r.Need == web.Anyone || !strings.Contains(r.Pattern, "{org}/") {
				continue
			}
			method, pattern, _ := strings.Cut(r.Pattern, " ")
			// The formation is one that both have, or one that only acme has.
			for _, app := range []string{"logistics", "medevac"} {
				path, foreign := strings.ReplaceAll(strings.ReplaceAll(pattern, "{org}", "rival"), "{app}", app), app == "medevac" && strings.Contains(pattern, "{app}")
				for place, id := range ids {
					if strings.Contains(path, place) {
						path, foreign = strings.ReplaceAll(path, place, id), true
					}
				}
				if !foreign || method == http.MethodPut && app == "logistics" {
					continue // the name of a consumer is made by whoever puts it
				}
				for part := range strings.SplitSeq(path, "/") {
					if strings.HasPrefix(part, "{") {
						path = strings.Replace(path, part, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1)
					}
				}
				got := g.call("token", method, path, bodies[r.Pattern])
				if got.Code != http.StatusNotFound {
					t.Errorf("%s: %s: %d, want 404: %s", r.Pattern, path, got.Code, got.Body)
				}
				if id := ids["{name}"]; !strings.Contains(path, id) && app != "medevac" {
					tellsNothing(t, fmt.Sprint(method, " ", path), got.Body.String())
				}
				tried++
			}
		}
		t.Logf("%d calls", tried)
		if tried < 30 {
			t.Error("that cannot be all")
		}
	})
}

// bodies are what routes want to read before they look for anything.
var bodies = map[string]string{
	"POST /orgs/{org}/cdc/sinks/{sink}/disable":                  `{"reason":"x"}`,
	"POST /orgs/{org}/formations/{app}/cdc/sinks/{sink}/disable": `{"reason":"x"}`,
	"PATCH /orgs/{org}/formations/{app}":                         `{"enrollment_policy":"strict"}`,
	"POST /orgs/{org}/formations/{app}/authority/retire":         `{"authority_id":"genesis"}`,
	"POST /orgs/{org}/formations/{app}/authority/taint":          `{"authority_id":"genesis","reason":"x"}`,
	"POST /orgs/{org}/formations/{app}/cdc/consumers/{name}/ack": `{"cursor":"AWIDRl9AGo_2AAAAAAAAAAA"}`,
	"POST /orgs/{org}/formations/{app}/certificates":             `{"public_key":"` + strings.Repeat("ab", 32) + `","node_id":"n"}`,
	"POST /orgs/{org}/formations/{app}/enrollment/tokens":        `{"label":"x","max_uses":1}`,
}
