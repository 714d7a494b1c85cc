package clientcert_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/clientcert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

const (
	proxy    = "10.0.0.1:4000"
	stranger = "203.0.113.9:4000"
)

// escape is how Envoy and nginx write PEM.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// issue makes a certificate, and says its hash.
func issue(t testing.TB, a *testenv.Authority, name string) (escaped, hash string) {
	t.Helper()
	cert, _ := a.Issue(t, name)
	block, _ := pem.Decode(cert)
	sum := sha256.Sum256(block.Bytes)
	return escape(string(cert)), hex.EncodeToString(sum[:])
}

// find asks for the certificate of a request. It also sees to it that what is behind
// finds no header that it could believe by mistake.
func find(t testing.TB, s clientcert.Source, from string, header http.Header, own *tls.ConnectionState) (names []string, err error) {
	t.Helper()
	h := s.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "client-cert") || strings.Contains(strings.ToLower(name), "ssl-client") {
				t.Errorf("the header %s was passed on", name)
			}
		}
		var chain []*x509.Certificate
		chain, err = clientcert.Of(r)
		for _, c := range chain {
			names = append(names, c.Subject.CommonName)
		}
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr, r.TLS = from, own
	for name, values := range header {
		r.Header[name] = values
	}
	h.ServeHTTP(httptest.NewRecorder(), r)
	return names, err
}

func TestOf(t *testing.T) {
	authority := testenv.NewAuthority(t)
	john, johnHash := issue(t, authority, "john")
	eve, eveHash := issue(t, authority, "eve")
	above := escape(string(authority.PEM))
	own := func(name string) *tls.ConnectionState {
		pair := authority.Client(t, name).Certificates[0]
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{pair.Leaf}}
	}
	proxies, err := web.ParseProxies("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	envoy := clientcert.Source{Proxies: proxies, Format: clientcert.Envoy}
	two := clientcert.Source{Proxies: proxies, Format: clientcert.Envoy, Hops: 2}
	nginx := clientcert.Source{Proxies: proxies, Format: clientcert.Nginx}
	none := clientcert.Source{Proxies: proxies}
	xfcc := func(values ...string) http.Header { return http.Header{"X-Forwarded-Client-Cert": values} }
	ssl := func(cert, verdict string) http.Header {
		h := http.Header{}
		if cert != "" {
			h.Set("ssl-client-cert", cert)
		}
		if verdict != "" {
			h.Set("ssl-client-verify", verdict)
		}
		return h
	}

	for name, tc := range map[string]struct {
		source clientcert.Source
		from   string
		header http.Header
		tls    *tls.ConnectionState
		want   string // the names of the chain; empty: none
		why    string // not empty: it is refused
	}{
		"nothing":                            {source: envoy, from: stranger},
		"a TLS connection":                   {source: envoy, from: stranger, tls: own("john"), want: "john"},
		"a TLS connection, nothing set":      {from: stranger, tls: own("john"), want: "john"},
		"a TLS connection without one":       {source: envoy, from: stranger, tls: &tls.ConnectionState{}},
		"a TLS connection of the proxy":      {source: envoy, from: proxy, tls: own("proxy")},
		"of a proxy, no header is set":       {source: none, from: proxy, tls: own("proxy")},
		"of a proxy, for another":            {source: envoy, from: proxy, tls: own("proxy"), header: xfcc("Cert=" + john), want: "john"},
		"cert":                               {source: envoy, from: proxy, header: xfcc("Cert=" + john), want: "john"},
		"cert, in quotes":                    {source: envoy, from: proxy, header: xfcc(`Cert="` + john + `"`), want: "john"},
		"chain":                              {source: envoy, from: proxy, header: xfcc("Chain=" + john + above), want: "john authority"},
		"all there is":                       {source: envoy, from: proxy, header: xfcc(`By=spiffe://a/b;Hash=` + johnHash + `;Cert="` + john + `";Chain="` + john + above + `";Subject="/C=US/O=a, b;c/CN=\"john\"";URI=spiffe://x/y;DNS=a.example;DNS=b.example`), want: "john authority"},
		"keys in small letters":              {source: envoy, from: proxy, header: xfcc("hash=" + johnHash + ";cert=" + john), want: "john"},
		"two proxies":                        {source: two, from: proxy, header: xfcc("Cert=" + john + ",By=spiffe://a/b;URI=spiffe://a/ingress"), want: "john"},
		"an empty header":                    {source: envoy, from: proxy, header: xfcc("")},
		"nginx":                              {source: nginx, from: proxy, header: ssl(john, "SUCCESS"), want: "john"},
		"nginx, which knows no authority":    {source: nginx, from: proxy, header: ssl(john, "FAILED:unable to verify the first certificate"), want: "john"},
		"nginx, nobody showed any":           {source: nginx, from: proxy, header: ssl("", "NONE")},
		"nginx, not set":                     {source: nginx, from: proxy, header: ssl("", "")},
		"nginx, and an Envoy's header":       {source: nginx, from: proxy, header: xfcc("Cert=" + eve)},
		"envoy, and an nginx's header":       {source: envoy, from: proxy, header: ssl(eve, "SUCCESS")},
		"forged by a stranger":               {source: envoy, from: stranger, header: xfcc("Cert=" + john), why: "came from somebody else"},
		"forged by a stranger with his own":  {source: envoy, from: stranger, tls: own("eve"), header: xfcc("Cert=" + john), why: "came from somebody else"},
		"forged, empty":                      {source: envoy, from: stranger, tls: own("eve"), header: xfcc(""), why: "came from somebody else"},
		"forged, of the other kind":          {source: envoy, from: stranger, header: ssl(john, "SUCCESS"), why: "came from somebody else"},
		"forged, no proxy is set":            {from: stranger, header: xfcc("Cert=" + john), why: "came from somebody else"},
		"forged, over a Unix socket":         {source: envoy, from: "@", header: xfcc("Cert=" + john), why: "came from somebody else"},
		"forged, with a proxy's address":     {source: envoy, from: stranger, header: http.Header{"X-Forwarded-Client-Cert": {"Cert=" + john}, "X-Forwarded-For": {"10.0.0.1"}}, why: "came from somebody else"},
		"a proxy nobody set up for it":       {source: none, from: proxy, header: xfcc("Cert=" + john), why: "is not set"},
		"doubled":                            {source: envoy, from: proxy, header: xfcc("Cert="+john, "Cert="+eve), why: "there twice"},
		"doubled, both the same":             {source: envoy, from: proxy, header: xfcc("Cert="+john, "Cert="+john), why: "there twice"},
		"doubled, the second empty":          {source: envoy, from: proxy, header: xfcc("Cert="+john, ""), why: "there twice"},
		"passed on by a proxy that appends":  {source: envoy, from: proxy, header: xfcc("Cert=" + john + ",Cert=" + eve), why: "2 parts, and 1 proxies"},
		"passed on by the first of two":      {source: two, from: proxy, header: xfcc("Cert=" + john + ",Cert=" + eve + ",By=spiffe://a/b"), why: "3 parts, and 2 proxies"},
		"passed on by the only one of two":   {source: two, from: proxy, header: xfcc("Cert=" + john), why: "1 parts, and 2 proxies"},
		"an empty part before":               {source: envoy, from: proxy, header: xfcc(",Cert=" + john), why: "cannot be read"},
		"a part hidden in a quote":           {source: envoy, from: proxy, header: xfcc(`Subject="a,Cert=` + eve + `";Cert=` + john), want: "john"},
		"a quote that does not end":          {source: envoy, from: proxy, header: xfcc(`Subject="a;Cert=` + john), why: "cannot be read"},
		"a quote in the middle":              {source: envoy, from: proxy, header: xfcc(`Subject=a"b;Cert=` + john), why: "cannot be read"},
		"something behind a quote":           {source: envoy, from: proxy, header: xfcc(`Subject="a"b;Cert=` + john), why: "cannot be read"},
		"an escape at the end":               {source: envoy, from: proxy, header: xfcc(`Subject="a\`), why: "cannot be read"},
		"the certificate twice":              {source: envoy, from: proxy, header: xfcc("Cert=" + john + ";Cert=" + eve), why: "something twice"},
		"the certificate twice, other case":  {source: envoy, from: proxy, header: xfcc("Cert=" + john + ";cert=" + eve), why: "something twice"},
		"another's hash":                     {source: envoy, from: proxy, header: xfcc("Hash=" + eveHash + ";Cert=" + john), why: "Hash is not that"},
		"another's chain":                    {source: envoy, from: proxy, header: xfcc("Cert=" + john + ";Chain=" + eve + above), why: "different callers"},
		"hash alone":                         {source: envoy, from: proxy, header: xfcc("Hash=" + johnHash + `;Subject="/CN=john"`), why: "does not forward it"},
		"an unknown field":                   {source: envoy, from: proxy, header: xfcc("Cert=" + john + ";Admin=true"), why: "not known"},
		"two certificates as one":            {source: envoy, from: proxy, header: xfcc("Cert=" + john + above), why: "more than one"},
		"a key":                              {source: envoy, from: proxy, header: xfcc("Cert=" + escape("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), why: "not a certificate in PEM"},
		"text before it":                     {source: envoy, from: proxy, header: xfcc("Cert=x" + john), why: "not a certificate in PEM"},
		"text behind it":                     {source: envoy, from: proxy, header: xfcc("Cert=" + john + "x"), why: "not a certificate in PEM"},
		"PEM of nonsense":                    {source: envoy, from: proxy, header: xfcc("Cert=" + escape("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), why: "cannot be read"},
		"a bad escape":                       {source: envoy, from: proxy, header: xfcc("Cert=%zz"), why: "not URL-encoded"},
		"an empty certificate":               {source: envoy, from: proxy, header: xfcc(`Cert=" "`), why: "it is empty"},
		"far too long":                       {source: envoy, from: proxy, header: xfcc("Subject=" + strings.Repeat("a", 70<<10)), why: "longer than 64 KiB"},
		"far too many parts":                 {source: envoy, from: proxy, header: xfcc(strings.Repeat("DNS=a,", 1000) + "DNS=a"), why: "more than 8 parts"},
		"far too many fields":                {source: envoy, from: proxy, header: xfcc(strings.Repeat("DNS=a;", 1000) + "DNS=a"), why: "too many fields"},
		"far too many certificates":          {source: envoy, from: proxy, header: xfcc("Chain=" + strings.Repeat(john, 11)), why: "more than 10"},
		"nginx, a caller's own header":       {source: nginx, from: proxy, header: ssl(john, ""), why: "does not say that it was shown it"},
		"nginx, nobody showed it":            {source: nginx, from: proxy, header: ssl(john, "NONE"), why: "does not say that it was shown it"},
		"nginx, doubled":                     {source: nginx, from: proxy, header: http.Header{"Ssl-Client-Cert": {john, eve}, "Ssl-Client-Verify": {"SUCCESS"}}, why: "there twice"},
		"nginx, two verdicts":                {source: nginx, from: proxy, header: http.Header{"Ssl-Client-Cert": {john}, "Ssl-Client-Verify": {"NONE", "SUCCESS"}}, why: "there twice"},
		"nginx, a chain":                     {source: nginx, from: proxy, header: ssl(john+above, "SUCCESS"), why: "more than one"},
		"nginx, it does not forward":         {source: nginx, from: proxy, header: ssl("", "SUCCESS"), why: "auth-tls-pass-certificate-to-upstream"},
		"a TLS connection with far too many": {source: envoy, from: stranger, tls: &tls.ConnectionState{PeerCertificates: make([]*x509.Certificate, 11)}, why: "too many"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := find(t, tc.source, tc.from, tc.header, tc.tls)
			if tc.why != "" {
				if !errors.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), tc.why) {
					t.Errorf("got %v, %v; want %q", got, err, tc.why)
				}
				return
			}
			if err != nil || strings.Join(got, " ") != tc.want {
				t.Errorf("got %v, %v; want %q", got, err, tc.want)
			}
		})
	}
	if chain, err := clientcert.Of(httptest.NewRequest("GET", "/", nil)); chain != nil || err != nil {
		t.Errorf("without Wrap: %v, %v", chain, err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	if chain, err := clientcert.Of(r.WithContext(clientcert.With(r.Context(), own("john").PeerCertificates))); err != nil || len(chain) != 1 {
		t.Errorf("With: %v, %v", chain, err)
	}
}

func TestParseFormat(t *testing.T) {
	for text, want := range map[string]clientcert.Format{"": clientcert.None, "none": clientcert.None, "envoy": clientcert.Envoy, "nginx": clientcert.Nginx} {
		if got, err := clientcert.ParseFormat(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := clientcert.ParseFormat("Envoy"); err == nil {
		t.Error("Envoy: no error")
	}
}

// Nothing that a proxy passes on by mistake ends the process, and what is taken is a
// certificate that the header holds.
func FuzzForwarded(f *testing.F) {
	authority := testenv.NewAuthority(f)
	john, hash := issue(f, authority, "john")
	f.Add("Cert="+john, "", "")
	f.Add("Hash="+hash+`;Chain="`+john+`";Subject="a\"b,c"`, "", "")
	f.Add("By=a,By=b;URI=c", john, "SUCCESS")
	f.Add(`Subject="\`, john, "FAILED:x")
	proxies, err := web.ParseProxies("10.0.0.0/8")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, xfcc, cert, verdict string) {
		header := http.Header{"X-Forwarded-Client-Cert": {xfcc}, "Ssl-Client-Cert": {cert}, "Ssl-Client-Verify": {verdict}}
		for _, format := range []clientcert.Format{clientcert.Envoy, clientcert.Nginx} {
			s := clientcert.Source{Proxies: proxies, Format: format}
			names, err := find(t, s, proxy, header, nil)
			if err != nil && (len(names) > 0 || !errors.Is(err, fault.Unauthenticated)) {
				t.Errorf("%s: %v, %v", format, names, err)
			}
			if names, err := find(t, s, stranger, header, nil); err == nil || len(names) > 0 {
				t.Errorf("%s: a stranger was believed: %v, %v", format, names, err)
			}
		}
	})
}
