package federation_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
)

// samlKeys take a while to make: all tests share these.
var samlKeys = sync.OnceValues(func() (*samltest.IdP, error) { return samltest.New("https://idp.example") })

// samlWorld is a world with identity providers: one that speaks SAML, a disabled one,
// and one of another kind.
type samlWorld struct {
	*idpWorld
	idp                  *samltest.IdP
	base, disabled, oidc string // of their addresses
}

func newSAMLWorld(t *testing.T) *samlWorld {
	t.Helper()
	idp, err := samlKeys()
	if err != nil {
		t.Fatal(err)
	}
	w := &samlWorld{idpWorld: newIdpWorld(t), idp: idp}
	add := func(body string) string { return ofAcme + "/" + w.ask("POST", ofAcme, body, 201).ID + "/saml" }
	request := func(metadata string) string {
		text, err := json.Marshal(map[string]any{"kind": "saml", "label": "SAML", "config": map[string]any{"metadata_xml": metadata}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	w.base = add(request(idp.Metadata()))
	w.disabled = add(request(strings.Replace(idp.Metadata(), "https://idp.example", "https://off.example", 1)))
	w.do("POST", strings.TrimSuffix(w.disabled, "/saml")+"/disable", "", 200)
	w.oidc = add(w.idpWorld.oidc())
	return w
}

// public is an address as the outside has it.
func (w *samlWorld) public(path string) string {
	return w.vouch.PublicURL.JoinPath(w.base, path).String()
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
	a := samltest.Answer{To: w.public("acs"), Audience: w.public("metadata"), Now: w.now, InResponseTo: saml.RequestID(challenge)}
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
	got := w.knock("GET", w.base+"/metadata", nil)
	if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), w.public("acs")) || strings.Contains(got.Body.String(), "PRIVATE") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	got = w.knock("GET", w.base+"/sign-in?challenge=peat_chl_x", nil)
	if to := got.Header().Get("Location"); got.Code != http.StatusSeeOther || !strings.HasPrefix(to, w.idp.SignOn+"?SAMLRequest=") || !strings.Contains(to, "&Signature=") {
		t.Errorf("%d %s", got.Code, to)
	}
	form := w.answers("peat_chl_x", nil)
	for range 2 { // a browser may post again: nothing is used up
		got = w.knock("POST", w.base+"/acs", form)
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
	other := strings.Replace(w.base, "acme", "rival", 1)
	good := w.answers("peat_chl_x", nil)
	for name, c := range map[string]struct {
		method, path string
		form         url.Values
		status       int
	}{
		"another organization's metadata":  {"GET", other + "/metadata", nil, 404},
		"another organization's sign-in":   {"GET", other + "/sign-in?challenge=x", nil, 404},
		"another organization's responses": {"POST", other + "/acs", good, 404},
		"metadata of a disabled one":       {"GET", w.disabled + "/metadata", nil, 200},
		"sign-in at a disabled one":        {"GET", w.disabled + "/sign-in?challenge=x", nil, 404},
		"responses of a disabled one":      {"POST", w.disabled + "/acs", good, 404},
		"metadata of another kind":         {"GET", w.oidc + "/metadata", nil, 404},
		"an id that is none":               {"GET", "/orgs/acme/identity-providers/x/saml/metadata", nil, 404},
		"a sign-in for nothing":            {"GET", w.base + "/sign-in", nil, 422},
		"a sign-in for a long challenge":   {"GET", w.base + "/sign-in?challenge=" + strings.Repeat("x", 513), nil, 422},
		"no form":                          {"POST", w.base + "/acs", nil, 415},
		"an empty form":                    {"POST", w.base + "/acs", url.Values{"x": {"y"}}, 400},
		"two responses":                    {"POST", w.base + "/acs", url.Values{"SAMLResponse": {good.Get("SAMLResponse"), "x"}}, 400},
		"no base64":                        {"POST", w.base + "/acs", url.Values{"SAMLResponse": {"%"}}, 400},
		"markup that nobody signed":        {"POST", w.base + "/acs", url.Values{"SAMLResponse": {"PHNjcmlwdD4="}}, 401},
		"an assertion that nobody signed":  {"POST", w.base + "/acs", w.answers("c", func(a *samltest.Answer) { a.Unsigned = true }), 401},
		"unsolicited":                      {"POST", w.base + "/acs", w.answers("c", func(a *samltest.Answer) { a.InResponseTo = "" }), 401},
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

// TestSAMLKeyIsReplaced: our key for a provider is made by us, never shown, and
// replaced like other secrets; then the provider must be told.
func TestSAMLKeyIsReplaced(t *testing.T) {
	w := newSAMLWorld(t)
	provider := strings.TrimSuffix(w.base, "/saml")
	before := w.ask("GET", provider, "", 200)
	after := w.ask("POST", provider+"/rotate-secret", "", 200)
	if before.Config["sp_certificate_pem"] == after.Config["sp_certificate_pem"] || before.Issuer != after.Issuer {
		t.Errorf("%v", after)
	}
	for _, shown := range []idp{before, after} {
		if text, _ := json.Marshal(shown); strings.Contains(string(text), "PRIVATE") {
			t.Errorf("the key is shown: %s", text)
		}
	}
	told := w.knock("GET", w.base+"/metadata", nil).Body.String()
	block, _ := pem.Decode([]byte(after.Config["sp_certificate_pem"].(string)))
	if !strings.Contains(told, base64.StdEncoding.EncodeToString(block.Bytes)) {
		t.Errorf("the provider is told of another certificate: %s", told)
	}
}

// TestSAMLKnocks: who does not stop is told to, and others are not.
func TestSAMLKnocks(t *testing.T) {
	w := newSAMLWorld(t)
	knock := func(from string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", w.base+"/acs", strings.NewReader("SAMLResponse=PHNjcmlwdD4="))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = from
		out := httptest.NewRecorder()
		w.ServeHTTP(out, r)
		return out
	}
	for i := range 60 {
		if got := knock("192.0.2.7:4321"); got.Code != http.StatusUnauthorized {
			t.Fatalf("the %dth: %d %s", i+1, got.Code, got.Body)
		}
	}
	if got := knock("192.0.2.7:4322"); got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := knock("192.0.2.8:4321"); got.Code != http.StatusUnauthorized {
		t.Errorf("another address: %d %s", got.Code, got.Body)
	}
	if got := w.knock("GET", w.base+"/metadata", nil); got.Code != http.StatusOK {
		t.Errorf("metadata: %d", got.Code)
	}
	w.now = w.now.Add(time.Minute)
	if got := knock("192.0.2.7:4323"); got.Code != http.StatusUnauthorized {
		t.Errorf("a minute later: %d %s", got.Code, got.Body)
	}
}
