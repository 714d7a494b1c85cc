package federation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/identity/providers"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
)

// idpWorld is a tokenWorld with an identity provider beside it.
type idpWorld struct {
	*tokenWorld
	issuer *identitytest.Issuer
	vouch  *providers.Providers
	logs   *bytes.Buffer
}

const ofAcme = "/orgs/acme/identity-providers"

func newIdpWorld(t *testing.T) *idpWorld {
	t.Helper()
	local, err := envelope.NewLocal(envelope.NewKEK([32]byte{7}))
	if err != nil {
		t.Fatal(err)
	}
	keys := keyring.Single(local)
	w := &idpWorld{issuer: identitytest.NewIssuer(t), logs: &bytes.Buffer{}}
	settings := w.issuer.Settings()
	settings.PublicURL = &url.URL{Scheme: "https", Host: "gateway.example"}
	w.tokenWorld = newTokenWorld(t, func(d *federation.Deps) {
		w.vouch = providers.New(providers.Deps{
			Store: d.Store, Settings: settings, SecretsFor: time.Nanosecond,
			Unseal: func(ctx context.Context, p identity.Provider) ([]byte, error) {
				return keys.Open(ctx, keyring.OfProvider(p.Org, p.ID), p.Sealed)
			},
		})
		t.Cleanup(func() { _ = w.vouch.Close() })
		d.Keys, d.Providers, d.Log = keys, w.vouch, slog.New(slog.NewJSONHandler(w.logs, nil))
	})
	return w
}

// oidc is a request for a provider that is the world's issuer.
func (w *idpWorld) oidc() string {
	return fmt.Sprintf(`{"kind":"oidc","label":"Keycloak","config":{"issuer":%q,"audiences":[%q],"tls":{"ca_pem":%q}}}`, w.issuer.URL, identitytest.Audience, w.issuer.CA)
}

const secret = identitytest.ClientSecret

func (w *idpWorld) introspection() string {
	return fmt.Sprintf(`{"kind":"introspection","label":"tokens","config":{"introspection_url":%q,"client_id":%q,"client_secret":%q,"any_audience":true,"tls":{"ca_pem":%q}}}`,
		w.issuer.URL+identitytest.Introspection, identitytest.ClientID, secret, w.issuer.CA)
}

type idp struct {
	ID      string         `json:"provider_id"`
	Issuer  string         `json:"issuer"`
	Label   string         `json:"label"`
	Enabled bool           `json:"enabled"`
	Config  map[string]any `json:"config"`
}

func (w *idpWorld) ask(method, path, body string, status int) (out idp) {
	w.t.Helper()
	w.now = w.now.Add(time.Second) // so that the trail is in the order of the acts
	answer := w.do(method, path, body, status)
	if len(answer) > 0 && status < 300 {
		if err := json.Unmarshal(answer, &out); err != nil {
			w.t.Fatal(err)
		}
	}
	if strings.Contains(string(answer), secret) {
		w.t.Errorf("%s %s: the secret is in the answer: %s", method, path, answer)
	}
	return out
}

// knows tells whether a token is accepted for acme now.
func (w *idpWorld) knows(token string) error {
	_, _, err := w.vouch.Verify(w.t.Context(), "acme", identity.Proof{Token: token}, w.issuer.Now())
	return err
}

func TestLifeOfAnIdentityProvider(t *testing.T) {
	w := newIdpWorld(t)
	token := w.issuer.Token(nil)
	if err := w.knows(token); err == nil {
		t.Fatal("somebody vouches before anybody can")
	}
	made := w.ask("POST", ofAcme, w.oidc(), 201)
	if !made.Enabled || made.Issuer != w.issuer.URL {
		t.Errorf("%+v", made)
	}
	path := ofAcme + "/" + made.ID
	if err := w.knows(token); err != nil {
		t.Error(err)
	}
	if got := w.ask("POST", path+"/disable", "", 200); got.Enabled {
		t.Errorf("%+v", got)
	}
	if err := w.knows(token); err == nil {
		t.Error("one that is disabled vouches")
	}
	w.ask("POST", path+"/enable", "", 200)
	if err := w.knows(token); err != nil {
		t.Error(err)
	}
	got := w.ask("PATCH", path, `{"label":"other","config":{"audiences":["https://other.example"],"max_outage":"1h"}}`, 200)
	if got.Label != "other" || got.Config["max_outage"] != "1h" || got.Config["tls"] == nil {
		t.Errorf("%+v", got)
	}
	if err := w.knows(token); err == nil {
		t.Error("a token for another audience is taken")
	}
	var list struct {
		Items []idp
		Next  *string
	}
	if err := json.Unmarshal(w.do("GET", ofAcme+"?limit=1", "", 200), &list); err != nil || len(list.Items) != 1 || list.Next != nil {
		t.Errorf("%+v %v", list, err)
	}
	w.ask("DELETE", path, "", 204)
	w.do("GET", path, "", 404)
	actions, _ := w.actions()
	var short []string
	for _, a := range actions {
		action, target, _ := strings.Cut(a, " ")
		if target == made.ID {
			short = append(short, strings.TrimPrefix(action, "identity_provider."))
		}
	}
	out, err := w.store.Outbox(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, e := range out {
		types = append(types, e.Event.Type())
	}
	wantTypes := []string{event.ProviderCreatedType, event.ProviderChangedType, event.ProviderChangedType, event.ProviderChangedType, event.ProviderDeletedType}
	if diff := cmp.Diff(wantTypes, types); diff != "" {
		t.Error(diff)
	}
	if want := "create disable enable update delete"; strings.Join(short, " ") != want {
		t.Errorf("%q, want %q", short, want)
	}
}

func TestASecretNeverComesBack(t *testing.T) {
	w := newIdpWorld(t)
	made := w.ask("POST", ofAcme, w.introspection(), 201)
	path := ofAcme + "/" + made.ID
	if made.Config["client_secret"] != identity.Sealed {
		t.Errorf("%+v", made.Config)
	}
	w.issuer.Activate("opaque", w.issuer.Claims(nil))
	if err := w.knows("opaque"); err != nil {
		t.Fatal(err)
	}
	w.ask("GET", path, "", 200)
	w.ask("GET", ofAcme, "", 200)
	w.ask("PATCH", path, `{"label":"renamed"}`, 200)
	w.ask("PATCH", path, `{"config":{"cache_for":"1s","client_secret":"[sealed]"}}`, 200)
	if err := w.knows("opaque"); err != nil {
		t.Errorf("a secret that was left out has not stayed: %v", err)
	}
	w.ask("PATCH", path, `{"config":{"introspection_url":"https://evil.example/"}}`, 422)
	w.ask("POST", path+"/rotate-secret", `{}`, 422)
	w.ask("POST", path+"/rotate-secret", `{"client_secret":"another-secret-0123"}`, 200)
	var report struct{ OK bool }
	if err := json.Unmarshal(w.do("POST", path+"/check", "", 200), &report); err != nil || report.OK {
		t.Errorf("the provider takes a wrong secret? %+v %v", report, err)
	}
	body, err := json.Marshal(map[string]string{"client_secret": secret})
	if err != nil {
		t.Fatal(err)
	}
	w.ask("POST", path+"/rotate-secret", string(body), 200)
	if err := json.Unmarshal(w.do("POST", path+"/check", "", 200), &report); err != nil || !report.OK {
		t.Errorf("%+v %v", report, err)
	}
	_, details := w.actions()
	for _, s := range []string{secret, "another-secret-0123"} {
		if strings.Contains(details, s) || strings.Contains(w.logs.String(), s) {
			t.Errorf("%q is in the trail or the log", s)
		}
	}
	w.ask("POST", ofAcme+"/"+w.ask("POST", ofAcme, w.oidc(), 201).ID+"/rotate-secret", "", 409)
}

func TestCheckOfAnIdentityProvider(t *testing.T) {
	w := newIdpWorld(t)
	made := w.ask("POST", ofAcme, w.oidc(), 201)
	check := func() (out struct {
		OK       bool
		Findings []struct {
			Name, Detail string
			OK           bool
		}
	}) {
		t.Helper()
		if err := json.Unmarshal(w.do("POST", ofAcme+"/"+made.ID+"/check", "", 200), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := check(); !got.OK || len(got.Findings) != 3 {
		t.Errorf("%+v", got)
	}
	w.issuer.Down()
	if got := check(); got.OK || !strings.Contains(got.Findings[0].Detail, "503") {
		t.Errorf("%+v", got)
	}
}

func TestWhoMayChangeIdentityProviders(t *testing.T) {
	w := newIdpWorld(t)
	made := w.ask("POST", ofAcme, w.oidc(), 201)
	path := ofAcme + "/" + made.ID
	viewer := w.make("/orgs/acme/tokens", `{"label":"v","role":"viewer"}`).Token
	reader := w.make("/orgs/acme/tokens", `{"label":"r","role":"org-admin","scopes":["identity-providers:read"]}`).Token
	writer := w.make("/orgs/acme/tokens", `{"label":"w","role":"org-admin","scopes":["identity-providers:write"]}`).Token
	rival := w.make("/orgs/rival/tokens", `{"label":"x","role":"org-admin"}`).Token
	for _, tc := range []struct {
		who, method, path string
		want              int
	}{
		{viewer, "GET", path, 200}, {viewer, "POST", path + "/disable", 403}, {reader, "GET", path, 200}, {reader, "POST", path + "/disable", 403},
		{writer, "POST", path + "/disable", 200}, {rival, "GET", path, 404}, {rival, "GET", "/orgs/rival/identity-providers/" + made.ID, 404},
		{rival, "DELETE", "/orgs/rival/identity-providers/" + made.ID, 404},
	} {
		if got := w.as(tc.who, tc.method, tc.path, ""); got.Code != tc.want {
			t.Errorf("%s %s: %d, want %d: %s", tc.method, tc.path, got.Code, tc.want, got.Body)
		}
	}
}

func TestIdentityProvidersThatAreRefused(t *testing.T) {
	w := newIdpWorld(t)
	w.ask("POST", ofAcme, w.oidc(), 201)
	for name, tc := range map[string]struct {
		body string
		want int
	}{
		"an issuer that is taken":    {w.oidc(), 409},
		"a kind that is not":         {`{"kind":"ldap","label":"x","config":{}}`, 422},
		"no label":                   {strings.Replace(w.oidc(), `"Keycloak"`, `""`, 1), 422},
		"a label of two lines":       {strings.Replace(w.oidc(), `"Keycloak"`, `"a\nb"`, 1), 422},
		"an issuer inside":           {`{"kind":"oidc","label":"x","config":{"issuer":"http://169.254.169.254","audiences":["a"]}}`, 422},
		"no configuration":           {`{"kind":"oidc","label":"x"}`, 422},
		"a misspelt option":          {`{"kind":"oidc","label":"x","config":{"isuer":"https://a.example"}}`, 422},
		"an option that is not ours": {`{"kind":"oidc","label":"x","config":{},"sealed":"x"}`, 422},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := w.actions()
			w.ask("POST", ofAcme, tc.body, tc.want)
			if after, _ := w.actions(); len(after) != len(before) {
				t.Error("half-done")
			}
		})
	}
	w.ask("POST", "/orgs/nobody/identity-providers", w.oidc(), 404)
	w.ask("POST", "/orgs/rival/identity-providers", w.oidc(), 201) // one issuer may vouch for several organizations
}

func TestIdentityProvidersAreFew(t *testing.T) {
	w := newIdpWorld(t)
	body := func(n int) string {
		return fmt.Sprintf(`{"kind":"oidc","label":"x","config":{"issuer":"https://%d.example","audiences":["a"]}}`, n)
	}
	for n := range identity.MaxProviders {
		w.ask("POST", ofAcme, body(n), 201)
	}
	w.ask("POST", ofAcme, body(identity.MaxProviders), 429)
}

func TestIdentityProvidersHaveTags(t *testing.T) {
	w := newIdpWorld(t)
	path := ofAcme + "/" + w.ask("POST", ofAcme, w.oidc(), 201).ID
	tag := w.as(adminToken, "GET", path, "").Header().Get("ETag")
	try := func(method, path, body, tag string) int {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+adminToken)
		r.Header.Set("X-Request-Id", "r-1")
		r.Header.Set("If-Match", tag)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		out := httptest.NewRecorder()
		w.ServeHTTP(out, r)
		return out.Code
	}
	if got := try("PATCH", path, `{"label":"one"}`, tag); got != 200 {
		t.Fatal(got)
	}
	for _, one := range [][3]string{{"PATCH", path, `{"label":"two"}`}, {"DELETE", path, ""}, {"POST", path + "/disable", ""}} {
		if got := try(one[0], one[1], one[2], tag); got != 412 {
			t.Errorf("%s of what it was before: %d", one[0], got)
		}
	}
	if got := try("DELETE", path, "", "*"); got != 204 {
		t.Error(got)
	}
}
