package saml_test

import (
	"strings"
	"testing"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
)

func TestDocuments(t *testing.T) { attackAll(t, documentAttacks(t)) }

func documentAttacks(t *testing.T) map[string]attack {
	inside := func(what string) func(string) string {
		return func(s string) string { return strings.Replace(s, "<saml:Assertion", what+"<saml:Assertion", 1) }
	}
	before := func(what string) func(string) string { return func(s string) string { return what + s } }
	return map[string]attack{
		"a comment in the NameID": {
			say:  func(a *samltest.Answer) { a.Subject = victim + ".evil.example" },
			text: func(s string) string { return strings.Replace(s, victim+".evil", victim+"<!---->.evil", 1) }, why: "holds a comment",
		},
		"a comment in an encrypted NameID": {
			say: func(a *samltest.Answer) {
				a.Encrypt = certificate(t)
				a.ChangeSigned = func(el *etree.Element) { find(el, "//NameID").AddChild(etree.NewComment("")) }
			}, why: "cannot be decrypted",
		},
		"a processing instruction in the NameID": {text: func(s string) string { return strings.Replace(s, "device-7@", "device-7<?x?>@", 1) }, why: "holds a processing instruction"},
		"an element in the NameID": {
			say: func(a *samltest.Answer) {
				a.Change = func(el *etree.Element) { find(el, "//NameID").CreateElement("saml:b").SetText("x") }
			}, why: "has a NameID that cannot be one",
		},
		"an external entity": {
			text: func(s string) string {
				return `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + strings.Replace(s, "device-7@example.mil", "&x;", 1)
			}, why: "document type definition",
		},
		"an external subset": {text: before(`<!DOCTYPE r SYSTEM "http://169.254.169.254/latest">`), why: "document type definition"},
		"an entity bomb": {
			text: func(s string) string {
				return `<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>` + strings.Replace(s, "device-7@example.mil", "&b;", 1)
			}, why: "document type definition",
		},
		"an entity without a definition": {text: func(s string) string { return strings.Replace(s, "device-7@", "&nbsp;@", 1) }, why: "not well-formed"},
		"two elements with one ID": {
			say: func(a *samltest.Answer) {
				a.ID = "_a1"
				a.ChangeResponse = func(root *etree.Element) { root.CreateAttr("ID", "_a1") }
			}, why: "two elements with one ID",
		},
		"one ID in two spellings": {text: func(s string) string {
			id := s[strings.Index(s, `ID="_a`)+4:]
			return inside(`<x Id="` + id[:strings.IndexByte(id, '"')] + `"/>`)(s)
		}, why: "two elements with one ID"},
		"an attribute twice":                  {text: func(s string) string { return strings.Replace(s, `Version="2.0"`, `Version="2.0" Version="2.0"`, 1) }, why: "holds an attribute twice"},
		"an attribute twice, by two prefixes": {text: inside(`<x xmlns:a="urn:x" xmlns:b="urn:x" a:y="1" b:y="2"/>`), why: "holds an attribute twice"},
		"a prefix that is not declared":       {text: inside(`<x:y/>`), why: "prefix is not declared"},
		"a prefix declared twice":             {text: inside(`<x xmlns:a="urn:x" xmlns:a="urn:y"/>`), why: "declares a namespace"},
		"the prefix xml, redeclared":          {text: inside(`<x xmlns:xml="urn:x"/>`), why: "declares a namespace"},
		"a name of two colons":                {text: inside(`<saml:x:y/>`), why: "not well-formed"},
		"two documents":                       {text: func(s string) string { return s + s }, why: "not well-formed"},
		"text around the document":            {text: before("x"), why: "not well-formed"},
		"tags that cross":                     {text: inside(`<a><b></a></b>`), why: "not well-formed"},
		"cut off":                             {text: func(s string) string { return s[:len(s)-20] }, why: "not well-formed"},
		"another encoding":                    {text: before(`<?xml version="1.0" encoding="UTF-7"?>`), why: "not well-formed"},
		"bytes that are no text":              {text: inside("\xff"), why: "not well-formed"},
		"huge":                                {text: inside("<x>" + strings.Repeat("a", 256<<10) + "</x>"), why: "is too large"},
		"deep":                                {text: inside(strings.Repeat("<x>", 5000) + strings.Repeat("</x>", 5000)), why: "is too deep"},
		"of very many elements":               {text: inside(strings.Repeat("<x/>", 20_000)), why: "too many elements"},
		"an element of very many attributes":  {text: inside("<x" + manyAttributes(1000) + "/>"), why: "too many attributes"},
		"two assertions, both signed": {say: func(a *samltest.Answer) {
			a.ChangeResponse = func(root *etree.Element) {
				second := forge(withoutSignature(find(root, "./Assertion")), false)
				must(0, idp().Sign(second, dsig.RSASHA256SignatureMethod))
				root.AddChild(second)
			}
		}, why: "more than one assertion"},
		"no assertion": {tree: func(root *etree.Element) { remove(find(root, "./Assertion")) }, why: "holds no assertion"},
		"metadata": {text: func(string) string {
			return strings.Replace(idp().Metadata(), "<!-- as providers have it, with comments -->", "", 1)
		}, why: "is no response"},
		"nothing that is XML": {text: func(string) string { return "eyJhbGciOiJub25lIn0.e30." }, why: "not well-formed"},
		"a failed sign-in": {tree: func(root *etree.Element) {
			code := find(root, "//StatusCode")
			code.CreateAttr("Value", "urn:oasis:names:tc:SAML:2.0:status:Responder")
			code.CreateElement("samlp:StatusCode").CreateAttr("Value", "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed")
		}, why: "sign-in failed (AuthnFailed)"},
		"a failed sign-in with a text of its own": {tree: func(root *etree.Element) { find(root, "//StatusCode").CreateAttr("Value", victim) }, why: "sign-in failed"},
	}
}

func manyAttributes(n int) string {
	var out strings.Builder
	for i := range n {
		out.WriteString(" a" + strings.Repeat("b", i%50) + string(rune('a'+i%26)) + `="1"`)
	}
	return out.String()
}
