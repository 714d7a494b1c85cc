package saml

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beevik/etree"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Decode returns the XML of a response that is kept as XML or, as browsers carry
// it, in base64.
func Decode(in []byte) ([]byte, error) {
	in = bytes.TrimSpace(bytes.TrimPrefix(in, []byte("\xef\xbb\xbf")))
	if len(in) > 2*MaxResponse {
		return nil, fault.TooLarge.New("the SAML response is longer than %d bytes", MaxResponse)
	}
	if bytes.HasPrefix(in, []byte("<")) {
		return in, nil
	}
	out, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(in)), ""))
	if err != nil || len(out) == 0 {
		return nil, fault.Malformed.New("the SAML response is neither XML nor base64")
	}
	return out, nil
}

// Claimed is what an unverified response says of itself. It is good for finding
// out which provider must verify it, and for nothing else.
type Claimed struct {
	Issuer       string
	InResponseTo string
}

// Peek reads whose response it claims to be.
func Peek(response []byte) (Claimed, error) {
	root, err := messageLimits.read(response)
	if err != nil {
		return Claimed{}, fault.Unauthenticated.New("the response %s", err)
	}
	out := Claimed{InResponseTo: value(root, "InResponseTo")}
	issuer := only(root, nsAssertion, "Issuer")
	if a := only(root, nsAssertion, "Assertion"); issuer == nil && a != nil {
		issuer = only(a, nsAssertion, "Issuer")
	}
	if issuer != nil {
		out.Issuer, _ = text(issuer)
	}
	if !is(root, nsProtocol, "Response") || !isEntityID(out.Issuer) {
		return Claimed{}, fault.Unauthenticated.New("the response does not say who made it")
	}
	return out, nil
}

// IssuerOf is whom a proof names as its issuer.
func IssuerOf(p identity.Proof) (string, error) {
	said, err := Peek(p.SAML)
	return said.Issuer, err
}

// checkShape returns nil for a response with exactly one assertion, plain or
// encrypted, in the one place where it belongs, and signatures nowhere but in the
// response and in the assertion. All wrapping of signatures needs more than that.
func checkShape(root *etree.Element) error {
	if !is(root, nsProtocol, "Response") {
		return errors.New("is no response")
	}
	assertions := 0
	err := walk(root, func(el *etree.Element) error {
		switch el.Tag {
		case "Response":
			if el != root {
				return errors.New("holds another response")
			}
		case "Assertion", "EncryptedAssertion":
			if assertions++; assertions > 1 {
				return errors.New("holds more than one assertion")
			}
			if el.Parent() != root || el.NamespaceURI() != nsAssertion {
				return errors.New("holds an assertion where none belongs")
			}
		case "Signature":
			parent := el.Parent()
			if parent != root && (!is(parent, nsAssertion, "Assertion") || parent.Parent() != root) {
				return errors.New("holds a signature where none belongs")
			}
			if only(parent, nsSignature, "Signature") != el {
				return errors.New("holds a signature that is not the one of what it stands in")
			}
		case "Object", "Manifest", "RetrievalMethod":
			return errors.New("holds a signature with parts that are not accepted")
		}
		return nil
	})
	if err == nil && assertions == 0 {
		err = errors.New("holds no assertion")
	}
	return err
}

// checkAssertionShape is checkShape for an assertion that was encrypted, and so
// was not seen there.
func checkAssertionShape(root *etree.Element) error {
	if !is(root, nsAssertion, "Assertion") {
		return errors.New("holds something encrypted that is no assertion")
	}
	return walk(root, func(el *etree.Element) error {
		switch el.Tag {
		case "Response", "Assertion", "EncryptedAssertion":
			if el != root {
				return errors.New("holds an assertion where none belongs")
			}
		case "Signature":
			if el.Parent() != root || only(root, nsSignature, "Signature") != el {
				return errors.New("holds a signature where none belongs")
			}
		case "Object", "Manifest", "RetrievalMethod":
			return errors.New("holds a signature with parts that are not accepted")
		}
		return nil
	})
}

// envelope is what is read of the response around the assertion. Where the response
// is not signed somebody may have changed it: it can only make a good assertion
// refused, never another one accepted.
type envelope struct {
	destination, inResponseTo string
	issued                    time.Time
	issuer                    string // empty: it does not say
	signed                    bool
}

// open returns the assertion of a response as it was signed, and what is around it.
func (v *Verifier) open(response []byte, m *Metadata, now time.Time) (envelope, *etree.Element, error) {
	root, err := messageLimits.read(response)
	if err != nil {
		return envelope{}, nil, fmt.Errorf("the response %w", err)
	}
	if err := checkShape(root); err != nil {
		return envelope{}, nil, fmt.Errorf("the response %w", err)
	}
	signed := only(root, nsSignature, "Signature") != nil
	if signed {
		if root, err = verified(root, m.Signing, now); err != nil {
			return envelope{}, nil, fmt.Errorf("the response: %w", err)
		}
	}
	around, err := readEnvelope(root)
	if err != nil {
		return envelope{}, nil, fmt.Errorf("the response %w", err)
	}
	around.signed = signed
	assertion := only(root, nsAssertion, "Assertion")
	if sealed := only(root, nsAssertion, "EncryptedAssertion"); sealed != nil {
		if assertion, err = decrypt(sealed, signed, v.keys); err != nil {
			return envelope{}, nil, fmt.Errorf("the response %w", err)
		}
		if err := checkAssertionShape(assertion); err != nil {
			return envelope{}, nil, fmt.Errorf("the response %w", err)
		}
	} else if v.config.RequireEncryption {
		return envelope{}, nil, errors.New("the assertion is not encrypted, and this provider's must be")
	}
	if assertion == nil {
		return envelope{}, nil, errors.New("the response holds no assertion")
	}
	if assertion, err = verified(assertion, m.Signing, now); err != nil {
		return envelope{}, nil, fmt.Errorf("the assertion: %w", err)
	}
	return around, assertion, nil
}

func readEnvelope(root *etree.Element) (envelope, error) {
	out := envelope{destination: value(root, "Destination"), inResponseTo: value(root, "InResponseTo")}
	if value(root, "Version") != "2.0" || value(root, "ID") == "" {
		return out, errors.New("is not one of SAML 2.0")
	}
	var err error
	if out.issued, err = parseTime(value(root, "IssueInstant")); err != nil {
		return out, errors.New("does not say when it was made")
	}
	if issuers := children(root, nsAssertion, "Issuer"); len(issuers) > 0 {
		var ok bool
		if out.issuer, ok = issuerOf(root); !ok {
			return out, errors.New("does not say clearly who made it")
		}
	}
	status := only(root, nsProtocol, "Status")
	if status == nil {
		return out, errors.New("has no status")
	}
	code := only(status, nsProtocol, "StatusCode")
	if code == nil {
		return out, errors.New("has no status")
	}
	if value(code, "Value") != statusSuccess {
		return out, errors.New("says that the sign-in failed" + failure(code))
	}
	return out, nil
}

const statusSuccess = "urn:oasis:names:tc:SAML:2.0:status:Success"

// failure names the innermost status if it is one that SAML knows.
func failure(code *etree.Element) string {
	for {
		inner := only(code, nsProtocol, "StatusCode")
		if inner == nil {
			break
		}
		code = inner
	}
	name, ok := strings.CutPrefix(value(code, "Value"), "urn:oasis:names:tc:SAML:2.0:status:")
	if !ok || len(name) > 40 || strings.ContainsFunc(name, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }) {
		return ""
	}
	return " (" + name + ")"
}

// issuerOf is the one Issuer in an element.
func issuerOf(el *etree.Element) (string, bool) {
	issuer := only(el, nsAssertion, "Issuer")
	if issuer == nil {
		return "", false
	}
	if format, ok := attr(issuer, "Format"); ok && format != "urn:oasis:names:tc:SAML:2.0:nameid-format:entity" {
		return "", false
	}
	s, ok := text(issuer)
	return s, ok && isEntityID(s)
}
