package httptarget

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// bank is a token server and the receiver that wants its tokens.
type bank struct {
	url string

	mu      sync.Mutex
	issued  int
	valid   string // what the receiver takes
	answer  func(w http.ResponseWriter)
	form    map[string][]string
	refused int // requests to the receiver with another token
	taken   int
	now     time.Time
}

func newBank(t *testing.T) *bank {
	b := &bank{now: drivertest.Start}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", b.token)
	mux.HandleFunc("POST /hook", b.hook)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	b.url = srv.URL
	return b
}

func (b *bank) token(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = r.ParseForm()
	b.form = r.PostForm
	user, password, _ := r.BasicAuth()
	b.issued++
	switch {
	case b.answer != nil:
		b.answer(w)
	case user != "me" || password != "hush":
		w.WriteHeader(http.StatusUnauthorized)
	default:
		b.valid = fmt.Sprint("token-", b.issued)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": b.valid, "token_type": "bearer", "expires_in": 600})
	}
}

func (b *bank) hook(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+b.valid || b.valid == "" {
		b.refused++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	b.taken++
}

func (b *bank) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *bank) target(t *testing.T, change func(c *Config)) *Target {
	t.Helper()
	c := Config{URL: b.url + "/hook", OAuth2: &OAuth2{
		TokenURL: b.url + "/token?tenant=hidden", ClientID: "me", ClientSecret: "hush", Scopes: []string{"write", "read"}, Audience: "https://hook",
	}}
	if change != nil {
		change(&c)
	}
	s := settings
	s.Now = func() time.Time { b.mu.Lock(); defer b.mu.Unlock(); return b.now }
	return target(t, c, s)
}

func TestTokens(t *testing.T) {
	b := newBank(t)
	tg := b.target(t, nil)
	want := func(step string, issued, taken, refused int) {
		t.Helper()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.issued != issued || b.taken != taken || b.refused != refused {
			t.Fatalf("%s: %d tokens, %d taken, %d refused", step, b.issued, b.taken, b.refused)
		}
	}
	deliver := func() {
		t.Helper()
		if out := post(t.Context(), tg); out.Verdict != driver.Delivered {
			t.Fatalf("%+v", out)
		}
	}
	// Many at once need one token.
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if out := post(t.Context(), tg); out.Verdict != driver.Delivered {
				t.Errorf("%+v", out)
			}
		})
	}
	wg.Wait()
	want("at once", 1, 20, 0)
	b.mu.Lock()
	form := fmt.Sprint(b.form)
	b.mu.Unlock()
	if form != "map[audience:[https://hook] grant_type:[client_credentials] scope:[write read]]" {
		t.Error(form)
	}
	b.set(func() { b.now = drivertest.Start.Add(9 * time.Minute) })
	deliver()
	want("still good", 1, 21, 0)
	b.set(func() { b.now = drivertest.Start.Add(10*time.Minute - 15*time.Second) })
	deliver()
	want("shortly before its end", 2, 22, 0)
	b.set(func() { b.valid = "withdrawn" })
	deliver()
	want("withdrawn", 3, 23, 1)
	b.set(func() {
		b.valid = "withdrawn"
		b.answer = func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"useless","token_type":"bearer"}`)
		}
	})
	if out := post(t.Context(), tg); out.Verdict != driver.Retry || !out.Unreachable || out.Status != "401" {
		t.Fatalf("%+v", out)
	}
	want("no better token", 4, 23, 3)
}

func TestTokensThatCannotBeHad(t *testing.T) {
	says := func(status int, contentType, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	inJSON := func(body string) func(http.ResponseWriter) { return says(200, "application/json", body) }
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		change func(c *Config)
		want   string
	}{
		"wrong secret":      {change: func(c *Config) { c.OAuth2.ClientSecret = "hush-wrong" }, want: "the token server answered 401 Unauthorized"},
		"an error":          {answer: says(400, "application/json", `{"error":"invalid_client","error_description":"hush"}`), want: "the token server answered 400 Bad Request"},
		"an error with 200": {answer: inJSON(`{"error":"hush"}`), want: errNoToken.Error()},
		"a redirect":        {answer: says(302, "text/html", "hush"), want: "the token server answered 302 Found"},
		"not JSON":          {answer: inJSON("hush"), want: errNoToken.Error()},
		"no token":          {answer: inJSON("{}"), want: errNoToken.Error()},
		"another type":      {answer: inJSON(`{"access_token":"hush","token_type":"mac"}`), want: errNoToken.Error()},
		"a line end in it":  {answer: inJSON(`{"access_token":"hush\r\nX: y","token_type":"bearer"}`), want: errNoToken.Error()},
		"a long one":        {answer: inJSON(`{"access_token":"` + strings.Repeat("hush", 5000) + `","token_type":"bearer"}`), want: errNoToken.Error()},
		"nobody there":      {change: func(c *Config) { c.OAuth2.TokenURL = "http://127.0.0.1:1/?hush" }, want: "the token server: dial: connect: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(t)
			b.answer = tc.answer
			tg := b.target(t, tc.change)
			out := post(t.Context(), tg)
			if out.Verdict != driver.Retry || !out.Unreachable || out.Reason != tc.want || b.taken+b.refused != 0 {
				t.Fatalf("%+v", out)
			}
			// It recovers by itself.
			b.set(func() { b.answer = nil })
			if tc.change == nil {
				if out := post(t.Context(), tg); out.Verdict != driver.Delivered {
					t.Errorf("%+v", out)
				}
			}
		})
	}
}

// A delivery that is called off while it asks for a token is no failure of those
// that wait for the same token.
func TestATokenThatOneNoLongerWants(t *testing.T) {
	b := newBank(t)
	asked, release := make(chan struct{}), make(chan struct{})
	first := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first { // by turns: nobody else asks meanwhile
			first = false
			close(asked)
			<-release
			return
		}
		b.token(w, r)
	}))
	defer srv.Close()
	tg := b.target(t, func(c *Config) { c.OAuth2.TokenURL = srv.URL })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if out := post(ctx, tg); out != (driver.Outcome{}) {
			t.Errorf("%+v", out)
		}
	})
	<-asked
	wg.Go(func() {
		if out := post(t.Context(), tg); out.Verdict != driver.Delivered {
			t.Errorf("%+v", out)
		}
	})
	cancel()
	close(release)
	wg.Wait()
}

// The token's address is guarded like the receiver's.
func TestTokensFromInside(t *testing.T) {
	b := newBank(t)
	s := settings
	s.AllowPrivate = nil
	local := strings.Replace(b.url, "127.0.0.1", "localhost", 1)
	tg := target(t, Config{URL: "https://example.com", OAuth2: &OAuth2{TokenURL: local + "/token", ClientID: "me", ClientSecret: "hush"}}, s)
	out := post(t.Context(), tg)
	if out.Verdict != driver.Retry || !out.Unreachable || out.Reason != "the token server: "+netguard.ErrForbidden.Error() || b.issued != 0 {
		t.Errorf("%+v", out)
	}
}

// A token server behind the receiver's own authority is trusted too, and is shown
// no certificate of ours.
func TestTokensOverTLS(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	cert, key := ca.Issue("gateway", time.Now().AddDate(1, 0, 0))
	b := newBank(t)
	var shown int
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown += len(r.TLS.PeerCertificates)
		if r.URL.Path == "/token" {
			b.token(w, r)
		} else {
			b.hook(w, r)
		}
	}))
	srv.TLS = ca.Server(false)
	srv.TLS.ClientAuth = tls.RequestClientCert
	srv.StartTLS()
	defer srv.Close()
	b.url = srv.URL
	tg := b.target(t, func(c *Config) { c.TLS = &driver.TLSConfig{CA: ca.PEM, ClientCert: cert, ClientKey: key} })
	if out := post(t.Context(), tg); out.Verdict != driver.Delivered || shown != 1 {
		t.Errorf("%+v, %d certificates", out, shown)
	}
}

func FuzzOAuth2(f *testing.F) {
	f.Add("https://id.example.com/token", "me", "hush", "read", "https://api")
	f.Add("http://[::1]/", "", "[sealed]", "a b", "")
	f.Fuzz(func(t *testing.T, tokenURL, id, secret, scope, audience string) {
		c := Config{URL: "https://example.com", OAuth2: &OAuth2{TokenURL: tokenURL, ClientID: id, ClientSecret: secret, Scopes: []string{scope}, Audience: audience}}
		s := driver.Settings{Now: time.Now, AttemptTimeout: time.Second}
		secrets, err := c.Parse(Secrets{}, s)
		if err != nil {
			return
		}
		if c.OAuth2.ClientSecret != driver.Sealed || secrets.ClientSecret != secret {
			t.Errorf("%q is shown as %q and kept as %q", secret, c.OAuth2.ClientSecret, secrets.ClientSecret)
		}
		if _, err := c.Open(secrets, s, refuse); err != nil {
			t.Error(err)
		}
	})
}
