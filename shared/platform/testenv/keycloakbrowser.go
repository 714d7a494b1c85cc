package testenv

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// Browser is somebody in front of the pages of Keycloak, and of whoever sends them
// there. It keeps cookies and follows redirects.
type Browser struct {
	k      *KeycloakServer
	client *http.Client
}

// Browser returns one that has been nowhere.
func (k *KeycloakServer) Browser(t testing.TB) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := k.Client()
	client.Jar, client.CheckRedirect = jar, nil
	return &Browser{k, client}
}

// Client is how the browser asks, cookies and all, for what is no page.
func (b *Browser) Client() *http.Client { return b.client }

// Page is what a browser shows in the end.
type Page struct {
	Status int
	URL    *url.URL
	Body   string
}

// Open goes to an address.
func (b *Browser) Open(t testing.TB, address string) Page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.do(t, req)
}

// Post sends a form.
func (b *Browser) Post(t testing.TB, address string, form url.Values) Page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(t, req)
}

func (b *Browser) do(t testing.TB, req *http.Request) Page {
	t.Helper()
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Page{resp.StatusCode, resp.Request.URL, string(body)}
}

// SignIn goes to an address, signs in on the page that is met there, and returns the
// one that comes then.
func (b *Browser) SignIn(t testing.TB, address, user string) Page {
	t.Helper()
	return b.signIn(t, b.Open(t, address), user)
}

func (b *Browser) signIn(t testing.TB, page Page, user string) Page {
	t.Helper()
	action, form := page.Form(t)
	if !strings.Contains(action, "/login-actions/") {
		t.Fatalf("%s is no page to sign in on:\n%s", page.URL.Host+page.URL.Path, page.Body)
	}
	form.Set("username", user)
	form.Set("password", b.k.Password)
	return b.Post(t, action, form)
}

var (
	formTag  = regexp.MustCompile(`(?is)<form\b([^>]*)>(.*?)</form>`)
	inputTag = regexp.MustCompile(`(?is)<input\b([^>]*)>`)
	attrPair = regexp.MustCompile(`(?is)\b([a-z-]+)\s*=\s*"([^"]*)"`)
)

// Form returns where the first form of a page goes and what is filled in already.
func (p Page) Form(t testing.TB) (action string, values url.Values) {
	t.Helper()
	form := formTag.FindStringSubmatch(p.Body)
	if p.Status != http.StatusOK || form == nil {
		t.Fatalf("no form on %s: status %d:\n%s", p.URL.Host+p.URL.Path, p.Status, p.Body)
	}
	to, err := p.URL.Parse(attributesOf(form[1])["action"])
	if err != nil {
		t.Fatal(err)
	}
	values = url.Values{}
	for _, tag := range inputTag.FindAllStringSubmatch(form[2], -1) {
		a := attributesOf(tag[1])
		if a["name"] != "" && a["type"] != "checkbox" {
			values.Set(a["name"], a["value"])
		}
	}
	return to.String(), values
}

func attributesOf(tag string) map[string]string {
	out := map[string]string{}
	for _, pair := range attrPair.FindAllStringSubmatch(tag, -1) {
		out[strings.ToLower(pair[1])] = html.UnescapeString(pair[2])
	}
	return out
}

// Allow signs in at the address that a device shows to whoever stands before it, and
// says yes.
func (b *Browser) Allow(t testing.TB, address, user string) {
	t.Helper()
	page := b.SignIn(t, address, user)
	action, form := page.Form(t)
	form.Del("cancel")
	if page = b.Post(t, action, form); page.Status != http.StatusOK || !strings.Contains(page.Body, "Device Login Successful") {
		t.Fatalf("the device is not let in: status %d:\n%s", page.Status, page.Body)
	}
}

// Assertion signs a user in for the service provider of a name, unasked by it, and
// returns the response that Keycloak has for it, in base64, and where it is to go.
func (b *Browser) Assertion(t testing.TB, provider, user string) (response, to string) {
	t.Helper()
	page := b.SignIn(t, b.k.Entity()+"/protocol/saml/clients/"+url.PathEscape(provider), user)
	to, form := page.Form(t)
	if form.Get("SAMLResponse") == "" {
		t.Fatalf("no SAML response on %s:\n%s", page.URL.Path, page.Body)
	}
	return form.Get("SAMLResponse"), to
}
