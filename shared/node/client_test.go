package node

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var key = tenant.Key{Org: "acme", App: "logistics"}

func TestNewClientRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		gateway string
		ok      bool
	}{
		"a gateway elsewhere":         {"https://gateway.example", true},
		"one below a path":            {"https://gateway.example/peat/", true},
		"one on this machine":         {"http://127.0.0.1:8080", true},
		"by its name":                 {"http://localhost:8080", true},
		"elsewhere, in the open":      {"http://gateway.example", false},
		"a name like this machine's":  {"http://127.0.0.1.example", false},
		"no host":                     {"https:///x", false},
		"no address":                  {"gateway.example", false},
		"a password in it":            {"https://x:y@gateway.example", false},
		"a query":                     {"https://gateway.example?x=y", false},
		"another protocol altogether": {"ftp://gateway.example", false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewClient(tc.gateway, key, nil); (err == nil) != tc.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

// answer is a gateway, or what is in front of it, that gives one answer.
func answer(t *testing.T, status int, body string, headers ...string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/orgs/acme/formations/logistics/enroll" || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL, key, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientTellsNoFromNotNow(t *testing.T) {
	const problem = "application/problem+json"
	for name, tc := range map[string]struct {
		status  int
		body    string
		headers []string
		refused bool
		after   time.Duration
		says    string
	}{
		"a refusal":               {403, `{"detail":"you may not","request_id":"r-1"}`, []string{"Content-Type", problem}, true, 0, `"you may not" (request "r-1")`},
		"a proof that is no good": {401, `{"detail":"no"}`, []string{"Content-Type", problem}, true, 0, "no"},
		"nothing there":           {404, `{}`, []string{"Content-Type", problem}, true, 0, "404"},
		"a conflict":              {409, `{"detail":"suspended"}`, []string{"Content-Type", problem}, false, 0, "suspended"},
		"too much":                {429, `{}`, []string{"Content-Type", problem, "Retry-After", "7"}, false, 7 * time.Second, "429"},
		"not now":                 {503, `{}`, []string{"Content-Type", problem, "Retry-After", "5"}, false, 5 * time.Second, "503"},
		"sealed":                  {423, `{}`, []string{"Content-Type", problem}, false, 0, "423"},
		"a page of a proxy":       {502, `<h1>bad</h1>`, []string{"Content-Type", "text/html"}, false, 0, "502"},
		"a redirect":              {302, ``, []string{"Location", "/elsewhere"}, true, 0, "302"},
		"a terminal's commands":   {403, `{"detail":"\u001b[2J"}`, []string{"Content-Type", problem}, true, 0, `"\x1b[2J"`},
		"something unreadable":    {200, `{"serial":7}`, nil, false, 0, "cannot be read"},
		"something endless":       {200, strings.Repeat(" ", maxAnswer+1), nil, false, 0, "longer than"},
		"half of something":       {200, `{"serial":`, nil, false, 0, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := answer(t, tc.status, tc.body, tc.headers...).Enroll(t.Context(), enrollRequest{})
			if err == nil || errors.Is(err, ErrRefused) != tc.refused || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("refused: %t: %v", errors.Is(err, ErrRefused), err)
			}
			p, _ := errors.AsType[*Problem](err)
			if p == nil {
				p = &Problem{}
			}
			if p.After != tc.after {
				t.Errorf("after %s", p.After)
			}
		})
	}
}

func FuzzProblem(f *testing.F) {
	f.Add(403, "application/problem+json", "7", []byte(`{"detail":"x","request_id":"y"}`))
	f.Add(200, "text/html", "x", []byte(`<p>`))
	f.Fuzz(func(t *testing.T, status int, media, after string, body []byte) {
		resp := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {media}, "Retry-After": {after}}}
		err := problemOf(resp, body)
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q can write on a terminal", err)
		}
		if p, ok := errors.AsType[*Problem](err); !ok || p.After < 0 {
			t.Errorf("%#v", err)
		}
	})
}
