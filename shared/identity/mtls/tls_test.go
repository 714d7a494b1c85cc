package mtls_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls/mtlstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/clientcert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// gate answers whom a request is from.
func gate(s clientcert.Source, v identity.Verifier) http.Handler {
	return s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chain, err := clientcert.Of(r)
		if err == nil {
			var claims identity.Claims
			if claims, err = v.Verify(r.Context(), identity.Proof{Chain: chain}, time.Now()); err == nil {
				_, _ = io.WriteString(w, claims.Subject)
				return
			}
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, err.Error())
	}))
}

// listen serves with TLS, and asks clients for a certificate of whomever.
func listen(t *testing.T, h http.Handler) (address string, roots *x509.CertPool) {
	t.Helper()
	authority := testenv.NewAuthority(t)
	pair, err := tls.X509KeyPair(authority.Issue(t, "gateway", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, authority.Pool()
}

func call(t *testing.T, address string, config *tls.Config, header http.Header) (int, string, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestOverTLS(t *testing.T) {
	root := mtlstest.NewRoot(t, "root")
	issuing := root.Under(t, mtlstest.Request{Subject: "/CN=issuing"})
	john, eve := issuing.Issue(t, mtlstest.Request{Subject: john}), issuing.Issue(t, mtlstest.Request{Subject: "/CN=EVIL.EVE.E.6666666666"})
	stranger := mtlstest.NewRoot(t, "root").Issue(t, mtlstest.Request{Subject: "/CN=DOE.JOHN.Q.1234567890"})
	v := open(t, object{"ca_pem": bundle(root)})
	loopback, err := web.ParseProxies("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	forged := http.Header{"X-Forwarded-Client-Cert": {"Cert=" + escaped(john.CertPEM) + ";Chain=" + escaped(append(john.CertPEM, issuing.PEM...))}}
	// Somebody who has the certificate and not its key, as all have who have seen it.
	stolen := john.TLS(t, issuing)
	if stolen.PrivateKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	direct, roots := listen(t, gate(clientcert.Source{}, v))

	for name, tc := range map[string]struct {
		with   []tls.Certificate
		header http.Header
		most   uint16
		status int // 0: the handshake fails
		says   string
	}{
		"with the card":                    {with: []tls.Certificate{john.TLS(t, issuing)}, status: 200, says: "1234567890"},
		"with the card, in TLS 1.2":        {with: []tls.Certificate{john.TLS(t, issuing)}, most: tls.VersionTLS12, status: 200, says: "1234567890"},
		"with another's card":              {with: []tls.Certificate{eve.TLS(t, issuing)}, status: 200, says: "6666666666"},
		"with nothing":                     {status: 401, says: "none was shown"},
		"without the authority between":    {with: []tls.Certificate{john.TLS(t)}, status: 401, says: "none of the provider's authorities"},
		"with a stranger's":                {with: []tls.Certificate{stranger.TLS(t)}, status: 401, says: "none of the provider's authorities"},
		"with a forged header":             {header: forged, status: 401, says: "came from somebody else"},
		"with a forged header and a card":  {with: []tls.Certificate{eve.TLS(t, issuing)}, header: forged, status: 401, says: "came from somebody else"},
		"with a card whose key is another": {with: []tls.Certificate{stolen}},
		"the same, in TLS 1.2":             {with: []tls.Certificate{stolen}, most: tls.VersionTLS12},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, err := call(t, direct, &tls.Config{RootCAs: roots, Certificates: tc.with, MaxVersion: tc.most}, tc.header)
			switch {
			case tc.status == 0 && err == nil:
				t.Errorf("somebody without the key was let in: %d %s", status, body)
			case tc.status != 0 && (err != nil || status != tc.status || !strings.Contains(body, tc.says)):
				t.Errorf("got %d %q %v", status, body, err)
			}
		})
	}

	// Behind a proxy that ends TLS and says whom it saw, as Envoy does with SANITIZE_SET,
	// and one that passes on what callers send, as it does with APPEND_FORWARD.
	behind := httptest.NewServer(gate(clientcert.Source{Proxies: loopback, Format: clientcert.Envoy}, v))
	t.Cleanup(behind.Close)
	for name, tc := range map[string]struct {
		appends bool
		with    []tls.Certificate
		header  http.Header
		status  int
		says    string
	}{
		"a proxy":                                  {with: []tls.Certificate{john.TLS(t, issuing)}, status: 200, says: "1234567890"},
		"a proxy, with nothing":                    {status: 401, says: "none was shown"},
		"a proxy, with a forged header":            {header: forged, status: 401, says: "none was shown"},
		"a proxy, with a forged header and a card": {with: []tls.Certificate{eve.TLS(t, issuing)}, header: forged, status: 200, says: "6666666666"},
		"one that appends":                         {appends: true, with: []tls.Certificate{john.TLS(t, issuing)}, status: 200, says: "1234567890"},
		"one that appends, with a forged header":   {appends: true, with: []tls.Certificate{eve.TLS(t, issuing)}, header: forged, status: 401, says: "may be the caller's own"},
	} {
		t.Run(name, func(t *testing.T) {
			address, roots := listen(t, envoyLike(t, behind.URL, tc.appends))
			status, body, err := call(t, address, &tls.Config{RootCAs: roots, Certificates: tc.with}, tc.header)
			if err != nil || status != tc.status || !strings.Contains(body, tc.says) {
				t.Errorf("got %d %q %v", status, body, err)
			}
		})
	}
}

// escaped is PEM as Envoy writes it.
func escaped(text []byte) string {
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

// envoyLike is a proxy that forwards who called it.
func envoyLike(t *testing.T, to string, appends bool) http.Handler {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	const name = "X-Forwarded-Client-Cert"
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		var parts []string
		if appends {
			parts = r.In.Header.Values(name)
		}
		r.Out.Header.Del(name)
		if shown := r.In.TLS.PeerCertificates; len(shown) > 0 {
			var all []byte
			for _, cert := range shown {
				all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
			}
			first := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shown[0].Raw})
			parts = append(parts, `Subject="CN=\"x\", y";Cert="`+escaped(first)+`";Chain="`+escaped(all)+`"`)
		}
		if len(parts) > 0 {
			r.Out.Header.Set(name, strings.Join(parts, ","))
		}
	}}
}
