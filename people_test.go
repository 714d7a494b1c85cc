package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth/oauthtest"
)

const publicURL = "https://example.com"

// peopled is a gateway that knows people, as it is set up by its settings alone.
type peopled struct {
	*gatewayUnderTest
	provider *oauthtest.Provider
	server   *httptest.Server
}

func startPeopled(t *testing.T, logs io.Writer, more map[string]string) *peopled {
	t.Helper()
	provider := oauthtest.New(t)
	provider.Redirect = publicURL + "/auth/callback"
	provider.Person = map[string]any{"sub": "alice-1", "sid": "sso-1", "realm_access": map[string]any{"roles": []string{"peat-org-admin"}}, "organization": map[string]any{"acme": map[string]any{}}}
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(provider.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	set := map[string]string{
		"PEAT_OIDC_ISSUER": provider.URL, "PEAT_OIDC_CLIENT_ID": provider.ClientID, "PEAT_OIDC_CLIENT_SECRET_FILE": secret, "PEAT_OIDC_CA_FILE": provider.CAFile(),
		"PEAT_OIDC_ROLES_CLAIM": "realm_access.roles", "PEAT_SESSION_KEY_FILE": filepath.Join(dir, "session-key"), "PEAT_PUBLIC_URL": publicURL, "PEAT_LOG_LEVEL": "debug",
	}
	for name, value := range more {
		set[name] = value
	}
	g := startAll(t, logs, set)
	g.must("POST", "/orgs", `{"org_id":"rival","display_name":"Rival"}`, 201)
	server := httptest.NewTLSServer(g.serving)
	t.Cleanup(server.Close)
	return &peopled{g, provider, server}
}

// browser is one that follows redirects, and knows both hosts.
func (g *peopled) browser() *http.Client {
	g.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		g.t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: g.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "example.com:443" {
				address = g.server.Listener.Addr().String()
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Jar: jar}
}

func (g *peopled) ask(c *http.Client, method, path, body string, header map[string]string) (int, string) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, publicURL+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	got, err := c.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return got.StatusCode, string(text)
}

// TestPeopleRunTheGateway goes from the settings to a formation that somebody who has
// logged in has made, and out again when the provider says so.
func TestPeopleRunTheGateway(t *testing.T) {
	var logs locked
	database := filepath.Join(t.TempDir(), "x.db")
	g := startPeopled(t, &logs, map[string]string{"PEAT_DATABASE_URL": "sqlite:" + database})
	c := g.browser()
	seen := watch(c) // what passes through the browser
	if status, body := g.ask(c, "GET", "/orgs/acme", "", nil); status != 401 {
		t.Fatalf("%d %s", status, body)
	}
	// All the way: to the provider, back, and to where the login was to lead.
	if status, body := g.ask(c, "GET", "/auth/login?return=/orgs/acme", "", nil); status != 200 || !strings.Contains(body, `"org_id":"acme"`) {
		t.Fatalf("%d %s", status, body)
	}
	var session struct {
		CSRF string `json:"csrf_token"`
	}
	status, body := g.ask(c, "GET", "/auth/session", "", nil)
	if err := json.Unmarshal([]byte(body), &session); err != nil || status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	own := map[string]string{"X-CSRF-Token": session.CSRF, "Origin": publicURL}
	for _, try := range []struct {
		method, path, body string
		header             map[string]string
		status             int
	}{
		{"POST", "/orgs/acme/formations", `{"app_id":"by-alice"}`, nil, 403},
		{"POST", "/orgs/acme/formations", `{"app_id":"by-alice"}`, own, 201},
		{"GET", "/orgs/acme/formations/by-alice", "", nil, 200},
		{"GET", "/orgs/rival", "", nil, 404},
		{"POST", "/orgs/rival/formations", `{"app_id":"by-alice"}`, own, 404},
		{"GET", "/orgs", "", nil, 403},
		{"PATCH", "/orgs/acme", `{"display_name":"Alice's"}`, own, 403},
	} {
		if status, body := g.ask(c, try.method, try.path, try.body, try.header); status != try.status {
			t.Errorf("%s %s: %d, want %d: %s", try.method, try.path, status, try.status, body)
		}
	}
	if _, trail := g.ask(c, "GET", "/orgs/acme/audit?actor=person:alice-1", "", nil); !strings.Contains(trail, "formation.create") {
		t.Errorf("the trail says %s", trail)
	}

	form := url.Values{"logout_token": {g.provider.LogoutToken(map[string]any{"sub": "alice-1", "sid": "sso-1"})}}.Encode()
	if status, body := g.ask(g.browser(), "POST", "/auth/backchannel-logout", form, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := g.ask(c, "GET", "/orgs/acme", "", nil); status != 401 {
		t.Errorf("%d %s", status, body)
	}
	g.stop()
	said := tables(t, database)
	said["the log"] = logs.bytes()
	secrets := map[string]string{"the client's secret": g.provider.Secret, "its other form": url.QueryEscape(g.provider.Secret), "the csrf token": session.CSRF, "a logout token": form[20:]}
	for name, value := range seen {
		secrets[name] = value
	}
	for _, name := range []string{"__Host-peat-session", "__Host-peat-login", "state", "code"} {
		if len(secrets[name]) < 20 {
			t.Errorf("no %s was seen", name)
		}
	}
	for where, b := range said {
		for name, secret := range secrets {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s is in %s:\n%s", name, where, around(b, secret))
			}
		}
	}
}

// watch remembers the cookies that a browser is given and what is secret in the
// addresses that it asks for.
func watch(c *http.Client) map[string]string {
	seen := map[string]string{}
	inner := c.Transport
	c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		for _, name := range []string{"state", "nonce", "code"} {
			if v := r.URL.Query().Get(name); v != "" {
				seen[name] = v
			}
		}
		got, err := inner.RoundTrip(r)
		if err == nil {
			for _, cookie := range got.Cookies() {
				if cookie.MaxAge > 0 {
					seen[cookie.Name] = cookie.Value
				}
			}
		}
		return got, err
	})
	return seen
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTokensOfPeople calls the gateway by the tokens that its provider has signed, and
// by others.
func TestTokensOfPeople(t *testing.T) {
	g := startPeopled(t, io.Discard, map[string]string{"PEAT_OIDC_AUDIENCE": "peat-api", "PEAT_SESSION_KEY_FILE": ""})
	roles := func(names ...string) map[string]any { return map[string]any{"roles": names} }
	for name, tc := range map[string]struct {
		claims      map[string]any
		acme, rival int
		everything  int
	}{
		"an org-admin":           {map[string]any{"realm_access": roles("peat-org-admin"), "organization": []string{"acme"}}, 200, 404, 403},
		"of both":                {map[string]any{"realm_access": roles("peat-viewer:acme", "peat-viewer:rival")}, 200, 200, 403},
		"by groups":              {map[string]any{"groups": []string{"/rival/peat-viewer"}}, 404, 200, 403},
		"gateway-admin":          {map[string]any{"realm_access": roles("peat-admin")}, 200, 200, 200},
		"in no organization":     {map[string]any{"realm_access": roles("peat-org-admin")}, 404, 404, 403},
		"with nothing":           {nil, 404, 404, 403},
		"roles in another place": {map[string]any{"roles": []string{"peat-admin"}}, 404, 404, 403},
		"for the client":         {map[string]any{"aud": "peat-gateway", "realm_access": roles("peat-admin")}, 401, 401, 401},
		"of another issuer":      {map[string]any{"iss": "https://evil.example", "realm_access": roles("peat-admin")}, 401, 401, 401},
		"expired":                {map[string]any{"exp": 1, "realm_access": roles("peat-admin")}, 401, 401, 401},
		"of a log-out":           {map[string]any{"events": map[string]any{}, "realm_access": roles("peat-admin")}, 401, 401, 401},
		"roles that are no list": {map[string]any{"realm_access": map[string]any{"roles": map[string]any{"peat-admin": 1}}}, 401, 401, 401},
		"a service token's name": {map[string]any{"sub": "service-token:x"}, 404, 404, 403},
	} {
		t.Run(name, func(t *testing.T) {
			claims := map[string]any{"sub": "alice-1", "aud": "peat-api"}
			for k, v := range tc.claims {
				claims[k] = v
			}
			token := g.provider.Sign(claims)
			for path, want := range map[string]int{"/orgs/acme": tc.acme, "/orgs/rival": tc.rival, "/orgs": tc.everything} {
				if got := g.call(token, "GET", path, ""); got.Code != want {
					t.Errorf("%s: %d, want %d: %s", path, got.Code, want, got.Body)
				}
			}
			unsigned := "eyJhbGciOiJub25lIn0." + strings.Split(token, ".")[1] + "."
			if got := g.call(unsigned, "GET", "/orgs/acme", ""); got.Code != 401 {
				t.Errorf("unsigned: %d %s", got.Code, got.Body)
			}
		})
	}
	// Nobody logs in here, and that is said.
	if got := g.call("", "GET", "/auth/login", ""); got.Code != 404 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

func TestSettingsOfPeople(t *testing.T) {
	good := map[string]string{"PEAT_OIDC_ISSUER": "https://id.example", "PEAT_OIDC_CLIENT_ID": "peat"}
	for name, tc := range map[string]struct {
		more map[string]string
		says string // empty: they are good
	}{
		"good":                      {nil, ""},
		"no provider":               {map[string]string{"PEAT_OIDC_ISSUER": "", "PEAT_OIDC_CLIENT_ID": ""}, ""},
		"in the clear":              {map[string]string{"PEAT_OIDC_ISSUER": "http://id.example"}, "PEAT_OIDC_ISSUER"},
		"no client":                 {map[string]string{"PEAT_OIDC_CLIENT_ID": ""}, "PEAT_OIDC_CLIENT_ID"},
		"two roles of one name":     {map[string]string{"PEAT_OIDC_VIEWER": "peat-admin"}, "PEAT_OIDC_ADMIN"},
		"a moment and no idle":      {map[string]string{"PEAT_SESSION_IDLE": "1s"}, "PEAT_SESSION_IDLE"},
		"idle for longer than ever": {map[string]string{"PEAT_SESSION_MAX": "10m"}, "PEAT_SESSION_IDLE"},
		"no public address":         {map[string]string{"PEAT_SESSION_KEY": strings.Repeat("42", 32)}, "PEAT_PUBLIC_URL"},
		"a key that is none":        {map[string]string{"PEAT_SESSION_KEY": "hush", "PEAT_PUBLIC_URL": publicURL}, "session key"},
		"no such file of roots":     {map[string]string{"PEAT_OIDC_CA_FILE": "/nowhere"}, "PEAT_OIDC_CA_FILE"},
		"no such file of a secret":  {map[string]string{"PEAT_OIDC_CLIENT_SECRET_FILE": "/nowhere", "PEAT_SESSION_KEY": strings.Repeat("42", 32), "PEAT_PUBLIC_URL": publicURL}, "PEAT_OIDC_CLIENT_SECRET_FILE"},
		"a claim that is no path":   {map[string]string{"PEAT_OIDC_GROUPS_CLAIM": "a\nb"}, "claims/groups"},
	} {
		t.Run(name, func(t *testing.T) {
			set := map[string]string{}
			for _, m := range []map[string]string{good, tc.more} {
				for k, v := range m {
					set[k] = v
				}
			}
			host, err := gateway.NewHost(settings(t, set), io.Discard)
			if err == nil {
				defer host.Close()
				_, err = host.Open(t.Context(), "federation")
			}
			if (err == nil) != (tc.says == "") || err != nil && (!strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hush")) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
}
