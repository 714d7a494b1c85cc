package web_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func TestWhatFailsDoesNotLogTheQuery(t *testing.T) {
	for name, h := range map[string]handler{
		"an error that quotes the address": func(_ http.ResponseWriter, r *http.Request) error { return errors.New("dial " + r.URL.String()) },
		"a panic that quotes the address":  func(_ http.ResponseWriter, r *http.Request) error { panic("dial " + r.URL.String()) },
		"a panic with the value alone":     func(_ http.ResponseWriter, r *http.Request) error { panic(errors.New(r.URL.Query().Get("ticket"))) },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			mux := open(web.Options{Log: slog.New(slog.NewJSONHandler(&log, nil))}, get(h))
			// Escaped, so that the value differs from how it is written.
			if got := serve(t, mux, "GET", "/x?ticket=peat_hunter2%2B", ""); got.Code != 500 || strings.Contains(got.Body.String(), "hunter2") {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "[query]") {
				t.Errorf("log: %s", &log)
			}
		})
	}
}

func TestAPathThatIsNotCleanIsNotRedirected(t *testing.T) {
	h := open(web.Options{},
		web.Route{Pattern: "GET /orgs/{org}", Need: web.Anyone, Handle: fails(nil)},
		web.Route{Pattern: "GET /{$}", Need: web.Anyone, Handle: fails(nil)},
		web.Route{Pattern: "GET /ui/", Need: web.Anyone, Handle: fails(nil)})
	for target, want := range map[string]int{
		"/orgs/acme": 200, "/": 200, "/ui/": 200, "/ui/a/": 200,
		"//orgs/acme": 404, "/orgs//acme": 404, "/orgs/./acme": 404, "/x/../orgs/acme": 404, "/orgs/%2e%2e/acme": 404,
		"/orgs/acme/": 404,
	} {
		got := serve(t, h, "GET", target+"?ticket=hunter2", "")
		if got.Code != want || got.Header().Get("Location") != "" || strings.Contains(got.Body.String(), "hunter2") {
			t.Errorf("%s: %d, Location %q, want %d: %s", target, got.Code, got.Header().Get("Location"), want, got.Body)
		}
	}
}
