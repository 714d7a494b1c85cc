package envelope_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/envelopetest"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
)

// realKey opens a key of a server that somebody has started.
func realKey(t testing.TB, server *kmstest.RealVault, token, path string, o envelope.VaultOptions) *envelope.VaultKey {
	t.Helper()
	o.Address, o.Token = server.URL, envelope.FixedToken(token)
	key, err := openVault(t, o).Key(path)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRealVault(t *testing.T) {
	kmstest.NewRealVault(t) // or skip all of it at once
	envelopetest.RunService(t, func(t *testing.T) envelopetest.Service {
		server := kmstest.NewRealVault(t)
		name, other := server.Key(t), server.Key(t)
		token, policy := server.Token(t, "", name, other)
		open := func(name string) func(t *testing.T) envelope.KeyProvider {
			return func(t *testing.T) envelope.KeyProvider {
				return realKey(t, server, token, server.Mount+"/"+name, envelope.VaultOptions{})
			}
		}
		return envelopetest.Service{
			Open: open(name), Other: open(other),
			Refusals: map[string]func(t *testing.T){
				"the key is deleted": func(t *testing.T) {
					server.Admin(t, "POST", server.Mount+"/keys/"+name+"/config", `{"deletion_allowed":true}`)
					server.Admin(t, "DELETE", server.Mount+"/keys/"+name, "")
				},
				"the policy denies it": func(t *testing.T) { server.Policy(t, policy, other) },
			},
			Faults:   &server.Faults,
			Stumbles: map[string]http.HandlerFunc{"too many requests": kmstest.Status(http.StatusTooManyRequests)},
			Hidden:   []string{token, name},
		}
	})
}

func TestRealVaultRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		refuse func(t *testing.T, server *kmstest.RealVault, token, key string)
		want   error
	}{
		"the token is revoked": {func(t *testing.T, server *kmstest.RealVault, token, _ string) {
			server.Admin(t, "POST", "auth/token/revoke", `{"token":"`+token+`"}`)
		}, envelope.ErrKeyRefused},
		"an old version is shut out": {func(t *testing.T, server *kmstest.RealVault, _, key string) {
			server.Admin(t, "POST", server.Mount+"/keys/"+key+"/rotate", "")
			server.Admin(t, "POST", server.Mount+"/keys/"+key+"/config", `{"min_decryption_version":2}`)
		}, envelope.ErrKeyRefused},
		"the key has a new version": {func(t *testing.T, server *kmstest.RealVault, _, key string) {
			server.Admin(t, "POST", server.Mount+"/keys/"+key+"/rotate", "")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := kmstest.NewRealVault(t)
			at := server.Key(t)
			token, _ := server.Token(t, "", at)
			key := realKey(t, server, token, server.Mount+"/"+at, envelope.VaultOptions{})
			if err := envelope.Check(t.Context(), key, genesisOf("acme")); err != nil {
				t.Fatal(err)
			}
			wrapped, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32))
			if err != nil {
				t.Fatal(err)
			}
			tc.refuse(t, server, token, at)
			if _, err := key.Unwrap(t.Context(), genesisOf("acme"), wrapped); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// TestRealVaultKeyTypes: a key that cannot do what is asked of it is refused, and
// does not do half of it.
func TestRealVaultKeyTypes(t *testing.T) {
	for name, tc := range map[string]struct {
		fields string
		want   error
	}{
		"chacha20-poly1305": {`{"type":"chacha20-poly1305"}`, nil},
		"aes128-gcm96":      {`{"type":"aes128-gcm96"}`, nil},
		"rsa-2048":          {`{"type":"rsa-2048"}`, envelope.ErrKeyRefused},
		"ed25519":           {`{"type":"ed25519"}`, envelope.ErrKeyRefused},
		"derived":           {`{"type":"aes256-gcm96","derived":true}`, envelope.ErrKeyRefused},
	} {
		t.Run(name, func(t *testing.T) {
			server := kmstest.NewRealVault(t)
			at := "key-of-a-type"
			server.Admin(t, "POST", server.Mount+"/keys/"+at, tc.fields)
			token, _ := server.Token(t, "", at)
			if err := envelope.Check(t.Context(), realKey(t, server, token, server.Mount+"/"+at, envelope.VaultOptions{}), genesisOf("acme")); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// TestRealVaultNamespace: an organization that has a namespace can shut it. Vault
// has namespaces in its enterprise edition only.
func TestRealVaultNamespace(t *testing.T) {
	for _, how := range []string{"lock", "seal"} {
		t.Run(how, func(t *testing.T) {
			server := kmstest.NewRealVault(t)
			namespace, shut := server.Namespace(t, how)
			if namespace == "" {
				t.Skip("this server has no namespaces to " + how)
			}
			key := realKey(t, server, server.Root, namespace+"/transit/key", envelope.VaultOptions{Namespace: namespace})
			below := realKey(t, server, server.Root, namespace+"/transit/key", envelope.VaultOptions{}) // by its path alone
			wrapped, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := below.Unwrap(t.Context(), genesisOf("acme"), wrapped); err != nil {
				t.Errorf("by its path: %v", err)
			}
			shut()
			for _, k := range []*envelope.VaultKey{key, below} {
				if _, err := k.Unwrap(t.Context(), genesisOf("acme"), wrapped); !errors.Is(err, envelope.ErrKeyRefused) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// TestRealVaultToken: a token that lives for seconds is renewed. That it is renewed
// for days, TestVaultToken shows.
func TestRealVaultToken(t *testing.T) {
	server := kmstest.NewRealVault(t)
	at := server.Key(t)
	token, _ := server.Token(t, `,"period":"6s"`, at)
	renewed := make(chan struct{}, 100)
	server.Watch(func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/renew-self") {
			renewed <- struct{}{}
		}
	})
	key := realKey(t, server, token, server.Mount+"/"+at, envelope.VaultOptions{})
	for range 4 { // each about half of its life after the one before
		<-renewed
	}
	if err := envelope.Check(t.Context(), key, genesisOf("acme")); err != nil {
		t.Error(err)
	}
}
