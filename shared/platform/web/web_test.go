package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

type handler = func(http.ResponseWriter, *http.Request) error

func serve(t *testing.T, h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("X-Request-Id", "r-1")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func open(o web.Options, routes ...web.Route) http.Handler { return web.Mux(routes, o) }

func get(h handler) web.Route { return web.Route{Pattern: "GET /x", Need: web.Anyone, Handle: h} }

func fails(err error) handler {
	return func(http.ResponseWriter, *http.Request) error { return err }
}

func TestEveryClassHasOneAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		status int
		header map[string]string
	}{
		"malformed":       {fault.Malformed.New("not JSON"), 400, nil},
		"invalid":         {&fault.Error{Kind: fault.Invalid, Message: "org_id must not be empty", Fields: []fault.Field{{Pointer: "/org_id", Detail: "must not be empty"}}}, 422, nil},
		"unauthenticated": {fault.Unauthenticated.New("no credential"), 401, map[string]string{"WWW-Authenticate": "Bearer"}},
		"forbidden":       {fault.Forbidden.New("viewers may only read"), 403, nil},
		"not_found":       {fault.NotFound.New("no organization"), 404, nil},
		"conflict":        {fault.Conflict.New("exists already"), 409, nil},
		"too_large":       {fault.TooLarge.New("longer than 5 bytes"), 413, nil},
		"unsupported":     {fault.UnsupportedMedia.New("application/json only"), 415, nil},
		"exhausted":       {fault.Exhausted.New("max_formations is 1"), 429, map[string]string{"Retry-After": "60"}},
		"known_wait":      {fault.RetryIn(fault.Exhausted.New("slow down"), 1500*time.Millisecond), 429, map[string]string{"Retry-After": "2"}},
		"unavailable":     {fault.Unavailable.Wrap(errors.New("dial 10.0.0.7: refused"), "the key provider does not answer"), 503, map[string]string{"Retry-After": "5"}},
		"sealed":          {fault.Sealed.New("the genesis is sealed"), 423, nil},
		"stale":           {fault.Stale.New("somebody else writes now"), 503, map[string]string{"Retry-After": "5"}},
		"wrapped":         {fmt.Errorf("create: %w", fault.Conflict.New("exists already")), 409, nil},
		"unclassified":    {errors.New("password=hunter2"), 500, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(web.Options{}, get(fails(tc.err)))
			got := serve(t, h, "GET", "/x?secret=1", "")
			if got.Code != tc.status || web.Status(tc.err) != tc.status {
				t.Errorf("status %d, want %d", got.Code, tc.status)
			}
			if ct := got.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %q", ct)
			}
			for k, v := range tc.header {
				if got.Header().Get(k) != v {
					t.Errorf("%s = %q, want %q", k, got.Header().Get(k), v)
				}
			}
			goldentest.Check(t, "testdata/problem_"+name+".json", goldentest.JSON(t, got.Body.Bytes()))
		})
	}
}

func TestNoRouteNoMethod(t *testing.T) {
	h := open(web.Options{}, get(fails(nil)), web.Route{Pattern: "DELETE /x", Need: web.Anyone, Handle: fails(nil)})
	if got := serve(t, h, "GET", "/nowhere", ""); got.Code != 404 || got.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	got := serve(t, h, "POST", "/x", "{}")
	if got.Code != 405 || got.Header().Get("Allow") != "DELETE, GET, HEAD" {
		t.Errorf("%d, Allow %q", got.Code, got.Header().Get("Allow"))
	}
}

func TestARouteMustSayWhoMayCallIt(t *testing.T) {
	for name, route := range map[string]web.Route{
		"no role":          {Pattern: "GET /x", Handle: fails(nil)},
		"nobody to ask":    {Pattern: "GET /x", Need: "admin", Handle: fails(nil)},
		"no handler":       {Pattern: "GET /x", Need: web.Anyone},
		"no such pattern":  {Pattern: "GET x", Need: web.Anyone, Handle: fails(nil)},
		"same wild cards":  {Pattern: "GET /{a}/{a}", Need: web.Anyone, Handle: fails(nil)},
		"method with line": {Pattern: "GE\nT /x", Need: web.Anyone, Handle: fails(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			web.Mux([]web.Route{route}, web.Options{})
		})
	}
}

func TestAuthorizeComesBeforeTheHandler(t *testing.T) {
	type key struct{}
	o := web.Options{Authorize: func(r *http.Request, need web.Role) (context.Context, error) {
		if need != "admin" || r.PathValue("org") != "acme" {
			t.Errorf("asked for %q in %q", need, r.PathValue("org"))
		}
		if r.Header.Get("Authorization") == "" {
			return nil, fault.Unauthenticated.New("who are you")
		}
		return context.WithValue(r.Context(), key{}, "ann"), nil
	}}
	var ran int
	h := open(o, web.Route{Pattern: "GET /orgs/{org}", Need: "admin", Handle: func(w http.ResponseWriter, r *http.Request) error {
		ran++
		if r.Context().Value(key{}) != "ann" {
			t.Error("the caller is not in the context")
		}
		return web.NoContent(w)
	}})
	if got := serve(t, h, "GET", "/orgs/acme", ""); got.Code != 401 || ran != 0 {
		t.Errorf("%d, ran %d", got.Code, ran)
	}
	if got := serve(t, h, "GET", "/orgs/acme", "", "Authorization", "Bearer x"); got.Code != 204 || ran != 1 {
		t.Errorf("%d, ran %d", got.Code, ran)
	}
}

func TestRequestID(t *testing.T) {
	var seen string
	h := open(web.Options{}, get(func(_ http.ResponseWriter, r *http.Request) error {
		seen = web.RequestID(r.Context())
		return nil
	}))
	for name, tc := range map[string]struct {
		given string
		kept  bool
	}{
		"sane":       {"Trace-1.a_b", true},
		"empty":      {"", false},
		"line break": {"a\nb", false},
		"quote":      {`a"b`, false},
		"too long":   {strings.Repeat("a", 65), false},
	} {
		got := serve(t, h, "GET", "/x", "", "X-Request-Id", tc.given).Header().Get("X-Request-Id")
		if got == "" || got != seen || (got == tc.given) != tc.kept {
			t.Errorf("%s: answered %q, handler saw %q", name, got, seen)
		}
	}
}

func TestLogHasNoQueryAndNoCredential(t *testing.T) {
	var log bytes.Buffer
	var seen []string
	o := web.Options{Log: slog.New(slog.NewJSONHandler(&log, nil)), Observe: func(pattern, method string, status int, _ time.Duration) {
		seen = append(seen, fmt.Sprintf("%q %s %d", pattern, method, status))
	}}
	h := open(o, get(fails(errors.New("broken"))), web.Route{Pattern: "GET /health", Need: web.Anyone, Quiet: true, Handle: fails(nil)})
	serve(t, h, "GET", "/x?ticket=hunter2", "", "Authorization", "Bearer hunter2")
	serve(t, h, "GET", "/health", "")
	serve(t, h, "GET", "/nowhere?ticket=hunter2", "")
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("a secret is in the log: %s", &log)
	}
	if !strings.Contains(log.String(), `"err":"broken"`) || strings.Contains(log.String(), "/health") {
		t.Errorf("log: %s", &log)
	}
	if diff := cmp.Diff([]string{`"GET /x" GET 500`, `"GET /health" GET 200`, `"" GET 404`}, seen); diff != "" {
		t.Error(diff)
	}
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	h := open(web.Options{}, get(func(http.ResponseWriter, *http.Request) error { panic("no way") }))
	got := serve(t, h, "GET", "/x", "")
	if got.Code != 500 || strings.Contains(got.Body.String(), "no way") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

func TestAnAnswerThatHasBegunIsNotSpoilt(t *testing.T) {
	h := open(web.Options{}, get(func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, "half")
		return errors.New("then it broke")
	}))
	if got := serve(t, h, "GET", "/x", ""); got.Code != 200 || got.Body.String() != "half" {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

func TestTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := func(_ http.ResponseWriter, r *http.Request) error {
			select {
			case <-r.Context().Done():
				return r.Context().Err()
			case <-time.After(time.Hour):
				return nil
			}
		}
		h := open(web.Options{}, get(waits), web.Route{Pattern: "GET /stream", Need: web.Anyone, Stream: true, Handle: waits},
			web.Route{Pattern: "GET /long", Need: web.Anyone, Timeout: 2 * time.Hour, Handle: waits})
		if got := serve(t, h, "GET", "/x", ""); got.Code != 503 || got.Header().Get("Retry-After") == "" {
			t.Errorf("%d %s", got.Code, got.Body)
		}
		if got := serve(t, h, "GET", "/stream", ""); got.Code != 200 {
			t.Errorf("a stream was cut: %d", got.Code)
		}
		if got := serve(t, h, "GET", "/long", ""); got.Code != 200 {
			t.Errorf("a route with a longer limit was cut: %d", got.Code)
		}
	})
}

func TestSecurityHeaders(t *testing.T) {
	got := serve(t, open(web.Options{}, get(fails(nil))), "GET", "/x", "").Header()
	for _, name := range []string{"X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Cache-Control"} {
		if got.Get(name) == "" {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestAHandlerCanTakeOverItsConnection(t *testing.T) {
	h := open(web.Options{}, web.Route{Pattern: "GET /sync", Need: web.Anyone, Stream: true, Handle: func(w http.ResponseWriter, _ *http.Request) error {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, err = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n\r\nhello")
		if err == nil {
			err = buf.Flush()
		}
		return err
	}})
	srv := httptest.NewUnstartedServer(h)
	srv.Config = web.Server(h, slog.New(slog.DiscardHandler))
	srv.Start()
	defer srv.Close()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/sync", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "test")
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, _ := bufio.NewReader(resp.Body).ReadString(0)
	if resp.StatusCode != 101 || got != "hello" {
		t.Errorf("%d %q", resp.StatusCode, got)
	}
}

// A long answer reaches its reader piece by piece, and the handler's own limits
// hold instead of the server's, which here have passed before it begins.
func TestAHandlerCanStream(t *testing.T) {
	heard := make(chan struct{})
	h := open(web.Options{}, web.Route{Pattern: "GET /stream", Need: web.Anyone, Stream: true, Handle: func(w http.ResponseWriter, r *http.Request) error {
		out := http.NewResponseController(w)
		for _, piece := range []string{"one\n", "two\n"} {
			if err := out.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				return err
			}
			if _, err := io.WriteString(w, piece); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
			select {
			case <-heard:
			case <-r.Context().Done():
				return r.Context().Err()
			}
		}
		return nil
	}})
	srv := httptest.NewUnstartedServer(h)
	srv.Config = web.Server(h, slog.New(slog.DiscardHandler))
	srv.Config.WriteTimeout = time.Nanosecond
	srv.Start()
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for _, want := range []string{"one\n", "two\n"} {
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			t.Fatalf("%q %v, want %q before the handler goes on", got, err, want)
		}
		heard <- struct{}{}
	}
	if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
		t.Errorf("the end: %q %v", rest, err)
	}
}

func TestPathThatNamesNothing(t *testing.T) {
	parse := func(s string) (string, error) {
		if len(s) > 3 {
			return "", fault.Invalid.New("too long")
		}
		return s, nil
	}
	h := open(web.Options{}, web.Route{Pattern: "GET /{id}", Need: web.Anyone, Handle: func(w http.ResponseWriter, r *http.Request) error {
		id, err := web.Path(r, "id", parse)
		if err != nil {
			return err
		}
		return web.WriteJSON(w, 200, map[string]string{"id": id})
	}})
	if got := serve(t, h, "GET", "/abcd", ""); got.Code != 404 {
		t.Errorf("%d", got.Code)
	}
	got := serve(t, h, "GET", "/a<b", "")
	var out map[string]string
	if err := json.Unmarshal(got.Body.Bytes(), &out); err != nil || out["id"] != "a<b" || !strings.Contains(got.Body.String(), "a<b") {
		t.Errorf("%v %s", err, got.Body)
	}
}

func TestAnAnswerThatCannotBeWrittenIs500(t *testing.T) {
	h := open(web.Options{}, get(func(w http.ResponseWriter, _ *http.Request) error {
		return web.WriteJSON(w, 200, func() {})
	}))
	if got := serve(t, h, "GET", "/x", ""); got.Code != 500 {
		t.Errorf("%d", got.Code)
	}
}
