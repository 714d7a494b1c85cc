package testenv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Token signs a user in at a client of the realm with the password, and returns the
// access token.
func (k *KeycloakServer) Token(t testing.TB, client, user string) string {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "client_id": {client}, "username": {user}, "password": {k.Password}, "scope": {"openid"}}
	status, answer := k.post(t, k.Issuer()+"/protocol/openid-connect/token", form)
	if status == http.StatusUnauthorized && strings.Contains(answer, "client") {
		form.Set("client_secret", k.Secret)
		status, answer = k.post(t, k.Issuer()+"/protocol/openid-connect/token", form)
	}
	return accessToken(t, status, answer)
}

func (k *KeycloakServer) post(t testing.TB, address string, form url.Values) (int, string) {
	t.Helper()
	return k.ask(t, http.MethodPost, address, "", "application/x-www-form-urlencoded", []byte(form.Encode()))
}

func accessToken(t testing.TB, status int, answer string) string {
	t.Helper()
	var out struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(answer), &out); err != nil || status != http.StatusOK || out.Token == "" {
		t.Fatalf("keycloak gives no token: status %d: %s", status, answer)
	}
	return out.Token
}

// ask makes one request and returns what was answered.
func (k *KeycloakServer) ask(t testing.TB, method, address, bearer, media string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Admin calls the admin API of the realm; path begins with a slash, or is empty for
// the realm itself. in may be nil, or a string of XML; out, if not nil, takes the
// answer.
func (k *KeycloakServer) Admin(t testing.TB, method, path string, in, out any) {
	t.Helper()
	// Its tokens are good for a minute.
	if k.adminToken == "" || time.Now().After(k.adminTokenEnd) {
		status, answer := k.post(t, k.URL+"/realms/master/protocol/openid-connect/token", url.Values{
			"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {k.admin},
		})
		k.adminToken, k.adminTokenEnd = accessToken(t, status, answer), time.Now().Add(20*time.Second)
	}
	media, body := "application/json", []byte(nil)
	switch in := in.(type) {
	case nil:
	case string:
		media, body = "application/xml", []byte(in)
	default:
		var err error
		if body, err = json.Marshal(in); err != nil {
			t.Fatal(err)
		}
	}
	status, answer := k.ask(t, method, k.URL+"/admin/realms/"+k.Realm+path, k.adminToken, media, body)
	if status >= 300 {
		t.Fatalf("keycloak: %s %s: status %d: %s", method, path, status, answer)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(answer), out); err != nil {
			t.Fatalf("keycloak: %s %s: %v in %s", method, path, err, answer)
		}
	}
}

// RotateKeys has the realm sign with a new key. The one before is no longer shown
// unless it is to be kept.
func (k *KeycloakServer) RotateKeys(t testing.TB, keepOld bool) {
	t.Helper()
	const kind = "org.keycloak.keys.KeyProvider"
	type component struct {
		ID       string              `json:"id,omitempty"`
		Name     string              `json:"name"`
		Provider string              `json:"providerId"`
		Type     string              `json:"providerType"`
		Config   map[string][]string `json:"config"`
	}
	var before []component
	k.Admin(t, http.MethodGet, "/components?type="+kind, nil, &before)
	highest := 100
	for _, c := range before {
		for _, text := range c.Config["priority"] {
			n := 0
			if _, err := fmt.Sscan(text, &n); err == nil {
				highest = max(highest, n)
			}
		}
	}
	k.Admin(t, http.MethodPost, "/components", component{
		Name: fmt.Sprintf("rotated-%d", highest+1), Provider: "rsa-generated", Type: kind,
		Config: map[string][]string{"priority": {fmt.Sprint(highest + 1)}, "enabled": {"true"}, "active": {"true"}, "keySize": {"2048"}, "algorithm": {"RS256"}},
	}, nil)
	for _, c := range before {
		if c.Provider == "rsa-generated" && !keepOld {
			k.Admin(t, http.MethodDelete, "/components/"+c.ID, nil, nil)
		}
	}
}

// UserID is the subject of a user's tokens.
func (k *KeycloakServer) UserID(t testing.TB, name string) string {
	t.Helper()
	var found []struct {
		ID string `json:"id"`
	}
	k.Admin(t, http.MethodGet, "/users?exact=true&username="+url.QueryEscape(name), nil, &found)
	if len(found) != 1 {
		t.Fatalf("keycloak has %d users %q", len(found), name)
	}
	return found[0].ID
}

// SetEnabled lets a user in or not, and ends the sessions of one who is not.
func (k *KeycloakServer) SetEnabled(t testing.TB, user string, enabled bool) {
	t.Helper()
	id := k.UserID(t, user)
	var is map[string]any
	k.Admin(t, http.MethodGet, "/users/"+id, nil, &is)
	is["enabled"] = enabled
	k.Admin(t, http.MethodPut, "/users/"+id, is, nil)
	if !enabled {
		k.Admin(t, http.MethodPost, "/users/"+id+"/logout", nil, nil)
	}
}

// Logout ends all sessions of a user, and tells the clients that want to hear of it.
func (k *KeycloakServer) Logout(t testing.TB, user string) {
	t.Helper()
	k.Admin(t, http.MethodPost, "/users/"+k.UserID(t, user)+"/logout", nil, nil)
}

// SetClient changes what is given of a client, such as its redirectUris, or its
// attributes, which are laid over those that are there.
func (k *KeycloakServer) SetClient(t testing.TB, client string, change map[string]any) {
	t.Helper()
	var found []map[string]any
	k.Admin(t, http.MethodGet, "/clients?clientId="+url.QueryEscape(client), nil, &found)
	if len(found) != 1 {
		t.Fatalf("keycloak has %d clients %q", len(found), client)
	}
	is := found[0]
	for name, value := range change {
		if more, ok := value.(map[string]string); ok {
			attributes, _ := is[name].(map[string]any)
			for n, v := range more {
				attributes[n] = v
			}
			continue
		}
		is[name] = value
	}
	k.Admin(t, http.MethodPut, "/clients/"+is["id"].(string), is, nil)
}

// SAMLMetadata is how the realm describes itself to a service provider.
func (k *KeycloakServer) SAMLMetadata(t testing.TB) string {
	t.Helper()
	status, text := k.ask(t, http.MethodGet, k.Entity()+"/protocol/saml/descriptor", "", "", nil)
	if status != http.StatusOK {
		t.Fatalf("keycloak has no SAML metadata: status %d: %s", status, text)
	}
	return text
}

// AddServiceProvider makes a SAML client of how a service provider describes itself,
// and has its assertions say the groups and organizations of a user; roles, in "Role",
// Keycloak says by itself. A name is for sign-on that Keycloak begins; see Assertion.
func (k *KeycloakServer) AddServiceProvider(t testing.TB, metadata, name string) {
	t.Helper()
	var client map[string]any
	k.Admin(t, http.MethodPost, "/client-description-converter", metadata, &client)
	attributes, _ := client["attributes"].(map[string]any)
	attributes["saml_idp_initiated_sso_url_name"] = name
	client["fullScopeAllowed"] = true
	client["protocolMappers"] = []map[string]any{
		samlMapper("groups", "saml-group-membership-mapper", map[string]string{"attribute.name": "groups", "full.path": "false", "single": "true"}),
		samlMapper("organizations", "saml-user-attribute-mapper", map[string]string{"attribute.name": "organizations", "user.attribute": "organizations"}),
	}
	k.Admin(t, http.MethodPost, "/clients", client, nil)
}

func samlMapper(name, kind string, config map[string]string) map[string]any {
	config["attribute.nameformat"] = "Basic"
	return map[string]any{"name": name, "protocol": "saml", "protocolMapper": kind, "config": config}
}
