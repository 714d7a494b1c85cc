package gateway_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func lookIn(settings map[string]string) *env.Reader {
	return env.New(func(name string) (string, bool) { s, ok := settings[name]; return s, ok })
}

// signIn makes the test's environment that of a server's user.
func signIn(t *testing.T, kms *kmstest.KMS) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": kms.AccessKeyID, "AWS_SECRET_ACCESS_KEY": kms.SecretAccessKey, "AWS_SESSION_TOKEN": kms.SessionToken,
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_REGION": "", "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
}

// TestKeyServices: with settings alone, secrets are sealed in each of the key
// services, and both can be used at once.
func TestKeyServices(t *testing.T) {
	kms := kmstest.NewKMS(t)
	signIn(t, kms)
	arn := kms.Key()
	vault := kmstest.NewVault().Listen(t)
	name, token := vault.Key(), vault.Token(0, 0, false)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	local := map[string]string{"PEAT_KEK": strings.Repeat("0a", 32)}
	inKMS := map[string]string{"PEAT_KMS_KEY": arn, "PEAT_KMS_ENDPOINT": kms.URL.String()}
	inVault := map[string]string{
		"PEAT_VAULT_ADDR": vault.URL.String(), "PEAT_VAULT_NAMESPACE": "mesh/", "PEAT_VAULT_KEY": name, "PEAT_VAULT_TOKEN_FILE": file,
	}
	vaultID := "vault:mesh/transit/" + name
	for name, tc := range map[string]struct {
		settings []map[string]string
		want     string // id of the key that seals; empty is a refusal
	}{
		"AWS KMS":                       {[]map[string]string{inKMS}, "awskms:" + arn},
		"Vault":                         {[]map[string]string{inVault}, vaultID},
		"a token instead of its file":   {[]map[string]string{inVault, {"PEAT_VAULT_TOKEN_FILE": "", "PEAT_VAULT_TOKEN": token}}, vaultID},
		"all, one of which is named":    {[]map[string]string{local, inKMS, inVault, {"PEAT_KEY": vaultID}}, vaultID},
		"all, none of which is named":   {[]map[string]string{local, inKMS, inVault}, ""},
		"none":                          {nil, ""},
		"one that there is not":         {[]map[string]string{local, {"PEAT_KEY": "vault:transit/x"}}, ""},
		"an alias":                      {[]map[string]string{{"PEAT_KMS_KEY": "alias/x"}}, ""},
		"Vault, and no such CA":         {[]map[string]string{inVault, {"PEAT_VAULT_CA_FILE": filepath.Join(t.TempDir(), "none")}}, ""},
		"a further key beside the only": {[]map[string]string{inVault, {"PEAT_KEKS": strings.Repeat("0b", 32)}}, vaultID},
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string]string{"PEAT_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "x.db")}
			for _, some := range tc.settings {
				maps.Copy(all, some)
			}
			host, err := gateway.NewHost(lookIn(all), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := host.Close(); err != nil {
					t.Error(err)
				}
			}()
			keys, err := host.Keys(t.Context())
			if err != nil || tc.want == "" {
				if err == nil || tc.want != "" || strings.Contains(err.Error(), token) {
					t.Errorf("got %v", err)
				}
				return
			}
			rec := envelope.Record{Org: "acme", Kind: "sink", ID: "1"}
			blob, err := keys.Seal(t.Context(), rec, []byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			if header, err := envelope.ReadHeader(blob); err != nil || header.KeyID != tc.want {
				t.Errorf("sealed with %q, %v", header.KeyID, err)
			}
			if got, err := keys.Open(t.Context(), rec, blob); err != nil || string(got) != "secret" {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestKeyServiceSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		settings map[string]string
		want     string // the variable that is said to be wrong
	}{
		"Vault without TLS":     {map[string]string{"PEAT_VAULT_ADDR": "http://vault.example.com", "PEAT_VAULT_TOKEN": "x"}, "PEAT_VAULT_ADDR"},
		"Vault without a token": {map[string]string{"PEAT_VAULT_ADDR": "https://vault.example.com"}, "PEAT_VAULT_ADDR"},
		"a key and no server":   {map[string]string{"PEAT_VAULT_KEY": "x"}, "PEAT_VAULT_KEY"},
		"KMS without TLS":       {map[string]string{"PEAT_KMS_ENDPOINT": "http://kms.example.com"}, "PEAT_KMS_ENDPOINT"},
		"a password":            {map[string]string{"PEAT_KMS_ENDPOINT": "https://a:secret@kms.example.com"}, "PEAT_KMS_ENDPOINT"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := gateway.ReadSettings(lookIn(tc.settings))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAnOrganizationTakesItsKeyAway: it fails closed, its neighbour with another key
// of the same service and everybody with the gateway's key do not notice.
func TestAnOrganizationTakesItsKeyAway(t *testing.T) {
	kms := kmstest.NewKMS(t)
	signIn(t, kms)
	arns := map[tenant.OrgID]string{"acme": kms.Key(), "rival": kms.Key(), "third": ""}
	host, err := gateway.NewHost(lookIn(map[string]string{
		"PEAT_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "x.db"), "PEAT_KEK": strings.Repeat("0a", 32),
		"PEAT_KMS_ENDPOINT": kms.URL.String(), "PEAT_KEY_CACHE_FOR": "0s",
		"PEAT_KMS_ALLOW": "acme=awskms:" + arns["acme"] + ",rival=awskms:" + arns["rival"],
	}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	}()
	st, err := host.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := host.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record := func(org tenant.OrgID) envelope.Record {
		return envelope.Record{Org: string(org), Kind: "sink", ID: "1"}
	}
	blobs := map[tenant.OrgID][]byte{}
	for org, arn := range arns {
		if err := st.InTx(t.Context(), func(tx *store.Tx) error {
			if err := tx.CreateOrg(t.Context(), tenant.Org{ID: org, DisplayName: "x"}); err != nil || arn == "" {
				return err
			}
			return tx.SetOrgKey(t.Context(), org, "awskms:"+arn, time.Now())
		}); err != nil {
			t.Fatal(err)
		}
		if blobs[org], err = keys.Seal(t.Context(), record(org), []byte("secret")); err != nil {
			t.Fatal(err)
		}
	}
	open := func(org tenant.OrgID) error {
		_, err := keys.Open(t.Context(), record(org), blobs[org])
		return err
	}
	kms.Set(arns["acme"], kmstest.Disabled)
	for org, want := range map[tenant.OrgID]error{"acme": fault.Sealed, "rival": nil, "third": nil} {
		if err := open(org); !errors.Is(err, want) {
			t.Errorf("%s, after acme's key was disabled: %v", org, err)
		}
	}
	if _, err := keys.Seal(t.Context(), record("acme"), []byte("new")); !errors.Is(err, fault.Sealed) {
		t.Errorf("something new is sealed with it: %v", err)
	}
	// The whole service is away: that is not for good, and not for who has no key there.
	kms.Always(kmstest.Status(503))
	for org, want := range map[tenant.OrgID]error{"rival": fault.Unavailable, "third": nil} {
		if err := open(org); !errors.Is(err, want) {
			t.Errorf("%s, while the service is away: %v", org, err)
		}
	}
	kms.Always(nil)
	if err := open("rival"); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}
