package kmstest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
)

// vaultAnswer is what a client can tell answers apart by.
type vaultAnswer struct {
	Status int
	Errors []string
	Fields []string // that data has
}

func read(t *testing.T, status int, body []byte) (vaultAnswer, map[string]any) {
	t.Helper()
	var out struct {
		Errors []string
		Data   map[string]any
	}
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("status %d: %v: %s", status, err, body)
	}
	a := vaultAnswer{Status: status, Errors: out.Errors}
	for _, field := range []string{"ciphertext", "plaintext", "key_version"} {
		if _, ok := out.Data[field]; ok {
			a.Fields = append(a.Fields, field)
		}
	}
	return a, out.Data
}

// TestVaultAnswersAsARealOne asks the server here and, where there is one, a real
// one the same: what our clients tell apart, both have to say alike.
func TestVaultAnswersAsARealOne(t *testing.T) {
	t.Run("the server here", func(t *testing.T) {
		v := kmstest.NewVault().Listen(t)
		v.Namespace, v.Mount = "", "transit"
		token, other := v.Token(0, 0, true), v.Key()
		v.Deny(other)
		ask(t, func(token, method, path, body string) (int, []byte) {
			req, err := http.NewRequestWithContext(t.Context(), method, v.URL.JoinPath("v1", path).String(), strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Vault-Token", token)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, answer
		}, v.Mount, token, v.Key(), other, func(key string) { v.Rotate(key, true) })
	})
	t.Run("a real one", func(t *testing.T) {
		v := kmstest.NewRealVault(t)
		key, other := v.Key(t), v.Key(t)
		token, policy := v.Token(t, "", key)
		v.Policy(t, policy, key, "none")
		ask(t, func(token, method, path, body string) (int, []byte) {
			return v.Ask(t, token, "", method, path, body)
		}, v.Mount, token, key, other, func(key string) {
			v.Admin(t, "POST", v.Mount+"/keys/"+key+"/rotate", "")
			v.Admin(t, "POST", v.Mount+"/keys/"+key+"/config", `{"min_decryption_version":2}`)
		})
	})
}

func ask(t *testing.T, send func(token, method, path, body string) (int, []byte), mount, token, key, other string, rotate func(key string)) {
	t.Helper()
	encrypt, decrypt := mount+"/encrypt/"+key, mount+"/decrypt/"+key
	status, body := send(token, "POST", encrypt, `{"plaintext":"AAAA","associated_data":"YQ=="}`)
	got, data := read(t, status, body)
	if diff := cmp.Diff(vaultAnswer{Status: 200, Fields: []string{"ciphertext", "key_version"}}, got); diff != "" {
		t.Fatal(diff)
	}
	text := data["ciphertext"].(string)
	with := func(text, associated string) string {
		return fmt.Sprintf(`{"ciphertext":%q,"associated_data":%q}`, text, associated)
	}
	failed := func(status int, text string) vaultAnswer { return vaultAnswer{Status: status, Errors: []string{text}} }
	denied := failed(403, "1 error occurred:\n\t* permission denied\n\n")
	cases := map[string]struct {
		token, path, body string
		want              vaultAnswer
	}{
		"as it was closed":   {token, decrypt, with(text, "YQ=="), vaultAnswer{Status: 200, Fields: []string{"plaintext"}}},
		"other data":         {token, decrypt, with(text, "Yg=="), failed(400, "cipher: message authentication failed")},
		"no data":            {token, decrypt, with(text, ""), failed(400, "cipher: message authentication failed")},
		"cut":                {token, decrypt, with(text[:len(text)-4], "YQ=="), failed(400, "cipher: message authentication failed")},
		"cut short":          {token, decrypt, with("vault:v1:AAAA", "YQ=="), failed(400, "invalid ciphertext length")},
		"no prefix":          {token, decrypt, with("AAAA", "YQ=="), failed(400, "invalid ciphertext: no prefix")},
		"no version":         {token, decrypt, with("vault:vAAAA", "YQ=="), failed(400, "invalid ciphertext: wrong number of fields")},
		"an odd version":     {token, decrypt, with("vault:vx:AAAA", "YQ=="), failed(400, "invalid ciphertext: version number could not be decoded")},
		"a version to come":  {token, decrypt, with(strings.Replace(text, ":v1:", ":v2:", 1), "YQ=="), failed(400, "invalid ciphertext: version is too new")},
		"version 0":          {token, decrypt, with(strings.Replace(text, ":v1:", ":v0:", 1), "YQ=="), vaultAnswer{Status: 200, Fields: []string{"plaintext"}}},
		"a line break":       {token, decrypt, with(text[:20]+"\n"+text[20:], "YQ=="), vaultAnswer{Status: 200, Fields: []string{"plaintext"}}},
		"not base64":         {token, decrypt, with("vault:v1:!", "YQ=="), failed(400, "invalid ciphertext: could not decode base64")},
		"nothing":            {token, decrypt, `{}`, failed(400, "missing ciphertext to decrypt")},
		"no such key":        {token, mount + "/decrypt/none", with(text, "YQ=="), failed(400, "encryption key not found")},
		"to make a key":      {token, mount + "/encrypt/none", `{"plaintext":"AAAA"}`, denied},
		"of another's key":   {token, mount + "/decrypt/" + other, with(text, "YQ=="), denied},
		"with no such token": {"hvs.x", decrypt, with(text, "YQ=="), failed(403, "permission denied")},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			status, body := send(tc.token, "POST", tc.path, tc.body)
			got, _ := read(t, status, body)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	rotate(key)
	status, body = send(token, "POST", decrypt, with(text, "YQ=="))
	got, _ = read(t, status, body)
	if diff := cmp.Diff(failed(400, "ciphertext or signature version is disallowed by policy (too old)"), got); diff != "" {
		t.Error(diff)
	}
}
