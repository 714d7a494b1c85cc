package identitytest

import (
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

// Audience is whom the tokens of an Issuer are for, unless a test says otherwise.
const Audience = "https://gateway.example"

// Now is the time at an Issuer until a test moves it.
var Now = time.Date(2026, 7, 8, 9, 10, 11, 0, time.UTC)

// Issuer is an OpenID provider in this process, as far as a verifier sees one:
// discovery, keys and introspection. It signs with real keys, and does badly what it
// is told to.
type Issuer struct {
	URL    string
	CA     string // in PEM, of its certificate
	server *httptest.Server

	mu     sync.Mutex
	now    time.Time
	keys   []Key // the last one signs
	broken map[string]http.HandlerFunc
	asked  map[string]int
	active map[string]any // introspection's answer, by token
}

// The paths of an Issuer.
const (
	Discovery     = "/.well-known/openid-configuration"
	Keys          = "/keys"
	Introspection = "/introspect"
)

// The client that may introspect.
const (
	ClientID     = "peat gateway"
	ClientSecret = "s3cret:with/odd+signs"
)

// NewIssuer starts a provider with one RSA key. It ends with the test.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{now: Now, keys: []Key{NewKey(t, "first", "RS256")}, broken: map[string]http.HandlerFunc{}, asked: map[string]int{}, active: map[string]any{}}
	i.server = httptest.NewTLSServer(i)
	t.Cleanup(i.server.Close)
	i.URL = i.server.URL
	i.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw}))
	return i
}

// Settings let verifiers reach it.
func (i *Issuer) Settings() identity.Settings {
	return identity.Settings{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Patience: time.Minute, Now: i.Now}
}

// Now is the time there, and of Settings.
func (i *Issuer) Now() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

// Pass moves the time.
func (i *Issuer) Pass(d time.Duration) time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = i.now.Add(d)
	return i.now
}

// Key is the one that signs.
func (i *Issuer) Key() Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// Publish replaces the keys; the last one signs.
func (i *Issuer) Publish(keys ...Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// Break has a path answered in another way; nil mends it.
func (i *Issuer) Break(path string, how http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.broken[path] = how; how == nil {
		delete(i.broken, path)
	}
}

// Down has every path answered as when a provider is being restarted.
func (i *Issuer) Down() {
	for _, path := range []string{Discovery, Keys, Introspection} {
		i.Break(path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}
}

// Up ends Down, and everything that was broken.
func (i *Issuer) Up() {
	for _, path := range []string{Discovery, Keys, Introspection} {
		i.Break(path, nil)
	}
}

// Asked is how often a path was asked for.
func (i *Issuer) Asked(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[path]
}

// Close ends it for good.
func (i *Issuer) Close() { i.server.Close() }

// Claims are those of a good token, with some changed; nil takes one out.
func (i *Issuer) Claims(changes map[string]any) map[string]any {
	now := i.Now()
	out := map[string]any{
		"iss": i.URL, "sub": "device-7", "aud": []string{"account", Audience}, "azp": "device-client", "jti": "0001",
		"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(), "groups": []string{"/ops", "/field"},
		"realm_access": map[string]any{"roles": []string{"medic", "driver"}},
	}
	maps.Copy(out, changes)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// Token is a good token, with some claims changed.
func (i *Issuer) Token(changes map[string]any) string { return i.Key().Token(i.Claims(changes)) }

// Activate has a token introspected with these claims; nil: as one that is not active.
func (i *Issuer) Activate(token string, claims map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if claims == nil {
		delete(i.active, token)
		return
	}
	out := maps.Clone(claims)
	if _, ok := out["active"]; !ok {
		out["active"] = true
	}
	i.active[token] = out
}

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked[r.URL.Path]++
	how := i.broken[r.URL.Path]
	now := i.now
	i.mu.Unlock()
	w.Header().Set("Date", now.Format(http.TimeFormat))
	if how != nil {
		how(w, r)
		return
	}
	switch r.URL.Path {
	case Discovery:
		Answer(w, i.Document(nil))
	case Keys:
		Answer(w, i.KeySet())
	case Introspection:
		i.introspect(w, r)
	default:
		http.NotFound(w, r)
	}
}

// Document is what discovery answers, with some of it changed.
func (i *Issuer) Document(changes map[string]any) map[string]any {
	out := map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + Keys, "introspection_endpoint": i.URL + Introspection,
		"id_token_signing_alg_values_supported": []string{"RS256", "none", "HS256"},
	}
	maps.Copy(out, changes)
	return out
}

// KeySet is what is published.
func (i *Issuer) KeySet() map[string]any {
	i.mu.Lock()
	defer i.mu.Unlock()
	list := []any{}
	for _, k := range i.keys {
		list = append(list, k.JWK())
	}
	return map[string]any{"keys": list}
}

func (i *Issuer) introspect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.ParseForm() != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if !i.knows(r) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	i.mu.Lock()
	claims, ok := i.active[r.PostForm.Get("token")]
	i.mu.Unlock()
	if !ok {
		claims = map[string]any{"active": false}
	}
	Answer(w, claims)
}

// Answer writes JSON.
func Answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who does not wait for it does not want it
}
