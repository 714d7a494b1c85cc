// Package oauthtest is an OpenID provider in this process, for tests of the flows in
// which somebody logs in at it: authorization code with PKCE, device code, and log-out.
// It is strict where providers are: a code is good once, for its client, address and
// verifier. What it is told to do wrong, it does.
//
//	provider.go  what it is, and its documents
//	code.go      people who log in
//	device.go    devices that wait until somebody does
//	sign.go      tokens
//
// Only tests import it.
package oauthtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Provider is a provider with one client. Its fields are set before it is used, or
// under With.
type Provider struct {
	*httptest.Server
	ClientID, Secret string
	Redirect         string // the one address that codes are sent to

	// Person is who is signed in at the provider in this browser: claims for their
	// tokens. Nil: nobody, and logging in is refused.
	Person map[string]any
	// Change, if set, is done to the claims of every ID token before it is signed.
	Change func(claims map[string]any)
	// Refuse, if set, is the code with which the token endpoint refuses.
	Refuse string
	// Down has every endpoint answer 503.
	Down bool
	// Reuse has codes be good more than once.
	Reuse bool
	// Silent leaves out iss of answers to the browser, and says so.
	Silent bool
	// Now is the provider's clock.
	Now func() time.Time
	// Audience, if set, is whom ID tokens are for.
	Audience string

	t       testing.TB
	key     *ecdsa.PrivateKey
	mu      sync.Mutex
	codes   map[string]*code
	devices map[string]*device
	asked   map[string]int // requests by path
}

// New starts a provider that ends with the test.
func New(t testing.TB) *Provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{
		t: t, key: key, Now: time.Now, ClientID: "peat-gateway", Secret: "the client's secret: 100%",
		codes: map[string]*code{}, devices: map[string]*device{}, asked: map[string]int{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /jwks", p.jwks)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /device", p.deviceAuthorization)
	mux.HandleFunc("GET /logout", func(w http.ResponseWriter, r *http.Request) {
		p.With(func() { p.Person = nil })
		http.Redirect(w, r, r.FormValue("post_logout_redirect_uri"), http.StatusFound)
	})
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked[r.URL.Path]++
		down := p.Down
		p.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// With changes the provider while it is in use.
func (p *Provider) With(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// Asked is how often a path was asked for.
func (p *Provider) Asked(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

// CA is the certificate of the provider's authority, in PEM.
func (p *Provider) CA() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

// CAFile is a file with CA.
func (p *Provider) CAFile() string {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte(p.CA()), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer(w, http.StatusOK, map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
		"jwks_uri": p.URL + "/jwks", "end_session_endpoint": p.URL + "/logout", "device_authorization_endpoint": p.URL + "/device",
		"authorization_response_iss_parameter_supported": !p.Silent, "id_token_signing_alg_values_supported": []string{"ES256"},
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"code_challenge_methods_supported": []string{"S256"},
	})
}

func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	point, err := p.key.PublicKey.Bytes()
	if err != nil {
		p.t.Error(err)
		return
	}
	b64 := base64.RawURLEncoding
	p.answer(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
		"x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:]),
	}}})
}

func (p *Provider) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *Provider) refuse(w http.ResponseWriter, code string) {
	p.answer(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": "<b>a description of a stranger</b>"})
}

// claims are those of a token that is made now for the client.
func (p *Provider) claims(of map[string]any) map[string]any {
	now := p.Now()
	out := map[string]any{"iss": p.URL, "aud": p.ClientID, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	for k, v := range of {
		out[k] = v
	}
	return out
}
