package mtls_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls/mtlstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

type object = map[string]any

var here = identity.Settings{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Patience: time.Minute, Now: time.Now}

// open makes a verifier of a configuration as a provider's is.
func open(t testing.TB, config object) identity.Verifier {
	t.Helper()
	with := object{"subject": "edipi", "revocation": object{"mode": "off"}}
	for k, v := range config {
		with[k] = v
	}
	in, err := json.Marshal(with)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := mtls.Parse(in, nil, here)
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(parsed.Public)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Secrets != nil {
		t.Error("there are secrets")
	}
	v, err := mtls.Open(identity.Opening{
		Provider: identity.Provider{Key: identity.Key{Org: "acme", ID: "cac"}, Kind: identity.MTLS, Issuer: parsed.Issuer, Config: public}, Settings: here,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// bundle is authorities as a configuration has them.
func bundle(all ...*mtlstest.Authority) string {
	text := ""
	for _, a := range all {
		text += string(a.PEM)
	}
	return text
}

func chain(leaf mtlstest.Identity, more ...*mtlstest.Authority) []*x509.Certificate {
	out := []*x509.Certificate{leaf.Cert}
	for _, a := range more {
		out = append(out, a.Cert)
	}
	return out
}

const john = "/C=US/O=U.S. Government/OU=DoD/OU=PKI/OU=USA/CN=DOE.JOHN.QUINCY.1234567890"

func parse(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// refused checks that a proof is refused for a reason, and that the reason gives
// nothing of the certificate away.
func refused(t testing.TB, err error, kind error, why string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, want %v with %q", err, kind, why)
		return
	}
	for _, secret := range []string{"DOE", "JOHN", "1234567890", "CERTIFICATE", "127.0.0.1", "http"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q tells %s", err, secret)
		}
	}
	if said := identity.Refused(err); fault.Of(said).Message != "the proof of identity is not accepted" {
		t.Errorf("outside it is said: %s", fault.Of(said).Message)
	}
}

func TestACommonAccessCard(t *testing.T) {
	root := mtlstest.NewRoot(t, "DoD Root CA 3")
	issuing := root.Under(t, mtlstest.Request{Subject: "/C=US/CN=DOD ID CA-59", Extensions: mtlstest.Intermediate + "certificatePolicies=2.16.840.1.101.3.2.1.3.13,2.16.840.1.101.2.1.11.42\n"})
	card := issuing.Issue(t, mtlstest.Request{Subject: john, End: time.Now().Add(20 * time.Hour), Extensions: mtlstest.Client[:len(mtlstest.Client)-1] + `,1.3.6.1.4.1.311.20.2.2
certificatePolicies=2.16.840.1.101.3.2.1.3.13
subjectAltName=otherName:1.3.6.1.4.1.311.20.2.3;UTF8:1234567890117008@MIL,email:john.q.doe.mil@mail.mil,URI:urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6
`})
	v := open(t, object{
		"ca_pem": bundle(root, issuing), "ekus": []string{"client_auth", "smart_card_logon"}, "policies": []string{"2.16.840.1.101.3.2.1.3.13"}, "groups": "ou",
		"assurance": []object{
			{"policy": "2.16.840.1.101.3.2.1.3.13", "acr": "http://idmanagement.gov/ns/assurance/aal/3", "amr": []string{"hwk", "mfa"}},
			{"policy": "2.16.840.1.101.2.1.11.42", "acr": "other", "amr": []string{"swk"}},
		},
	})
	now := time.Now()
	got, err := v.Verify(t.Context(), identity.Proof{Chain: chain(card)}, now)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint, keyID := got.Attributes["fingerprint_sha256"], got.Attributes["issuer_key_id"]
	if len(fingerprint.(string)) != 64 || len(keyID.(string)) != 40 {
		t.Errorf("fingerprint %v, key id %v", fingerprint, keyID)
	}
	want := identity.Claims{
		Provider: "cac", Kind: identity.MTLS, Issuer: "x509:CN=DoD Root CA 3", Subject: "1234567890",
		Groups: []string{"DoD", "PKI", "USA"}, ACR: "http://idmanagement.gov/ns/assurance/aal/3", AMR: []string{"hwk", "mfa", "x509"},
		AuthenticatedAt: now.UTC(), ExpiresAt: card.Cert.NotAfter.UTC(), // the others last longer
		Attributes: map[string]any{
			"subject_dn": "CN=DOE.JOHN.QUINCY.1234567890,OU=USA,OU=PKI,OU=DoD,O=U.S. Government,C=US", "issuer_dn": "CN=DOD ID CA-59,C=US",
			"serial": strings.ToUpper(card.Cert.SerialNumber.Text(16)), "fingerprint_sha256": fingerprint, "issuer_key_id": keyID,
			"cn": []any{"DOE.JOHN.QUINCY.1234567890"}, "ou": []any{"DoD", "PKI", "USA"}, "o": []any{"U.S. Government"}, "c": []any{"US"},
			"upn": []any{"1234567890117008@MIL"}, "email": []any{"john.q.doe.mil@mail.mil"}, "uri": []any{"urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"},
			"edipi": "1234567890", "policies": []any{"2.16.840.1.101.3.2.1.3.13"}, "revocation": "unchecked",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	for name, tc := range map[string]struct{ subject, want string }{
		"upn":    {"upn", "1234567890117008@mil"},
		"email":  {"email", "john.q.doe.mil@mail.mil"},
		"uri":    {"uri", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"},
		"cn":     {"cn", "DOE.JOHN.QUINCY.1234567890"},
		"dn":     {"dn", "CN=DOE.JOHN.QUINCY.1234567890,OU=USA,OU=PKI,OU=DoD,O=U.S. Government,C=US"},
		"serial": {"serial", "CN=DOD ID CA-59,C=US#" + strings.ToUpper(card.Cert.SerialNumber.Text(16))},
	} {
		t.Run("subject by "+name, func(t *testing.T) {
			got, err := open(t, object{"ca_pem": bundle(root), "subject": tc.subject}).Verify(t.Context(), identity.Proof{Chain: chain(card, issuing)}, now)
			if err != nil || got.Subject != tc.want {
				t.Errorf("got %q, %v", got.Subject, err)
			}
		})
	}
}

// That a certificate says it is strong is not enough: its authority must have been
// allowed to say so.
func TestStrengthIsWhatTheAuthorityMayGive(t *testing.T) {
	root := mtlstest.NewRoot(t, "root")
	weak := root.Under(t, mtlstest.Request{Subject: "/CN=weak", Extensions: mtlstest.Intermediate + "certificatePolicies=1.2.3.1\n"})
	strong := root.Under(t, mtlstest.Request{Subject: "/CN=strong", Extensions: mtlstest.Intermediate + "certificatePolicies=1.2.3.1,1.2.3.2\n"})
	v := open(t, object{"ca_pem": bundle(root, weak, strong), "assurance": []object{
		{"policy": "1.2.3.2", "acr": "high", "amr": []string{"hwk"}}, {"policy": "1.2.3.1", "acr": "low"},
	}})
	for name, tc := range map[string]struct {
		by       *mtlstest.Authority
		policies string
		acr      string
		amr      []string
	}{
		"both, from who may give both":   {strong, "certificatePolicies=1.2.3.1,1.2.3.2\n", "high", []string{"hwk", "x509"}},
		"both, from who may give one":    {weak, "certificatePolicies=1.2.3.1,1.2.3.2\n", "low", []string{"x509"}},
		"one that the giver may not":     {weak, "certificatePolicies=1.2.3.2\n", "", []string{"x509"}},
		"none":                           {strong, "", "", []string{"x509"}},
		"any policy stands for none":     {strong, "certificatePolicies=2.5.29.32.0\n", "", []string{"x509"}},
		"a policy that nobody asked for": {strong, "certificatePolicies=1.2.3.9\n", "", []string{"x509"}},
	} {
		t.Run(name, func(t *testing.T) {
			card := tc.by.Issue(t, mtlstest.Request{Subject: john, Extensions: mtlstest.Client + tc.policies})
			got, err := v.Verify(t.Context(), identity.Proof{Chain: chain(card)}, time.Now())
			if err != nil || got.ACR != tc.acr || !cmp.Equal(got.AMR, tc.amr) {
				t.Errorf("got %q %v, %v", got.ACR, got.AMR, err)
			}
		})
	}
}

// What every verifier promises, this one does too.
func TestPromises(t *testing.T) {
	root := mtlstest.NewRoot(t, "root")
	card := root.Issue(t, mtlstest.Request{Subject: john, End: time.Now().Add(2 * time.Hour)})
	stranger := mtlstest.NewRoot(t, "root").Issue(t, mtlstest.Request{Subject: john})
	config := object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "crls": []string{root.List(t)}}}
	good, now := identity.Proof{Chain: chain(card)}, time.Now()
	want, err := open(t, config).Verify(t.Context(), good, now)
	if err != nil || want.Subject != "1234567890" || !want.ExpiresAt.Equal(card.Cert.NotAfter) {
		t.Fatalf("%+v %v", want, err)
	}
	identitytest.Run(t, identitytest.Suite{
		Open: func(t *testing.T) (identity.Verifier, error) { return open(t, config), nil },
		Now:  now, Good: good, Want: want,
		Bad: map[string]identity.Proof{
			"a stranger's":            {Chain: chain(stranger)},
			"a certificate of nobody": {Chain: []*x509.Certificate{{}}},
			"the authority's own":     {Chain: []*x509.Certificate{root.Cert}},
		},
	})
}
