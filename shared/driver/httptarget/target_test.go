package httptarget

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func refuse(int) driver.Outcome { return driver.Outcome{Verdict: driver.Refused} }

var settings = driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: 20 * time.Second, Now: time.Now}

// target parses and opens a configuration.
func target(t testing.TB, c Config, s driver.Settings) *Target {
	t.Helper()
	secrets, err := c.Parse(Secrets{}, s)
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Open(secrets, s, refuse)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	return out
}

func post(ctx context.Context, t *Target) driver.Outcome {
	return t.Post(ctx, t.Header(), []byte("{}"))
}

// serveTLS starts a server with the authority's certificate that says which
// protocol was spoken, and to whom.
func serveTLS(t *testing.T, ca *drivertest.Authority, mutual bool) (url string, seen func() string) {
	t.Helper()
	var got atomic.Value
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		who := ""
		if len(r.TLS.PeerCertificates) > 0 {
			who = " " + r.TLS.PeerCertificates[0].Subject.CommonName
		}
		got.Store(r.Proto + who)
	}))
	srv.TLS, srv.EnableHTTP2 = ca.Server(mutual), true
	srv.Config.ErrorLog = silent()
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL, func() string { s, _ := got.Load().(string); return s }
}

func TestTargetOverTLS(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	cert, key := ca.Issue("gateway", time.Now().AddDate(1, 0, 0))
	for name, tc := range map[string]struct {
		tls    *driver.TLSConfig
		mutual bool
		seen   string
		says   string
	}{
		"an authority nobody knows": {says: "certificate signed by unknown authority"},
		"its own authority":         {tls: &driver.TLSConfig{CA: ca.PEM}, seen: "HTTP/2.0"},
		"a certificate of ours":     {tls: &driver.TLSConfig{CA: ca.PEM, ClientCert: cert, ClientKey: key}, mutual: true, seen: "HTTP/2.0 gateway"},
		"no certificate of ours":    {tls: &driver.TLSConfig{CA: ca.PEM}, mutual: true}, // which it is told only after the handshake, in one of several ways,
		"another name":              {tls: &driver.TLSConfig{CA: ca.PEM, ServerName: "elsewhere.example"}, says: "not elsewhere.example"},
	} {
		t.Run(name, func(t *testing.T) {
			url, seen := serveTLS(t, ca, tc.mutual)
			out := post(t.Context(), target(t, Config{URL: url, TLS: tc.tls}, settings))
			if ok := tc.seen != ""; ok != (out.Verdict == driver.Delivered) || !ok && (out.Verdict != driver.Retry || out.Reason == "" || !strings.Contains(out.Reason, tc.says)) {
				t.Errorf("%+v", out)
			}
			if seen() != tc.seen {
				t.Errorf("it saw %q, want %q", seen(), tc.seen)
			}
		})
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	cert, _ := ca.Issue("gateway", time.Now().AddDate(1, 0, 0))
	oauth := func(change func(*OAuth2)) Config {
		o := &OAuth2{TokenURL: "https://id.example.com/token", ClientID: "me", ClientSecret: "hush"}
		change(o)
		return Config{URL: "https://example.com", OAuth2: o}
	}
	many := map[string]string{}
	for i := range 21 {
		many[fmt.Sprint("X-", i)] = "x"
	}
	for name, tc := range map[string]struct {
		c     Config
		field string
	}{
		"no URL":                 {Config{}, "url"},
		"a URL that is long":     {Config{URL: "https://example.com/" + strings.Repeat("x", 2048)}, "url"},
		"TLS without TLS":        {Config{URL: "http://example.com", TLS: &driver.TLSConfig{}}, "tls"},
		"half a pair":            {Config{URL: "https://example.com", TLS: &driver.TLSConfig{ClientCert: cert}}, "tls/client_key_pem"},
		"a token from inside":    {oauth(func(o *OAuth2) { o.TokenURL = "http://169.254.169.254/token" }), "oauth2/token_url"},
		"a token from nowhere":   {oauth(func(o *OAuth2) { o.TokenURL = "" }), "oauth2/token_url"},
		"no client":              {oauth(func(o *OAuth2) { o.ClientID = "" }), "oauth2/client_id"},
		"no secret":              {oauth(func(o *OAuth2) { o.ClientSecret = "" }), "oauth2/client_secret"},
		"a secret that was none": {oauth(func(o *OAuth2) { o.ClientSecret = driver.Sealed }), "oauth2/client_secret"},
		"a long secret":          {oauth(func(o *OAuth2) { o.ClientSecret = strings.Repeat("x", 4097) }), "oauth2/client_secret"},
		"an empty scope":         {oauth(func(o *OAuth2) { o.Scopes = []string{""} }), "oauth2/scopes"},
		"two scopes in one":      {oauth(func(o *OAuth2) { o.Scopes = []string{"a b"} }), "oauth2/scopes"},
		"many scopes":            {oauth(func(o *OAuth2) { o.Scopes = make([]string, 21) }), "oauth2/scopes"},
		"a long audience":        {oauth(func(o *OAuth2) { o.Audience = strings.Repeat("x", 2049) }), "oauth2/audience"},
		"many headers":           {Config{URL: "https://example.com", Headers: many}, "headers"},
		"a long value":           {Config{URL: "https://example.com", Headers: map[string]string{"X": strings.Repeat("x", 4097)}}, "headers/X"},
		"one header twice":       {Config{URL: "https://example.com", Headers: map[string]string{"X-a": "1", "x-A": "2"}}, "headers"},
		"ours":                   {Config{URL: "https://example.com", Headers: map[string]string{"Ours-x": "1"}}, "headers/Ours-x"},
		"the token's own header": {func() Config {
			c := oauth(func(*OAuth2) {})
			c.Headers = map[string]string{"authorization": "x"}
			return c
		}(), "headers/authorization"},
		"a header about connection": {Config{URL: "https://example.com", Headers: map[string]string{"TE": "x"}}, "headers/TE"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.c.Parse(Secrets{}, driver.Settings{Now: time.Now}, "ours-")
			f := fault.Of(err)
			if !errors.Is(err, fault.Invalid) || !strings.HasPrefix(f.Fields[0].Pointer, "/config/"+tc.field) || strings.Contains(err.Error(), "hush") {
				t.Errorf("%v", err)
			}
		})
	}
}

// What is shown and sent back changes nothing; what is given anew does.
func TestSecretsStayWhatTheyWere(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	cert, key := ca.Issue("gateway", time.Now().AddDate(1, 0, 0))
	c := Config{
		URL: "https://example.com", Headers: map[string]string{"X-Token": "hush", "X-Other": "hush too"}, TLS: &driver.TLSConfig{ClientCert: cert, ClientKey: key},
		OAuth2: &OAuth2{TokenURL: "https://id.example.com/token", ClientID: "me", ClientSecret: "hush three"},
	}
	first, err := c.Parse(Secrets{}, driver.Settings{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(c)
	if err != nil || strings.Contains(string(shown), "hush") || strings.Contains(string(shown), "PRIVATE") {
		t.Fatalf("%s %v", shown, err)
	}
	var back Config
	if err := json.Unmarshal(shown, &back); err != nil {
		t.Fatal(err)
	}
	back.Headers["X-Other"] = "new"
	again, err := back.Parse(first, driver.Settings{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if again.Headers["X-Token"] != "hush" || again.Headers["X-Other"] != "new" || again.ClientKey != key || again.ClientSecret != "hush three" {
		t.Errorf("%v", again.Headers)
	}
}

// A receiver that cannot be reached is not tried once per document.
func TestNothingMoreIsTriedWhenNobodyIsThere(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	tg := target(t, Config{URL: srv.URL}, settings)
	var tried atomic.Int32
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("d%d/1", i))
	}
	outs := tg.Deliver(t.Context(), drivertest.Events(names...), drivertest.Soon(), func(ctx context.Context, _ driver.Event) driver.Outcome {
		tried.Add(1)
		return post(ctx, tg)
	})
	if got := drivertest.Verdicts(outs); tried.Load() > firstAtOnce || strings.Trim(got, "ru") != "" || !strings.Contains(got, "r") {
		t.Errorf("%d requests: %s", tried.Load(), got)
	}
}

func TestPace(t *testing.T) {
	tg := target(t, Config{URL: "https://example.com"}, settings)
	status := driver.Outcome{Verdict: driver.Delivered}
	most := 0
	deliver := func(documents int) int {
		var names []string
		for i := range documents {
			names = append(names, fmt.Sprintf("d%d/1", i))
		}
		var mu sync.Mutex
		now := 0
		most = 0
		tg.Deliver(t.Context(), drivertest.Events(names...), drivertest.Soon(), func(context.Context, driver.Event) driver.Outcome {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			mu.Lock()
			defer mu.Unlock()
			now--
			return status
		})
		return tg.pace.atOnce()
	}
	for step, tc := range []struct {
		answer    string
		documents int
		want      int
	}{
		{"", 3, 16}, {"", 100, 32}, {"", 100, 64}, {"", 100, 64}, {"400", 100, 64}, {"500", 100, 64}, {"429", 100, 32}, {"503", 2, 16}, {"", 100, 32},
		{"429", 9, 16}, {"429", 9, 8}, {"429", 9, 4}, {"429", 9, 2}, {"429", 9, 1}, {"429", 9, 1}, {"", 9, 2},
	} {
		before := tg.pace.atOnce()
		status = driver.Outcome{Verdict: driver.Retry, Status: tc.answer}
		switch tc.answer {
		case "":
			status = driver.Outcome{Verdict: driver.Delivered}
		case "400":
			status = driver.Outcome{Verdict: driver.Refused, Status: "400"}
		}
		if got := deliver(tc.documents); got != tc.want {
			t.Fatalf("step %d: %d at once, want %d", step, got, tc.want)
		}
		if most > before {
			t.Fatalf("step %d: %d were under way, where %d may be", step, most, before)
		}
	}
}

func TestAssess(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	secure, _ := serveTLS(t, ca, false)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodOptions {
			t.Errorf("it got a %s", r.Method)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer plain.Close()
	later := settings
	later.Now = func() time.Time { return time.Now().AddDate(1, 0, -3) }
	for name, tc := range map[string]struct {
		c     Config
		s     driver.Settings
		grade driver.Grade
		says  []string
	}{
		"over TLS":                 {Config{URL: secure, TLS: &driver.TLSConfig{CA: ca.PEM}}, settings, "B", []string{"says nothing of how"}},
		"with an old certificate":  {Config{URL: secure, TLS: &driver.TLSConfig{CA: ca.PEM}}, later, "B", []string{"the target's certificate expires on"}},
		"in plain, and in trouble": {Config{URL: plain.URL}, settings, "D", []string{"unencrypted", "503"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := target(t, tc.c, tc.s).Assess(t.Context())
			if err != nil || d.Grade != tc.grade {
				t.Fatalf("%+v %v", d, err)
			}
			for _, want := range tc.says {
				if !strings.Contains(strings.Join(d.Reasons, "; "), want) {
					t.Errorf("%q lacks %q", d.Reasons, want)
				}
			}
		})
	}
	if d, err := target(t, Config{URL: secure + "?token=hush"}, settings).Assess(t.Context()); err == nil || strings.Contains(err.Error(), "hush") || d.Grade != "" {
		t.Errorf("%+v %v", d, err)
	}
}
