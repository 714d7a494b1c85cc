package federation_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth/oauthtest"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oidc"
	"github.com/defenseunicorns/peat-gateway/shared/login"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/cookie"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// origin is where browsers find the gateway. The provider is at another host, so that
// each gets its own cookies.
const origin = "https://example.com"

// loginWorld is a gateway with people, their identity provider, and browsers.
type loginWorld struct {
	t        *testing.T
	provider *oauthtest.Provider
	store    *store.Store
	gateway  *httptest.Server
	sessions *access.Sessions
	function *federation.Function
	now      time.Time
}

// mapping is that of the defaults, with organizations in a claim of their own.
var mapping = access.Mapping{Admin: "peat-admin", OrgAdmin: "peat-org-admin", Viewer: "peat-viewer", Orgs: "organizations"}

func newLoginWorld(t *testing.T) *loginWorld {
	t.Helper()
	st, err := store.Open(t.Context(), "sqlite:"+t.TempDir()+"/store.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	w := &loginWorld{t: t, store: st, provider: oauthtest.New(t), now: time.Now().Truncate(time.Second)}
	now := func() time.Time { return w.now }
	w.provider.Now, w.provider.Redirect = now, origin+"/auth/callback"
	w.provider.Person = map[string]any{"sub": "alice-1", "sid": "sso-1", "preferred_username": "alice", "roles": []string{"peat-org-admin"}, "organizations": []string{"acme"}}
	key, err := cookie.ParseKey(strings.Repeat("42", 32))
	if err != nil {
		t.Fatal(err)
	}
	public, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	verifier := openVerifier(t, w.provider, now)
	log := slog.New(slog.DiscardHandler)
	w.sessions = &access.Sessions{Key: key, Idle: 30 * time.Minute, Whole: 8 * time.Hour, Origin: origin, Issuer: w.provider.URL,
		Rules: mapping.Digest(w.provider.URL, w.provider.ClientID), Endings: st, Now: now}
	logins := &federation.Logins{Mapping: mapping, Sessions: w.sessions, Login: &login.Login{
		Client:   &oauth.Client{Issuer: w.provider.URL, ID: w.provider.ClientID, Secret: env.NewSecret(w.provider.Secret), HTTP: w.provider.Client(), Now: now},
		Verifier: verifier, Events: verifier.(login.Events), Public: public, Now: now,
	}}
	auditKey, err := audit.ParseKey(strings.Repeat("43", 32))
	if err != nil {
		t.Fatal(err)
	}
	w.function = federation.New(federation.Deps{Store: st, Logins: logins, Key: auditKey, Notify: func() {}, Log: log, Now: now})
	gate := access.Gate{Bootstrap: access.NewBootstrap(adminToken), People: &access.People{Verifier: verifier, Mapping: mapping, Sessions: w.sessions, Log: log, Now: now}}
	mux := web.Mux(w.function.Routes(), web.Options{Authorize: gate.Authorize})
	things := web.Mux(thingRoutes(), web.Options{Authorize: gate.Authorize})
	h := http.NewServeMux()
	h.Handle("/", w.sessions.Keep(openapitest.New(t).Handler(t, mux)))
	h.Handle("/things/", w.sessions.Keep(things))
	w.gateway = httptest.NewTLSServer(h)
	t.Cleanup(w.gateway.Close)
	return w
}

// openVerifier makes what tells the provider's tokens from others.
func openVerifier(t *testing.T, p *oauthtest.Provider, now func() time.Time) identity.Verifier {
	t.Helper()
	config, err := json.Marshal(map[string]any{"issuer": p.URL, "audiences": []string{p.ClientID}, "tls": map[string]any{"ca_pem": p.CA()}})
	if err != nil {
		t.Fatal(err)
	}
	settings := identity.Settings{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Now: now}
	verifier, err := oidc.Open(identity.Opening{Provider: identity.Provider{Config: config}, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = verifier.Close() })
	return verifier
}

// thingRoutes are what people do things with. They say who did.
func thingRoutes() []web.Route {
	who := func(w http.ResponseWriter, r *http.Request) error {
		return web.WriteJSON(w, http.StatusOK, map[string]string{"by": access.NameOf(r.Context())})
	}
	out := []web.Route{{Pattern: "GET /things/everything", Need: web.GatewayAdmin, Handle: who}, {Pattern: "GET /things/of/{org}", Need: web.Viewer, Handle: who}}
	for _, method := range unsafe {
		out = append(out, web.Route{Pattern: method + " /things/of/{org}", Need: web.OrgAdmin, Handle: who})
	}
	return out
}

var unsafe = []string{"POST", "PUT", "PATCH", "DELETE"}

// browser is somebody's, with their cookies. It follows no redirect by itself.
type browser struct {
	*loginWorld
	jar    *cookiejar.Jar
	client *http.Client
}

func (w *loginWorld) browser() *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	trusted := w.gateway.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs // both servers' certificate is the same
	gateway := w.gateway.Listener.Addr().String()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: trusted},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "example.com:443" {
				address = gateway
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &browser{w, jar, client}
}

// answer is what came back.
type answer struct {
	status   int
	location string
	body     string
	cookies  []*http.Cookie
}

func (b *browser) do(r *http.Request) answer {
	b.t.Helper()
	got, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{got.StatusCode, got.Header.Get("Location"), string(body), got.Cookies()}
}

// get asks for an address, or for a path of the gateway.
func (b *browser) get(address string) answer {
	b.t.Helper()
	return b.do(b.request("GET", address, nil))
}

func (b *browser) request(method, address string, header map[string]string) *http.Request {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = origin + address
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	return r
}

// toCallback goes to the provider and returns the address it sends the browser back to.
func (b *browser) toCallback(place string) *url.URL {
	b.t.Helper()
	begun := b.get("/auth/login?" + url.Values{"return": {place}}.Encode())
	if begun.status != http.StatusSeeOther {
		b.t.Fatalf("login: %+v", begun)
	}
	back, err := url.Parse(b.get(begun.location).location)
	if err != nil || back.Path != "/auth/callback" {
		b.t.Fatalf("%v %v", back, err)
	}
	return back
}

// login logs in, and fails the test if that does not work.
func (b *browser) login() session {
	b.t.Helper()
	if got := b.get(b.toCallback("/").String()); got.status != http.StatusSeeOther {
		b.t.Fatalf("callback: %+v", got)
	}
	return b.session()
}

// session is the answer of /auth/session.
type session struct {
	Subject       string
	Name          string
	GatewayAdmin  bool `json:"gateway_admin"`
	Organizations []struct {
		Org  string `json:"org_id"`
		Role string
	}
	CSRF      string    `json:"csrf_token"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (b *browser) session() session {
	b.t.Helper()
	got := b.get("/auth/session")
	var s session
	if err := json.Unmarshal([]byte(got.body), &s); err != nil || got.status != 200 {
		b.t.Fatalf("session: %+v %v", got, err)
	}
	return s
}

// is fails unless a path is answered with the status.
func (b *browser) is(status int, path string) {
	b.t.Helper()
	if got := b.get(path); got.status != status {
		b.t.Errorf("%s: %d, want %d: %s", path, got.status, status, got.body)
	}
}

// change does something to acme's things, as its own pages do.
func (b *browser) change(csrf string) answer {
	b.t.Helper()
	return b.do(b.request("POST", "/things/of/acme", map[string]string{"X-CSRF-Token": csrf, "Origin": origin, "Sec-Fetch-Site": "same-origin"}))
}

func (b *browser) logout(csrf string) answer {
	b.t.Helper()
	return b.do(b.request("POST", "/auth/logout", map[string]string{"X-CSRF-Token": csrf, "Origin": origin}))
}

// cookie is what the browser keeps under a name of the gateway's.
func (b *browser) cookie(name string) *http.Cookie {
	at, _ := url.Parse(origin + "/auth/logout")
	for _, c := range b.jar.Cookies(at) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// plant has the browser keep a cookie of the gateway's.
func (b *browser) plant(name, value string) {
	at, _ := url.Parse(origin)
	b.jar.SetCookies(at, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}

// hearLogout sends a logout token, as the provider does.
func (w *loginWorld) hearLogout(token string) answer {
	w.t.Helper()
	b := w.browser()
	r := b.request("POST", "/auth/backchannel-logout", map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
	r.Body = io.NopCloser(strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	return b.do(r)
}

// trail is what the gateway's own audit trail tells: who, what, on what.
func (w *loginWorld) trail() []string {
	w.t.Helper()
	entries, err := w.store.AuditTrail(context.Background(), audit.Gateway, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		reason, _ := e.Detail["reason"].(string)
		out = append(out, strings.TrimSpace(strings.Join([]string{e.Actor, e.Action, e.Target, reason}, " ")))
	}
	return out
}
