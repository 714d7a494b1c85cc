package saml

import (
	"errors"
	"slices"
	"time"

	"github.com/beevik/etree"
)

// assertion is what a verified assertion says. It is made of nothing but the bytes
// that the signature covers.
type assertion struct {
	id, issuer string
	issued     time.Time

	nameID    string
	transient bool // the NameID is another at every sign-in

	recipient, inResponseTo string
	confirmed               time.Time // until when it may be shown
	notBefore, notOnOrAfter time.Time

	audiences [][]string // one of each must be us

	authenticated time.Time
	session       string
	sessionEnd    time.Time // zero: it does not say
	context       string

	attributes map[string][]string
	complex    map[string]bool // attributes with a value that is not text
}

// The parts that an assertion may have. One that is not known could take back what
// the others say.
var (
	assertionParts = []string{"Issuer", "Subject", "Conditions", "AuthnStatement", "AttributeStatement"}
	conditionParts = []string{"AudienceRestriction", "OneTimeUse", "ProxyRestriction"}
)

const (
	bearer          = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
	transientFormat = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
	maxText         = 4096
)

func readAssertion(el *etree.Element) (*assertion, error) {
	a := &assertion{id: value(el, "ID")}
	if value(el, "Version") != "2.0" || !isID(a.id) {
		return nil, errors.New("is not one of SAML 2.0")
	}
	for _, c := range el.ChildElements() {
		if c.NamespaceURI() != nsAssertion || !slices.Contains(assertionParts, c.Tag) {
			return nil, errors.New("holds a part that is not understood here")
		}
	}
	var err error
	if a.issued, err = parseTime(value(el, "IssueInstant")); err != nil {
		return nil, errors.New("does not say when it was made")
	}
	var ok bool
	if a.issuer, ok = issuerOf(el); !ok {
		return nil, errors.New("does not say clearly who made it")
	}
	for _, read := range []func(*etree.Element) error{a.readSubject, a.readConditions, a.readAuthentication, a.readAttributes} {
		if err := read(el); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *assertion) readSubject(el *etree.Element) error {
	subject := only(el, nsAssertion, "Subject")
	if subject == nil {
		return errors.New("does not have exactly one subject")
	}
	name := only(subject, nsAssertion, "NameID")
	if name == nil {
		return errors.New("does not name its subject by exactly one NameID that is not encrypted by itself")
	}
	var ok bool
	if a.nameID, ok = text(name); !ok || !isName(a.nameID) {
		return errors.New("has a NameID that cannot be one")
	}
	a.transient = value(name, "Format") == transientFormat
	// A name that is only good together with another is not the one that rules know.
	if by := value(name, "NameQualifier"); by != "" && by != a.issuer {
		return errors.New("has a NameID that another than its issuer gave")
	}
	confirmations := children(subject, nsAssertion, "SubjectConfirmation")
	if len(confirmations) != 1 || len(subject.ChildElements()) != 2 || value(confirmations[0], "Method") != bearer {
		return errors.New("is not confirmed for its bearer, and in no other way")
	}
	data := only(confirmations[0], nsAssertion, "SubjectConfirmationData")
	if data == nil || len(confirmations[0].ChildElements()) != 1 || len(data.ChildElements()) != 0 {
		return errors.New("does not say clearly for whom it is confirmed")
	}
	a.recipient, a.inResponseTo = value(data, "Recipient"), value(data, "InResponseTo")
	var err error
	if a.confirmed, err = parseTime(value(data, "NotOnOrAfter")); err != nil {
		return errors.New("does not say until when it is confirmed")
	}
	if text, there := attr(data, "NotBefore"); there {
		if a.notBefore, err = parseTime(text); err != nil {
			return errors.New("does not say clearly from when it is confirmed")
		}
	}
	return nil
}

func (a *assertion) readConditions(el *etree.Element) error {
	conditions := only(el, nsAssertion, "Conditions")
	if conditions == nil {
		return errors.New("does not have conditions exactly once")
	}
	var err error
	if a.notOnOrAfter, err = parseTime(value(conditions, "NotOnOrAfter")); err != nil {
		return errors.New("does not say until when it is good")
	}
	if text, there := attr(conditions, "NotBefore"); there {
		from, err := parseTime(text)
		if err != nil {
			return errors.New("does not say clearly from when it is good")
		}
		if from.After(a.notBefore) {
			a.notBefore = from
		}
	}
	for _, c := range conditions.ChildElements() {
		if c.NamespaceURI() != nsAssertion || !slices.Contains(conditionParts, c.Tag) {
			return errors.New("has a condition that is not understood here")
		}
		if c.Tag != "AudienceRestriction" {
			continue
		}
		var group []string
		for _, audience := range c.ChildElements() {
			s, ok := text(audience)
			if !ok || !is(audience, nsAssertion, "Audience") {
				return errors.New("does not say clearly whom it is for")
			}
			group = append(group, s)
		}
		a.audiences = append(a.audiences, group)
	}
	return nil
}

func (a *assertion) readAuthentication(el *etree.Element) error {
	statement := only(el, nsAssertion, "AuthnStatement")
	if statement == nil {
		return errors.New("does not say exactly once how its subject signed in")
	}
	var err error
	if a.authenticated, err = parseTime(value(statement, "AuthnInstant")); err != nil {
		return errors.New("does not say when its subject signed in")
	}
	if text, there := attr(statement, "SessionNotOnOrAfter"); there {
		if a.sessionEnd, err = parseTime(text); err != nil {
			return errors.New("does not say clearly when the session ends")
		}
	}
	if a.session = value(statement, "SessionIndex"); len(a.session) > maxText {
		return errors.New("names a session that cannot be one")
	}
	context := only(statement, nsAssertion, "AuthnContext")
	if context == nil {
		return errors.New("does not say exactly once how its subject signed in")
	}
	classes := children(context, nsAssertion, "AuthnContextClassRef")
	if len(classes) > 1 {
		return errors.New("names several classes of authentication")
	}
	for _, class := range classes {
		var ok bool
		if a.context, ok = text(class); !ok || len(a.context) > maxText {
			return errors.New("names a class of authentication that cannot be one")
		}
	}
	return nil
}

func (a *assertion) readAttributes(el *etree.Element) error {
	a.attributes, a.complex = map[string][]string{}, map[string]bool{}
	for _, statement := range children(el, nsAssertion, "AttributeStatement") {
		for _, attribute := range statement.ChildElements() {
			name := value(attribute, "Name")
			if !is(attribute, nsAssertion, "Attribute") || name == "" || len(name) > maxText {
				return errors.New("holds an attribute that cannot be read, or is encrypted by itself")
			}
			// An attribute may be there several times; its values are those of all.
			for _, v := range attribute.ChildElements() {
				s, ok := text(v)
				switch {
				case !is(v, nsAssertion, "AttributeValue"):
					return errors.New("holds an attribute that cannot be read")
				case !ok:
					a.complex[name] = true
				case len(s) > maxText:
					return errors.New("holds an attribute with a value longer than 4096 bytes")
				default:
					a.attributes[name] = append(a.attributes[name], s)
				}
			}
		}
	}
	return nil
}

// isName tells whether s can name somebody: not empty, and nothing in it that a
// reader would not see.
func isName(s string) bool {
	if s == "" || len(s) > 1024 {
		return false
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd || r >= 0x2028 && r <= 0x202e || r >= 0x200b && r <= 0x200f || r >= 0x2066 && r <= 0x2069 || r == 0xfeff {
			return false
		}
	}
	return true
}
