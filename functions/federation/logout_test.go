package federation_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func noOne(*http.Request, web.Role) (context.Context, error) {
	return nil, fault.Unauthenticated.New("nobody")
}

func serve(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// TestCSRF has a page of somebody else's send what changes something, by each method
// and in each way.
func TestCSRF(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	csrf := b.login().CSRF
	foreign := w.browser().login().CSRF
	own := map[string]string{"X-CSRF-Token": csrf, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
	with := func(change map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range []map[string]string{own, change} {
			for k, v := range m {
				out[k] = v
			}
		}
		for k, v := range out {
			if v == "" {
				delete(out, k)
			}
		}
		return out
	}
	for _, method := range unsafe {
		for name, header := range map[string]map[string]string{
			"a form":                      with(map[string]string{"X-CSRF-Token": "", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}),
			"a form of an older browser":  with(map[string]string{"X-CSRF-Token": "", "Origin": "", "Sec-Fetch-Site": ""}),
			"a form of a sibling":         with(map[string]string{"X-CSRF-Token": "", "Origin": "https://evil.example.com", "Sec-Fetch-Site": "same-site"}),
			"from nowhere":                with(map[string]string{"Origin": "null"}),
			"by another scheme":           with(map[string]string{"Origin": "http://example.com"}),
			"by another port":             with(map[string]string{"Origin": "https://example.com:8443"}),
			"by another site":             with(map[string]string{"Origin": "", "Sec-Fetch-Site": "cross-site"}),
			"by a sibling that knows":     with(map[string]string{"Origin": "", "Sec-Fetch-Site": "same-site"}),
			"by what is no page":          with(map[string]string{"Origin": "", "Sec-Fetch-Site": "none"}),
			"with another's header":       with(map[string]string{"X-CSRF-Token": foreign}),
			"with a made-up header":       with(map[string]string{"X-CSRF-Token": "x"}),
			"with a header and a bit off": with(map[string]string{"X-CSRF-Token": csrf + "A"}),
		} {
			if got := b.do(b.request(method, "/things/of/acme", header)); got.status != 403 {
				t.Errorf("%s, %s: %+v", method, name, got)
			}
		}
		twice := b.request(method, "/things/of/acme", own)
		twice.Header["X-Csrf-Token"] = []string{csrf, csrf}
		if got := b.do(twice); got.status != 403 {
			t.Errorf("%s, two headers: %+v", method, got)
		}
		twice = b.request(method, "/things/of/acme", own)
		twice.Header["Origin"] = []string{origin, "https://evil.example"}
		if got := b.do(twice); got.status != 403 {
			t.Errorf("%s, two origins: %+v", method, got)
		}
		for name, header := range map[string]map[string]string{
			"our own page":             own,
			"what sends only a header": with(map[string]string{"Origin": "", "Sec-Fetch-Site": ""}),
		} {
			if got := b.do(b.request(method, "/things/of/acme", header)); got.status != 200 {
				t.Errorf("%s, %s: %+v", method, name, got)
			}
		}
		// A bearer is no cookie: nothing sends it unasked.
		bearer := map[string]string{"Authorization": "Bearer " + w.provider.Sign(w.provider.Person)}
		if got := w.browser().do(b.request(method, "/things/of/acme", bearer)); got.status != 200 {
			t.Errorf("%s by a token: %+v", method, got)
		}
		// With a token, the session beside it counts for nothing.
		bearer["Authorization"] = "Bearer nonsense"
		if got := b.do(b.request(method, "/things/of/acme", bearer)); got.status != 401 {
			t.Errorf("%s by a bad token in a session: %+v", method, got)
		}
	}
	for name, header := range map[string]map[string]string{"a form": {"Origin": "https://evil.example"}, "a bare one": {}} {
		if got := b.do(b.request("POST", "/auth/logout", header)); got.status != 403 {
			t.Errorf("logging others out, %s: %+v", name, got)
		}
	}
	b.is(200, "/things/of/acme")
	if got := b.get("/auth/logout"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("a picture that logs out: %+v", got)
	}
}

// TestASessionCookieIsTamperedWith: each byte, its key, its place.
func TestASessionCookieIsTamperedWith(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	b.login()
	good := b.cookie("__Host-peat-session").Value
	flow := w.browser()
	flow.get("/auth/login")
	for name, value := range map[string]string{
		"empty": "", "cut": good[:len(good)-4], "longer": good + "AAAA", "one byte": flip(good, len(good)/2), "the first byte": flip(good, 0), "the last byte": flip(good, len(good)-2),
		"a login that was begun": flow.cookie("__Host-peat-login").Value, "what it would say, unsealed": base64.RawURLEncoding.EncodeToString([]byte(`{"i":"x","s":"x","g":true}`)), "not of the alphabet": "!!!!",
	} {
		m := w.browser()
		m.plant("__Host-peat-session", value)
		if got := m.get("/things/of/acme"); got.status != 401 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	m := w.browser()
	m.client.Jar = nil
	r := m.request("GET", "/things/of/acme", map[string]string{"Cookie": "__Host-peat-session=x; __Host-peat-session=" + good})
	if got := m.do(r); got.status != 401 {
		t.Errorf("two of one name: %+v", got)
	}
	b.is(200, "/things/of/acme")
}

func flip(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

func TestSessionsExpire(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	b.login()
	kept := b.cookie("__Host-peat-session").Value

	// Used now and then it goes on, to the end of its whole time and no longer.
	begun := w.now
	for w.now = begun.Add(25 * time.Minute); w.now.Before(begun.Add(8 * time.Hour)); w.now = w.now.Add(25 * time.Minute) {
		b.is(200, "/things/of/acme")
	}
	w.now = begun.Add(8*time.Hour - time.Second)
	b.is(200, "/things/of/acme")
	w.now = begun.Add(8 * time.Hour)
	b.is(401, "/things/of/acme")

	// The cookie of its beginning was good for as long as it might lie idle.
	old := w.browser()
	old.plant("__Host-peat-session", kept)
	w.now = begun.Add(30*time.Minute - time.Second)
	old.is(200, "/things/of/acme")
	old = w.browser()
	old.plant("__Host-peat-session", kept)
	w.now = begun.Add(30 * time.Minute)
	old.is(401, "/things/of/acme")

	// And one from the future is none.
	w.now = begun.Add(-time.Minute)
	old.is(401, "/things/of/acme")
}

// TestABrowserGetsNewCookiesAtLeisure: not one with each request.
func TestABrowserGetsNewCookiesAtLeisure(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	b.login()
	renewed := 0
	for range 120 {
		w.now = w.now.Add(time.Second)
		renewed += len(b.get("/things/of/acme").cookies)
	}
	if renewed != 2 {
		t.Errorf("%d cookies in two minutes", renewed)
	}
}

// TestALogoutCountsEverywhere: a copy of the cookie is worth nothing, in whichever
// process it is shown.
func TestALogoutCountsEverywhere(t *testing.T) {
	w := newLoginWorld(t)
	b, thief := w.browser(), w.browser()
	s := b.login()
	thief.plant("__Host-peat-session", b.cookie("__Host-peat-session").Value)
	thief.is(200, "/things/of/acme")
	other := w.browser()
	other.login() // of the same person elsewhere
	if got := b.logout(s.CSRF); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	thief.is(401, "/things/of/acme")
	w.now = w.now.Add(2 * time.Minute) // the thief's cookie would be given anew
	thief.is(401, "/things/of/acme")
	other.is(200, "/things/of/acme")
	// Logging out of what is no session any more is no failure, and no act.
	before := len(w.trail())
	if got := thief.logout("x"); got.status != 200 || !strings.Contains(got.body, `"`+origin+`/"`) || len(w.trail()) != before {
		t.Errorf("%+v", got)
	}
}

func TestTheProviderLogsPeopleOut(t *testing.T) {
	for name, tc := range map[string]struct {
		token map[string]any
		ended bool // alice's first session
		all   bool // also her second
	}{
		"of one session":            {map[string]any{"sub": "alice-1", "sid": "sso-1"}, true, false},
		"of one, whosever it is":    {map[string]any{"sid": "sso-1"}, true, false},
		"for several clients":       {map[string]any{"sub": "alice-1", "sid": "sso-1", "aud": []string{"another", "peat-gateway"}}, true, false},
		"of another session":        {map[string]any{"sub": "alice-1", "sid": "sso-9"}, false, false},
		"of all that alice has":     {map[string]any{"sub": "alice-1"}, true, true},
		"of what somebody else has": {map[string]any{"sub": "bob"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLoginWorld(t)
			first, second := w.browser(), w.browser()
			first.login()
			w.provider.With(func() { w.provider.Person["sid"] = "sso-2" })
			second.login()
			w.now = w.now.Add(time.Second)
			if got := w.hearLogout(w.provider.LogoutToken(tc.token)); got.status != 200 {
				t.Fatalf("%+v", got)
			}
			for b, ended := range map[*browser]bool{first: tc.ended, second: tc.all} {
				want := 200
				if ended {
					want = 401
				}
				b.is(want, "/things/of/acme")
			}
			trail := w.trail()
			target := tc.token["sub"]
			if target == nil {
				target = "a session"
			}
			if want := fmt.Sprint("identity-provider session.end ", target); trail[len(trail)-1] != want {
				t.Errorf("%q, want %q", trail, want)
			}
			// Who logs in after it is in.
			w.now = w.now.Add(time.Minute)
			w.provider.With(func() { w.provider.Person["sid"] = "sso-3" })
			third := w.browser()
			third.login()
			third.is(200, "/things/of/acme")
			// Long after nobody needs to know of it any more.
			w.now = w.now.Add(9 * time.Hour)
			if err := w.function.Events()[0].Handle(t.Context(), event.Ping(w.now)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAttacksOnBackChannelLogout are tokens that must log nobody out.
func TestAttacksOnBackChannelLogout(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	b.login()
	alice := func(change map[string]any) map[string]any {
		out := map[string]any{"sub": "alice-1", "sid": "sso-1"}
		for k, v := range change {
			out[k] = v
		}
		return out
	}
	good := w.provider.LogoutToken(alice(nil))
	for name, token := range map[string]string{
		"nothing":               "",
		"an ID token":           w.provider.Sign(alice(nil)),
		"a nonce":               w.provider.LogoutToken(alice(map[string]any{"nonce": "n"})),
		"a nonce of null":       w.provider.LogoutToken(alice(map[string]any{"nonce": []any{}})),
		"no id":                 w.provider.LogoutToken(alice(map[string]any{"jti": nil})),
		"another event":         w.provider.LogoutToken(alice(map[string]any{"events": map[string]any{"x": map[string]any{}}})),
		"an event that is none": w.provider.LogoutToken(alice(map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": "x"}})),
		"no event":              w.provider.LogoutToken(alice(map[string]any{"events": nil})),
		"for another client":    w.provider.LogoutToken(alice(map[string]any{"aud": "another"})),
		"of another issuer":     w.provider.LogoutToken(alice(map[string]any{"iss": "https://evil.example"})),
		"long ago":              w.provider.LogoutToken(alice(map[string]any{"iat": w.now.Add(-time.Hour).Unix()})),
		"expired":               w.provider.LogoutToken(alice(map[string]any{"exp": w.now.Add(-time.Minute).Unix()})),
		"in the future":         w.provider.LogoutToken(alice(map[string]any{"iat": w.now.Add(time.Hour).Unix()})),
		"nobody's":              w.provider.LogoutToken(map[string]any{}),
		"a changed signature":   flip(good, len(good)-10),
		"no signature":          good[:strings.LastIndex(good, ".")+1],
		"longer than any":       good + strings.Repeat("A", 20<<10),
	} {
		if got := w.hearLogout(token); got.status != 400 || strings.Contains(got.body, "event") {
			t.Errorf("%s: %+v", name, got)
		}
		b.is(200, "/things/of/acme")
	}
	m := w.browser()
	if got := m.do(m.request("POST", "/auth/backchannel-logout", map[string]string{"Content-Type": "application/json"})); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("%+v", got)
	}
	// A token of a log-out is nobody's bearer.
	if got := m.do(m.request("GET", "/things/of/acme", map[string]string{"Authorization": "Bearer " + w.provider.LogoutToken(alice(map[string]any{"roles": []string{"peat-admin"}}))})); got.status != 401 {
		t.Errorf("a logout token as a bearer: %+v", got)
	}
	// One that comes twice counts once: later logins are not its business.
	if got := w.hearLogout(good); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	b.is(401, "/things/of/acme")
	if got := w.hearLogout(good); got.status != 400 {
		t.Errorf("a replayed one: %+v", got)
	}
}
