package orgs_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/orgs"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func TestWhatIsRefused(t *testing.T) {
	const tooLong = 128 + 1
	none := []string{"Authorization", ""}
	for name, tc := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		says               string // part of the answer
	}{
		"no credential":          {"GET", "/orgs", "", none, 401, ""},
		"no credential, to make": {"POST", "/orgs", `{"org_id":"x","display_name":"X"}`, none, 401, ""},
		"no credential, no such": {"GET", "/orgs/nowhere", "", none, 401, ""},
		"wrong credential":       {"DELETE", "/orgs/acme", "", []string{"Authorization", "Bearer wrong"}, 401, ""},

		"not JSON":          {"POST", "/orgs", `{"org_id":`, nil, 400, "ends too early"},
		"empty body":        {"POST", "/orgs", "", []string{"Content-Type", "application/json"}, 400, "empty"},
		"a key twice":       {"POST", "/orgs", `{"org_id":"x","org_id":"y","display_name":"X"}`, nil, 400, "twice"},
		"bad UTF-8":         {"POST", "/orgs", "{\"org_id\":\"x\",\"display_name\":\"\xff\"}", nil, 400, "UTF-8"},
		"two values":        {"POST", "/orgs", `{} {}`, nil, 400, ""},
		"limit of nothing":  {"GET", "/orgs?limit=0", "", nil, 400, "limit"},
		"limit of words":    {"GET", "/orgs/acme/formations?limit=all", "", nil, 400, "limit"},
		"made-up cursor":    {"GET", "/orgs?cursor=acme", "", nil, 400, "cursor"},
		"cursor with a NUL": {"GET", "/orgs/acme/formations?cursor=MQA", "", nil, 400, "cursor"},

		"no content type":      {"POST", "/orgs", `{"org_id":"x","display_name":"X"}`, []string{"Content-Type", ""}, 415, ""},
		"a form":               {"POST", "/orgs", `org_id=x`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, ""},
		"too much":             {"POST", "/orgs", `{"org_id":"x","display_name":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, "1048576"},
		"formation, too much":  {"POST", "/orgs/acme/formations", strings.Repeat(" ", 1<<20+1), nil, 413, ""},
		"patch, other type":    {"PATCH", "/orgs/acme", `{}`, []string{"Content-Type", "text/plain"}, 415, ""},
		"method that is none":  {"PUT", "/orgs/acme", `{}`, nil, 405, ""},
		"path that is none":    {"GET", "/organizations", "", nil, 404, ""},
		"no body for a policy": {"POST", "/orgs/acme/formations", `[]`, nil, 422, "object"},

		"unknown field":         {"POST", "/orgs", `{"org_id":"x","display_name":"X","plan":"free"}`, nil, 422, "/plan"},
		"unknown quota":         {"POST", "/orgs", `{"org_id":"x","display_name":"X","quotas":{"max_fun":1}}`, nil, 422, "/quotas/max_fun"},
		"number as id":          {"POST", "/orgs", `{"org_id":1,"display_name":"X"}`, nil, 422, "/org_id"},
		"id missing":            {"POST", "/orgs", `{"display_name":"X"}`, nil, 422, "/org_id"},
		"id with a dot":         {"POST", "/orgs", `{"org_id":"a.b","display_name":"X"}`, nil, 422, "/org_id"},
		"id with a wild card":   {"POST", "/orgs", `{"org_id":"a>","display_name":"X"}`, nil, 422, "/org_id"},
		"id of the gateway":     {"POST", "/orgs", `{"org_id":"_org","display_name":"X"}`, nil, 422, "/org_id"},
		"id too long":           {"POST", "/orgs", `{"org_id":"` + strings.Repeat("a", tooLong) + `","display_name":"X"}`, nil, 422, "/org_id"},
		"name missing":          {"POST", "/orgs", `{"org_id":"x"}`, nil, 422, "/display_name"},
		"name with a NUL":       {"POST", "/orgs", `{"org_id":"x","display_name":"a\u0000"}`, nil, 422, "/display_name"},
		"name too long":         {"POST", "/orgs", `{"org_id":"x","display_name":"` + strings.Repeat("a", 1025) + `"}`, nil, 422, "/display_name"},
		"quota below zero":      {"POST", "/orgs", `{"org_id":"x","display_name":"X","quotas":{"max_formations":-1}}`, nil, 422, "/quotas/max_formations"},
		"quota beyond all":      {"POST", "/orgs", `{"org_id":"x","display_name":"X","quotas":{"max_formations":1e99}}`, nil, 422, "/quotas/max_formations"},
		"quota as text":         {"PATCH", "/orgs/acme", `{"quotas":{"max_formations":"5"}}`, nil, 422, "/quotas/max_formations"},
		"name made empty":       {"PATCH", "/orgs/acme", `{"display_name":""}`, nil, 422, "/display_name"},
		"id changed":            {"PATCH", "/orgs/acme", `{"org_id":"other"}`, nil, 422, "/org_id"},
		"app id missing":        {"POST", "/orgs/acme/formations", `{}`, nil, 422, "/app_id"},
		"app id with a slash":   {"POST", "/orgs/acme/formations", `{"app_id":"a/b"}`, nil, 422, "/app_id"},
		"app id too long":       {"POST", "/orgs/acme/formations", `{"app_id":"` + strings.Repeat("a", tooLong) + `"}`, nil, 422, "/app_id"},
		"policy nobody knows":   {"POST", "/orgs/acme/formations", `{"app_id":"a","enrollment_policy":"Open"}`, nil, 422, "/enrollment_policy"},
		"policy empty":          {"POST", "/orgs/acme/formations", `{"app_id":"a","enrollment_policy":""}`, nil, 422, "/enrollment_policy"},
		"policy null":           {"POST", "/orgs/acme/formations", `{"app_id":"a","enrollment_policy":null}`, nil, 422, "/enrollment_policy"},
		"quotas null":           {"POST", "/orgs", `{"org_id":"x","display_name":"X","quotas":null}`, nil, 422, "/quotas"},
		"quotas made null":      {"PATCH", "/orgs/acme", `{"quotas":null}`, nil, 422, "/quotas"},
		"a quota made null":     {"PATCH", "/orgs/acme", `{"quotas":{"max_formations":null}}`, nil, 422, "/quotas/max_formations"},
		"name made null":        {"PATCH", "/orgs/acme", `{"display_name":null}`, nil, 422, "/display_name"},
		"genesis given by hand": {"POST", "/orgs/acme/formations", `{"app_id":"a","seed":"00"}`, nil, 422, "/seed"},

		"no such organization":          {"GET", "/orgs/nowhere", "", nil, 404, ""},
		"an id that cannot exist":       {"GET", "/orgs/a.b", "", nil, 404, ""},
		"an id too long to exist":       {"GET", "/orgs/" + strings.Repeat("a", tooLong), "", nil, 404, ""},
		"patch of nothing":              {"PATCH", "/orgs/nowhere", `{}`, nil, 404, ""},
		"end of nothing":                {"DELETE", "/orgs/nowhere", "", nil, 404, ""},
		"formation of nobody":           {"POST", "/orgs/nowhere/formations", `{"app_id":"a"}`, nil, 404, ""},
		"formations of nobody":          {"GET", "/orgs/nowhere/formations", "", nil, 404, ""},
		"no such formation":             {"GET", "/orgs/acme/formations/nowhere", "", nil, 404, ""},
		"another's formation":           {"GET", "/orgs/rival/formations/logistics", "", nil, 404, ""},
		"another's formation, its end":  {"DELETE", "/orgs/rival/formations/logistics", "", nil, 404, ""},
		"a formation that cannot exist": {"DELETE", "/orgs/acme/formations/a%2Fb", "", nil, 404, ""},
		"taken":                         {"POST", "/orgs", `{"org_id":"acme","display_name":"X"}`, nil, 409, "exists already"},
		"taken formation":               {"POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, nil, 409, "exists already"},
		"still in use":                  {"DELETE", "/orgs/acme", "", nil, 409, "1 formation"},
		"no room left":                  {"POST", "/orgs/rival/formations", `{"app_id":"a"}`, nil, 429, "max_formations"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.org("acme")
			w.formation("acme", "logistics")
			w.do("POST", "/orgs", `{"org_id":"rival","display_name":"R","quotas":{"max_formations":0}}`, 201)
			before, rung := len(w.events()), w.notified

			got := w.call(tc.method, tc.path, tc.body, tc.headers...)
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Errorf("%d, want %d and %q: %s", got.Code, tc.status, tc.says, got.Body)
			}
			if ct := got.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %q", ct)
			}
			if got.Code == http.StatusTooManyRequests && got.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if after := len(w.events()); after != before || w.notified != rung {
				t.Errorf("%d events of something that did not happen", after-before)
			}
		})
	}
}

func TestNothingIsKeptOfAFormationThatCannotBeSealed(t *testing.T) {
	for name, tc := range map[string]struct {
		breaks func(*orgs.Deps)
		status int
	}{
		"no randomness":       {func(d *orgs.Deps) { d.Random = brokenReader{} }, 500},
		"key service is down": {func(d *orgs.Deps) { d.Keys = keyring.Single(brokenKeys{}) }, 503},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.breaks)
			w.org("acme")
			got := w.do("POST", "/orgs/acme/formations", `{"app_id":"a"}`, tc.status)
			if strings.Contains(string(got), "10.1.2.3") {
				t.Errorf("the cause is shown: %s", got)
			}
			w.do("GET", "/orgs/acme/formations/a", "", 404)
			if u, err := w.store.Usage(context.Background(), "acme", time.Now()); err != nil || u.Formations != 0 {
				t.Errorf("%+v %v", u, err)
			}
			if got := w.events(); len(got) != 1 {
				t.Errorf("events %v", got)
			}
			goldentest.Check(t, "testdata/broken_"+strings.ReplaceAll(name, " ", "_")+".json", goldentest.JSON(t, got))
		})
	}
}

func TestAStrangersOrganizationLooksLikeNone(t *testing.T) {
	w := newWorld(t)
	_, missing := w.store.Org(t.Context(), "rival")
	hidden := access.Principal{Name: "ann"}.May(web.Viewer, "rival")
	if fault.Of(missing).Message != fault.Of(hidden).Message {
		t.Errorf("%q and %q can be told apart", missing, hidden)
	}
}
