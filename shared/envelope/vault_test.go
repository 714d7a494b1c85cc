package envelope_test

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/envelopetest"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

func openVault(t testing.TB, o envelope.VaultOptions) *envelope.Vault {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	v, err := envelope.NewVault(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// vaultKey returns a key of kmstest's server, which has one namespace and one mount.
func vaultKey(t testing.TB, v *envelope.Vault, name string) *envelope.VaultKey {
	t.Helper()
	key, err := v.Key("mesh/transit/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVault(t *testing.T) {
	envelopetest.RunService(t, func(t *testing.T) envelopetest.Service {
		server := kmstest.NewVault().Listen(t)
		name, other := server.Key(), server.Key()
		token := server.Token(0, 0, false)
		open := func(name string) func(t *testing.T) envelope.KeyProvider {
			return func(t *testing.T) envelope.KeyProvider {
				return vaultKey(t, openVault(t, envelope.VaultOptions{
					Address: server.URL, Namespace: server.Namespace, Token: envelope.FixedToken(token),
				}), name)
			}
		}
		return envelopetest.Service{
			Open: open(name), Other: open(other),
			Refusals: map[string]func(t *testing.T){
				"the key is deleted":   func(*testing.T) { server.Delete(name) },
				"the policy denies it": func(*testing.T) { server.Deny(name) },
			},
			Faults: &server.Faults,
			Stumbles: map[string]http.HandlerFunc{
				"too many requests": kmstest.Status(http.StatusTooManyRequests), "not there yet": kmstest.Status(http.StatusPreconditionFailed),
				"sealed": kmstest.VaultError(http.StatusServiceUnavailable, kmstest.Sealed),
			},
			Hidden: []string{token, name},
		}
	})
}

// TestVaultRefusals are those that concern more than one key.
func TestVaultRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		refuse func(*kmstest.Vault, string, string)
		want   error
	}{
		"the namespace is sealed":    {func(v *kmstest.Vault, _, _ string) { v.Seal(kmstest.NamespaceSealed) }, envelope.ErrKeyRefused},
		"the namespace is locked":    {func(v *kmstest.Vault, _, _ string) { v.Seal(kmstest.NamespaceLocked) }, envelope.ErrKeyRefused},
		"the namespace is gone":      {func(v *kmstest.Vault, _, _ string) { v.Move("another", v.Mount) }, envelope.ErrKeyRefused},
		"the mount is gone":          {func(v *kmstest.Vault, _, _ string) { v.Move(v.Namespace, "another") }, envelope.ErrKeyRefused},
		"the token is revoked":       {func(v *kmstest.Vault, token, _ string) { v.Revoke(token) }, envelope.ErrKeyRefused},
		"an old version is shut out": {func(v *kmstest.Vault, _, key string) { v.Rotate(key, true) }, envelope.ErrKeyRefused},
		"the server is sealed":       {func(v *kmstest.Vault, _, _ string) { v.Seal(kmstest.Sealed) }, envelope.ErrUnavailable},
		"the key has a new version":  {func(v *kmstest.Vault, _, key string) { v.Rotate(key, false) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := kmstest.NewVault().Listen(t)
			token := server.Token(0, 0, false)
			at := server.Key()
			key := vaultKey(t, openVault(t, envelope.VaultOptions{
				Address: server.URL, Namespace: "/" + server.Namespace + "/", Token: envelope.FixedToken(token),
			}), at)
			wrapped, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32))
			if err != nil {
				t.Fatal(err)
			}
			tc.refuse(server, token, at)
			if _, err := key.Unwrap(t.Context(), genesisOf("acme"), wrapped); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// TestVaultReadsOneSpelling: of the ways in which the server reads a ciphertext, only
// that in which it writes one gets as far as the server.
func TestVaultReadsOneSpelling(t *testing.T) {
	server := kmstest.NewVault().Listen(t)
	key := vaultKey(t, openVault(t, envelope.VaultOptions{
		Address: server.URL, Namespace: server.Namespace, Token: envelope.FixedToken(server.Token(0, 0, false)),
	}), server.Key())
	good, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 16)) // whose ciphertext ends in one = and two bits that mean nothing
	if err != nil {
		t.Fatal(err)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	end := len(good) - 2
	if good[end+1] != '=' || good[end] == '=' {
		t.Fatalf("ends in %q", good[end:])
	}
	lastBits := slices.Clone(good)
	lastBits[end] = alphabet[strings.IndexByte(alphabet, good[end])+1]
	for name, bad := range map[string]string{
		"version 0":        strings.Replace(string(good), ":v1:", ":v0:", 1),
		"a leading zero":   strings.Replace(string(good), ":v1:", ":v01:", 1),
		"a sign":           strings.Replace(string(good), ":v1:", ":v+1:", 1),
		"a line break":     string(good[:20]) + "\n" + string(good[20:]),
		"a line more":      string(good) + "\n",
		"another alphabet": strings.NewReplacer("+", "-", "/", "_").Replace(string(good)) + "-",
		"other last bits":  string(lastBits),
		"a quote":          string(good[:20]) + `"` + string(good[21:]),
	} {
		before := server.Seen()
		if _, err := key.Unwrap(t.Context(), genesisOf("acme"), []byte(bad)); !errors.Is(err, envelope.ErrTampered) || server.Seen() > before {
			t.Errorf("%s: %v after %d requests", name, err, server.Seen()-before)
		}
	}
}

// TestVaultReadsVersion1 asks as peat-gateway 0.1 did for what it has left.
func TestVaultReadsVersion1(t *testing.T) {
	server := kmstest.NewVault().Listen(t)
	key := vaultKey(t, openVault(t, envelope.VaultOptions{
		Address: server.URL, Namespace: server.Namespace, Token: envelope.FixedToken(server.Token(0, 0, false)),
	}), server.Key())
	wrapped, err := key.Wrap(t.Context(), envelope.Record{}, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if dek, err := key.Unwrap(t.Context(), envelope.Record{}, wrapped); err != nil || len(dek) != 32 {
		t.Errorf("%d bytes, %v", len(dek), err)
	}
	if _, err := key.Unwrap(t.Context(), genesisOf("acme"), wrapped); !errors.Is(err, envelope.ErrTampered) {
		t.Errorf("for a record: %v", err)
	}
}

func TestVaultAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"not JSON":                 `hello`,
		"an array":                 `[]`,
		"nothing":                  ``,
		"no data":                  `{}`,
		"no ciphertext":            `{"data":{"ciphertext":"","plaintext":7}}`,
		"another ciphertext":       `{"data":{"ciphertext":"gpg:v1:AAAA","plaintext":"!"}}`,
		"a ciphertext of megabyte": `{"data":{"ciphertext":"vault:v1:` + strings.Repeat("AAAA", 1<<17) + `","plaintext":[]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			server := kmstest.NewVault().Listen(t)
			key := vaultKey(t, openVault(t, envelope.VaultOptions{Address: server.URL, Namespace: "mesh", Token: envelope.FixedToken("x")}), "key")
			server.Always(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(answer)) })
			if got, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32)); !errors.Is(err, envelope.ErrUnavailable) || got != nil {
				t.Errorf("Wrap: %d bytes, %v", len(got), err)
			}
			got, err := key.Unwrap(t.Context(), genesisOf("acme"), []byte("vault:v1:AAAA"))
			if len(got) != 0 || err != nil && !errors.Is(err, envelope.ErrUnavailable) {
				t.Errorf("Unwrap: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestVaultOverTLS(t *testing.T) {
	authority := testenv.NewAuthority(t)
	pair, err := tls.X509KeyPair(authority.Issue(t, "vault", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		ca   []byte
		want error
	}{
		"its authority":     {authority.PEM, nil},
		"another authority": {testenv.NewAuthority(t).PEM, envelope.ErrUnavailable},
		"the system's":      {nil, envelope.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			service := kmstest.NewVault()
			server := httptest.NewUnstartedServer(service)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			server.StartTLS()
			t.Cleanup(server.Close)
			address, _ := url.Parse(server.URL)
			key := vaultKey(t, openVault(t, envelope.VaultOptions{
				Address: address, Namespace: service.Namespace, Token: envelope.FixedToken(service.Token(0, 0, false)), CA: tc.ca,
			}), service.Key())
			if _, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32)); !errors.Is(err, tc.want) {
				t.Errorf("got %v", err)
			}
			if tc.want != nil && service.Seen() > 0 {
				t.Error("the token went to a server that nobody vouches for")
			}
		})
	}
}

func TestVaultIsRefused(t *testing.T) {
	token := envelope.FixedToken("hvs.x")
	for name, o := range map[string]envelope.VaultOptions{
		"nothing":                   {},
		"no token":                  {Address: &url.URL{Scheme: "https", Host: "vault"}},
		"no TLS to another machine": {Address: &url.URL{Scheme: "http", Host: "vault.example.com"}, Token: token},
		"a password in the address": {Address: &url.URL{Scheme: "https", Host: "vault", User: url.UserPassword("a", "secret")}, Token: token},
		"a query":                   {Address: &url.URL{Scheme: "https", Host: "vault", RawQuery: "a=secret"}, Token: token},
		"a namespace that climbs":   {Address: &url.URL{Scheme: "https", Host: "vault"}, Token: token, Namespace: "mesh/../sys"},
		"a namespace of two lines":  {Address: &url.URL{Scheme: "https", Host: "vault"}, Token: token, Namespace: "a\nb"},
		"an authority that is none": {Address: &url.URL{Scheme: "https", Host: "vault"}, Token: token, CA: []byte("x")},
	} {
		if v, err := envelope.NewVault(o); err == nil {
			v.Close()
			t.Errorf("%s was taken", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVaultKeyPath(t *testing.T) {
	for name, tc := range map[string]struct {
		namespace, path, want string // want is what is asked for; empty is a refusal
	}{
		"a mount":                           {"", "transit/key", "/v1/transit/encrypt/key"},
		"a mount in a mount":                {"", "mesh/transit/key", "/v1/mesh/transit/encrypt/key"},
		"a namespace":                       {"mesh", "mesh/transit/key", "/v1/transit/encrypt/key"},
		"an organization's namespace below": {"mesh", "mesh/acme/transit/key.1", "/v1/acme/transit/encrypt/key.1"},
		"another namespace":                 {"mesh", "evil/transit/key", ""},
		"one that begins like it":           {"mesh", "meshes/transit/key", ""},
		"no mount":                          {"", "key", ""},
		"no mount in the namespace":         {"mesh", "mesh/key", ""},
		"nothing":                           {"", "", ""},
		"a step up":                         {"", "transit/../sys/seal", ""},
		"a dot":                             {"", "transit/.", ""},
		"an empty step":                     {"", "transit//key", ""},
		"a slash before":                    {"", "/transit/key", ""},
		"a slash after":                     {"", "transit/key/", ""},
		"a space":                           {"", "transit/a b", ""},
		"a query":                           {"", "transit/a?b", ""},
		"an escape":                         {"", "transit/a%2fb", ""},
		"a line more":                       {"", "transit/key\n", ""},
		"too much":                          {"", "transit/" + strings.Repeat("a", 250), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var server kmstest.Faults
			got := make(chan string, 100)
			server.Always(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					got <- r.Header.Get("X-Vault-Namespace") + r.URL.EscapedPath()
				}
				kmstest.VaultError(http.StatusForbidden, "permission denied")(w, r)
			})
			v := openVault(t, envelope.VaultOptions{
				Address: &url.URL{Scheme: "https", Host: "vault"}, Token: envelope.FixedToken("hvs.x"), Namespace: tc.namespace,
				Transport: kmstest.Transport{Server: &server},
			})
			key, err := v.Key(tc.path)
			if err != nil || tc.want == "" {
				if err == nil || tc.want != "" {
					t.Errorf("got %v", err)
				}
				return
			}
			if _, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32)); !errors.Is(err, envelope.ErrKeyRefused) {
				t.Error(err)
			}
			if asked := <-got; asked != tc.namespace+tc.want || key.KeyID() != "vault:"+tc.path {
				t.Errorf("asked for %s as %s", asked, key.KeyID())
			}
		})
	}
}

func TestVaultTokenFile(t *testing.T) {
	server := kmstest.NewVault().Listen(t)
	name := server.Key()
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := server.Token(0, 0, false)
	write(first + "\n")
	key := vaultKey(t, openVault(t, envelope.VaultOptions{Address: server.URL, Namespace: server.Namespace, Token: envelope.TokenFile(path)}), name)
	wrap := func() error {
		_, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32))
		return err
	}
	if err := wrap(); err != nil {
		t.Fatal(err)
	}
	server.Revoke(first)
	if err := wrap(); !errors.Is(err, envelope.ErrKeyRefused) {
		t.Errorf("with a revoked token: %v", err)
	}
	write(server.Token(0, 0, false))
	if err := wrap(); err != nil {
		t.Errorf("with the next token: %v", err)
	}
	// The agent changes the file between our reading it and the answer.
	second := server.Token(0, 0, false)
	server.Next(func(w http.ResponseWriter, r *http.Request) {
		write(second)
		kmstest.VaultError(http.StatusForbidden, "permission denied")(w, r)
	})
	if err := wrap(); err != nil {
		t.Errorf("with a token that came meanwhile: %v", err)
	}
	for name, text := range map[string]string{"nothing": "", "two lines": "hvs.a\nX-Evil: 1", "a long one": strings.Repeat("a", 9<<10)} {
		write(text)
		before := server.Seen()
		if err := wrap(); !errors.Is(err, envelope.ErrUnavailable) || server.Seen() > before {
			t.Errorf("%s in the file: %v", name, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := wrap(); !errors.Is(err, envelope.ErrUnavailable) || strings.Contains(err.Error(), path) {
		t.Errorf("without a file: %v", err)
	}
}
