package openapitest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/openapi"
)

const org = `{"org_id":"acme","display_name":"Acme","quotas":{"max_formations":1},` +
	`"usage":{"formations":0,"cdc_sinks":0,"documents":0},"created_at":"2026-03-04T05:06:07Z"}`

const problem = `{"type":"about:blank","title":"Conflict","status":409}`

// TestCheck is what a checker is for: each exchange but the honest ones is found out.
func TestCheck(t *testing.T) {
	doc, err := read(openapi.Text())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		method, path, asked string
		status              int
		media, answered     string
		want                string // in the error; "" is no error
	}{
		"made":                   {method: "POST", path: "/orgs", asked: `{"org_id":"acme","display_name":"A"}`, status: 201, media: "application/json", answered: org},
		"listed":                 {method: "GET", path: "/orgs?limit=1", status: 200, media: "application/json; charset=utf-8", answered: `{"items":[` + org + `],"next":null}`},
		"refused":                {method: "POST", path: "/orgs", asked: `{}`, status: 409, media: "application/problem+json", answered: problem},
		"deleted":                {method: "DELETE", path: "/orgs/acme", status: 204},
		"open to anyone":         {method: "GET", path: "/health", status: 200, media: "application/json", answered: `{"status":"ok"}`},
		"turned away":            {method: "GET", path: "/orgs", status: 401, media: "application/problem+json", answered: problem},
		"body is optional":       {method: "POST", path: "/orgs/a/formations/b/sync-tickets", status: 401, media: "application/problem+json", answered: problem},
		"not there":              {method: "GET", path: "/nowhere", status: 404, media: "application/problem+json", answered: problem},
		"not this way":           {method: "PUT", path: "/orgs", status: 405, media: "application/problem+json", answered: problem},
		"a field too many":       {method: "GET", path: "/orgs/acme", status: 200, media: "application/json", answered: strings.Replace(org, `{`, `{"secret":"x",`, 1), want: "secret"},
		"a field too few":        {method: "GET", path: "/orgs/acme", status: 200, media: "application/json", answered: strings.Replace(org, `"display_name":"Acme",`, "", 1), want: "display_name"},
		"a time that is none":    {method: "GET", path: "/orgs/acme", status: 200, media: "application/json", answered: strings.Replace(org, "2026-03-04", "yesterday", 1), want: "date-time"},
		"null for a list":        {method: "GET", path: "/orgs", status: 200, media: "application/json", answered: `{"items":null,"next":null}`, want: "items"},
		"another status":         {method: "GET", path: "/orgs/acme", status: 201, media: "application/json", answered: org, want: "status 201 is not described"},
		"another media type":     {method: "GET", path: "/orgs/acme", status: 200, media: "text/plain", answered: org, want: "text/plain"},
		"no media type":          {method: "GET", path: "/orgs/acme", status: 200, answered: org, want: "content type"},
		"a body nobody expects":  {method: "DELETE", path: "/orgs/acme", status: 204, answered: "gone", want: "none is described"},
		"not JSON":               {method: "GET", path: "/orgs/acme", status: 200, media: "application/json", answered: "{", want: "not JSON"},
		"no problem document":    {method: "GET", path: "/orgs/acme", status: 404, media: "application/problem+json", answered: `{"error":"no"}`, want: "title"},
		"accepted what is wrong": {method: "POST", path: "/orgs", asked: `{"org_id":"acme.>","display_name":"A"}`, status: 201, media: "application/json", answered: org, want: "org_id"},
		"accepted nothing":       {method: "POST", path: "/orgs", status: 201, media: "application/json", answered: org, want: "not JSON"},
		"not described":          {method: "GET", path: "/backdoor", status: 200, media: "application/json", answered: "{}", want: "nothing is described"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, tc.path, nil)
			got := httptest.NewRecorder()
			if tc.media != "" {
				got.Header().Set("Content-Type", tc.media)
			}
			got.WriteHeader(tc.status)
			_, _ = got.WriteString(tc.answered)
			err := errors.Join(doc.check(r, []byte(tc.asked), got)...)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestHandlerChangesNothing: a test sees the same exchange with the checker as without.
func TestHandlerChangesNothing(t *testing.T) {
	h := New(t).Handler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 100)
		n, _ := r.Body.Read(b)
		if string(b[:n]) != `{"a":1}` {
			t.Errorf("the handler reads %q", b[:n])
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(problem))
	}))
	r := httptest.NewRequest("POST", "/orgs", strings.NewReader(`{"a":1}`))
	r.Header.Set("Authorization", "Bearer x")
	got := httptest.NewRecorder()
	h.ServeHTTP(got, r)
	if got.Code != http.StatusConflict || got.Body.String() != problem || got.Header().Get("Retry-After") != "7" {
		t.Errorf("%d %s %v", got.Code, got.Body, got.Header())
	}
}

// TestEverySchemaCompiles finds a mistake in the description also where no
// function's test comes by.
func TestEverySchemaCompiles(t *testing.T) {
	c := New(t)
	var count int
	var walk func(v any, at string)
	walk = func(v any, at string) {
		list, _ := v.([]any)
		for i, child := range list {
			walk(child, at+"/"+strconv.Itoa(i))
		}
		for key, child := range object(v) {
			here := at + "/" + escape(key)
			if key == "schema" || strings.HasSuffix(at, "/schemas") {
				count++
				if _, err := c.compiler.Compile(base + here); err != nil {
					t.Error(err)
				}
			}
			if ref, ok := child.(string); ok && key == "$ref" {
				if found, _ := c.find(ref); found == nil {
					t.Errorf("%s refers to %s, which is not there", at, ref)
				}
			}
			walk(child, here)
		}
	}
	walk(c.doc, "#")
	if count < 20 {
		t.Errorf("only %d schemas were found", count)
	}
}
