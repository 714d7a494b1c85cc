package saml_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
)

const (
	issuer   = "https://idp.example/realms/alpha"
	base     = "https://gateway.example/orgs/alpha/identity-providers/01J/saml"
	acs      = base + "/acs"
	audience = base + "/metadata"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// Keys take a while to make: all tests share these.
var (
	idp      = sync.OnceValue(func() *samltest.IdP { return must(samltest.New(issuer)) })
	stranger = sync.OnceValue(func() *samltest.IdP { return must(samltest.New(issuer)) })
	ours     = sync.OnceValue(func() identity.Config {
		return must(saml.Parse(jsonOf(map[string]any{"metadata_xml": idp().Metadata()}), nil, settings()))
	})
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func jsonOf(v any) json.RawMessage { return must(json.Marshal(v)) }

func settings() identity.Settings {
	return identity.Settings{
		PublicURL: must(url.Parse("https://gateway.example")), Now: func() time.Time { return now },
		Patience:     5 * time.Minute, // the machine may stand still
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
}

// opening is a provider with a configuration; nil is the usual one.
func opening(config map[string]any) identity.Opening {
	full := map[string]any{"metadata_xml": idp().Metadata(), "allow_unsolicited": true}
	for k, v := range config {
		if full[k] = v; v == nil {
			delete(full, k)
		}
	}
	made := must(saml.Parse(jsonOf(full), jsonOf(ours().Secrets), settings()))
	return identity.Opening{
		Provider: identity.Provider{Key: identity.Key{Org: "alpha", ID: "01J"}, Kind: identity.SAML, Issuer: made.Issuer, Config: jsonOf(made.Public)},
		Secrets:  jsonOf(made.Secrets), Settings: settings(),
	}
}

func verifier(t *testing.T, config map[string]any) *saml.Verifier {
	t.Helper()
	v, err := saml.New(opening(config))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// answer is what a provider says when all is well.
func answer() samltest.Answer {
	return samltest.Answer{To: acs, Audience: audience, Now: now}
}

func respond(t *testing.T, p *samltest.IdP, a samltest.Answer) []byte {
	t.Helper()
	out, err := p.Respond(a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// certificate is the one that assertions are encrypted to.
func certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(ours().Public.(saml.Config).Certificate))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
