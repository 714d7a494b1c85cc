package gateway_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls/mtlstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// cards is an organization's own authority, and two people's cards, one of them lost.
type cards struct {
	root, issuing *mtlstest.Authority
	john, lost    mtlstest.Identity
	provider      string // its configuration
}

func newCards(t *testing.T) cards {
	t.Helper()
	c := cards{root: mtlstest.NewRoot(t, "Root CA")}
	c.issuing = c.root.Under(t, mtlstest.Request{Subject: "/CN=ID CA"})
	c.john = c.issuing.Issue(t, mtlstest.Request{Subject: "/C=US/OU=7 TRANS/CN=DOE.JOHN.Q.1234567890", End: time.Now().Add(5 * time.Hour)})
	c.lost = c.issuing.Issue(t, mtlstest.Request{Subject: "/C=US/OU=7 TRANS/CN=ROE.JANE.Q.2222222222"})
	c.issuing.Revoke(t, c.lost.Cert)
	text, err := json.Marshal(map[string]any{"kind": "mtls", "label": "CAC", "config": map[string]any{
		"ca_pem": string(c.root.PEM) + string(c.issuing.PEM), "subject": "edipi", "groups": "ou",
		"revocation": map[string]any{"mode": "hard", "crls": []string{c.root.List(t), c.issuing.List(t)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.provider = string(text)
	return c
}

// setUp makes the provider, and the rule that lets its people in.
func (c cards) setUp(g *gatewayUnderTest) {
	g.t.Helper()
	g.must("POST", "/orgs/acme/identity-providers", c.provider, 201)
	g.must("PUT", "/orgs/acme/policy", `{"rules":[{"id":"transport","when":"claims.kind == 'mtls' && '7 TRANS' in claims.groups && claims.attributes.revocation == 'good'",
		"effect":"allow","grant":{"tier":"tactical","max_validity":"24h"}}]}`, 200)
}

// device is a node that enrolls over a connection of its own.
type device struct {
	t       *testing.T
	address string
	client  *http.Client
	header  http.Header // sent with each request
}

func newDevice(t *testing.T, address string, roots *x509.CertPool, shown ...tls.Certificate) device {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: shown}}
	t.Cleanup(transport.CloseIdleConnections)
	return device{t, address, &http.Client{Transport: transport, Timeout: time.Minute}, http.Header{}}
}

func (d device) post(path string, body any) (int, []byte) {
	d.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(d.t.Context(), "POST", d.address+path, bytes.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	for name, values := range d.header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// enroll asks for a certificate by whatever the connection shows.
func (d device) enroll(node string) (int, []byte) {
	d.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	const formation = "/orgs/acme/formations/logistics/enroll"
	status, text := d.post(formation+"/challenge", struct{}{})
	var challenge struct {
		Nonce  string `json:"nonce"`
		MeshID string `json:"mesh_id"`
	}
	if err := json.Unmarshal(text, &challenge); err != nil || status != 201 {
		d.t.Fatalf("challenge: %d %s", status, text)
	}
	at := time.Now().Truncate(time.Millisecond)
	p := authority.Possession{
		Purpose: authority.ForEnroll, Key: tenant.Key{Org: "acme", App: "logistics"}, MeshID: challenge.MeshID, NodeID: node,
		Subject: public, Nonce: challenge.Nonce, At: at,
	}
	return d.post(formation, map[string]any{
		"identity": map[string]any{"client_certificate": true}, "challenge": challenge.Nonce, "public_key": hex.EncodeToString(public), "node_id": node,
		"proof": map[string]any{"timestamp_ms": at.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(private, p.Message()))},
	})
}

// TestANodeEnrollsByACard over the gateway's own TLS and behind a proxy: it ends in a
// certificate of the formation, or in a refusal that tells nothing and is written down.
func TestANodeEnrollsByACard(t *testing.T) {
	c := newCards(t)
	stranger := mtlstest.NewRoot(t, "Root CA").Issue(t, mtlstest.Request{Subject: "/OU=7 TRANS/CN=DOE.JOHN.Q.1234567890"})
	forged := "Cert=" + escapePEM(c.john.CertPEM)

	ca := testenv.NewAuthority(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certPEM, keyPEM := ca.Issue(t, "gateway", "127.0.0.1")
	for path, text := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	direct := startAll(t, io.Discard, map[string]string{
		"PEAT_TLS_CERT_FILE": certFile, "PEAT_TLS_KEY_FILE": keyFile, "PEAT_TLS_LISTEN": "127.0.0.1:0", "PEAT_TLS_CLIENT_AUTH": "request",
	})
	c.setUp(direct)
	listener, err := direct.host.ListenTLS()
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: direct.serving}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})

	behind := startAll(t, io.Discard, map[string]string{"PEAT_TRUSTED_PROXIES": "127.0.0.1", "PEAT_CLIENT_CERT_HEADER": "envoy"})
	c.setUp(behind)
	inside := httptest.NewServer(behind.serving)
	t.Cleanup(inside.Close)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	ingress := httptest.NewUnstartedServer(sanitizing(t, inside.URL))
	ingress.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	ingress.StartTLS()
	t.Cleanup(ingress.Close)

	for way, to := range map[string]struct {
		gateway *gatewayUnderTest
		address string
	}{
		"TLS ends at the gateway": {direct, "https://" + listener.Addr().String()},
		"TLS ends at a proxy":     {behind, ingress.URL},
	} {
		for name, tc := range map[string]struct {
			shown  []tls.Certificate
			forged bool
			status int
			why    map[*gatewayUnderTest]string // in the audit trail
		}{
			"a card":                  {shown: []tls.Certificate{c.john.TLS(t, c.issuing)}, status: 201},
			"a card that was lost":    {shown: []tls.Certificate{c.lost.TLS(t, c.issuing)}, status: 401, why: map[*gatewayUnderTest]string{direct: "it was revoked", behind: "it was revoked"}},
			"a card of a stranger's":  {shown: []tls.Certificate{stranger.TLS(t)}, status: 401, why: map[*gatewayUnderTest]string{direct: "none of the provider's authorities", behind: "none of the provider's authorities"}},
			"nothing":                 {status: 401, why: map[*gatewayUnderTest]string{direct: "no client certificate was shown", behind: "no client certificate was shown"}},
			"a header that is forged": {forged: true, status: 401, why: map[*gatewayUnderTest]string{direct: "came from somebody else", behind: "no client certificate was shown"}},
		} {
			t.Run(way+", with "+name, func(t *testing.T) {
				d := newDevice(t, to.address, ca.Pool(), tc.shown...)
				if tc.forged {
					d.header.Set("X-Forwarded-Client-Cert", forged)
				}
				node := strings.ReplaceAll(name, " ", "-")
				status, answer := d.enroll(strings.ReplaceAll(node, "'", ""))
				if status != tc.status {
					t.Fatalf("%d %s", status, answer)
				}
				trail := to.gateway.must("GET", "/orgs/acme/audit?limit=200", "", 200)
				if tc.status != 201 {
					if !strings.Contains(string(answer), "the proof of identity is not accepted") || strings.Contains(string(answer), tc.why[to.gateway]) {
						t.Errorf("outside it is said: %s", answer)
					}
					if !strings.Contains(string(trail), tc.why[to.gateway]) {
						t.Errorf("the trail does not say %q:\n%s", tc.why[to.gateway], trail)
					}
					return
				}
				var got struct {
					Certificate []byte `json:"certificate"`
					Authority   string `json:"authority_public_key"`
					MeshID      string `json:"mesh_id"`
				}
				if err := json.Unmarshal(answer, &got); err != nil {
					t.Fatal(err)
				}
				// The card ends before the rule's day does; what is decided ends with it, but for
				// the moment between the decision and the signature.
				decoded, err := cert.DecodeExact(got.Certificate)
				if err != nil || decoded.Tier != cert.Tactical || decoded.ExpiresAt.After(c.john.Cert.NotAfter.Add(time.Minute)) {
					t.Errorf("%+v %v", decoded, err)
				}
				if err := decoded.Verify(); err != nil || hex.EncodeToString(decoded.Issuer[:]) != got.Authority {
					t.Errorf("not by the formation's authority: %v", err)
				}
				if !strings.Contains(string(trail), "1234567890") || !strings.Contains(string(trail), "transport") {
					t.Errorf("the trail does not say who, and by which rule:\n%s", trail)
				}
			})
		}
	}
}

func escapePEM(text []byte) string {
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

// sanitizing is a proxy that ends TLS and says who called, as Envoy does with
// SANITIZE_SET.
func sanitizing(t *testing.T, to string) http.Handler {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
		r.Out.Header.Del("X-Forwarded-Client-Cert")
		var all []byte
		for _, cert := range r.In.TLS.PeerCertificates {
			all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
		}
		if len(all) > 0 {
			r.Out.Header.Set("X-Forwarded-Client-Cert", fmt.Sprintf(`Chain="%s"`, escapePEM(all)))
		}
	}}
}
