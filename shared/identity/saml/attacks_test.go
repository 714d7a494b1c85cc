package saml_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml/xmlenc"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
)

// victim is who the attacker wants to be taken for. No error may repeat it.
const victim = "general@example.mil"

// attack is what somebody does with a response that was really given to them.
type attack struct {
	config map[string]any
	expect identity.Expect
	by     *samltest.IdP // instead of the provider
	say    func(a *samltest.Answer)
	tree   func(root *etree.Element) // of the signed response
	text   func(response string) string
	why    string // what an administrator reads
}

// proof is what the attacker shows.
func (a attack) proof(t *testing.T) identity.Proof {
	t.Helper()
	said, by := answer(), a.by
	if a.say != nil {
		a.say(&said)
	}
	if by == nil {
		by = idp()
	}
	response := respond(t, by, said)
	if a.tree != nil {
		doc := etree.NewDocument()
		if err := doc.ReadFromBytes(response); err != nil {
			t.Fatal(err)
		}
		a.tree(doc.Root())
		response, _ = doc.WriteToBytes()
	}
	if a.text != nil {
		changed := []byte(a.text(string(response)))
		if bytes.Equal(changed, response) {
			t.Fatal("the attack changes nothing")
		}
		response = changed
	}
	return identity.Proof{SAML: response, Expect: a.expect}
}

func (a attack) run(t *testing.T) {
	t.Helper()
	why := identitytest.Refuses(t, verifier(t, a.config), a.proof(t), now)
	if !strings.Contains(why, a.why) || a.why == "" {
		t.Errorf("says %q, not %q", why, a.why)
	}
	if strings.Contains(why, victim) || strings.Contains(why, "device-7") {
		t.Errorf("repeats the response: %s", why)
	}
}

// TestPromises: one verifier keeps what all promise, while it is shown every attack
// that needs no settings of its own.
func TestPromises(t *testing.T) {
	bad := map[string]identity.Proof{}
	for _, all := range []map[string]attack{wrappings(), signatureAttacks(t), documentAttacks(t), bindingAttacks(), encryptionAttacks(t)} {
		for name, a := range all {
			if a.config == nil {
				bad[name] = a.proof(t)
			}
		}
	}
	a := answer()
	a.ID = "_a1"
	a.Attributes = map[string][]string{"unit": {"7"}}
	identitytest.Run(t, identitytest.Suite{
		Open: func(*testing.T) (identity.Verifier, error) { return saml.Open(opening(nil)) }, Now: now,
		Good: identity.Proof{SAML: respond(t, idp(), a)},
		Want: identity.Claims{
			Provider: "01J", Kind: identity.SAML, Issuer: issuer, Subject: "device-7@example.mil", Attributes: map[string]any{"unit": []any{"7"}},
			ACR: "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport", AMR: []string{"pwd"},
			AuthenticatedAt: now, ExpiresAt: now.Add(12 * time.Hour), Session: "_s1", ID: "_a1", Once: true,
		},
		Bad: bad,
	})
}

func attackAll(t *testing.T, attacks map[string]attack) {
	t.Helper()
	for name, a := range attacks {
		t.Run(name, a.run)
	}
}

// find returns the one element at a path.
func find(root *etree.Element, path string) *etree.Element { return root.FindElement(path) }

// forge makes a copy of an assertion that names the victim, under an ID of its own
// or, as some verifiers need to be tricked, under the same.
func forge(assertion *etree.Element, sameID bool) *etree.Element {
	evil := assertion.Copy()
	evil.FindElement("./Subject/NameID").SetText(victim)
	if !sameID {
		evil.CreateAttr("ID", "_evil")
	}
	return evil
}

func withoutSignature(el *etree.Element) *etree.Element {
	out := el.Copy()
	if s := out.FindElement("./Signature"); s != nil {
		out.RemoveChild(s)
	}
	return out
}

// TestSignatureWrapping: XSW1 to XSW8, as they have been known since "On Breaking
// SAML" (2012). Each is tried with IDs of its own and with the same.
func TestSignatureWrapping(t *testing.T) { attackAll(t, wrappings()) }

func wrappings() map[string]attack {
	signed := func(a *samltest.Answer) { a.SignResponse = true }
	evilResponse := func(root *etree.Element, same bool) {
		if !same {
			root.CreateAttr("ID", "_evil")
		}
		find(root, "./Assertion/Subject/NameID").SetText(victim)
	}
	variants := map[string]struct {
		say  func(*samltest.Answer)
		tree func(root *etree.Element, same bool)
	}{
		"XSW1 the response inside the signature of a forged one": {say: signed, tree: func(root *etree.Element, same bool) {
			original := withoutSignature(root)
			evilResponse(root, same)
			find(root, "./Signature").AddChild(original)
		}},
		"XSW2 the response before the signature of a forged one": {say: signed, tree: func(root *etree.Element, same bool) {
			original := withoutSignature(root)
			evilResponse(root, same)
			root.InsertChildAt(find(root, "./Signature").Index(), original)
		}},
		"XSW3 a forged assertion before the signed one": {tree: func(root *etree.Element, same bool) {
			assertion := find(root, "./Assertion")
			root.InsertChildAt(assertion.Index(), withoutSignature(forge(assertion, same)))
		}},
		"XSW4 the signed assertion inside a forged one": {tree: func(root *etree.Element, same bool) {
			assertion := find(root, "./Assertion")
			evil := withoutSignature(forge(assertion, same))
			remove(assertion)
			evil.AddChild(assertion)
			root.AddChild(evil)
		}},
		"XSW5 a forged assertion with the signature, and the signed one behind": {tree: func(root *etree.Element, same bool) {
			assertion := find(root, "./Assertion")
			original := withoutSignature(assertion)
			find(assertion, "./Subject/NameID").SetText(victim)
			if !same {
				assertion.CreateAttr("ID", "_evil")
			}
			root.AddChild(original)
		}},
		"XSW6 the signed assertion inside the signature of a forged one": {tree: func(root *etree.Element, same bool) {
			assertion := find(root, "./Assertion")
			original := withoutSignature(assertion)
			find(assertion, "./Subject/NameID").SetText(victim)
			if !same {
				assertion.CreateAttr("ID", "_evil")
			}
			find(assertion, "./Signature").AddChild(original)
		}},
		"XSW7 a forged assertion in the extensions": {tree: func(root *etree.Element, same bool) {
			assertion := find(root, "./Assertion")
			extensions := etree.NewElement("samlp:Extensions")
			extensions.AddChild(withoutSignature(forge(assertion, same)))
			root.InsertChildAt(assertion.Index(), extensions)
		}},
		"XSW8 the signed assertion in an object of the signature": {tree: func(root *etree.Element, same bool) {
			assertion := find(root, "./Assertion")
			original := withoutSignature(assertion)
			find(assertion, "./Subject/NameID").SetText(victim)
			if !same {
				assertion.CreateAttr("ID", "_evil")
			}
			find(assertion, "./Signature").CreateElement("ds:Object").AddChild(original)
		}},
		"a forged assertion with the signature in a place where it is not looked for": {tree: func(root *etree.Element, same bool) {
			assertion := find(root, "./Assertion")
			evil := forge(assertion, same)
			signature := find(evil, "./Signature")
			remove(signature)
			find(evil, "./Subject").AddChild(signature)
			remove(assertion)
			root.AddChild(evil)
		}},
		"the signed assertion in another namespace's element of the same name": {tree: func(root *etree.Element, same bool) {
			assertion := find(root, "./Assertion")
			evil := forge(assertion, same)
			remove(assertion)
			holder := etree.NewElement("x:Assertion")
			holder.CreateAttr("xmlns:x", "urn:x")
			holder.AddChild(assertion)
			root.AddChild(evil)
			root.AddChild(holder)
		}},
	}
	out := map[string]attack{}
	for name, v := range variants {
		for suffix, same := range map[string]bool{"": false, ", with the same ID": true} {
			out[name+suffix] = attack{say: v.say, tree: func(root *etree.Element) { v.tree(root, same) }, why: " holds "}
		}
	}
	return out
}

func TestSignatures(t *testing.T) { attackAll(t, signatureAttacks(t)) }

func signatureAttacks(t *testing.T) map[string]attack {
	changeName := func(root *etree.Element) { find(root, "//NameID").SetText(victim) }
	return map[string]attack{
		"another subject":                               {tree: changeName, why: "by none of the keys"},
		"another subject in a signed response":          {say: func(a *samltest.Answer) { a.SignResponse = true }, tree: changeName, why: "by none of the keys"},
		"an unsigned assertion in an unsigned response": {say: func(a *samltest.Answer) { a.Unsigned = true }, why: "has no signature of its own"},
		"an unsigned assertion in a signed response":    {say: func(a *samltest.Answer) { a.Unsigned, a.SignResponse = true, true }, why: "has no signature of its own"},
		"an unsigned assertion, encrypted, in a signed response": {
			say: func(a *samltest.Answer) { a.Unsigned, a.SignResponse, a.Encrypt = true, true, certificate(t) }, why: "has no signature of its own",
		},
		"an assertion encrypted by the attacker": {say: func(a *samltest.Answer) { a.Unsigned, a.Encrypt = true, certificate(t) }, why: "has no signature of its own"},
		"the signature stripped":                 {tree: func(root *etree.Element) { remove(find(root, "./Assertion/Signature")) }, why: "has no signature of its own"},
		"the response's signature stripped, and the response changed": {
			say: func(a *samltest.Answer) { a.SignResponse = true },
			tree: func(root *etree.Element) {
				remove(find(root, "./Signature"))
				root.CreateAttr("InResponseTo", "_q1")
			}, why: "another request than its assertion",
		},
		"the response's signature is another's": {
			say: func(a *samltest.Answer) {
				a.ChangeResponse = func(root *etree.Element) { must(0, stranger().Sign(root, dsig.RSASHA256SignatureMethod)) }
			}, why: "the response: its signature is by none of the keys",
		},
		"a key that is only in KeyInfo": {by: stranger(), why: "by none of the keys"},
		"a key that is only in KeyInfo, under the provider's certificate": {by: stranger(), tree: func(root *etree.Element) {
			find(root, "//X509Certificate").SetText(base64.StdEncoding.EncodeToString(idp().Cert.Raw))
		}, why: "by none of the keys"},
		"SHA-1":              {say: func(a *samltest.Answer) { a.Method = dsig.RSASHA1SignatureMethod }, why: "algorithm that is not accepted"},
		"an empty signature": {tree: func(root *etree.Element) { find(root, "//SignatureValue").SetText("") }, why: "by none of the keys"},
		"a digest of SHA-1": {tree: func(root *etree.Element) {
			find(root, "//DigestMethod").CreateAttr("Algorithm", "http://www.w3.org/2000/09/xmldsig#sha1")
		}, why: "digest that is not accepted"},
		"an algorithm of none": {tree: func(root *etree.Element) { find(root, "//SignatureMethod").CreateAttr("Algorithm", "none") }, why: "algorithm that is not accepted"},
		"a keyed hash with the provider's certificate as the key": {
			tree: func(root *etree.Element) {
				signHMAC(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp().Cert.Raw}))
			}, why: "algorithm that is not accepted",
		},
		"two signatures": {tree: func(root *etree.Element) {
			s := find(root, "./Assertion/Signature")
			s.Parent().AddChild(s.Copy())
		}, why: "not the one of what it stands in"},
		"two references": {tree: func(root *etree.Element) {
			r := find(root, "//Reference")
			r.Parent().AddChild(r.Copy())
		}, why: "does not sign exactly one thing"},
		"a reference to the whole document": {tree: func(root *etree.Element) { find(root, "//Reference").CreateAttr("URI", "") }, why: "not over the element that it stands in"},
		"a reference to elsewhere":          {tree: func(root *etree.Element) { find(root, "//Reference").CreateAttr("URI", "https://evil.example/a.xml") }, why: "not over the element that it stands in"},
		"a reference by XPointer":           {tree: func(root *etree.Element) { find(root, "//Reference").CreateAttr("URI", "#xpointer(/)") }, why: "not over the element that it stands in"},
		"a transform by XSLT":               {tree: transform("http://www.w3.org/TR/1999/REC-xslt-19991116"), why: "other transforms"},
		"a transform by XPath":              {tree: transform("http://www.w3.org/TR/1999/REC-xpath-19991116"), why: "other transforms"},
		"a third transform": {tree: func(root *etree.Element) {
			find(root, "//Transforms").CreateElement("ds:Transform").CreateAttr("Algorithm", "http://www.w3.org/2000/09/xmldsig#base64")
		}, why: "other transforms"},
		"a transform that keeps comments": {tree: transform("http://www.w3.org/2001/10/xml-exc-c14n#WithComments"), why: "other transforms"},
		"another canonical form": {tree: func(root *etree.Element) {
			find(root, "//CanonicalizationMethod").CreateAttr("Algorithm", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315")
		}, why: "exclusive canonical form"},
		"a length for a shorter hash": {tree: func(root *etree.Element) {
			find(root, "//SignatureMethod").CreateElement("ds:HMACOutputLength").SetText("8")
		}, why: "algorithm that is not accepted"},
	}
}

func transform(algorithm string) func(*etree.Element) {
	return func(root *etree.Element) { root.FindElements("//Transform")[1].CreateAttr("Algorithm", algorithm) }
}

// signHMAC signs a forged assertion with a key that everybody has.
func signHMAC(root *etree.Element, key []byte) {
	find(root, "//NameID").SetText(victim)
	find(root, "//SignatureMethod").CreateAttr("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256")
	assertion := withoutSignature(find(root, "./Assertion"))
	canonical := must(dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(assertion))
	digest := sha256.Sum256(canonical)
	find(root, "//DigestValue").SetText(base64.StdEncoding.EncodeToString(digest[:]))
	info := find(root, "//SignedInfo").Copy()
	info.CreateAttr("xmlns:ds", dsig.Namespace)
	mac := hmac.New(sha256.New, key)
	mac.Write(must(dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(info)))
	find(root, "//SignatureValue").SetText(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

func TestEncryption(t *testing.T) { attackAll(t, encryptionAttacks(t)) }

func encryptionAttacks(t *testing.T) map[string]attack {
	return map[string]attack{
		"CBC in an unsigned response":      {say: func(a *samltest.Answer) { a.Encrypt, a.Cipher = certificate(t), xmlenc.AES256CBC }, why: "is not signed itself"},
		"triple DES":                       {say: func(a *samltest.Answer) { a.Encrypt, a.Cipher, a.SignResponse = certificate(t), xmlenc.TripleDES, true }, why: "algorithm that is not accepted"},
		"plain where it must be encrypted": {config: map[string]any{"require_encryption": true}, why: "is not encrypted"},
		"encrypted to another key":         {say: func(a *samltest.Answer) { a.Encrypt = idp().Cert }, why: "cannot be decrypted"},
		"a changed ciphertext": {say: func(a *samltest.Answer) { a.Encrypt = certificate(t) }, tree: func(root *etree.Element) {
			for _, v := range root.FindElements("//CipherValue") {
				b := must(base64.StdEncoding.DecodeString(v.Text()))
				b[len(b)-1] ^= 1
				v.SetText(base64.StdEncoding.EncodeToString(b))
			}
		}, why: "cannot be decrypted"},
		"a key by PKCS 1.5": {say: func(a *samltest.Answer) { a.Encrypt = certificate(t) }, tree: func(root *etree.Element) {
			find(root, "//EncryptedKey/EncryptionMethod").CreateAttr("Algorithm", "http://www.w3.org/2001/04/xmlenc#rsa-1_5")
		}, why: "not encrypted with RSA-OAEP"},
		"two keys": {say: func(a *samltest.Answer) { a.Encrypt = certificate(t) }, tree: func(root *etree.Element) {
			k := find(root, "//EncryptedKey")
			second := k.Copy()
			second.RemoveAttr("Id")
			k.Parent().AddChild(second)
		}, why: "exactly one key"},
		"no ciphertext": {say: func(a *samltest.Answer) { a.Encrypt = certificate(t) }, tree: func(root *etree.Element) { remove(find(root, "//EncryptedData/CipherData")) }, why: "cannot be decrypted"},
		"an assertion inside an encrypted assertion": {say: func(a *samltest.Answer) {
			a.Encrypt = certificate(t)
			a.ChangeSigned = func(el *etree.Element) { el.AddChild(forge(withoutSignature(el), false)) }
		}, why: "an assertion where none belongs"},
		"a document type inside": {say: func(a *samltest.Answer) {
			a.Encrypt = certificate(t)
			a.ChangeSigned = func(el *etree.Element) { el.AddChild(etree.NewDirective(`DOCTYPE x`)) }
		}, why: "cannot be decrypted"},
		"another's signature inside": {by: stranger(), say: func(a *samltest.Answer) { a.Encrypt = certificate(t) }, why: "by none of the keys"},
		"beside a plain one": {say: func(a *samltest.Answer) {
			a.ChangeResponse = func(root *etree.Element) { root.CreateElement("saml:EncryptedAssertion") }
		}, why: "more than one assertion"},
	}
}
