package openapitest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const org = `{"org_id":"acme","display_name":"A","quotas":{},"usage":{"formations":0,"cdc_sinks":0,"documents":0},"created_at":"2026-01-02T03:04:05Z"}`

func TestWhatIsNoticed(t *testing.T) {
	const problem = `{"type":"about:blank","title":"x","status":404}`
	for name, tc := range map[string]struct {
		method, path, sent string
		status             int
		media, answer      string
		notices            string
	}{
		"as described":              {"GET", "/orgs/acme", "", 200, "application/json", org, ""},
		"with a charset":            {"GET", "/orgs/acme", "", 200, "application/json; charset=utf-8", org, ""},
		"a request as described":    {"POST", "/orgs", `{"org_id":"acme","display_name":"A"}`, 201, "application/json", org, ""},
		"refused, so it may be odd": {"POST", "/orgs", `{`, 400, "application/problem+json", problem, ""},
		"no content":                {"DELETE", "/orgs/acme", "", 204, "", "", ""},
		"a body that may be absent": {"POST", "/orgs/a/formations/b/sync-tickets", "", 201, "application/json",
			`{"ticket_id":"1","ticket":"t","url":"ws://x","expires_at":"2026-01-02T03:04:05Z"}`, ""},
		"text":                        {"GET", "/metrics", "", 200, "text/plain; version=0.0.4", "peat 1", ""},
		"nothing there":               {"GET", "/nowhere", "", 404, "application/problem+json", problem, ""},
		"any path may fail":           {"GET", "/orgs", "", 500, "application/problem+json", problem, ""},
		"something where nothing is":  {"GET", "/nowhere", "", 200, "application/json", org, "nothing is described"},
		"a field too many":            {"GET", "/orgs/acme", "", 200, "application/json", strings.Replace(org, "{", `{"plan":1,`, 1), "plan"},
		"a field too many, inside":    {"GET", "/orgs/acme", "", 200, "application/json", strings.Replace(org, `"formations"`, `"peers":1,"formations"`, 1), "peers"},
		"a field too few":             {"GET", "/orgs/acme", "", 200, "application/json", `{}`, "missing"},
		"a time that is none":         {"GET", "/orgs/acme", "", 200, "application/json", strings.Replace(org, "2026-01", "2026-13", 1), "date-time"},
		"not JSON":                    {"GET", "/orgs/acme", "", 200, "application/json", `{`, "not JSON"},
		"another status":              {"GET", "/orgs/acme", "", 202, "application/json", org, "202"},
		"another content type":        {"GET", "/orgs/acme", "", 200, "text/html", org, "text/html"},
		"content where none should":   {"DELETE", "/orgs/acme", "", 204, "application/json", org, "none is described"},
		"an undescribed body taken":   {"DELETE", "/orgs/acme", "{}", 204, "", "", "accepted"},
		"a wrong body taken":          {"POST", "/orgs", `{"org_id":"a.b","display_name":"A"}`, 201, "application/json", org, "pattern"},
		"a problem that is not one":   {"GET", "/orgs/acme", "", 404, "application/problem+json", `{"error":"x"}`, "missing"},
		"a failure that is not one":   {"GET", "/orgs/acme", "", 500, "text/plain", `oops`, "not JSON"},
		"a plain text instead of 404": {"GET", "/nowhere", "", 404, "text/plain", `404 page not found`, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := httptest.NewRecorder()
			answer.Header().Set("Content-Type", tc.media)
			answer.Code = tc.status
			_, _ = io.WriteString(answer.Body, tc.answer)
			wrong := New(t).check(httptest.NewRequest(tc.method, tc.path, nil), []byte(tc.sent), answer)
			switch {
			case tc.notices == "" && len(wrong) > 0:
				t.Errorf("%v", wrong)
			case tc.notices != "" && (len(wrong) == 0 || !strings.Contains(wrong[0].Error(), tc.notices)):
				t.Errorf("%v, want something about %q", wrong, tc.notices)
			}
		})
	}
}

func TestHandlerPassesEverythingOn(t *testing.T) {
	h := New(t).Handler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); !strings.Contains(string(b), "acme") {
			t.Errorf("read %q", b)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Location", "/orgs/acme")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, org)
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/orgs", strings.NewReader(`{"org_id":"acme","display_name":"A"}`)))
	if w.Code != 201 || w.Body.String() != org || w.Header().Get("Location") != "/orgs/acme" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestEverySchemaCompiles(t *testing.T) {
	c := New(t)
	for name := range object(object(c.doc["components"])["schemas"]) {
		if _, err := c.compiler.Compile(base + "#/components/schemas/" + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
