package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

func TestTransportSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		set   map[string]string
		wrong string // which variable; empty: none
	}{
		"nothing":                         {nil, ""},
		"proxies":                         {map[string]string{"PEAT_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1"}, ""},
		"proxies that are everybody":      {map[string]string{"PEAT_TRUSTED_PROXIES": "0.0.0.0/0"}, "PEAT_TRUSTED_PROXIES"},
		"proxies by name":                 {map[string]string{"PEAT_TRUSTED_PROXIES": "ingress"}, "PEAT_TRUSTED_PROXIES"},
		"a header, and from whom":         {map[string]string{"PEAT_TRUSTED_PROXIES": "10.0.0.0/8", "PEAT_CLIENT_CERT_HEADER": "envoy", "PEAT_CLIENT_CERT_HOPS": "2"}, ""},
		"a header from nobody":            {map[string]string{"PEAT_CLIENT_CERT_HEADER": "envoy"}, "PEAT_CLIENT_CERT_HEADER"},
		"an unknown header":               {map[string]string{"PEAT_TRUSTED_PROXIES": "10.0.0.0/8", "PEAT_CLIENT_CERT_HEADER": "apache"}, "PEAT_CLIENT_CERT_HEADER"},
		"no proxies in a row":             {map[string]string{"PEAT_CLIENT_CERT_HOPS": "0"}, "PEAT_CLIENT_CERT_HOPS"},
		"a certificate without its key":   {map[string]string{"PEAT_TLS_CERT_FILE": "x"}, "PEAT_TLS_KEY_FILE"},
		"clients asked without TLS":       {map[string]string{"PEAT_TLS_CLIENT_AUTH": "request"}, "PEAT_TLS_CLIENT_AUTH"},
		"clients asked in an unknown way": {map[string]string{"PEAT_TLS_CERT_FILE": "x", "PEAT_TLS_KEY_FILE": "y", "PEAT_TLS_CLIENT_AUTH": "require"}, "PEAT_TLS_CLIENT_AUTH"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := gateway.ReadSettings(settings(t, tc.set))
			if tc.wrong == "" && err != nil || tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)) {
				t.Errorf("got %v, want %s", err, tc.wrong)
			}
		})
	}
}

// The gateway's own TLS asks for certificates of whatever authority, and uses a new
// certificate of its own when there is one.
func TestListenTLS(t *testing.T) {
	authority, organizations := testenv.NewAuthority(t), testenv.NewAuthority(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	written := time.Now().Add(-time.Hour)
	write := func(name string) {
		t.Helper()
		cert, key := authority.Issue(t, name, "127.0.0.1")
		written = written.Add(time.Minute)
		for path, text := range map[string][]byte{certFile: cert, keyFile: key} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, written, written); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("first")
	host, err := gateway.NewHost(settings(t, map[string]string{
		"PEAT_TLS_CERT_FILE": certFile, "PEAT_TLS_KEY_FILE": keyFile, "PEAT_TLS_LISTEN": "127.0.0.1:0", "PEAT_TLS_CLIENT_AUTH": "request",
	}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := host.ListenTLS()
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if shown := r.TLS.PeerCertificates; len(shown) > 0 {
			name = shown[0].Subject.CommonName
		}
		fmt.Fprint(w, name, " ", r.Proto)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		_ = server.Close()
		<-served
	}()

	// Whose certificate the client shows does not matter here, only that there is one.
	get := func(config *tls.Config) (said string, from *x509.Certificate) {
		t.Helper()
		config.RootCAs = authority.Pool()
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("https://" + listener.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body), resp.TLS.PeerCertificates[0]
	}
	if said, from := get(organizations.Client(t, "somebody")); said != "somebody HTTP/1.1" || from.Subject.CommonName != "first" {
		t.Errorf("%q from %s", said, from.Subject)
	}
	if said, _ := get(&tls.Config{}); said != "nobody HTTP/1.1" {
		t.Errorf("without a certificate: %q", said)
	}
	write("second")
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // files are looked at once a second, at most
		if _, from := get(&tls.Config{}); from.Subject.CommonName == "second" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the new certificate is not used")
		}
	}

	without, err := gateway.NewHost(settings(t, nil), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if listener, err := without.ListenTLS(); listener != nil || err != nil {
		t.Errorf("without a certificate: %v, %v", listener, err)
	}
	broken, err := gateway.NewHost(settings(t, map[string]string{"PEAT_TLS_CERT_FILE": certFile, "PEAT_TLS_KEY_FILE": certFile}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broken.ListenTLS(); err == nil || strings.Contains(err.Error(), "BEGIN") {
		t.Errorf("a certificate that is no key: %v", err)
	}
}
