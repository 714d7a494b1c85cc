package sinks

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestASinkInTheStateThatIsMeant: whoever names a state is refused once another was
// quicker, and nothing is changed.
func TestASinkInTheStateThatIsMeant(t *testing.T) {
	for what, tc := range map[string]struct {
		method, path, body string
		status             int
	}{
		"changing":  {"PATCH", "", `{"format":"raw"}`, 200},
		"pausing":   {"POST", "/pause", "", 200},
		"disabling": {"POST", "/disable", `{"reason":"x"}`, 200},
		"deleting":  {"DELETE", "", "", 204},
	} {
		t.Run(what, func(t *testing.T) {
			o := newOffice(t)
			var made sinkWire
			o.call("POST", ofOrg, `{"kind":"webhook","config":{"url":"https://example.com/x"},"formations":["*"]}`, 201, &made)
			at := ofOrg + "/" + made.ID
			old := o.ask("GET", at, "", "").Header().Get("ETag")
			o.ask("PATCH", at, `{"format":"both"}`, "")
			now := o.ask("GET", at, "", "").Header().Get("ETag")
			if old == "" || old == now {
				t.Fatalf("%q, then %q", old, now)
			}
			if got := o.ask(tc.method, at+tc.path, tc.body, old); got.Code != http.StatusPreconditionFailed {
				t.Errorf("in the old state: %d", got.Code)
			}
			if after := o.ask("GET", at, "", "").Header().Get("ETag"); after != now {
				t.Errorf("it was changed: %s", after)
			}
			if got := o.ask(tc.method, at+tc.path, tc.body, now); got.Code != tc.status {
				t.Errorf("in the state that is meant: %d", got.Code)
			}
		})
	}
}

// ask makes a request that means a state; none if tag is empty.
func (o *office) ask(method, path, body, tag string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if tag != "" {
		r.Header.Set("If-Match", tag)
	}
	out := httptest.NewRecorder()
	o.ServeHTTP(out, r)
	return out
}
