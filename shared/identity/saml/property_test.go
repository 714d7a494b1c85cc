package saml_test

import (
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/beevik/etree"
	library "github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// seed is of a run of tests that roll dice; PEAT_SEED repeats one.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("PEAT_SEED"); s != "" {
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("PEAT_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 1))
}

// TestWhateverIsRearranged: elements of a signed response are copied, moved, removed
// and renamed by chance, and the victim's name put anywhere. Either it is refused, or
// it says what was signed.
func TestWhateverIsRearranged(t *testing.T) {
	dice := seed(t)
	for name, c := range map[string]struct {
		say func(*samltest.Answer)
	}{
		"the assertion signed": {func(*samltest.Answer) {}},
		"both signed":          {func(a *samltest.Answer) { a.SignResponse = true }},
	} {
		t.Run(name, func(t *testing.T) {
			a := answer()
			a.Attributes = map[string][]string{"groups": {"crew"}}
			c.say(&a)
			v := verifier(t, map[string]any{"attributes": map[string]any{"groups": []string{"groups"}}})
			response := respond(t, idp(), a)
			want, err := v.Verify(t.Context(), identity.Proof{SAML: response}, now)
			if err != nil {
				t.Fatal(err)
			}
			accepted := 0
			for range rounds {
				doc := etree.NewDocument()
				if err := doc.ReadFromBytes(response); err != nil {
					t.Fatal(err)
				}
				for range 1 + dice.IntN(3) {
					rearrange(dice, doc.Root())
				}
				changed, err := doc.WriteToBytes()
				if err != nil {
					t.Fatal(err)
				}
				have, err := v.Verify(t.Context(), identity.Proof{SAML: changed}, now)
				if err != nil && !errors.Is(err, fault.Unauthenticated) {
					t.Fatalf("%v\n%s", err, changed)
				}
				if err == nil {
					accepted++
					if diff := cmp.Diff(want, have); diff != "" {
						t.Fatalf("%s\n%s", diff, changed)
					}
				}
			}
			t.Logf("%d of %d say what was signed, the others are refused", accepted, rounds)
		})
	}
}

// rounds is how often. More were tried, many times over.
const rounds = 400

func rearrange(dice *rand.Rand, root *etree.Element) {
	all := root.FindElements("//*")
	some := func() *etree.Element { return all[dice.IntN(len(all))] }
	el := some()
	switch dice.IntN(7) {
	case 0:
		into := some()
		into.InsertChildAt(dice.IntN(len(into.Child)+1), el.Copy())
	case 1:
		into := some()
		moved := el.Copy()
		if el.Parent() != nil && el != root {
			remove(el)
		}
		into.AddChild(moved)
	case 2:
		if el != root {
			remove(el)
		}
	case 3:
		el.SetText(victim)
	case 4:
		el.CreateAttr("ID", "_x")
	case 5:
		el.Tag = some().Tag
	case 6:
		evil := root.Copy()
		for _, name := range evil.FindElements("//NameID") {
			name.SetText(victim)
		}
		into := some()
		if parts := evil.ChildElements(); len(parts) > 0 {
			into.InsertChildAt(dice.IntN(len(into.Child)+1), parts[dice.IntN(len(parts))].Copy())
		}
	}
}

// second is another reader of responses: the library's own. It is less strict, so
// what we accept it must accept, with the same subject.
func second(t testing.TB) func(response []byte) (string, error) {
	t.Helper()
	described := &library.EntityDescriptor{}
	text := must(url.Parse(acs))
	described.EntityID = issuer
	sp := &library.ServiceProvider{
		EntityID: audience, AcsURL: *text, IDPMetadata: described, AllowIDPInitiated: true, RejectSHA1Signatures: true, Clock: dsig.NewFakeClockAt(now),
		IDPCertificate: new(string),
	}
	*sp.IDPCertificate = base64.StdEncoding.EncodeToString(idp().Cert.Raw)
	return func(response []byte) (string, error) {
		a, err := sp.ParseXMLResponse(response, nil, *text)
		if err != nil {
			var why *library.InvalidResponseError
			if errors.As(err, &why) {
				err = why.PrivateErr
			}
			return "", err
		}
		return a.Subject.NameID.Value, nil
	}
}

func FuzzVerify(f *testing.F) {
	for _, change := range []func(*samltest.Answer){
		func(*samltest.Answer) {},
		func(a *samltest.Answer) { a.SignResponse = true },
		func(a *samltest.Answer) { a.Attributes = map[string][]string{"groups": {"a", "b"}} },
	} {
		a := answer()
		change(&a)
		f.Add(must(idp().Respond(a)))
	}
	f.Add([]byte(idp().Metadata()))
	f.Add([]byte(`<Response xmlns="urn:oasis:names:tc:SAML:2.0:protocol"/>`))
	v := must(saml.New(opening(nil)))
	again := second(f)
	f.Fuzz(func(t *testing.T, response []byte) {
		claims, err := v.Verify(t.Context(), identity.Proof{SAML: response}, now)
		if _, peek := saml.Peek(response); peek != nil && err == nil {
			t.Errorf("it is verified and does not say whose it is: %v", peek)
		}
		_, _ = saml.Decode(response)
		if err != nil {
			if !errors.Is(err, fault.Unauthenticated) || claims.Subject != "" {
				t.Errorf("%+v, %v", claims, err)
			}
			return
		}
		if claims.Subject != "device-7@example.mil" {
			t.Errorf("accepted as %q", claims.Subject)
		}
		if name, err := again(response); err != nil || name != claims.Subject {
			t.Errorf("accepted as %q here, and by the library as %q: %v", claims.Subject, name, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(idp().Metadata())
	f.Add(`<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" validUntil="2026-01-01T00:00:00Z"/>`)
	sealed := jsonOf(ours().Secrets)
	f.Fuzz(func(t *testing.T, metadata string) {
		made, err := saml.Parse(jsonOf(map[string]any{"metadata_xml": metadata}), sealed, settings())
		if err != nil {
			if !errors.Is(err, fault.Invalid) {
				t.Error(err)
			}
			return
		}
		if made.Issuer == "" {
			t.Error("a provider without an issuer")
		}
		o := opening(nil)
		o.Provider.Config = jsonOf(made.Public)
		if _, err := saml.New(o); err != nil {
			t.Errorf("parsed and not opened: %v", err)
		}
	})
}
