package saml_test

import (
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
)

func TestBindings(t *testing.T) { attackAll(t, bindingAttacks()) }

func bindingAttacks() map[string]attack {
	change := func(path string, f func(*etree.Element)) func(*samltest.Answer) {
		return func(a *samltest.Answer) { a.Change = func(el *etree.Element) { f(find(el, path)) } }
	}
	set := func(path, name, value string) func(*samltest.Answer) {
		return change(path, func(el *etree.Element) { el.CreateAttr(name, value) })
	}
	drop := func(path, name string) func(*samltest.Answer) {
		return change(path, func(el *etree.Element) { el.RemoveAttr(name) })
	}
	solicited := map[string]any{"allow_unsolicited": false}
	q1 := identity.Expect{InResponseTo: []string{"_q1"}}
	return map[string]attack{
		"another audience":                     {say: func(a *samltest.Answer) { a.Audience = "https://other.example" }, why: "another audience"},
		"the audience of another organization": {say: func(a *samltest.Answer) { a.Audience = strings.Replace(audience, "alpha", "bravo", 1) }, why: "another audience"},
		"the audience of another provider":     {say: func(a *samltest.Answer) { a.Audience = strings.Replace(audience, "01J", "01K", 1) }, why: "another audience"},
		"our audience and no other's": {say: change("//Conditions", func(el *etree.Element) {
			el.CreateElement("saml:AudienceRestriction").CreateElement("saml:Audience").SetText("https://other.example")
		}), why: "another audience"},
		"no audience":                                 {say: change("//AudienceRestriction", remove), why: "whom it is for"},
		"an audience that begins as ours":             {say: func(a *samltest.Answer) { a.Audience = audience + ".evil" }, why: "another audience"},
		"another recipient":                           {say: set("//SubjectConfirmationData", "Recipient", "https://other.example/acs"), why: "another recipient"},
		"no recipient":                                {say: drop("//SubjectConfirmationData", "Recipient"), why: "another recipient"},
		"another destination":                         {tree: func(root *etree.Element) { root.CreateAttr("Destination", "https://other.example/acs") }, why: "another destination"},
		"no destination":                              {tree: func(root *etree.Element) { root.RemoveAttr("Destination") }, why: "another destination"},
		"the destination of another organization":     {tree: func(root *etree.Element) { root.CreateAttr("Destination", strings.Replace(acs, "alpha", "bravo", 1)) }, why: "another destination"},
		"another issuer of the assertion":             {say: change("./Issuer", func(el *etree.Element) { el.SetText("https://other.example") }), why: "another issuer"},
		"another issuer of the response":              {tree: func(root *etree.Element) { find(root, "./Issuer").SetText("https://other.example") }, why: "another issuer"},
		"no issuer of the assertion":                  {say: change("./Issuer", remove), why: "who made it"},
		"an answer to a request of another's":         {say: func(a *samltest.Answer) { a.InResponseTo = "_q2" }, expect: q1, why: "another request"},
		"an answer to a request that was not made":    {say: func(a *samltest.Answer) { a.InResponseTo = "_q2" }, why: "was not made here"},
		"nobody asked, and somebody must":             {config: solicited, why: "answers no request"},
		"nobody asked, and it is taken for an answer": {expect: q1, why: "another request"},
		"an answer whose assertion answers another": {say: func(a *samltest.Answer) {
			a.InResponseTo = "_q1"
			a.ChangeResponse = func(root *etree.Element) { root.CreateAttr("InResponseTo", "_q2") }
		}, expect: identity.Expect{InResponseTo: []string{"_q1", "_q2"}}, why: "another request than its assertion"},
		"expired":       {say: func(a *samltest.Answer) { a.Now = now.Add(-6 * time.Minute) }, why: "has expired"},
		"not yet valid": {say: func(a *samltest.Answer) { a.Now = now.Add(time.Minute) }, why: "not yet valid"},
		"expired, though it says that it is good for long": {say: func(a *samltest.Answer) {
			a.Now = now.Add(-62 * time.Minute)
			a.Change = func(el *etree.Element) {
				find(el, "//Conditions").CreateAttr("NotOnOrAfter", "2030-01-01T00:00:00Z")
				find(el, "//SubjectConfirmationData").CreateAttr("NotOnOrAfter", "2030-01-01T00:00:00Z")
			}
		}, why: "has expired"},
		"no longer confirmed":                {say: set("//SubjectConfirmationData", "NotOnOrAfter", "2026-03-04T05:00:00Z"), why: "has expired"},
		"not yet confirmed":                  {say: set("//SubjectConfirmationData", "NotBefore", "2026-03-04T06:00:00Z"), why: "not yet valid"},
		"conditions that have ended":         {say: set("//Conditions", "NotOnOrAfter", "2026-03-04T05:00:00Z"), why: "has expired"},
		"conditions to come":                 {say: set("//Conditions", "NotBefore", "2026-03-04T06:00:00Z"), why: "not yet valid"},
		"without an end":                     {say: drop("//Conditions", "NotOnOrAfter"), why: "until when it is good"},
		"confirmed without an end":           {say: drop("//SubjectConfirmationData", "NotOnOrAfter"), why: "until when it is confirmed"},
		"a time that is none":                {say: set("//Conditions", "NotOnOrAfter", "tomorrow"), why: "until when it is good"},
		"a session that has ended":           {say: func(a *samltest.Answer) { a.SessionEnd = now.Add(-time.Hour) }, why: "has ended"},
		"a session that ended, as we count":  {config: map[string]any{"max_session": "1m"}, say: func(a *samltest.Answer) { a.Now = now.Add(-2 * time.Minute) }, why: "has ended"},
		"a sign-in to come":                  {say: set("//AuthnStatement", "AuthnInstant", "2026-03-04T06:00:00Z"), why: "not yet valid"},
		"confirmed by a key":                 {say: set("//SubjectConfirmation", "Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"), why: "not confirmed for its bearer"},
		"confirmed twice":                    {say: change("//SubjectConfirmation", func(el *etree.Element) { el.Parent().AddChild(el.Copy()) }), why: "not confirmed for its bearer"},
		"two names":                          {say: change("//NameID", func(el *etree.Element) { el.Parent().AddChild(el.Copy()) }), why: "exactly one NameID"},
		"an empty name":                      {say: change("//NameID", func(el *etree.Element) { el.SetText(" ") }), why: "cannot be one"},
		"a name with marks that nobody sees": {say: func(a *samltest.Answer) { a.Subject = "gen\u200beral@example.mil" }, why: "cannot be one"},
		"a name that another gave":           {say: set("//NameID", "NameQualifier", "https://other.example"), why: "another than its issuer gave"},
		"a name for this sign-in only":       {say: func(a *samltest.Answer) { a.Format = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient" }, why: "transient"},
		"a condition that is not known":      {say: change("//Conditions", func(el *etree.Element) { el.CreateElement("saml:Condition") }), why: "a condition that is not understood"},
		"a part that is not known":           {say: change("//Conditions", func(el *etree.Element) { el.Parent().CreateElement("saml:Advice") }), why: "a part that is not understood"},
		"no statement of a sign-in":          {say: change("//AuthnStatement", remove), why: "how its subject signed in"},
		"two statements of a sign-in":        {say: change("//AuthnStatement", func(el *etree.Element) { el.Parent().AddChild(el.Copy()) }), why: "how its subject signed in"},
		"another version":                    {say: set(".", "Version", "1.1"), why: "not one of SAML 2.0"},
		"attributes beyond the limit": {say: func(a *samltest.Answer) {
			a.Attributes = map[string][]string{"a": {strings.Repeat("a", 4000)}, "b": {strings.Repeat("a", 4000)}, "c": {strings.Repeat("a", 4000)}, "d": {strings.Repeat("a", 4000)}, "e": {strings.Repeat("a", 4000)}}
		}, why: "more than 16384 bytes"},
		"no subject attribute": {config: map[string]any{"attributes": map[string]any{"subject": "uid"}}, why: "exactly one value"},
		"two subject attributes": {config: map[string]any{"attributes": map[string]any{"subject": "uid"}}, say: func(a *samltest.Answer) {
			a.Attributes = map[string][]string{"uid": {"device-7", victim}}
		}, why: "exactly one value"},
		"a mapped attribute that is no text": {config: map[string]any{"attributes": map[string]any{"groups": []string{"groups"}}}, say: func(a *samltest.Answer) {
			a.Attributes = map[string][]string{"groups": {""}}
			a.Change = func(el *etree.Element) { find(el, "//AttributeValue").CreateElement("saml:b").SetText("admin") }
		}, why: "not text"},
	}
}
