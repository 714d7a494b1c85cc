package kmstest

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Vault answers as Vault and OpenBao do to who encrypts and decrypts with keys of
// a Transit engine and renews tokens. Its texts are those of OpenBao 2.6.
type Vault struct {
	Faults
	URL       *url.URL // nil unless it listens
	Namespace string   // see Move
	Mount     string

	mu     sync.Mutex
	keys   map[string]*transitKey
	tokens map[string]*vaultToken
	sealed string // what every request is answered with, with status 503
}

type transitKey struct {
	versions []cipher.AEAD
	minimum  int // of the versions that may still decrypt
	denied   bool
}

type vaultToken struct {
	expires   time.Time     // zero is never
	life      time.Duration // that each renewal gives
	latest    time.Time     // no renewal goes beyond; zero is no such time
	renewable bool
}

// NewVault returns one that does not listen. It can serve requests by itself; see Transport.
func NewVault() *Vault {
	return &Vault{Namespace: "mesh", Mount: "transit", keys: map[string]*transitKey{}, tokens: map[string]*vaultToken{}}
}

// Listen starts serving for as long as the test lives.
func (v *Vault) Listen(t testing.TB) *Vault {
	v.URL = listen(t, v)
	return v
}

// Transport hands requests over without a network, so that time may be the test's own.
type Transport struct{ Server http.Handler }

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	t.Server.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// Key makes a key and returns its name.
func (v *Vault) Key() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := "key-" + name(8)
	v.keys[key] = &transitKey{versions: []cipher.AEAD{aead()}, minimum: 1}
	return key
}

// Rotate gives a key a new version, and lets only that decrypt from now on if it says so.
func (v *Vault) Rotate(key string, onlyNew bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.keys[key]
	k.versions = append(k.versions, aead())
	if onlyNew {
		k.minimum = len(k.versions)
	}
}

// Delete forgets a key.
func (v *Vault) Delete(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.keys, key)
}

// Deny takes a key out of every token's policy.
func (v *Vault) Deny(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys[key].denied = true
}

// What a server says, with status 503, while nobody gets in.
const (
	Sealed          = "Vault is sealed"
	NamespaceSealed = "namespace is sealed"
	NamespaceLocked = `API access to this namespace has been locked by an administrator - "mesh/" must be unlocked to gain access.`
)

// Seal has every request answered with the text, until it is empty.
func (v *Vault) Seal(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sealed = text
}

// Move has it serve another namespace and mount from now on, also while it listens.
func (v *Vault) Move(namespace, mount string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Namespace, v.Mount = namespace, mount
}

// Token makes a token that lives for so long, can be renewed for as long again
// each time, and no longer than longest in all. A life of 0 is forever.
func (v *Vault) Token(life, longest time.Duration, renewable bool) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	token := &vaultToken{life: life, renewable: renewable}
	if life > 0 {
		token.expires = time.Now().Add(life)
	}
	if longest > 0 {
		token.latest = time.Now().Add(longest)
	}
	text := "hvs." + name(16)
	v.tokens[text] = token
	return text
}

// Revoke ends a token.
func (v *Vault) Revoke(token string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.tokens, token)
}

// VaultError answers with an error as Vault writes one.
func VaultError(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { sayVaultError(w, status, text) }
}

func sayVaultError(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string][]string{"errors": {text}})
}

type vaultFailure struct {
	status int
	text   string
}

func (e vaultFailure) Error() string { return e.text }

func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if answer := v.instead(r); answer != nil {
		answer(w, r)
		return
	}
	w = v.padded(w)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	out := any(nil)
	if err == nil {
		out, err = v.answer(r, body)
	}
	var failed vaultFailure
	switch {
	case errors.As(err, &failed):
		sayVaultError(w, failed.status, failed.text)
	case err != nil:
		sayVaultError(w, http.StatusBadRequest, "failed to parse JSON input: "+err.Error())
	default:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out)
	}
}

var errDenied = vaultFailure{http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n"}

func (v *Vault) answer(r *http.Request, body []byte) (any, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sealed != "" {
		return nil, vaultFailure{http.StatusServiceUnavailable, v.sealed}
	}
	if got := strings.Trim(r.Header.Get("X-Vault-Namespace"), "/"); got != v.Namespace {
		return nil, vaultFailure{http.StatusNotFound, "namespace not found"}
	}
	token := v.tokens[r.Header.Get("X-Vault-Token")]
	if token == nil || !token.expires.IsZero() && !time.Now().Before(token.expires) {
		return nil, vaultFailure{http.StatusForbidden, "permission denied"}
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch mount, rest, _ := strings.Cut(path, "/"); {
	case path == "auth/token/lookup-self" && r.Method == http.MethodGet:
		return token.lookUp(), nil
	case path == "auth/token/renew-self" && r.Method == http.MethodPost:
		return token.renew()
	case mount == v.Mount && r.Method == http.MethodPost:
		return v.transit(rest, body)
	}
	return nil, vaultFailure{http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", path)}
}

func (t *vaultToken) lookUp() any {
	left := 0
	if !t.expires.IsZero() {
		left = int(time.Until(t.expires).Seconds())
	}
	return map[string]any{"data": map[string]any{"ttl": left, "creation_ttl": int(t.life.Seconds()), "renewable": t.renewable}}
}

func (t *vaultToken) renew() (any, error) {
	if !t.renewable {
		return nil, vaultFailure{http.StatusBadRequest, "lease is not renewable"}
	}
	t.expires = time.Now().Add(t.life)
	if !t.latest.IsZero() && t.latest.Before(t.expires) {
		t.expires = t.latest
	}
	left := int(time.Until(t.expires).Seconds())
	return map[string]any{"auth": map[string]any{"lease_duration": left, "renewable": true}}, nil
}

func (v *Vault) transit(path string, body []byte) (any, error) {
	var in struct {
		Plaintext      string
		Ciphertext     string
		AssociatedData string `json:"associated_data"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	invalid := func(text string) error { return vaultFailure{http.StatusBadRequest, text} }
	do, at, _ := strings.Cut(path, "/")
	key := v.keys[at]
	if key != nil && key.denied {
		return nil, errDenied
	}
	associated, err := base64.StdEncoding.DecodeString(in.AssociatedData)
	if err != nil {
		return nil, vaultFailure{http.StatusInternalServerError, "1 error occurred:\n\t* internal error\n\n"}
	}
	switch {
	case do == "encrypt" && key == nil:
		return nil, errDenied // to make one by using it takes more than the policy has
	case do == "encrypt":
		plain, err := base64.StdEncoding.DecodeString(in.Plaintext)
		if err != nil {
			return nil, invalid(err.Error())
		}
		latest := len(key.versions)
		sealed := key.versions[latest-1].Seal(nil, nil, plain, associated)
		text := fmt.Sprintf("vault:v%d:%s", latest, base64.StdEncoding.EncodeToString(sealed))
		return map[string]any{"data": map[string]any{"ciphertext": text, "key_version": latest}}, nil
	case do == "decrypt" && in.Ciphertext == "":
		return nil, invalid("missing ciphertext to decrypt")
	case do == "decrypt" && key == nil:
		return nil, invalid("encryption key not found")
	case do == "decrypt":
		version, sealed, err := key.read(in.Ciphertext)
		if err != nil {
			return nil, invalid(err.Error())
		}
		plain, err := key.versions[version-1].Open(nil, nil, sealed, associated)
		if err != nil {
			return nil, invalid(err.Error())
		}
		return map[string]any{"data": map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)}}, nil
	}
	return nil, vaultFailure{http.StatusNotFound, "1 error occurred:\n\t* unsupported path\n\n"}
}

// read is as lenient as the real one: of a version 0 it makes 1, and it reads over
// line breaks.
func (k *transitKey) read(text string) (version int, sealed []byte, err error) {
	text, ok := strings.CutPrefix(text, "vault:v")
	if !ok {
		return 0, nil, errors.New("invalid ciphertext: no prefix")
	}
	number, encoded, ok := strings.Cut(text, ":")
	if !ok {
		return 0, nil, errors.New("invalid ciphertext: wrong number of fields")
	}
	if version, err = strconv.Atoi(number); err != nil {
		return 0, nil, errors.New("invalid ciphertext: version number could not be decoded")
	}
	version = max(version, 1)
	if version > len(k.versions) {
		return 0, nil, errors.New("invalid ciphertext: version is too new")
	}
	if version < k.minimum {
		return 0, nil, errors.New("ciphertext or signature version is disallowed by policy (too old)")
	}
	if sealed, err = base64.StdEncoding.DecodeString(encoded); err != nil {
		return 0, nil, errors.New("invalid ciphertext: could not decode base64")
	}
	if len(sealed) < 12 {
		return 0, nil, errors.New("invalid ciphertext length")
	}
	return version, slices.Clone(sealed), nil
}
