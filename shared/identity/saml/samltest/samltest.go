// Package samltest is a SAML identity provider inside the process, for tests. It
// says what it is told to say, signs it properly, and lets a test change the document
// before or after it is signed.
package samltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml/xmlenc"
	dsig "github.com/russellhaering/goxmldsig"
)

// Namespaces, and the prefixes that the provider uses for them.
const (
	Protocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	Assertion = "urn:oasis:names:tc:SAML:2.0:assertion"
)

// IdP is an identity provider.
type IdP struct {
	EntityID string
	SignOn   string // where requests go
	Key      crypto.Signer
	Cert     *x509.Certificate
}

// New returns an identity provider with an RSA key.
func New(entityID string) (*IdP, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return WithKey(entityID, key)
}

// NewECDSA is New with an ECDSA key.
func NewECDSA(entityID string) (*IdP, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return WithKey(entityID, key)
}

// WithKey is New with a key of one's own. Its certificate is good from 2020 to 2050.
func WithKey(entityID string, key crypto.Signer) (*IdP, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "identity provider"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &IdP{EntityID: entityID, SignOn: "https://idp.example/sso", Key: key, Cert: cert}, err
}

// Metadata is what a service provider is told of it.
func (p *IdP) Metadata() string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<!-- as providers have it, with comments -->
<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="%s">
  <md:IDPSSODescriptor WantAuthnRequestsSigned="true" protocolSupportEnumeration="%s">
    <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data>
      <ds:X509Certificate>%s</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="%[4]s"/>
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="%[4]s"/>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>
`, p.EntityID, Protocol, base64.StdEncoding.EncodeToString(p.Cert.Raw), p.SignOn)
}

// Answer is what the provider says. What is left out has a usual value.
type Answer struct {
	ID           string // of the assertion
	To           string // where it is sent: destination and recipient
	Audience     string
	InResponseTo string
	Subject      string
	Format       string // of the NameID
	Class        string // of the authentication
	Session      string
	SessionEnd   time.Time
	Attributes   map[string][]string
	Now          time.Time

	SignResponse bool
	Unsigned     bool // the assertion has no signature
	Encrypt      *x509.Certificate
	Cipher       xmlenc.BlockCipher // AES-256-GCM
	Method       string             // of signatures; with SHA-256

	// What a test changes: of the assertion and of the response, before they are signed.
	Change         func(assertion *etree.Element)
	ChangeSigned   func(assertion *etree.Element) // after it is signed, before it is encrypted
	ChangeResponse func(response *etree.Element)
}

// Respond returns the response as XML.
func (p *IdP) Respond(a Answer) ([]byte, error) {
	assertion := p.assertion(&a)
	if a.Change != nil {
		a.Change(assertion)
	}
	if !a.Unsigned {
		if err := p.Sign(assertion, a.Method); err != nil {
			return nil, err
		}
	}
	if a.ChangeSigned != nil {
		a.ChangeSigned(assertion)
	}
	root := etree.NewElement("samlp:Response")
	set(root, "xmlns:samlp", Protocol, "xmlns:saml", Assertion, "ID", "_r"+a.ID[1:], "Version", "2.0", "IssueInstant", stamp(a.Now), "Destination", a.To)
	if a.InResponseTo != "" {
		root.CreateAttr("InResponseTo", a.InResponseTo)
	}
	root.CreateElement("saml:Issuer").SetText(p.EntityID)
	root.CreateElement("samlp:Status").CreateElement("samlp:StatusCode").CreateAttr("Value", "urn:oasis:names:tc:SAML:2.0:status:Success")
	if a.Encrypt == nil {
		root.AddChild(assertion)
	} else {
		sealed, err := encrypt(assertion, a.Encrypt, a.Cipher)
		if err != nil {
			return nil, err
		}
		root.AddChild(sealed)
	}
	if a.ChangeResponse != nil {
		a.ChangeResponse(root)
	}
	if a.SignResponse {
		if err := p.Sign(root, a.Method); err != nil {
			return nil, err
		}
	}
	return Bytes(root)
}

func (p *IdP) assertion(a *Answer) *etree.Element {
	usual(&a.ID, "_a"+fmt.Sprintf("%x", random(16)))
	usual(&a.Subject, "device-7@example.mil")
	usual(&a.Format, "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified")
	usual(&a.Class, "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport")
	usual(&a.Session, "_s1")
	usual(&a.Method, method(p.Key))
	el := etree.NewElement("saml:Assertion")
	set(el, "xmlns:saml", Assertion, "ID", a.ID, "Version", "2.0", "IssueInstant", stamp(a.Now))
	el.CreateElement("saml:Issuer").SetText(p.EntityID)
	subject := el.CreateElement("saml:Subject")
	name := subject.CreateElement("saml:NameID")
	name.CreateAttr("Format", a.Format)
	name.SetText(a.Subject)
	confirmation := subject.CreateElement("saml:SubjectConfirmation")
	confirmation.CreateAttr("Method", "urn:oasis:names:tc:SAML:2.0:cm:bearer")
	data := confirmation.CreateElement("saml:SubjectConfirmationData")
	set(data, "Recipient", a.To, "NotOnOrAfter", stamp(a.Now.Add(5*time.Minute)))
	if a.InResponseTo != "" {
		data.CreateAttr("InResponseTo", a.InResponseTo)
	}
	conditions := el.CreateElement("saml:Conditions")
	set(conditions, "NotBefore", stamp(a.Now.Add(-time.Second)), "NotOnOrAfter", stamp(a.Now.Add(5*time.Minute)))
	conditions.CreateElement("saml:AudienceRestriction").CreateElement("saml:Audience").SetText(a.Audience)
	statement := el.CreateElement("saml:AuthnStatement")
	set(statement, "AuthnInstant", stamp(a.Now), "SessionIndex", a.Session)
	if !a.SessionEnd.IsZero() {
		statement.CreateAttr("SessionNotOnOrAfter", stamp(a.SessionEnd))
	}
	statement.CreateElement("saml:AuthnContext").CreateElement("saml:AuthnContextClassRef").SetText(a.Class)
	if len(a.Attributes) > 0 {
		attributes := el.CreateElement("saml:AttributeStatement")
		for name, values := range a.Attributes {
			attribute := attributes.CreateElement("saml:Attribute")
			set(attribute, "Name", name, "NameFormat", "urn:oasis:names:tc:SAML:2.0:attrname-format:basic")
			for _, v := range values {
				attribute.CreateElement("saml:AttributeValue").SetText(v)
			}
		}
	}
	return el
}

// Sign puts a signature over an element into it, behind its issuer.
func (p *IdP) Sign(el *etree.Element, method string) error {
	signing, err := dsig.NewSigningContext(p.Key, [][]byte{p.Cert.Raw})
	if err != nil {
		return err
	}
	signing.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if err := signing.SetSignatureMethod(method); err != nil {
		return err
	}
	signature, err := signing.ConstructSignature(el, true)
	if err != nil {
		return err
	}
	if key, ok := p.Key.Public().(*ecdsa.PublicKey); ok {
		if err := plain(signature.FindElement("./SignatureValue"), key); err != nil {
			return err
		}
	}
	el.InsertChildAt(1, signature)
	return nil
}

// plain writes an ECDSA signature as XML has it: two numbers side by side.
func plain(value *etree.Element, key *ecdsa.PublicKey) error {
	der, err := base64.StdEncoding.DecodeString(value.Text())
	if err != nil {
		return err
	}
	var sum struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sum); err != nil {
		return err
	}
	size := (key.Params().BitSize + 7) / 8
	out := append(sum.R.FillBytes(make([]byte, size)), sum.S.FillBytes(make([]byte, size))...)
	value.SetText(base64.StdEncoding.EncodeToString(out))
	return nil
}

func encrypt(assertion *etree.Element, to *x509.Certificate, cipher xmlenc.BlockCipher) (*etree.Element, error) {
	text, err := Bytes(assertion)
	if err != nil {
		return nil, err
	}
	way := xmlenc.OAEP()
	if way.BlockCipher = cipher; cipher == nil {
		way.BlockCipher = xmlenc.AES256GCM
	}
	data, err := way.Encrypt(to, text, nil)
	if err != nil {
		return nil, err
	}
	data.CreateAttr("Type", "http://www.w3.org/2001/04/xmlenc#Element")
	out := etree.NewElement("saml:EncryptedAssertion")
	out.AddChild(data)
	return out, nil
}

// Bytes writes an element as a document.
func Bytes(el *etree.Element) ([]byte, error) {
	doc := etree.NewDocument()
	doc.SetRoot(el.Copy())
	return doc.WriteToBytes()
}

func method(key crypto.Signer) string {
	if _, ok := key.Public().(*ecdsa.PublicKey); ok {
		return dsig.ECDSASHA256SignatureMethod
	}
	return dsig.RSASHA256SignatureMethod
}

func usual(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

func set(el *etree.Element, pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		el.CreateAttr(pairs[i], pairs[i+1])
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it cannot fail
	return b
}
