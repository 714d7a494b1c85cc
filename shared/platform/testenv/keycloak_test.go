package testenv

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// claims reads a token without believing it.
func claims(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	return decodeJSON(t, parts[1])
}

func decodeJSON(t testing.TB, part string) map[string]any {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func names(list any) []string {
	if one, ok := list.(string); ok {
		return []string{one}
	}
	var out []string
	items, _ := list.([]any)
	for _, item := range items {
		name, _ := item.(string)
		out = append(out, name)
	}
	return out
}

// serviceProvider is how one describes itself that wants signed assertions.
const serviceProvider = `<?xml version="1.0"?>
<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://gateway.example/saml/acme">
  <SPSSODescriptor AuthnRequestsSigned="false" WantAssertionsSigned="true" protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
    <NameIDFormat>urn:oasis:names:tc:SAML:2.0:nameid-format:persistent</NameIDFormat>
    <AssertionConsumerService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://gateway.example/saml/acme/acs" index="0" isDefault="true"/>
  </SPSSODescriptor>
</EntityDescriptor>`

// TestKeycloak holds the realm of test/keycloak to what other tests expect of it.
func TestKeycloak(t *testing.T) {
	k := Keycloak(t)

	t.Run("a token says groups, roles and organizations", func(t *testing.T) {
		for user, want := range map[string]struct{ groups, organizations []string }{
			"alice": {[]string{"/peat-admin"}, nil}, "bob": {[]string{"/peat-org-admin"}, []string{"acme"}},
			"carol": {[]string{"/peat-viewer"}, []string{"acme"}}, "dave": {nil, nil},
		} {
			got := claims(t, k.Token(t, "peat-ui", user))
			if got["iss"] != k.Issuer() || got["sub"] != k.UserID(t, user) || !slices.Contains(names(got["aud"]), "peat-ui") {
				t.Errorf("%s: issuer %v, subject %v, audience %v", user, got["iss"], got["sub"], got["aud"])
			}
			if groups, orgs := names(got["groups"]), names(got["organizations"]); !slices.Equal(groups, want.groups) || !slices.Equal(orgs, want.organizations) {
				t.Errorf("%s: groups %q, organizations %q", user, groups, orgs)
			}
		}
		got := claims(t, k.Token(t, "devices", "truck-7"))
		if !slices.Contains(names(got["roles"]), "radio") || !slices.Contains(names(got["groups"]), "trucks") || !slices.Contains(names(got["aud"]), "peat-gateway") {
			t.Errorf("truck-7: roles %v, groups %v, audience %v", got["roles"], got["groups"], got["aud"])
		}
	})

	introspect := func(t *testing.T, token string) map[string]any {
		status, answer := k.post(t, k.Issuer()+"/protocol/openid-connect/token/introspect", url.Values{
			"client_id": {"peat-introspection"}, "client_secret": {k.Secret}, "token": {token},
		})
		var out map[string]any
		if err := json.Unmarshal([]byte(answer), &out); err != nil || status != http.StatusOK {
			t.Fatalf("status %d: %s", status, answer)
		}
		return out
	}
	t.Run("a token that says nothing is told by introspection", func(t *testing.T) {
		token := k.Token(t, "devices-opaque", "truck-7")
		if said := claims(t, token); said["groups"] != nil || said["aud"] != nil {
			t.Errorf("it says groups %v, audience %v", said["groups"], said["aud"])
		}
		got := introspect(t, token)
		if got["active"] != true || !slices.Contains(names(got["groups"]), "trucks") || !slices.Contains(names(got["aud"]), "peat-gateway") {
			t.Errorf("introspection says %v", got)
		}
	})

	keyID := func(token string) string {
		header, _, _ := strings.Cut(token, ".")
		id, _ := decodeJSON(t, header)["kid"].(string)
		return id
	}
	shows := func(key string) bool {
		_, answer := k.ask(t, http.MethodGet, k.Issuer()+"/protocol/openid-connect/certs", "", "", nil)
		return key != "" && strings.Contains(answer, key)
	}
	t.Run("keys are rotated", func(t *testing.T) {
		first := keyID(k.Token(t, "devices", "truck-7"))
		k.RotateKeys(t, true)
		second := keyID(k.Token(t, "devices", "truck-7"))
		if first == second || !shows(first) || !shows(second) {
			t.Errorf("%s and then %s, and shown: %t, %t", first, second, shows(first), shows(second))
		}
		k.RotateKeys(t, false)
		third := keyID(k.Token(t, "devices", "truck-7"))
		if third == second || shows(second) || !shows(third) {
			t.Errorf("%s and then %s, and shown: %t, %t", second, third, shows(second), shows(third))
		}
	})

	t.Run("a device is let in by somebody else", func(t *testing.T) {
		status, answer := k.post(t, k.Issuer()+"/protocol/openid-connect/auth/device", url.Values{"client_id": {"devices-headless"}, "scope": {"openid"}})
		var started struct {
			Code    string `json:"device_code"`
			Address string `json:"verification_uri_complete"`
		}
		if err := json.Unmarshal([]byte(answer), &started); err != nil || status != http.StatusOK {
			t.Fatalf("status %d: %s", status, answer)
		}
		form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"devices-headless"}, "device_code": {started.Code}}
		if status, answer := k.post(t, k.Issuer()+"/protocol/openid-connect/token", form); status != http.StatusBadRequest || !strings.Contains(answer, "authorization_pending") {
			t.Errorf("before that: status %d: %s", status, answer)
		}
		k.Browser(t).Allow(t, started.Address, "truck-7")
		ctx, cancel := context.WithTimeout(t.Context(), keycloakPatience)
		defer cancel()
		var got map[string]any
		if err := until(ctx, func(context.Context) error { // it wants a second between two tries
			status, answer := k.post(t, k.Issuer()+"/protocol/openid-connect/token", form)
			if status != http.StatusOK {
				return errors.New(answer)
			}
			got = claims(t, accessToken(t, status, answer))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got["sub"] != k.UserID(t, "truck-7") {
			t.Errorf("it is %v", got["sub"])
		}
	})

	t.Run("a service provider gets an assertion", func(t *testing.T) {
		if !strings.Contains(k.SAMLMetadata(t), `entityID="`+k.Entity()+`"`) {
			t.Errorf("the metadata is of another: %s", k.SAMLMetadata(t))
		}
		k.AddServiceProvider(t, serviceProvider, "acme")
		response, to := k.Browser(t).Assertion(t, "acme", "truck-7")
		xml, err := base64.StdEncoding.DecodeString(response)
		if err != nil || to != "https://gateway.example/saml/acme/acs" {
			t.Fatalf("to %s: %v", to, err)
		}
		for _, part := range []string{"<saml:Audience>https://gateway.example/saml/acme</saml:Audience>", ">trucks<", "dsig:SignatureValue"} {
			if !strings.Contains(string(xml), part) {
				t.Errorf("no %s in %s", part, xml)
			}
		}
	})

	t.Run("a user is shut out, and let in again", func(t *testing.T) {
		token := k.Token(t, "devices", "drone-1")
		k.SetEnabled(t, "drone-1", false)
		if got := introspect(t, token); got["active"] != false {
			t.Errorf("introspection says %v", got)
		}
		k.SetEnabled(t, "drone-1", true)
		k.Token(t, "devices", "drone-1")
	})

	t.Run("it comes back as it was", func(t *testing.T) {
		token, id := k.Token(t, "devices", "truck-7"), k.UserID(t, "truck-7")
		k.Kill()
		if resp, err := k.Client().Get(k.URL); err == nil {
			_ = resp.Body.Close()
			t.Error("it is killed and answers")
		}
		k.Restart(t)
		if again := k.UserID(t, "truck-7"); again != id {
			t.Errorf("truck-7 was %s and is %s", id, again)
		}
		if !shows(keyID(token)) {
			t.Error("tokens from before are by a key that it does not show any more")
		}
	})
}
