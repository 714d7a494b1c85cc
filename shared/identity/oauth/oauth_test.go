package oauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth/oauthtest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func TestParseIssuer(t *testing.T) {
	for name, tc := range map[string]struct {
		in string
		ok bool
	}{
		"as usual":             {"https://id.example/realms/peat", true},
		"on this machine":      {"http://127.0.0.1:8080/realms/peat", true},
		"by its name":          {"http://localhost:8080", true},
		"in the clear":         {"http://id.example", false},
		"not quite this":       {"http://127.0.0.1.example", false},
		"of another scheme":    {"file:///etc/passwd", false},
		"with a password":      {"https://u:p@id.example", false},
		"with a query":         {"https://id.example/?a=b", false},
		"with an empty query":  {"https://id.example/?", false},
		"with a fragment":      {"https://id.example/#a", false},
		"nothing":              {"", false},
		"longer than anything": {"https://id.example/" + strings.Repeat("a", 2000), false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := oauth.ParseIssuer(tc.in); (err == nil) != tc.ok {
				t.Error(err)
			}
		})
	}
}

func TestDiscoveryThatPointsElsewhere(t *testing.T) {
	issuer, err := oauth.ParseIssuer("https://id.example")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		in string
		ok bool
	}{
		"its own":                    {`{"issuer":"https://id.example","token_endpoint":"https://id.example/t"}`, true},
		"at another host, safely":    {`{"issuer":"https://id.example","token_endpoint":"https://tokens.example/t"}`, true},
		"another issuer":             {`{"issuer":"https://evil.example","token_endpoint":"https://id.example/t"}`, false},
		"no issuer":                  {`{"token_endpoint":"https://id.example/t"}`, false},
		"a slash more":               {`{"issuer":"https://id.example/"}`, false},
		"in the clear":               {`{"issuer":"https://id.example","token_endpoint":"http://id.example/t"}`, false},
		"in the clear, to us":        {`{"issuer":"https://id.example","token_endpoint":"http://127.0.0.1/t"}`, false},
		"a file":                     {`{"issuer":"https://id.example","authorization_endpoint":"file:///etc/passwd"}`, false},
		"a script":                   {`{"issuer":"https://id.example","end_session_endpoint":"javascript:alert(1)"}`, false},
		"a password":                 {`{"issuer":"https://id.example","device_authorization_endpoint":"https://u:p@id.example"}`, false},
		"an endpoint that is a list": {`{"issuer":"https://id.example","token_endpoint":["https://id.example/t"]}`, false},
		"not JSON":                   {`<html>`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := oauth.ParseMetadata([]byte(tc.in), issuer); (err == nil) != tc.ok {
				t.Error(err)
			}
		})
	}
}

// provider answers with the handler, once it has said where its endpoints are.
func provider(t *testing.T, h http.HandlerFunc) *oauth.Client {
	t.Helper()
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
			fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":%q}`, s.URL, s.URL+"/token")
			return
		}
		h(w, r)
	}))
	t.Cleanup(s.Close)
	client := oauth.Transport(nil, nil)
	client.Transport = s.Client().Transport
	return &oauth.Client{Issuer: s.URL, ID: "peat", Secret: env.NewSecret("hush"), HTTP: client, Now: time.Now}
}

func ask(t *testing.T, c *oauth.Client) (oauth.Tokens, error) {
	t.Helper()
	m, err := c.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Ask(t.Context(), m, url.Values{"grant_type": {"g"}})
}

func TestWhatATokenEndpointMaySay(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		code   string // of the refusal
		ok     bool
	}{
		"a token":               {200, `{"access_token":"a","token_type":"bearer","expires_in":1e99}`, "", true},
		"without a life":        {200, `{"access_token":"a","token_type":"Bearer"}`, "", true},
		"no token":              {200, `{"token_type":"Bearer"}`, "", false},
		"another type":          {200, `{"access_token":"a","token_type":"mac"}`, "", false},
		"not JSON":              {200, `hush`, "", false},
		"far too long":          {200, `{"access_token":"a","token_type":"Bearer","x":"` + strings.Repeat("x", 300<<10) + `"}`, "", false},
		"no":                    {400, `{"error":"invalid_grant","error_description":"hush"}`, "invalid_grant", false},
		"no, in no known words": {400, `{"error":"a\nb"}`, "", false},
		"a redirect":            {307, ``, "", false},
		"out of order":          {500, `{"error":"invalid_grant"}`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := provider(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "https://evil.example/")
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			})
			got, err := ask(t, c)
			no, isNo := errors.AsType[*oauth.Refusal](err)
			switch {
			case tc.ok:
				if err != nil || got.Access.Reveal() != "a" || got.Life < 0 || got.Life > 366*24*time.Hour {
					t.Errorf("%s %v", got.Life, err)
				}
			case tc.code != "":
				if !isNo || no.Code != tc.code {
					t.Error(err)
				}
			default:
				if isNo || !errors.Is(err, fault.Unavailable) {
					t.Error(err)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("more is told than should be: %v", err)
			}
		})
	}
}

// TestTheSecretIsSentAsTheProviderTakesIt, and in the other way not at all.
func TestTheSecretIsSentAsTheProviderTakesIt(t *testing.T) {
	for name, tc := range map[string]struct {
		secret  string
		methods []string
		basic   bool
		post    string
	}{
		"by default":      {"a:b c%", nil, true, ""},
		"as it likes":     {"a:b c%", []string{"client_secret_post", "client_secret_basic"}, true, ""},
		"in the body":     {"a:b c%", []string{"client_secret_post"}, false, "a:b c%"},
		"a public client": {"", nil, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := provider(t, func(w http.ResponseWriter, r *http.Request) {
				_, secret, basic := r.BasicAuth()
				if plain, err := url.QueryUnescape(secret); err != nil || basic != tc.basic || basic && plain != tc.secret {
					t.Errorf("basic %v %q", basic, secret)
				}
				if got := r.PostFormValue("client_secret"); got != tc.post || r.PostFormValue("client_id") != "peat" {
					t.Errorf("in the body %q", got)
				}
				fmt.Fprint(w, `{"access_token":"a","token_type":"Bearer"}`)
			})
			c.Secret = env.NewSecret(tc.secret)
			m, err := c.Metadata(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			m.AuthMethods = tc.methods
			if _, err := c.Ask(t.Context(), m, url.Values{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEndpointsAreRemembered, for an hour, and longer while nobody answers.
func TestEndpointsAreRemembered(t *testing.T) {
	p := oauthtest.New(t)
	now := time.Now()
	c := &oauth.Client{Issuer: p.URL, HTTP: p.Server.Client(), Now: func() time.Time { return now }}
	const path = "/.well-known/openid-configuration"
	get := func(asked int) {
		t.Helper()
		m, err := c.Metadata(t.Context())
		if err != nil || m.Token != p.URL+"/token" || p.Asked(path) != asked {
			t.Errorf("%+v %v, asked %d times, want %d", m, err, p.Asked(path), asked)
		}
	}
	get(1)
	get(1)
	now = now.Add(2 * time.Hour)
	get(2)
	p.With(func() { p.Down = true })
	now = now.Add(2 * time.Hour)
	get(3)
	fresh := &oauth.Client{Issuer: p.URL, HTTP: p.Server.Client(), Now: time.Now}
	if _, err := fresh.Metadata(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}

// TestRedirectsAreNotFollowed: they would carry the secret wherever they like.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	c := provider(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	if _, err := ask(t, c); !errors.Is(err, fault.Unavailable) || elsewhere.Load() != 0 {
		t.Errorf("%v, %d requests elsewhere", err, elsewhere.Load())
	}
}

func TestAnErrorNamesNoAddress(t *testing.T) {
	p := oauthtest.New(t)
	p.Close()
	c := &oauth.Client{Issuer: p.URL, HTTP: p.Server.Client(), Now: time.Now}
	_, err := c.Metadata(t.Context())
	if err == nil || strings.Contains(err.Error(), p.URL) {
		t.Error(err)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://id.example","token_endpoint":"https://id.example/t"}`))
	f.Add([]byte(`{"issuer":"https://id.example","token_endpoint":"https:id.example"}`))
	issuer, err := oauth.ParseIssuer("https://id.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := oauth.ParseMetadata(body, issuer)
		if err != nil {
			return
		}
		for _, endpoint := range []string{m.Authorization, m.Token, m.EndSession, m.DeviceAuthorization} {
			if endpoint == "" {
				continue
			}
			if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" || u.Hostname() == "" && u.Host == "" {
				t.Errorf("%q may be used", endpoint)
			}
		}
	})
}
