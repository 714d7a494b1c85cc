package mtls

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// sample reads what openssl has made once.
func sample(f *testing.F, name string) []byte {
	f.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		f.Fatal(err)
	}
	if block, _ := pem.Decode(text); block != nil {
		return block.Bytes
	}
	return text
}

// A certificate that was made to be read wrongly is refused or read; what is read is
// text, and an EDIPI is ten digits.
func FuzzHolder(f *testing.F) {
	f.Add(sample(f, "card.pem"))
	f.Add(sample(f, "root.pem"))
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		h, err := readHolder(cert)
		if err != nil {
			return
		}
		for name, subject := range subjects {
			got, err := subject(h)
			if err == nil && (got == "" || len(got) > maxSubject || !plainText(got)) {
				t.Errorf("%s: %q", name, got)
			}
			if name == "edipi" && err == nil && (len(got) != 10 || strings.Trim(got, "0123456789") != "") {
				t.Errorf("EDIPI %q", got)
			}
		}
		h.attributes(cert)
	})
}

func FuzzUPNs(f *testing.F) {
	for _, e := range mustParse(f, sample(f, "card.pem")).Extensions {
		if e.Id.Equal(oidSAN) {
			f.Add(e.Value)
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if names, ok := parseUPNs(der); !ok && names != nil {
			t.Errorf("not read, and yet %q", names)
		}
	})
}

// Without the authority's key nobody makes a list that is taken.
func FuzzLists(f *testing.F) {
	root := mustParse(f, sample(f, "root.pem"))
	good := sample(f, "root.crl")
	f.Add(good)
	f.Fuzz(func(t *testing.T, der []byte) {
		l, err := openList("x", der, []*x509.Certificate{root})
		if err != nil {
			return
		}
		want, err := openList("x", good, []*x509.Certificate{root})
		if err != nil || len(l.revoked) != len(want.revoked) || !l.nextUpdate.Equal(want.nextUpdate) {
			t.Errorf("a list was taken that nobody signed: %+v", l)
		}
	})
}

func FuzzScope(f *testing.F) {
	f.Add([]byte{0x30, 3, 0x81, 1, 0xff})
	f.Add([]byte("\x30\x0d\xa0\x0b\xa0\x09\x86\x07http://"))
	f.Fuzz(func(t *testing.T, der []byte) {
		if s, ok := parseScope(der); ok && !s.users && !s.authorities {
			t.Error("a list of nothing")
		}
	})
}

// Without the authority's key nobody says that a certificate is good.
func FuzzAnswer(f *testing.F) {
	root, card := mustParse(f, sample(f, "root.pem")), mustParse(f, sample(f, "card.pem"))
	good := sample(f, "answer.der")
	f.Add(good)
	at := card.NotBefore.Add(time.Hour)
	if v, err := readAnswer(good, card, root, nil, at); err != nil || v.state != revoked {
		f.Fatalf("the sample is not read: %+v, %v", v, err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if v, err := readAnswer(der, card, root, nil, at); err == nil && v.state != revoked {
			t.Errorf("it was believed: %+v", v)
		}
		nonceOf(der)
		_, _ = withNonce(der, []byte{1})
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"ca_pem":"-----BEGIN CERTIFICATE-----","subject":"edipi","revocation":{"mode":"hard","crls":["AAAA"],"ocsp":true,"ocsp_url":"http://a.example/"}}`))
	s := identity.Settings{Now: time.Now}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := Parse(in, nil, s)
		if err == nil && (c.Issuer == "" || len(c.Issuer) > maxIssuer) {
			t.Errorf("issuer %q", c.Issuer)
		}
	})
}

func mustParse(f *testing.F, der []byte) *x509.Certificate {
	f.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	return cert
}

// Whatever many certificates are asked about, the cache has its bounds.
func TestTheCacheIsBounded(t *testing.T) {
	r := newResponder(revocation{}, netguard.New(nil), 0)
	now := time.Now()
	for n := range maxAnswers + 100 {
		r.cache.put([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}, verdict{state: good, until: now.Add(time.Hour)}, now)
		r.cache.down(strings.Repeat("a", n%(2*maxDown)), now)
	}
	if len(r.cache.kept) != maxAnswers || len(r.cache.unwell) > maxDown {
		t.Errorf("%d answers and %d responders are kept", len(r.cache.kept), len(r.cache.unwell))
	}
	// What has ended makes room first.
	later := now.Add(2 * time.Hour)
	r.cache.put([32]byte{31: 1}, verdict{state: good, until: later.Add(time.Hour)}, later)
	if len(r.cache.kept) != 1 {
		t.Errorf("%d answers are kept", len(r.cache.kept))
	}
	if _, ok := r.cache.get([32]byte{31: 1}, "", later); !ok {
		t.Error("the newest is not")
	}
}
