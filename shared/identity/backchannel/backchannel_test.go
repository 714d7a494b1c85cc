package backchannel_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/backchannel"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func settings(private ...string) identity.Settings {
	s := identity.Settings{Patience: time.Minute, Now: time.Now}
	for _, p := range private {
		s.AllowPrivate = append(s.AllowPrivate, netip.MustParsePrefix(p))
	}
	return s
}

// get asks for an address; the text is what is told of a failure.
func get(t *testing.T, tls *backchannel.TLS, s identity.Settings, url string) (body, told string) {
	t.Helper()
	c, err := backchannel.New(tls, s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.Get(url)
	if err != nil {
		return "", backchannel.Describe(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", backchannel.Describe(err)
	}
	return string(b), ""
}

func TestWithoutTLSOnlyInside(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("here")) }))
	defer srv.Close()
	if body, told := get(t, nil, settings("127.0.0.0/8"), srv.URL); body != "here" {
		t.Errorf("inside: %q %q", body, told)
	}
	for name, s := range map[string]identity.Settings{"nothing is inside": settings(), "something else is": settings("10.0.0.0/8")} {
		if body, told := get(t, nil, s, srv.URL); body != "" || told == "" || strings.Contains(told, "127.") {
			t.Errorf("%s: %q %q", name, body, told)
		}
	}
	if _, err := backchannel.CheckURL("http://idp.example", nil); err == nil {
		t.Error("an address without TLS, and nothing is inside")
	}
	if _, err := backchannel.CheckURL("http://idp.example", settings("127.0.0.0/8").AllowPrivate); err != nil {
		t.Error(err)
	}
}

func TestWhatIsToldOfAFailure(t *testing.T) {
	i := identitytest.NewIssuer(t)
	i.Break("/long", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat("x", backchannel.MaxAnswer+1)))
	})
	i.Break("/full", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat("x", backchannel.MaxAnswer)))
	})
	i.Break("/secret", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		_, _ = w.Write([]byte("hush"))
	})
	i.Break("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/full", http.StatusFound) })
	own := &backchannel.TLS{CA: i.CA}
	for name, tc := range map[string]struct {
		tls  *backchannel.TLS
		url  string
		want string // is in what is told; empty: it is answered
	}{
		"as long as may be":          {own, i.URL + "/full", ""},
		"longer":                     {own, i.URL + "/long", "longer than 256 KiB"},
		"an error":                   {own, i.URL + "/secret", "500"},
		"a redirect":                 {own, i.URL + "/away", "not followed"},
		"an authority nobody named":  {nil, i.URL + "/full", "not known here"},
		"a name that does not exist": {own, "https://nobody.invalid/", "name"},
		"inside":                     {own, "https://169.254.169.254/", "may not be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			body, told := get(t, tc.tls, i.Settings(), tc.url)
			if (told == "") != (tc.want == "") || !strings.Contains(told, tc.want) || strings.Contains(told, "hush") || strings.Contains(told, "://") {
				t.Errorf("%d bytes, %q", len(body), told)
			}
		})
	}
	if i.Asked("/full") != 1 {
		t.Errorf("/full was asked for %d times: a redirect was followed", i.Asked("/full"))
	}
}

func TestAuthoritiesAreChecked(t *testing.T) {
	for name, ca := range map[string]string{
		"text": "hello", "another block": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "too long": strings.Repeat("x", 65<<10),
	} {
		if err := (&backchannel.TLS{CA: ca}).Check(); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (*backchannel.TLS)(nil).Check(); err != nil {
		t.Error(err)
	}
}
