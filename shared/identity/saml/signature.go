package saml

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// The algorithms that a signature may name. What is not here is refused before
// anything is computed: SHA-1, keyed hashes, and every transform that is a program.
var (
	signatureMethods = map[string]bool{
		dsig.RSASHA256SignatureMethod: true, dsig.RSASHA384SignatureMethod: true, dsig.RSASHA512SignatureMethod: true,
		dsig.ECDSASHA256SignatureMethod: true, dsig.ECDSASHA384SignatureMethod: true, dsig.ECDSASHA512SignatureMethod: true,
	}
	digestMethods = map[string]bool{
		"http://www.w3.org/2001/04/xmlenc#sha256":       true,
		"http://www.w3.org/2001/04/xmldsig-more#sha384": true,
		"http://www.w3.org/2001/04/xmlenc#sha512":       true,
	}
	envelopedTransform = dsig.EnvelopedSignatureAltorithmId.String()
	excC14N            = dsig.CanonicalXML10ExclusiveAlgorithmId.String()
)

// checkProfile returns nil for a signature of the one form that SAML's rules for
// signatures leave: over its parent, the whole of it, by ID, and nothing else.
func checkProfile(signature *etree.Element) error {
	parts := signature.ChildElements()
	if len(parts) < 2 || len(parts) > 3 || !is(parts[0], nsSignature, "SignedInfo") || !is(parts[1], nsSignature, "SignatureValue") ||
		len(parts) == 3 && !is(parts[2], nsSignature, "KeyInfo") {
		return errors.New("its signature holds other parts than a signature has")
	}
	info := parts[0].ChildElements()
	if len(info) != 3 || !is(info[0], nsSignature, "CanonicalizationMethod") || !is(info[1], nsSignature, "SignatureMethod") || !is(info[2], nsSignature, "Reference") {
		return errors.New("its signature does not sign exactly one thing")
	}
	id := value(signature.Parent(), "ID")
	if uri := value(info[2], "URI"); id == "" || uri != "#"+id {
		return errors.New("its signature is not over the element that it stands in")
	}
	if value(info[0], "Algorithm") != excC14N || !plainMethod(info[0]) {
		return errors.New("its signature is not over the exclusive canonical form")
	}
	if !signatureMethods[value(info[1], "Algorithm")] || !plainMethod(info[1]) {
		return errors.New("its signature uses an algorithm that is not accepted: it must be RSA or ECDSA with SHA-256, SHA-384 or SHA-512")
	}
	return checkReference(info[2])
}

func checkReference(reference *etree.Element) error {
	parts := reference.ChildElements()
	if len(parts) != 3 || !is(parts[0], nsSignature, "Transforms") || !is(parts[1], nsSignature, "DigestMethod") || !is(parts[2], nsSignature, "DigestValue") {
		return errors.New("its signature's reference holds other parts than a reference has")
	}
	transforms := parts[0].ChildElements()
	if len(transforms) != 2 || !is(transforms[0], nsSignature, "Transform") || !is(transforms[1], nsSignature, "Transform") ||
		value(transforms[0], "Algorithm") != envelopedTransform || value(transforms[1], "Algorithm") != excC14N ||
		len(transforms[0].ChildElements()) != 0 || !plainMethod(transforms[1]) {
		return errors.New("its signature uses other transforms than leaving itself out and the exclusive canonical form")
	}
	if !digestMethods[value(parts[1], "Algorithm")] || !plainMethod(parts[1]) {
		return errors.New("its signature uses a digest that is not accepted: it must be SHA-256, SHA-384 or SHA-512")
	}
	return nil
}

// plainMethod tells whether a method has no parameter but the list of prefixes
// that the canonical form may have.
func plainMethod(method *etree.Element) bool {
	for _, c := range method.ChildElements() {
		if !is(c, nsExcC14N, "InclusiveNamespaces") || value(method, "Algorithm") != excC14N || len(c.ChildElements()) != 0 {
			return false
		}
	}
	return len(method.ChildElements()) <= 1
}

// errNotSigned is the error of a signature that no key made.
var errNotSigned = errors.New("its signature is by none of the keys in the identity provider's metadata")

// verified returns what a signature of el covers, read anew from the very bytes
// whose digest was signed. What el says about the key is not looked at.
func verified(el *etree.Element, certs []*x509.Certificate, now time.Time) (*etree.Element, error) {
	signature := only(el, nsSignature, "Signature")
	if signature == nil {
		return nil, errors.New("has no signature of its own")
	}
	if err := checkProfile(signature); err != nil {
		return nil, err
	}
	ecdsaSigned := strings.Contains(value(signature.FindElement("./SignedInfo/SignatureMethod"), "Algorithm"), "#ecdsa-")
	el = detach(el)
	signature = only(el, nsSignature, "Signature")
	if info := only(signature, nsSignature, "KeyInfo"); info != nil {
		signature.RemoveChild(info)
	}
	sum, err := signatureValue(only(signature, nsSignature, "SignatureValue"))
	if err != nil {
		return nil, err
	}
	expired := false
	for _, cert := range certs {
		key, isECDSA := cert.PublicKey.(*ecdsa.PublicKey)
		if isECDSA != ecdsaSigned {
			continue
		}
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			expired = true
			continue
		}
		given := sum
		if isECDSA {
			if given, err = ecdsaASN1(sum, key); err != nil {
				continue
			}
		}
		only(signature, nsSignature, "SignatureValue").SetText(base64.StdEncoding.EncodeToString(given))
		if out := validated(el, cert, now); out != nil {
			return out, nil
		}
	}
	if expired {
		return nil, errors.New("its signature is by none of the keys in the identity provider's metadata whose certificates have not expired")
	}
	return nil, errNotSigned
}

// validated is what a certificate's key signed of el; nil if it signed nothing.
func validated(el *etree.Element, cert *x509.Certificate, now time.Time) *etree.Element {
	check := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{cert}})
	check.IdAttribute = "ID"
	check.Clock = dsig.NewFakeClockAt(now)
	out, err := check.Validate(el)
	if err != nil || out == nil || !is(out, el.NamespaceURI(), el.Tag) || value(out, "ID") != value(el, "ID") {
		return nil
	}
	return out
}

func signatureValue(el *etree.Element) ([]byte, error) {
	s, ok := text(el)
	if !ok {
		return nil, errors.New("its signature cannot be read")
	}
	out, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		return nil, errors.New("its signature cannot be read")
	}
	return out, nil
}

// ecdsaASN1 turns a signature as XML has it, two numbers side by side, into the form
// that the standard library reads.
func ecdsaASN1(sum []byte, key *ecdsa.PublicKey) ([]byte, error) {
	size := (key.Curve.Params().BitSize + 7) / 8
	if len(sum) != 2*size {
		return nil, errNotSigned
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sum[:size]), new(big.Int).SetBytes(sum[size:])})
}
