package federation_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/providers"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

const (
	samlID   = "01J00000000000000000000000"
	samlBase = "/orgs/acme/identity-providers/" + samlID + "/saml"
	samlACS  = "https://gateway.example" + samlBase + "/acs"
)

// samlKeys take a while to make: all tests share these.
var samlKeys = sync.OnceValues(func() (*samltest.IdP, error) { return samltest.New("https://idp.example") })

// samlWorld is a world with an identity provider that speaks SAML.
type samlWorld struct {
	*tokenWorld
	idp *samltest.IdP
}

func newSAMLWorld(t *testing.T) *samlWorld {
	t.Helper()
	idp, err := samlKeys()
	if err != nil {
		t.Fatal(err)
	}
	var w *tokenWorld
	var settings identity.Settings
	w = newTokenWorld(t, func(d *federation.Deps) {
		now := d.Now
		settings = identity.Settings{PublicURL: &url.URL{Scheme: "https", Host: "gateway.example"}, Now: now}
		all := providers.New(providers.Deps{
			Store: d.Store, Settings: settings,
			Unseal: func(_ context.Context, p identity.Provider) ([]byte, error) { return p.Sealed, nil },
		})
		t.Cleanup(func() { _ = all.Close() })
		d.Providers = all
	})
	config, err := json.Marshal(map[string]any{"metadata_xml": idp.Metadata()})
	if err != nil {
		t.Fatal(err)
	}
	made, err := saml.Parse(config, nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := json.Marshal(made.Public)
	secrets, _ := json.Marshal(made.Secrets)
	for id, change := range map[string]func(*identity.Provider){
		samlID:                       func(*identity.Provider) {},
		"01J00000000000000000000001": func(p *identity.Provider) { p.Enabled, p.Issuer = false, "https://off.example" },
		"01J00000000000000000000002": func(p *identity.Provider) { p.Kind, p.Issuer = identity.OIDC, "https://oidc.example" },
	} {
		p := identity.Provider{
			Key: identity.Key{Org: "acme", ID: id}, Kind: identity.SAML, Issuer: made.Issuer, Enabled: true,
			Config: public, Sealed: secrets, Version: 1, CreatedAt: w.now, UpdatedAt: w.now,
		}
		change(&p)
		w.inTx(func(tx *store.Tx) error { return tx.CreateProvider(context.Background(), p) })
	}
	return &samlWorld{w, idp}
}

// knock makes a request without a token, as browsers do.
func (w *samlWorld) knock(method, path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	out := httptest.NewRecorder()
	w.ServeHTTP(out, r)
	return out
}

// answers is a form with a response to a challenge's request.
func (w *samlWorld) answers(challenge string, change func(*samltest.Answer)) url.Values {
	w.t.Helper()
	a := samltest.Answer{To: samlACS, Audience: strings.TrimSuffix(samlACS, "acs") + "metadata", Now: w.now, InResponseTo: saml.RequestID(challenge)}
	if change != nil {
		change(&a)
	}
	response, err := w.idp.Respond(a)
	if err != nil {
		w.t.Fatal(err)
	}
	return url.Values{"SAMLResponse": {base64.StdEncoding.EncodeToString(response)}}
}

func TestSAMLSignIn(t *testing.T) {
	w := newSAMLWorld(t)
	got := w.knock("GET", samlBase+"/metadata", nil)
	if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), samlACS) || strings.Contains(got.Body.String(), "PRIVATE") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	got = w.knock("GET", samlBase+"/sign-in?challenge=peat_chl_x", nil)
	if to := got.Header().Get("Location"); got.Code != http.StatusSeeOther || !strings.HasPrefix(to, w.idp.SignOn+"?SAMLRequest=") || !strings.Contains(to, "&Signature=") {
		t.Errorf("%d %s", got.Code, to)
	}
	form := w.answers("peat_chl_x", nil)
	for range 2 { // a browser may post again: nothing is used up
		got = w.knock("POST", samlBase+"/acs", form)
		if got.Code != http.StatusOK || base64.StdEncoding.EncodeToString(got.Body.Bytes()) != form.Get("SAMLResponse") {
			t.Fatalf("%d %s", got.Code, got.Body)
		}
	}
	for header, want := range map[string]string{
		"Content-Disposition": `attachment; filename="saml-response.xml"`, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got.Header().Get(header) != want {
			t.Errorf("%s: %q", header, got.Header().Get(header))
		}
	}
}

func TestSAMLDoorsRefuse(t *testing.T) {
	w := newSAMLWorld(t)
	other := strings.Replace(samlBase, "acme", "rival", 1)
	disabled, oidc := strings.TrimSuffix(samlBase, "0/saml")+"1/saml", strings.TrimSuffix(samlBase, "0/saml")+"2/saml"
	good := w.answers("peat_chl_x", nil)
	for name, c := range map[string]struct {
		method, path string
		form         url.Values
		status       int
	}{
		"another organization's metadata":  {"GET", other + "/metadata", nil, 404},
		"another organization's sign-in":   {"GET", other + "/sign-in?challenge=x", nil, 404},
		"another organization's responses": {"POST", other + "/acs", good, 404},
		"metadata of a disabled one":       {"GET", disabled + "/metadata", nil, 200},
		"sign-in at a disabled one":        {"GET", disabled + "/sign-in?challenge=x", nil, 404},
		"responses of a disabled one":      {"POST", disabled + "/acs", good, 404},
		"metadata of another kind":         {"GET", oidc + "/metadata", nil, 404},
		"an id that is none":               {"GET", "/orgs/acme/identity-providers/x/saml/metadata", nil, 404},
		"a sign-in for nothing":            {"GET", samlBase + "/sign-in", nil, 422},
		"a sign-in for a long challenge":   {"GET", samlBase + "/sign-in?challenge=" + strings.Repeat("x", 513), nil, 422},
		"no form":                          {"POST", samlBase + "/acs", nil, 415},
		"an empty form":                    {"POST", samlBase + "/acs", url.Values{"x": {"y"}}, 400},
		"two responses":                    {"POST", samlBase + "/acs", url.Values{"SAMLResponse": {good.Get("SAMLResponse"), "x"}}, 400},
		"no base64":                        {"POST", samlBase + "/acs", url.Values{"SAMLResponse": {"%"}}, 400},
		"markup that nobody signed":        {"POST", samlBase + "/acs", url.Values{"SAMLResponse": {"PHNjcmlwdD4="}}, 401},
		"an assertion that nobody signed":  {"POST", samlBase + "/acs", w.answers("c", func(a *samltest.Answer) { a.Unsigned = true }), 401},
		"unsolicited":                      {"POST", samlBase + "/acs", w.answers("c", func(a *samltest.Answer) { a.InResponseTo = "" }), 401},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.knock(c.method, c.path, c.form)
			if got.Code != c.status {
				t.Errorf("%d, want %d: %s", got.Code, c.status, got.Body)
			}
			if c.status == 401 && !strings.Contains(got.Body.String(), "the proof of identity is not accepted") || strings.Contains(got.Body.String(), "signature") {
				t.Errorf("tells why: %s", got.Body)
			}
		})
	}
}
