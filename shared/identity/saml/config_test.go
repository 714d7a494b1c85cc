package saml_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func TestParse(t *testing.T) {
	made := ours()
	public := made.Public.(saml.Config)
	if made.Issuer != issuer || public.EntityID != issuer || public.MetadataXML == "" {
		t.Errorf("%+v", made)
	}
	if text := string(jsonOf(public)); strings.Contains(text, "PRIVATE KEY") {
		t.Error("the key is shown")
	}
	// What was shown may be sent back, and changes nothing.
	again, err := saml.Parse(jsonOf(public), jsonOf(made.Secrets), settings())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(jsonOf(made)), string(jsonOf(again))); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	weak := strings.Replace(idp().Metadata(), "<ds:X509Certificate>", "<ds:X509Certificate>AAAA", 1)
	several := `<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata">` + entity(idp().Metadata()) + `</EntitiesDescriptor>`
	for name, c := range map[string]struct {
		config  map[string]any
		pointer string
	}{
		"no metadata":                          {map[string]any{"metadata_xml": nil}, "/config/metadata_xml"},
		"both kinds of metadata":               {map[string]any{"metadata_url": "https://idp.example/m"}, "/config/metadata_xml"},
		"metadata that is none":                {map[string]any{"metadata_xml": "<x/>"}, "/config/metadata_xml"},
		"metadata with a document type":        {map[string]any{"metadata_xml": "<!DOCTYPE x>" + entity(idp().Metadata())}, "/config/metadata_xml"},
		"metadata of another":                  {map[string]any{"entity_id": "https://other.example"}, "/config/metadata_xml"},
		"metadata of several, which?":          {map[string]any{"metadata_xml": several}, "/config/metadata_xml"},
		"metadata with a broken key":           {map[string]any{"metadata_xml": weak}, "/config/metadata_xml"},
		"metadata without keys":                {map[string]any{"metadata_xml": strings.Replace(idp().Metadata(), `use="signing"`, `use="encryption"`, 1)}, "/config/metadata_xml"},
		"metadata of a service provider":       {map[string]any{"metadata_xml": strings.ReplaceAll(idp().Metadata(), "IDPSSO", "SPSSO")}, "/config/metadata_xml"},
		"metadata with an end that is no time": {map[string]any{"metadata_xml": strings.Replace(idp().Metadata(), "entityID=", `validUntil="soon" entityID=`, 1)}, "/config/metadata_xml"},
		"an address without the entity":        {map[string]any{"metadata_xml": nil, "metadata_url": "https://idp.example/m"}, "/config/entity_id"},
		"an address without TLS":               {map[string]any{"metadata_xml": nil, "entity_id": issuer, "metadata_url": "http://idp.example/m"}, "/config/metadata_url"},
		"an address inside":                    {map[string]any{"metadata_xml": nil, "entity_id": issuer, "metadata_url": "https://10.0.0.1/m"}, "/config/metadata_url"},
		"an address that is a file":            {map[string]any{"metadata_xml": nil, "entity_id": issuer, "metadata_url": "file:///etc/passwd"}, "/config/metadata_url"},
		"an authority for nothing":             {map[string]any{"tls": map[string]any{}}, "/config/tls"},
		"an authority that is none":            {map[string]any{"metadata_xml": nil, "entity_id": issuer, "metadata_url": "https://idp.example/m", "tls": map[string]any{"ca_pem": "x"}}, "/config/tls/ca_pem"},
		"a clock too far off":                  {map[string]any{"clock_skew": "1h"}, "/config/clock_skew"},
		"a session that is no duration":        {map[string]any{"max_session": "long"}, "/config/max_session"},
		"a certificate of their own":           {map[string]any{"sp_certificate_pem": "x"}, "/config/sp_certificate_pem"},
		"an entity with a space":               {map[string]any{"sp_entity_id": "a b"}, "/config/sp_entity_id"},
		"an attribute without a name":          {map[string]any{"attributes": map[string]any{"groups": []string{""}}}, "/config/attributes/groups"},
		"too many attributes":                  {map[string]any{"attributes": map[string]any{"roles": strings.Split(strings.Repeat("a ", 30), " ")}}, "/config/attributes/roles"},
		"an option that is misspelt":           {map[string]any{"allow_unsolicted": true}, "/config/allow_unsolicted"},
	} {
		t.Run(name, func(t *testing.T) {
			full := map[string]any{"metadata_xml": idp().Metadata()}
			for k, v := range c.config {
				if full[k] = v; v == nil {
					delete(full, k)
				}
			}
			s := settings()
			s.AllowPrivate = nil
			_, err := saml.Parse(jsonOf(full), jsonOf(ours().Secrets), s)
			f := fault.Of(err)
			if f == nil || f.Kind != fault.Invalid || len(f.Fields) == 0 || f.Fields[0].Pointer != c.pointer {
				t.Errorf("%+v", err)
			}
		})
	}
	t.Run("a gateway without a public URL", func(t *testing.T) {
		s := settings()
		s.PublicURL = nil
		if _, err := saml.Parse(jsonOf(map[string]any{"metadata_xml": idp().Metadata()}), nil, s); !errors.Is(err, fault.Invalid) {
			t.Error(err)
		}
	})
}

// entity is metadata without what stands before the entity.
func entity(metadata string) string { return metadata[strings.Index(metadata, "<md:"):] }

func TestOneOfSeveralEntities(t *testing.T) {
	other := must(samltest.WithKey("https://other.example", stranger().Key))
	several := `<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata">` + entity(other.Metadata()) + entity(idp().Metadata()) + `</EntitiesDescriptor>`
	v := verifier(t, map[string]any{"metadata_xml": several, "entity_id": issuer})
	if _, err := v.Verify(t.Context(), identity.Proof{SAML: respond(t, idp(), answer())}, now); err != nil {
		t.Error(err)
	}
	// The keys of the other are not this one's.
	if _, err := v.Verify(t.Context(), identity.Proof{SAML: respond(t, stranger(), answer())}, now); !errors.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
}

// TestRotate: after our key is replaced, what the provider encrypts to the old one,
// of which it does not know better yet, is read still.
func TestRotate(t *testing.T) {
	o := opening(nil)
	made, err := saml.Rotate(o.Provider.Config, o.Secrets, settings())
	if err != nil {
		t.Fatal(err)
	}
	if made.Public.(saml.Config).Certificate == ours().Public.(saml.Config).Certificate || made.Issuer != issuer {
		t.Error("nothing was replaced")
	}
	o.Provider.Config, o.Secrets = jsonOf(made.Public), jsonOf(made.Secrets)
	v := must(saml.New(o))
	block, _ := pem.Decode([]byte(made.Public.(saml.Config).Certificate))
	for name, cert := range map[string][]byte{"the old key": certificate(t).Raw, "the new key": block.Bytes} {
		a := answer()
		a.Encrypt = parse(t, cert)
		if _, err := v.Verify(t.Context(), identity.Proof{SAML: respond(t, idp(), a)}, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	for name, change := range map[string]func(*identity.Opening){
		"no secrets":       func(o *identity.Opening) { o.Secrets = nil },
		"secrets of none":  func(o *identity.Opening) { o.Secrets = []byte(`{"key_pem":"hush"}`) },
		"no configuration": func(o *identity.Opening) { o.Provider.Config = nil },
		"no public URL":    func(o *identity.Opening) { o.PublicURL = nil },
		"no metadata":      func(o *identity.Opening) { o.Provider.Config = json.RawMessage(`{}`) },
	} {
		t.Run(name, func(t *testing.T) {
			o := opening(nil)
			change(&o)
			if v, err := saml.Open(o); err == nil || strings.Contains(err.Error(), "hush") {
				t.Errorf("%v, %v", v, err)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	response := respond(t, idp(), answer())
	for name, c := range map[string]struct {
		in  []byte
		err error
	}{
		"XML":               {in: response},
		"XML with a mark":   {in: append([]byte("\xef\xbb\xbf\n"), response...)},
		"base64":            {in: []byte(base64Of(response))},
		"base64 in lines":   {in: []byte(lines(base64Of(response)))},
		"neither":           {in: []byte("{}"), err: fault.Malformed},
		"nothing":           {err: fault.Malformed},
		"more than is read": {in: bytes.Repeat([]byte("A"), 3*saml.MaxResponse), err: fault.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := saml.Decode(c.in)
			if !errors.Is(err, c.err) || c.err == nil && !bytes.Equal(out, response) {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}
