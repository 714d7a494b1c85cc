package federation_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// TestALoginFromBeginningToEnd goes the whole way, and then does what people do.
func TestALoginFromBeginningToEnd(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	b.is(401, "/auth/session")
	b.is(401, "/things/of/acme")

	back := b.toCallback("/ui/orgs?sort=name#top")
	got := b.get(back.String())
	if got.status != http.StatusSeeOther || got.location != origin+"/ui/orgs?sort=name#top" {
		t.Fatalf("%+v", got)
	}
	for _, c := range got.cookies {
		if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Domain != "" {
			t.Errorf("a cookie that is not kept close: %s", c)
		}
	}
	s := b.session()
	if s.Subject != "alice-1" || s.Name != "alice" || s.GatewayAdmin || len(s.Organizations) != 1 || s.Organizations[0].Org != "acme" || s.Organizations[0].Role != "org-admin" || !s.ExpiresAt.Equal(w.now.Add(8*time.Hour)) {
		t.Errorf("%+v", s)
	}
	b.is(200, "/things/of/acme")
	b.is(404, "/things/of/rival")
	b.is(403, "/things/everything")
	if got := b.change(s.CSRF); got.status != 200 || !strings.Contains(got.body, `"person:alice-1"`) {
		t.Errorf("%+v", got)
	}

	out := b.logout(s.CSRF)
	if out.status != 200 || !strings.Contains(out.body, w.provider.URL+"/logout?") || !strings.Contains(out.body, "id_token_hint=") {
		t.Errorf("%+v", out)
	}
	b.is(401, "/auth/session")
	b.is(401, "/things/of/acme")
	for _, name := range []string{"__Host-peat-session", "__Host-peat-login", "__Secure-peat-hint"} {
		if c := b.cookie(name); c != nil {
			t.Errorf("the browser still has %s", c)
		}
	}
	want := []string{"person:alice-1 session.begin alice-1", "person:alice-1 session.end alice-1"}
	if diff := cmp.Diff(want, w.trail()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatPeopleSee(t *testing.T) {
	for name, tc := range map[string]struct {
		person                    map[string]any
		everything, acme, another int
		change                    int
	}{
		"in no organization":     {map[string]any{"roles": []string{"peat-org-admin"}}, 403, 404, 404, 404},
		"without a role":         {map[string]any{"organizations": []string{"acme"}}, 403, 404, 404, 404},
		"a viewer":               {map[string]any{"roles": []string{"peat-viewer"}, "organizations": []string{"acme"}}, 403, 200, 404, 403},
		"an administrator there": {map[string]any{"groups": []string{"/acme/peat-org-admin"}}, 403, 200, 404, 200},
		"of the gateway":         {map[string]any{"groups": []string{"/peat-admin"}}, 200, 200, 200, 200},
		"almost of the gateway":  {map[string]any{"groups": []string{"/acme/peat-admin"}, "organizations": []string{"acme"}}, 403, 404, 404, 404},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLoginWorld(t)
			tc.person["sub"] = "x"
			w.provider.Person = tc.person
			b := w.browser()
			s := b.login()
			b.is(tc.everything, "/things/everything")
			b.is(tc.acme, "/things/of/acme")
			b.is(tc.another, "/things/of/rival")
			if got := b.change(s.CSRF); got.status != tc.change {
				t.Errorf("%+v", got)
			}
			// The same by a token.
			bearer := w.provider.Sign(tc.person)
			for path, want := range map[string]int{"/things/everything": tc.everything, "/things/of/acme": tc.acme, "/things/of/rival": tc.another} {
				if got := w.browser().do(b.request("GET", path, map[string]string{"Authorization": "Bearer " + bearer})); got.status != want {
					t.Errorf("by a token, %s: %d %s", path, got.status, got.body)
				}
			}
		})
	}
}

// TestAttacksOnACallback are answers that must begin no session, each with what the
// audit trail says of it.
func TestAttacksOnACallback(t *testing.T) {
	w := newLoginWorld(t)
	set := func(name, value string) func(*browser, url.Values) {
		return func(_ *browser, q url.Values) { q.Set(name, value) }
	}
	for name, tc := range map[string]struct {
		attack func(b *browser, q url.Values)
		status int
		reason string
	}{
		"wrong state":        {set("state", "guessed"), 401, "this login was not begun in this browser, or too long ago; begin again"},
		"no state":           {func(_ *browser, q url.Values) { q.Del("state") }, 401, "this login was not begun"},
		"two states":         {func(_ *browser, q url.Values) { q.Add("state", "x") }, 401, "this login was not begun"},
		"no code":            {func(_ *browser, q url.Values) { q.Del("code") }, 401, "there is no code in the answer"},
		"two codes":          {func(_ *browser, q url.Values) { q.Add("code", "x") }, 401, "there is no code in the answer"},
		"an invented code":   {set("code", "guessed"), 401, "the identity provider refuses: invalid_grant"},
		"an endless code":    {set("code", strings.Repeat("x", 5000)), 401, "there is no code in the answer"},
		"mix-up":             {set("iss", "https://evil.example"), 401, "the answer is of another provider"},
		"mix-up with two":    {func(_ *browser, q url.Values) { q.Add("iss", "https://evil.example") }, 401, "the answer is of another provider"},
		"mix-up with none":   {func(_ *browser, q url.Values) { q.Del("iss") }, 401, "the answer is of another provider"},
		"the provider's no":  {func(_ *browser, q url.Values) { q.Set("error", "access_denied"); q.Del("code") }, 403, "the identity provider refuses: access_denied"},
		"a no and a code":    {set("error", "<script>alert(1)</script>"), 403, "the provider refuses, in no known words"},
		"in another browser": {func(b *browser, _ url.Values) { b.jar = nil; b.client.Jar = nil }, 401, "there is no such cookie"},
		"another's flow": {func(b *browser, _ url.Values) {
			mallory := b.browser()
			mallory.get("/auth/login")
			b.plant("__Host-peat-login", mallory.cookie("__Host-peat-login").Value)
		}, 401, "this login was not begun"},
		"a session for a flow": {func(b *browser, _ url.Values) {
			mallory := b.browser()
			mallory.login()
			b.plant("__Host-peat-login", mallory.cookie("__Host-peat-session").Value)
		}, 401, "the cookie is not ours, or not intact"},
		"too late": {func(b *browser, _ url.Values) { b.now = b.now.Add(11 * time.Minute) }, 401, "this login was not begun"},
		"code injection": {func(b *browser, q url.Values) {
			// The code of a login that was begun elsewhere comes with this browser's state: the
			// verifier is another.
			mallory := b.browser()
			q.Set("code", mallory.toCallback("/").Query().Get("code"))
		}, 401, "the identity provider refuses: invalid_grant"},
		"a token for another": {func(b *browser, _ url.Values) { b.provider.With(func() { b.provider.Audience = "another client" }) }, 401, "it is for another audience"},
		"another nonce": {func(b *browser, _ url.Values) {
			b.provider.With(func() { b.provider.Change = func(c map[string]any) { c["nonce"] = "another" } })
		}, 401, "its nonce is not the one that was sent"},
		"a token without a nonce": {func(b *browser, _ url.Values) {
			b.provider.With(func() { b.provider.Change = func(c map[string]any) { delete(c, "nonce") } })
		}, 401, "its nonce is not the one that was sent"},
		"a token that has expired": {func(b *browser, _ url.Values) {
			b.provider.With(func() { b.provider.Change = func(c map[string]any) { c["exp"] = 1 } })
		}, 401, "it expired at"},
		"a token of an event": {func(b *browser, _ url.Values) {
			b.provider.With(func() {
				b.provider.Change = func(c map[string]any) { c["events"] = map[string]any{"x": map[string]any{}} }
			})
		}, 401, "it tells of an event"},
		"a token of nobody": {func(b *browser, _ url.Values) {
			b.provider.With(func() { b.provider.Change = func(c map[string]any) { delete(c, "sub") } })
		}, 401, "it names no subject"},
		"a token of another issuer": {func(b *browser, _ url.Values) {
			b.provider.With(func() { b.provider.Change = func(c map[string]any) { c["iss"] = "https://evil.example" } })
		}, 401, "[redacted]"}, // for it names an address
		"more organizations than fit": {func(b *browser, _ url.Values) {
			var orgs []string
			for i := range 100 {
				orgs = append(orgs, fmt.Sprintf("org-%d-%s", i, strings.Repeat("x", 100)))
			}
			b.provider.With(func() { b.provider.Change = func(c map[string]any) { c["organizations"] = orgs } })
		}, 403, "this person belongs to more organizations than a login can carry"},
	} {
		t.Run(name, func(t *testing.T) {
			w.now = w.now.Add(time.Minute) // so that each has room in the audit trail
			w.provider.With(func() { w.provider.Audience, w.provider.Change = "", nil })
			b := w.browser()
			back := b.toCallback("/")
			q := back.Query()
			tc.attack(b, q)
			before := len(w.trail())
			back.RawQuery = q.Encode()
			got := b.get(back.String())
			if got.status != tc.status || strings.Contains(got.body, "script") || strings.Contains(got.body, tc.reason) && strings.Contains(tc.reason, "invalid_grant") {
				t.Errorf("%+v", got)
			}
			if slices.ContainsFunc(got.cookies, func(c *http.Cookie) bool { return c.Name == "__Host-peat-session" }) {
				t.Errorf("it began a session: %+v", got)
			}
			b.is(401, "/auth/session")
			trail := w.trail()[before:]
			if len(trail) != 1 || !strings.Contains(trail[0], " session.refuse GET /auth/callback ") || !strings.Contains(trail[0], tc.reason) {
				t.Errorf("the audit trail says %q", trail)
			}
		})
	}
}

// TestAReplayedCallback: in the same browser, and in one that was given its cookie back.
func TestAReplayedCallback(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	back := b.toCallback("/").String()
	flow := b.cookie("__Host-peat-login").Value
	if got := b.get(back); got.status != http.StatusSeeOther {
		t.Fatalf("%+v", got)
	}
	if got := b.get(back); got.status != 401 {
		t.Errorf("at once: %+v", got)
	}
	b.plant("__Host-peat-login", flow)
	if got := b.get(back); got.status != 401 {
		t.Errorf("with its cookie: %+v", got)
	}
	// A provider that takes a code twice.
	other := w.browser()
	other.plant("__Host-peat-login", flow)
	again, _ := url.Parse(back)
	q := again.Query()
	w.provider.With(func() { w.provider.Reuse = true })
	again.RawQuery = q.Encode()
	if got := other.get(again.String()); got.status != 401 {
		t.Errorf("where codes are good twice: %+v", got)
	}
	trail := w.trail()
	if len(trail) != 4 || !strings.HasSuffix(trail[3], "the answer came before") {
		t.Errorf("%q", trail)
	}
}

// TestOpenRedirects: a login leads to a place on the gateway, or nowhere.
func TestOpenRedirects(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	for _, place := range []string{
		"https://evil.example", "//evil.example", "///evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "/\n/evil.example", "evil.example", "javascript:alert(1)",
		"/%2f/evil.example", "/%5cevil.example", "/..//evil.example", "/.%2e/x", "http:/evil.example", "/ /evil.example", "/x\r\nSet-Cookie: a=b", "/auth/login?return=/", "/auth/logout", "/%61uth/login",
		"/" + strings.Repeat("x", 2000), "/ünïcode", "?x", "#x", ".", "@evil.example",
	} {
		if got := b.get("/auth/login?" + url.Values{"return": {place}}.Encode()); got.status != 422 || got.location != "" {
			t.Errorf("%q: %+v", place, got)
		}
	}
	if got := b.get("/auth/login?return=/a&return=/b"); got.status != 400 {
		t.Errorf("twice: %+v", got)
	}
	for _, place := range []string{"", "/", "/ui", "/ui/orgs/acme?a=b&c=//d#e", "/@evil.example", "/https://x"[:6], "/a:b", "/authors"} {
		back := b.toCallback(place)
		got := b.get(back.String())
		want := origin + place
		if place == "" {
			want += "/"
		}
		to, err := url.Parse(got.location)
		if err != nil || got.location != want || to.Host != "example.com" || to.Scheme != "https" {
			t.Errorf("%q: %+v", place, got)
		}
	}
}

// TestSessionFixation: whatever a browser had before, a login gives it another session
// and ends the one it had.
func TestSessionFixation(t *testing.T) {
	w := newLoginWorld(t)
	mallory := w.browser()
	w.provider.With(func() { w.provider.Person["sub"] = "mallory" })
	mallory.login()
	planted := mallory.cookie("__Host-peat-session").Value
	w.provider.With(func() { w.provider.Person["sub"] = "alice-1" })
	b := w.browser()
	b.plant("__Host-peat-session", planted)
	b.login()
	if b.cookie("__Host-peat-session").Value == planted {
		t.Error("the session is the one that was planted")
	}
	mallory.is(401, "/auth/session") // what mallory planted is nobody's any more
	first := b.cookie("__Host-peat-session").Value
	b.login()
	second := b.cookie("__Host-peat-session").Value
	old := w.browser()
	old.plant("__Host-peat-session", first)
	old.is(401, "/auth/session")
	if first == second {
		t.Error("two logins gave one session")
	}
}

// TestRolesFollowTheProviderWithTheNextLogin, and at once where the gateway's own rules
// are changed.
func TestRolesFollowTheProviderWithTheNextLogin(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	b.login()
	w.provider.With(func() {
		w.provider.Person["roles"] = []string{"peat-viewer"}
		w.provider.Person["organizations"] = []string{"rival"}
	})
	b.is(200, "/things/of/acme")
	s := b.login()
	b.is(404, "/things/of/acme")
	b.is(200, "/things/of/rival")
	if got := b.change(s.CSRF); got.status != 404 {
		t.Errorf("%+v", got)
	}
	changed := mapping
	changed.Viewer = "another-name"
	w.sessions.Rules = changed.Digest(w.provider.URL, w.provider.ClientID)
	b.is(401, "/things/of/rival")
}

// TestRefusalsAreRecordedWithinBounds: anybody can cause them.
func TestRefusalsAreRecordedWithinBounds(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	for range 50 {
		b.is(401, "/auth/callback?state=x&code=y")
	}
	if n := len(w.trail()); n != 20 {
		t.Errorf("%d entries of 50", n)
	}
	w.now = w.now.Add(time.Minute)
	b.is(401, "/auth/callback?state=x&code=y")
	entries, err := w.store.AuditTrail(t.Context(), "_gateway", 100)
	if err != nil || len(entries) != 21 || fmt.Sprint(entries[20].Detail["not_recorded"]) != "30" {
		t.Errorf("%d entries, the last %+v, %v", len(entries), entries[len(entries)-1], err)
	}
}

// TestTheProviderIsNotAskedWithoutEnd for what whoever likes brings back.
func TestTheProviderIsNotAskedWithoutEnd(t *testing.T) {
	w := newLoginWorld(t)
	limited := 0
	b := w.browser()
	b.client.Jar = nil
	for range 125 {
		begun := b.get("/auth/login")
		to, err := url.Parse(begun.location)
		if err != nil || len(begun.cookies) != 1 {
			t.Fatalf("%+v", begun)
		}
		r := b.request("GET", "/auth/callback?"+url.Values{"state": {to.Query().Get("state")}, "code": {"guessed"}, "iss": {w.provider.URL}}.Encode(), nil)
		r.AddCookie(begun.cookies[0])
		if got := b.do(r); got.status == http.StatusTooManyRequests {
			limited++
		} else if got.status != 401 {
			t.Fatalf("%+v", got)
		}
	}
	if limited != 5 || w.provider.Asked("/token") != 120 {
		t.Errorf("%d of 125 were turned away, the provider was asked %d times", limited, w.provider.Asked("/token"))
	}
}

// TestTheProviderIsDown: those who are in stay in, and nobody else comes in.
func TestTheProviderIsDown(t *testing.T) {
	w := newLoginWorld(t)
	b, late := w.browser(), w.browser()
	s := b.login()
	back := late.toCallback("/").String()
	w.provider.With(func() { w.provider.Down = true })
	b.is(200, "/things/of/acme")
	if got := late.get(back); got.status != 503 || strings.Contains(got.body, w.provider.URL) {
		t.Errorf("%+v", got)
	}
	w.now = w.now.Add(5 * time.Minute)
	if got := b.logout(s.CSRF); got.status != 200 {
		t.Errorf("%+v", got)
	}
	b.is(401, "/auth/session")
}

func TestWhereNobodyLogsIn(t *testing.T) {
	f := federation.New(federation.Deps{Now: time.Now})
	h := openapitest.New(t).Handler(t, web.Mux(f.Routes(), web.Options{Authorize: noOne}))
	for _, door := range []string{"GET /auth/login", "GET /auth/callback", "GET /auth/session", "POST /auth/logout", "POST /auth/backchannel-logout"} {
		method, path, _ := strings.Cut(door, " ")
		if got := serve(h, method, path); got.Code != 404 {
			t.Errorf("%s: %d %s", door, got.Code, got.Body)
		}
	}
}

// TestNothingSecretGoesToTheProviderBeforeItMust: the verifier stays here until there
// is a code to redeem.
func TestNothingSecretGoesToTheProviderBeforeItMust(t *testing.T) {
	w := newLoginWorld(t)
	b := w.browser()
	begun := b.get("/auth/login")
	to, err := url.Parse(begun.location)
	if err != nil {
		t.Fatal(err)
	}
	q := to.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": w.provider.ClientID, "redirect_uri": origin + "/auth/callback", "scope": "openid", "code_challenge_method": "S256"} {
		if q.Get(name) != want {
			t.Errorf("%s is %q", name, q.Get(name))
		}
	}
	if q.Has("code_verifier") || q.Has("client_secret") || len(q.Get("state")) != 43 || len(q.Get("nonce")) != 43 || q.Get("code_challenge") == oauth.Challenge("") {
		t.Errorf("%v", q)
	}
	if c := b.cookie("__Host-peat-login"); strings.Contains(c.Value, q.Get("state")) {
		t.Error("the cookie can be read")
	}
}
