package test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestKeycloakPeople has people of a real identity provider run the gateway: by tokens,
// and by logging in with a browser. Each sees what is theirs.
func TestKeycloakPeople(t *testing.T) {
	k := testenv.Keycloak(t)
	front, public := frontOf(t, k)
	dir := testenv.Dir(t)
	files := map[string][]byte{"ca.pem": k.Authority.PEM, "secret": []byte(k.Secret)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := startGateway(t, options{env: []string{
		"PEAT_PUBLIC_URL=" + public, "PEAT_OIDC_ISSUER=" + k.Issuer(), "PEAT_OIDC_CLIENT_ID=peat-ui", "PEAT_OIDC_CA_FILE=" + filepath.Join(dir, "ca.pem"),
		"PEAT_OIDC_CLIENT_SECRET_FILE=" + filepath.Join(dir, "secret"), "PEAT_OIDC_ORGS_CLAIM=organizations",
	}})
	front(g.url)
	k.SetClient(t, "peat-ui", map[string]any{
		"redirectUris": []string{public + "/*"},
		"attributes":   map[string]string{"backchannel.logout.url": g.url + "/auth/backchannel-logout", "backchannel.logout.session.required": "true"},
	})
	g.formation("acme", "logistics")
	g.formation("rival", "logistics")

	people := map[string]struct{ everything, acme, change, rival int }{
		"alice": {200, 200, 204, 200}, // peat-admin
		"bob":   {403, 200, 204, 404}, // peat-org-admin, of acme
		"carol": {403, 200, 403, 404}, // peat-viewer, of acme
		"dave":  {403, 404, 404, 404}, // nothing
	}
	for name, want := range people {
		t.Run(name+" by a token", func(t *testing.T) {
			bearer := map[string]string{"Authorization": "Bearer " + k.Token(t, "peat-ui", name)}
			ask := func(method, path, body string) int {
				status, _ := send(t, k.Client(), method, public+path, body, bearer)
				return status
			}
			rooms(t, ask, want.everything, want.acme, want.rival)
			if got := remake(ask, "token-"+name); got != want.change {
				t.Errorf("a change: %d, want %d", got, want.change)
			}
		})
		t.Run(name+" with a browser", func(t *testing.T) {
			b := k.Browser(t)
			if page := b.SignIn(t, public+"/auth/login?return=/health", name); page.Status != 200 || page.URL.String() != public+"/health" {
				t.Fatalf("%d at %s: %s", page.Status, page.URL.Path, page.Body)
			}
			page := b.Open(t, public+"/auth/session")
			var session struct {
				Name string
				CSRF string `json:"csrf_token"`
			}
			if err := json.Unmarshal([]byte(page.Body), &session); err != nil || page.Status != 200 || session.Name != name {
				t.Fatalf("%d %s %v", page.Status, page.Body, err)
			}
			own := map[string]string{"X-CSRF-Token": session.CSRF, "Origin": public}
			ask := func(method, path, body string) int {
				status, _ := send(t, b.Client(), method, public+path, body, own)
				return status
			}
			rooms(t, ask, want.everything, want.acme, want.rival)
			if got := remake(ask, "browser-"+name); got != want.change {
				t.Errorf("a change: %d, want %d", got, want.change)
			}
			own = nil
			if got := ask("POST", "/orgs/acme/formations", `{"app_id":"forged"}`); got != 403 {
				t.Errorf("a forged change: %d", got)
			}
			own = map[string]string{"X-CSRF-Token": session.CSRF, "Origin": public}

			// Out, here and there: the next login has to sign in again.
			status, body := send(t, b.Client(), "POST", public+"/auth/logout", "", own)
			var out struct{ Location string }
			if err := json.Unmarshal([]byte(body), &out); err != nil || status != 200 || !strings.HasPrefix(out.Location, k.Issuer()+"/") {
				t.Fatalf("%d %s", status, body)
			}
			if page := b.Open(t, out.Location); page.URL.Host != strings.TrimPrefix(public, "https://") {
				t.Errorf("logging out ends at %s: %s", page.URL.Host+page.URL.Path, page.Body)
			}
			if got := ask("GET", "/auth/session", ""); got != 401 {
				t.Errorf("after logging out: %d", got)
			}
			b.SignIn(t, public+"/auth/login", name) // it fails where there is no page to sign in on
		})
	}

	// What an administrator does at the provider ends sessions here.
	b := k.Browser(t)
	if page := b.SignIn(t, public+"/auth/login?return=/health", "bob"); page.Status != 200 {
		t.Fatalf("%d %s", page.Status, page.Body)
	}
	k.Logout(t, "bob")
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		status, body := send(t, b.Client(), "GET", public+"/auth/session", "", nil)
		if status == 401 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("logged out at the provider, bob is still in: %d %s", status, body)
		}
	}
	k.RotateKeys(t, false)
	status, body := send(t, k.Client(), "GET", public+"/orgs/acme", "", map[string]string{"Authorization": "Bearer " + k.Token(t, "peat-ui", "carol")})
	if status != 200 {
		t.Errorf("after the provider's keys were changed: %d %s", status, body)
	}
}

// rooms looks into those that are somebody's, and into those that are not.
func rooms(t *testing.T, ask func(method, path, body string) int, everything, acme, rival int) {
	t.Helper()
	for path, want := range map[string]int{"/orgs": everything, "/orgs/acme": acme, "/orgs/acme/formations/logistics": acme, "/orgs/rival": rival, "/orgs/rival/formations": rival} {
		if got := ask("GET", path, ""); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}

// remake makes a formation of acme and destroys it; it returns the status where that
// ended.
func remake(ask func(method, path, body string) int, app string) int {
	if got := ask("POST", "/orgs/acme/formations", fmt.Sprintf(`{"app_id":%q}`, app)); got != http.StatusCreated {
		return got
	}
	return ask("DELETE", "/orgs/acme/formations/"+app, "")
}

func send(t *testing.T, c *http.Client, method, address, body string, header map[string]string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	got, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode, string(text)
}

// frontOf is what stands before a gateway and has TLS, as browsers want it. Its address
// is known before the gateway's is, which is then given to it.
func frontOf(t *testing.T, k *testenv.KeycloakServer) (to func(gateway string), public string) {
	t.Helper()
	certificate, key := k.Authority.Issue(t, "front", "localhost")
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	public = "https://localhost:" + port
	return func(gateway string) {
		u, err := url.Parse(gateway)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: httputil.NewSingleHostReverseProxy(u), ReadHeaderTimeout: time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
		}()
		t.Cleanup(func() {
			_ = server.Close()
			<-done
		})
	}, public
}
