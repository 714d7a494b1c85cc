package saml_test

import (
	"compress/flate"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/url"
	"strings"
	"testing"

	library "github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
)

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// lines breaks a text as mail does.
func lines(s string) string {
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return out.String() + s
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestOwnMetadata(t *testing.T) {
	o := opening(nil)
	o.Secrets = nil // needs none
	text, err := saml.OwnMetadata(o)
	if err != nil {
		t.Fatal(err)
	}
	var have library.EntityDescriptor
	if err := xml.Unmarshal(text, &have); err != nil {
		t.Fatal(err)
	}
	if have.EntityID != audience || len(have.SPSSODescriptors) != 1 || !have.ValidUntil.IsZero() {
		t.Fatalf("%s", text)
	}
	role := have.SPSSODescriptors[0]
	if !*role.AuthnRequestsSigned || !*role.WantAssertionsSigned {
		t.Error("requests are not said to be signed, or assertions not asked to be")
	}
	want := []library.IndexedEndpoint{{Binding: library.HTTPPostBinding, Location: acs, Index: 1}}
	if diff := cmp.Diff(want, role.AssertionConsumerServices); diff != "" {
		t.Error(diff)
	}
	uses := map[string]string{}
	for _, k := range role.KeyDescriptors {
		uses[k.Use] = k.KeyInfo.X509Data.X509Certificates[0].Data
		for _, m := range k.EncryptionMethods {
			if strings.Contains(m.Algorithm, "cbc") {
				t.Errorf("asks for %s", m.Algorithm)
			}
		}
	}
	ours := base64Of(certificate(t).Raw)
	if diff := cmp.Diff(map[string]string{"encryption": ours, "signing": ours}, uses); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(string(text), "PRIVATE") {
		t.Error("the key is shown")
	}
}

func TestSignIn(t *testing.T) {
	v := verifier(t, nil)
	id := saml.RequestID("peat_chl_x")
	text, err := v.SignIn(t.Context(), id, "state", now)
	if err != nil {
		t.Fatal(err)
	}
	to := must(url.Parse(text))
	if to.Host != "idp.example" || to.Query().Get("RelayState") != "state" {
		t.Fatal(text)
	}
	deflated := must(base64.StdEncoding.DecodeString(to.Query().Get("SAMLRequest")))
	request := must(io.ReadAll(flate.NewReader(strings.NewReader(string(deflated)))))
	var have library.AuthnRequest
	if err := xml.Unmarshal(request, &have); err != nil {
		t.Fatal(err)
	}
	if have.ID != id || have.Issuer.Value != audience || have.AssertionConsumerServiceURL != acs || have.ProtocolBinding != library.HTTPPostBinding ||
		have.Destination != "https://idp.example/sso" || !have.IssueInstant.Equal(now) {
		t.Errorf("%s", request)
	}
	// What is signed is the query up to the signature (saml-bindings, 3.4.4.1).
	signed, sum, ok := strings.Cut(to.RawQuery, "&Signature=")
	if !ok || to.Query().Get("SigAlg") != dsig.RSASHA256SignatureMethod {
		t.Fatal(text)
	}
	digest := sha256.Sum256([]byte(signed))
	signature := must(base64.StdEncoding.DecodeString(must(url.QueryUnescape(sum))))
	if err := rsa.VerifyPKCS1v15(certificate(t).PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
}

// TestChallenge: a response that answers the request of a challenge is good with that
// challenge and with no other.
func TestChallenge(t *testing.T) {
	v := verifier(t, nil)
	a := answer()
	a.InResponseTo = saml.RequestID("peat_chl_1")
	answered, unsolicited := respond(t, idp(), a), respond(t, idp(), answer())
	for name, c := range map[string]struct {
		response  []byte
		challenge string
		ok        bool
	}{
		"the challenge that was answered":         {answered, "peat_chl_1", true},
		"another challenge":                       {answered, "peat_chl_2", false},
		"no challenge":                            {answered, "", false},
		"a response that answers none, if it may": {unsolicited, "peat_chl_1", true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), identity.Proof{SAML: c.response, Expect: saml.ExpectFor(c.response, c.challenge)}, now)
			if (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
	if saml.RequestID("a") == saml.RequestID("b") || !strings.HasPrefix(saml.RequestID("a"), "_") {
		t.Error("requests are not told apart")
	}
}
