package kmstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// RealVault is a Vault or OpenBao server that somebody has started, and this test's
// corner of it. Requests through URL may be made to fail.
type RealVault struct {
	Faults
	URL   *url.URL
	Mount string // of a Transit engine of its own
	Root  string // token that may do anything

	server *url.URL
}

// NewRealVault returns the server at PEAT_TEST_VAULT_ADDR, where PEAT_TEST_VAULT_TOKEN
// is a token that may do anything. Without them the test is skipped.
func NewRealVault(t testing.TB) *RealVault {
	address, root := os.Getenv("PEAT_TEST_VAULT_ADDR"), os.Getenv("PEAT_TEST_VAULT_TOKEN")
	if address == "" || root == "" {
		testenv.Missing(t, "vault", "NOT TESTED against a real Vault or OpenBao; PEAT_TEST_VAULT_ADDR and PEAT_TEST_VAULT_TOKEN say where one is")
	}
	v := &RealVault{Mount: "peat-test-" + name(8), Root: root}
	var err error
	if v.server, err = url.Parse(address); err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(v.server)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // it would tell of every client that gives up
	v.URL = listen(t, v.Before(proxy))
	v.Admin(t, "POST", "sys/mounts/"+v.Mount, `{"type":"transit"}`)
	t.Cleanup(func() { v.Admin(t, "DELETE", "sys/mounts/"+v.Mount, "") })
	return v
}

// Admin asks as somebody who may do anything, and fails the test if it is not done.
func (v *RealVault) Admin(t testing.TB, method, path, body string) map[string]any {
	t.Helper()
	return v.adminOf(t, "", method, path, body)
}

func (v *RealVault) adminOf(t testing.TB, namespace, method, path, body string) map[string]any {
	t.Helper()
	status, answer := v.Ask(t, v.Root, namespace, method, path, body)
	if status/100 != 2 {
		t.Fatalf("%s %s: status %d: %s", method, path, status, answer)
	}
	var out map[string]any
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Ask sends one request and returns what it is answered.
func (v *RealVault) Ask(t testing.TB, token, namespace, method, path, body string) (status int, answer []byte) {
	t.Helper()
	return ask(t, v.server, token, namespace, method, path, body)
}

func ask(t testing.TB, server *url.URL, token, namespace, method, path, body string) (status int, answer []byte) {
	t.Helper()
	// Not with the test's context, which is over when the test cleans up.
	req, err := http.NewRequest(method, server.JoinPath("v1", path).String(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	if namespace != "" {
		req.Header.Set("X-Vault-Namespace", namespace)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b.Bytes()
}

// Key makes a key as docs/keys.md says, and returns its name.
func (v *RealVault) Key(t testing.TB) string {
	t.Helper()
	key := "key-" + name(8)
	v.Admin(t, "POST", v.Mount+"/keys/"+key, `{"type":"aes256-gcm96"}`)
	return key
}

// Token makes a token with the policy of docs/keys.md for these keys, and returns
// it and the policy's name. fields are further ones of the request, as JSON.
func (v *RealVault) Token(t testing.TB, fields string, keys ...string) (token, policy string) {
	t.Helper()
	policy = "peat-test-" + name(8)
	v.Policy(t, policy, keys...)
	t.Cleanup(func() { v.Admin(t, "DELETE", "sys/policies/acl/"+policy, "") })
	made := v.Admin(t, "POST", "auth/token/create", fmt.Sprintf(`{"policies":[%q]%s}`, policy, fields))
	token, _ = made["auth"].(map[string]any)["client_token"].(string)
	return token, policy
}

// Policy writes the policy of docs/keys.md for these keys.
func (v *RealVault) Policy(t testing.TB, policy string, keys ...string) {
	t.Helper()
	text := `path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
`
	for _, key := range keys {
		for _, do := range []string{"encrypt", "decrypt"} {
			text += fmt.Sprintf("path %q { capabilities = [\"update\"] }\n", v.Mount+"/"+do+"/"+key)
		}
	}
	body, err := json.Marshal(map[string]string{"policy": text})
	if err != nil {
		t.Fatal(err)
	}
	v.Admin(t, "PUT", "sys/policies/acl/"+policy, string(body))
}

// Namespace makes a namespace with a key at transit/key, and returns its name and
// what shuts it: "lock", or "seal" for one with a seal of its own, which OpenBao has
// since 2.6. The name is empty if the server knows no such thing.
func (v *RealVault) Namespace(t testing.TB, how string) (namespace string, shut func()) {
	t.Helper()
	namespace = "peat-test-" + name(8)
	body := "{}"
	if how == "seal" {
		body = `{"seal":"seal \"shamir\" { shares = 1\n threshold = 1 }"}`
	}
	status, answer := v.Ask(t, v.Root, "", "POST", "sys/namespaces/"+namespace, body)
	var made struct {
		Data struct {
			Shares []string `json:"key_shares"`
		}
	}
	if status != http.StatusOK || json.Unmarshal(answer, &made) != nil || how == "seal" && len(made.Data.Shares) != 1 {
		return "", nil
	}
	unseal := func() {
		if how == "seal" {
			v.Admin(t, "POST", "sys/namespaces/"+namespace+"/unseal", fmt.Sprintf(`{"key":%q}`, made.Data.Shares[0]))
		}
	}
	unseal()
	v.adminOf(t, namespace, "POST", "sys/mounts/transit", `{"type":"transit"}`)
	v.adminOf(t, namespace, "POST", "transit/keys/key", `{}`)
	if how == "seal" {
		t.Cleanup(func() {
			unseal()
			v.Admin(t, "DELETE", "sys/namespaces/"+namespace, "")
		})
		return namespace, func() { v.Admin(t, "POST", "sys/namespaces/"+namespace+"/seal", "") }
	}
	return namespace, func() {
		locked := v.Admin(t, "POST", "sys/namespaces/api-lock/lock/"+namespace, "")
		key, _ := locked["data"].(map[string]any)["unlock_key"].(string)
		t.Cleanup(func() {
			v.Admin(t, "POST", "sys/namespaces/api-lock/unlock/"+namespace, fmt.Sprintf(`{"unlock_key":%q}`, key))
			v.Admin(t, "DELETE", "sys/namespaces/"+namespace, "")
		})
	}
}
