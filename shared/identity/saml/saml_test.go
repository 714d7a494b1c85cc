package saml_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml/xmlenc"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func TestClaims(t *testing.T) {
	a := answer()
	a.ID, a.SessionEnd = "_a1", now.Add(8*time.Hour)
	a.Class = "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI"
	a.Attributes = map[string][]string{
		"groups": {"/pilots", "/crew", "/pilots"}, "Role": {"operator"}, "memberOf": {"cn=all"}, "amr": {"mfa"},
		"unit": {"7"}, "edipi": {"1234567890", "0"}, "nothing": {},
	}
	v := verifier(t, map[string]any{"attributes": map[string]any{"groups": []string{"groups", "memberOf"}, "roles": []string{"Role"}, "amr": "amr"}})
	have, err := v.Verify(t.Context(), identity.Proof{SAML: respond(t, idp(), a)}, now)
	if err != nil {
		t.Fatal(err)
	}
	want := identity.Claims{
		Provider: "01J", Kind: identity.SAML, Issuer: issuer, Subject: "device-7@example.mil",
		Groups: []string{"/crew", "/pilots", "cn=all"}, Roles: []string{"operator"},
		Attributes: map[string]any{"unit": []any{"7"}, "edipi": []any{"0", "1234567890"}},
		ACR:        "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI", AMR: []string{"hwk", "mfa", "sc", "x509"},
		AuthenticatedAt: now, ExpiresAt: now.Add(8 * time.Hour), Session: "_s1", ID: "_a1", Once: true,
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// TestAccepted: what real providers differ in is no reason to refuse.
func TestAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		config map[string]any
		change func(*samltest.Answer)
		expect identity.Expect
	}{
		"the assertion signed alone":  {},
		"the response signed too":     {change: func(a *samltest.Answer) { a.SignResponse = true }},
		"with SHA-384":                {change: func(a *samltest.Answer) { a.Method = dsig.RSASHA384SignatureMethod }},
		"with SHA-512":                {change: func(a *samltest.Answer) { a.Method = dsig.RSASHA512SignatureMethod }},
		"encrypted":                   {change: func(a *samltest.Answer) { a.Encrypt = certificate(t) }},
		"encrypted, as it must be":    {config: map[string]any{"require_encryption": true}, change: func(a *samltest.Answer) { a.Encrypt = certificate(t) }},
		"encrypted with AES-128-GCM":  {change: func(a *samltest.Answer) { a.Encrypt, a.Cipher = certificate(t), xmlenc.AES128GCM }},
		"signed around encrypted CBC": {change: func(a *samltest.Answer) { a.Encrypt, a.Cipher, a.SignResponse = certificate(t), xmlenc.AES256CBC, true }},
		"an answer to the request":    {change: func(a *samltest.Answer) { a.InResponseTo = "_q1" }, expect: identity.Expect{InResponseTo: []string{"_q0", "_q1"}}},
		"an answer, where others are not allowed": {
			config: map[string]any{"allow_unsolicited": false},
			change: func(a *samltest.Answer) { a.InResponseTo = "_q1" }, expect: identity.Expect{InResponseTo: []string{"_q1"}},
		},
		"a clock that is ahead":  {change: func(a *samltest.Answer) { a.Now = now.Add(29 * time.Second) }},
		"a clock that is behind": {change: func(a *samltest.Answer) { a.Now = now.Add(-5*time.Minute - 29*time.Second) }},
		"no class of authentication": {change: func(a *samltest.Answer) {
			a.Change = func(el *etree.Element) { remove(el.FindElement("//AuthnContextClassRef")) }
		}},
		"nothing said of the key": {change: func(a *samltest.Answer) {
			a.ChangeSigned = func(el *etree.Element) { remove(el.FindElement("./Signature/KeyInfo")) }
		}},
		"only the key's name said": {change: func(a *samltest.Answer) {
			a.ChangeSigned = func(el *etree.Element) {
				info := el.FindElement("./Signature/KeyInfo")
				info.Child = nil
				info.CreateElement("ds:KeyName").SetText("idp-2026")
			}
		}},
		"one of two keys": {config: map[string]any{"metadata_xml": twoKeys()}, change: func(*samltest.Answer) {}},
		"several audiences": {change: func(a *samltest.Answer) {
			a.Change = func(el *etree.Element) {
				el.FindElement("//AudienceRestriction").CreateElement("saml:Audience").SetText("https://other.example")
			}
		}},
		"another entity id of ours": {config: map[string]any{"sp_entity_id": "urn:peat:alpha"}, change: func(a *samltest.Answer) { a.Audience = "urn:peat:alpha" }},
		"an attribute that is no text and not used": {change: func(a *samltest.Answer) {
			a.Attributes = map[string][]string{"eduPersonTargetedID": {""}}
			a.Change = func(el *etree.Element) { el.FindElement("//AttributeValue").CreateElement("saml:NameID").SetText("x") }
		}},
		"one attribute in several elements": {
			config: map[string]any{"attributes": map[string]any{"subject": "uid", "roles": []string{"Role"}}},
			change: func(a *samltest.Answer) {
				a.Format = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
				a.Attributes = map[string][]string{"uid": {"device-7@example.mil"}}
				a.Change = func(el *etree.Element) {
					for _, role := range []string{"a", "b"} {
						attribute := el.FindElement("//AttributeStatement").CreateElement("saml:Attribute")
						attribute.CreateAttr("Name", "Role")
						attribute.CreateElement("saml:AttributeValue").SetText(role)
					}
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := answer()
			if c.change != nil {
				c.change(&a)
			}
			claims, err := verifier(t, c.config).Verify(t.Context(), identity.Proof{SAML: respond(t, idp(), a), Expect: c.expect}, now)
			if err != nil {
				t.Fatal(err)
			}
			if claims.Subject != "device-7@example.mil" || claims.Issuer != issuer || claims.ID == "" {
				t.Errorf("%+v", claims)
			}
			if name == "one attribute in several elements" {
				if diff := cmp.Diff([]string{"a", "b"}, claims.Roles); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// twoKeys is metadata in which another key is before the one that signs, as while a
// provider replaces its key.
func twoKeys() string {
	text := idp().Metadata()
	key := text[strings.Index(text, "<md:KeyDescriptor"):strings.Index(text, "<md:SingleSignOn")]
	other := strings.Replace(key, base64Of(idp().Cert.Raw), base64Of(stranger().Cert.Raw), 1)
	return strings.Replace(text, key, other+key, 1)
}

func TestECDSA(t *testing.T) {
	p := must(samltest.NewECDSA(issuer))
	v := verifier(t, map[string]any{"metadata_xml": p.Metadata()})
	for _, method := range []string{dsig.ECDSASHA256SignatureMethod, dsig.ECDSASHA384SignatureMethod} {
		a := answer()
		a.Method, a.SignResponse = method, true
		if _, err := v.Verify(t.Context(), identity.Proof{SAML: respond(t, p, a)}, now); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	// A key of one kind is never tried for a method of the other.
	if _, err := v.Verify(t.Context(), identity.Proof{SAML: respond(t, idp(), answer())}, now); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("%v", err)
	}
}

func TestSession(t *testing.T) {
	for name, c := range map[string]struct {
		max  string
		end  time.Time
		want time.Time
	}{
		"the provider says":           {end: now.Add(time.Hour), want: now.Add(time.Hour)},
		"neither says":                {want: now.Add(12 * time.Hour)},
		"ours, since it says nothing": {max: "2h", want: now.Add(2 * time.Hour)},
		"ours is earlier":             {max: "2h", end: now.Add(3 * time.Hour), want: now.Add(2 * time.Hour)},
		"the provider's is earlier":   {max: "2h", end: now.Add(time.Hour), want: now.Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			a := answer()
			a.SessionEnd = c.end
			claims, err := verifier(t, map[string]any{"max_session": c.max}).Verify(t.Context(), identity.Proof{SAML: respond(t, idp(), a)}, now)
			if err != nil || !claims.ExpiresAt.Equal(c.want) {
				t.Errorf("%s, %v", claims.ExpiresAt, err)
			}
		})
	}
}

// TestReplay: a response is accepted as often as it is shown, by one who sees no more
// than the response, and says that it may be once. Whoever remembers its ID until the
// claims end has remembered it long enough.
func TestReplay(t *testing.T) {
	for name, end := range map[string]time.Time{"a long session": now.Add(time.Hour), "a short session": now.Add(time.Minute), "no session": {}} {
		t.Run(name, func(t *testing.T) {
			v := verifier(t, nil)
			a := answer()
			a.SessionEnd = end
			response := respond(t, idp(), a)
			first, err := v.Verify(t.Context(), identity.Proof{SAML: response}, now)
			if err != nil {
				t.Fatal(err)
			}
			second, err := v.Verify(t.Context(), identity.Proof{SAML: response}, now)
			if err != nil || first.ID != second.ID || first.ID == "" || !first.Once {
				t.Fatalf("%+v, %+v, %v", first, second, err)
			}
			if _, err := v.Verify(t.Context(), identity.Proof{SAML: response}, first.ExpiresAt); !errors.Is(err, fault.Unauthenticated) {
				t.Errorf("it is forgotten and accepted: %v", err)
			}
		})
	}
}

func TestPeek(t *testing.T) {
	a := answer()
	a.InResponseTo = "_q1"
	for name, c := range map[string]struct {
		in   []byte
		want saml.Claimed
		err  error
	}{
		"a response": {in: respond(t, idp(), a), want: saml.Claimed{Issuer: issuer, InResponseTo: "_q1"}},
		"no issuer but the assertion's": {
			in:   []byte(strings.Replace(string(respond(t, idp(), a)), "<saml:Issuer>"+issuer+"</saml:Issuer>", "", 1)),
			want: saml.Claimed{Issuer: issuer, InResponseTo: "_q1"},
		},
		"no issuer": {in: []byte(strings.ReplaceAll(string(respond(t, idp(), a)), "<saml:Issuer>"+issuer+"</saml:Issuer>", "")), err: fault.Unauthenticated},
		"metadata":  {in: []byte(idp().Metadata()), err: fault.Unauthenticated},
		"nothing":   {err: fault.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			have, err := saml.Peek(c.in)
			if diff := cmp.Diff(c.want, have); diff != "" || !errors.Is(err, c.err) {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

// remove takes an element out of its document.
func remove(el *etree.Element) { el.Parent().RemoveChild(el) }
