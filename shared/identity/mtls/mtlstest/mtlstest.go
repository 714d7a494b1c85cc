// Package mtlstest makes authorities, certificates, lists of revocations and answers
// of responders with the openssl command, as an organization's own authority would:
// what is checked by crypto/x509 should not have been made by it.
package mtlstest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// Authority is one that openssl runs, in a folder of its own.
type Authority struct {
	Name string
	PEM  []byte // its certificate
	Cert *x509.Certificate

	mu  sync.Mutex // openssl's database has one writer
	t   testing.TB
	dir string
	n   int
}

// Request is what a certificate is to be. Empty fields mean the usual: a client's, that
// began an hour ago and ends in a day.
type Request struct {
	Subject    string // as openssl writes it: /C=US/CN=…
	Extensions string // lines of openssl's configuration; empty: those of a client
	Start, End time.Time
	Key        string // openssl's -newkey; empty: P-256
	Digest     string // empty: sha256
}

// Client are the extensions of an ordinary client's certificate.
const Client = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"

// Intermediate are the extensions of an authority that signs clients only.
const Intermediate = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"

// root are the extensions of one that signs itself.
const root = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"

// Identity is a certificate with its key, and what was sent with it.
type Identity struct {
	Cert    *x509.Certificate
	CertPEM []byte
	KeyPEM  []byte
}

// TLS is the identity as a client uses it, with authorities to send along.
func (i Identity) TLS(t testing.TB, with ...*Authority) tls.Certificate {
	t.Helper()
	chain := bytes.Clone(i.CertPEM)
	for _, a := range with {
		chain = append(chain, a.PEM...)
	}
	pair, err := tls.X509KeyPair(chain, i.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// NewRoot makes an authority that signs itself. The test is skipped, aloud, where there
// is no openssl.
func NewRoot(t testing.TB, name string) *Authority {
	t.Helper()
	return newAuthority(t, nil, Request{Subject: "/CN=" + name, Extensions: root})
}

// NewRootOf is NewRoot with all that can be asked for.
func NewRootOf(t testing.TB, r Request) *Authority {
	t.Helper()
	if r.Extensions == "" {
		r.Extensions = root
	}
	return newAuthority(t, nil, r)
}

// Under makes an authority below this one.
func (a *Authority) Under(t testing.TB, r Request) *Authority {
	t.Helper()
	if r.Extensions == "" {
		r.Extensions = Intermediate
	}
	return newAuthority(t, a, r)
}

func newAuthority(t testing.TB, above *Authority, r Request) *Authority {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		testenv.Missing(t, "openssl", "it is not installed")
	}
	a := &Authority{Name: r.Subject, t: t, dir: testenv.Dir(t)}
	a.write("openssl.cnf", fmt.Sprintf(`[ca]
default_ca = this
[this]
dir = %s
database = $dir/index.txt
new_certs_dir = $dir
serial = $dir/serial
crlnumber = $dir/crlnumber
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
default_crl_days = 30
policy = any
unique_subject = no
[any]
[req]
distinguished_name = dn
[dn]
`, a.dir))
	a.write("index.txt", "")
	a.write("serial", fmt.Sprintf("%X\n", time.Now().UnixNano()))
	a.write("crlnumber", "01\n")
	a.request("ca", r)
	if above == nil {
		above = a
	}
	above.mu.Lock()
	defer above.mu.Unlock()
	above.sign(a.path("ca.csr"), a.path("ca.pem"), a.path("ca.key"), r, above == a)
	a.Cert, a.PEM = a.read("ca.pem")
	return a
}

// Again is this authority's key and name, certified by another: cross-signed.
func (a *Authority) Again(t testing.TB, by *Authority, r Request) []byte {
	t.Helper()
	if r.Extensions == "" {
		r.Extensions = Intermediate
	}
	by.mu.Lock()
	defer by.mu.Unlock()
	by.sign(a.path("ca.csr"), a.path("cross.pem"), a.path("ca.key"), r, false)
	_, text := a.read("cross.pem")
	return text
}

// Issue makes a certificate for a client.
func (a *Authority) Issue(t testing.TB, r Request) Identity {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Extensions == "" {
		r.Extensions = Client
	}
	a.n++
	name := fmt.Sprintf("client%d", a.n)
	a.request(name, r)
	a.sign(a.path(name+".csr"), a.path(name+".pem"), "", r, false)
	var out Identity
	out.Cert, out.CertPEM = a.read(name + ".pem")
	key, err := os.ReadFile(a.path(name + ".key"))
	if err != nil {
		t.Fatal(err)
	}
	out.KeyPEM = key
	return out
}

// Revoke writes down that a certificate is not good any more. Lists and answers say so
// from then on.
func (a *Authority) Revoke(t testing.TB, cert *x509.Certificate) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write("revoked.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})))
	a.openssl(nil, "ca", "-config", a.path("openssl.cnf"), "-revoke", a.path("revoked.pem"), "-crl_reason", "keyCompromise")
}

// List is the list of revocations, in PEM. More are arguments of "openssl ca -gencrl".
func (a *Authority) List(t testing.TB, more ...string) string {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.openssl(nil, append([]string{"ca", "-config", a.path("openssl.cnf"), "-gencrl", "-out", a.path("crl.pem")}, more...)...)
	text, err := os.ReadFile(a.path("crl.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ListWith is List with extensions of the list, as lines of openssl's configuration.
func (a *Authority) ListWith(t testing.TB, extensions string, more ...string) string {
	t.Helper()
	a.mu.Lock()
	base, err := os.ReadFile(a.path("openssl.cnf"))
	if err != nil {
		t.Fatal(err)
	}
	a.write("openssl.cnf", string(base)+"\n[list]\n"+extensions+"\n")
	a.mu.Unlock()
	defer a.write("openssl.cnf", string(base))
	return a.List(t, append([]string{"-crlexts", "list"}, more...)...)
}

// EmptyList is a list, of now, that names nobody: as if nothing had been revoked.
func (a *Authority) EmptyList(t testing.TB) string {
	t.Helper()
	a.mu.Lock()
	books, err := os.ReadFile(a.path("index.txt"))
	if err != nil {
		t.Fatal(err)
	}
	a.write("index.txt", "")
	a.mu.Unlock()
	defer a.write("index.txt", string(books))
	return a.List(t)
}

// Forget takes a certificate out of the authority's books, so that its responder does
// not know it.
func (a *Authority) Forget(t testing.TB, cert *x509.Certificate) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	books, err := os.ReadFile(a.path("index.txt"))
	if err != nil {
		t.Fatal(err)
	}
	kept := ""
	for line := range strings.Lines(string(books)) {
		if !strings.Contains(line, fmt.Sprintf("\t%X\t", cert.SerialNumber)) {
			kept += line
		}
	}
	if kept == string(books) {
		t.Fatal("the certificate is not in the books")
	}
	a.write("index.txt", kept)
}

// Answer is what a responder says to a request. The signer is the authority itself if it
// is nil. More are arguments of "openssl ocsp".
func (a *Authority) Answer(t testing.TB, request []byte, signer *Identity, more ...string) []byte {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	cert, key := a.path("ca.pem"), a.path("ca.key")
	if signer != nil {
		cert, key = a.path("signer.pem"), a.path("signer.key")
		a.write("signer.pem", string(signer.CertPEM))
		a.write("signer.key", string(signer.KeyPEM))
	}
	a.write("request.der", string(request))
	args := []string{"ocsp", "-index", a.path("index.txt"), "-CA", a.path("ca.pem"), "-rsigner", cert, "-rkey", key,
		"-reqin", a.path("request.der"), "-respout", a.path("answer.der")}
	if len(more) == 0 {
		more = []string{"-nmin", "30"}
	}
	a.openssl(nil, append(args, more...)...)
	text, err := os.ReadFile(a.path("answer.der"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Responder is a server that answers for an authority, and counts how often it was
// asked. It ends with the test.
func (a *Authority) Responder(t testing.TB, signer *Identity, more ...string) (url string, asked func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/ocsp-request" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		n++
		mu.Unlock()
		w.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = w.Write(a.Answer(t, body, signer, more...))
	}))
	t.Cleanup(server.Close)
	return server.URL, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func (a *Authority) request(name string, r Request) {
	a.t.Helper()
	key := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	if r.Key != "" {
		key = []string{"-newkey", r.Key}
	}
	a.openssl(nil, append([]string{"req", "-new", "-config", a.path("openssl.cnf"), "-nodes", "-utf8", "-subj", r.Subject,
		"-keyout", a.path(name + ".key"), "-out", a.path(name + ".csr")}, key...)...)
}

// sign has the authority sign a request; itself, with the request's own key.
func (a *Authority) sign(request, out, key string, r Request, itself bool) {
	a.t.Helper()
	if r.Start.IsZero() {
		r.Start = time.Now().Add(-time.Hour)
	}
	if r.End.IsZero() {
		r.End = time.Now().Add(24 * time.Hour)
	}
	if r.Digest == "" {
		r.Digest = "sha256"
	}
	a.write("extensions", r.Extensions)
	args := []string{"ca", "-batch", "-config", a.path("openssl.cnf"), "-in", request, "-out", out, "-notext", "-preserveDN", "-utf8",
		"-extfile", a.path("extensions"), "-md", r.Digest, "-startdate", stamp(r.Start), "-enddate", stamp(r.End)}
	if itself {
		args = append(args, "-selfsign", "-keyfile", key)
	}
	a.openssl(nil, args...)
}

func stamp(t time.Time) string { return t.UTC().Format("20060102150405Z") }

func (a *Authority) openssl(in []byte, args ...string) {
	a.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(in)
	// A machine's own settings might forbid what is tested to be refused here.
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+a.path("openssl.cnf"), "TZ=UTC")
	if said, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

func (a *Authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *Authority) write(name, text string) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *Authority) read(name string) (*x509.Certificate, []byte) {
	a.t.Helper()
	text, err := os.ReadFile(a.path(name))
	if err != nil {
		a.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		a.t.Fatalf("%s holds no PEM", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, text
}
