package cert_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

func TestVectorsCertificateEntryJSON(t *testing.T) {
	type in struct {
		Reason    string
		Subject   string `json:"subject_hex"`
		Timestamp int64  `json:"timestamp_ms,string"`
	}
	type out struct {
		Key  string `json:"doc_key"`
		JSON string
	}
	for _, v := range refusaltest.Vectors[in, out](t, "certificate_entry_json") {
		t.Run(v.ID, func(t *testing.T) {
			d := cert.RevocationDocument{Subject: v.In.Subject, Reason: v.In.Reason, TimestampMS: v.In.Timestamp}
			b, err := json.Marshal(d)
			if err != nil || string(b) != v.Out.JSON || d.Key() != v.Out.Key {
				t.Errorf("%s: %s, %v", d.Key(), b, err)
			}
			again, err := cert.ParseRevocationDocument([]byte(v.Out.JSON))
			if err != nil || again != d {
				t.Errorf("read as %v, %v", again, err)
			}
			if key, err := again.Revoked(v.Out.Key); err != nil || hex.EncodeToString(key[:]) != v.In.Subject {
				t.Errorf("revokes %x, %v", key, err)
			}
		})
	}
}

func TestCertificateDocument(t *testing.T) {
	c := signed(t, 1, root)
	d, err := c.Document(noon.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Check(t, "testdata/certificate_document.json", goldentest.JSON(t, b))
	again, err := cert.ParseCertificateDocument(b)
	if err != nil || again != d {
		t.Fatalf("read as %v, %v", again, err)
	}
	if got, err := again.Certificate(d.Key()); err != nil || got != c {
		t.Errorf("%v", err)
	}
	forever, err := signed(t, 1, root, until(time.Time{})).Document(noon)
	if err != nil || forever.ExpiresAtMS != 0 {
		t.Errorf("never is %d, %v", forever.ExpiresAtMS, err)
	}
	// A certificate's times have 64 bits, a document's a sign among them.
	late := signed(t, 1, root, until(time.Unix(1e16, 0)))
	if _, err := late.Document(noon); !errors.Is(err, refusal.Serialization) {
		t.Errorf("a time that a document cannot hold: %v", err)
	}
}

func TestCertificateDocumentRefuses(t *testing.T) {
	d, err := signed(t, 1, root).Document(noon)
	if err != nil {
		t.Fatal(err)
	}
	other, err := signed(t, 2, root).Document(noon)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*cert.CertificateDocument)
		class  refusal.Class
	}{
		"no certificate":          {func(d *cert.CertificateDocument) { d.Data = "" }, refusal.Serialization},
		"no base64":               {func(d *cert.CertificateDocument) { d.Data = "*" + d.Data[1:] }, refusal.Serialization},
		"base64 of several lines": {func(d *cert.CertificateDocument) { d.Data = d.Data[:8] + "\n" + d.Data[8:] }, refusal.Serialization},
		"half a certificate":      {func(d *cert.CertificateDocument) { d.Data = d.Data[:100] }, refusal.Serialization},
		"another certificate":     {func(d *cert.CertificateDocument) { d.Data = other.Data }, refusal.Certificate},
		"another name":            {func(d *cert.CertificateDocument) { d.NodeID = "hq" }, refusal.Certificate},
		"another tier":            {func(d *cert.CertificateDocument) { d.Tier = "Enterprise" }, refusal.Certificate},
		"other permissions":       {func(d *cert.CertificateDocument) { d.Permissions = 0x87 }, refusal.Certificate},
		"another end":             {func(d *cert.CertificateDocument) { d.ExpiresAtMS = 0 }, refusal.Certificate},
		"another issuer":          {func(d *cert.CertificateDocument) { d.Issuer = d.Subject }, refusal.Certificate},
		"another subject":         {func(d *cert.CertificateDocument) { d.Subject = other.Subject }, refusal.Certificate},
		"written before 1970":     {func(d *cert.CertificateDocument) { d.WrittenAtMS = -1 }, refusal.Serialization},
	} {
		t.Run(name, func(t *testing.T) {
			changed := d
			tc.change(&changed)
			if _, err := changed.Certificate(d.Key()); !errors.Is(err, tc.class) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := d.Certificate(other.Key()); !errors.Is(err, refusal.Certificate) {
		t.Errorf("in the place of another: %v", err)
	}
}

func TestRevocationDocument(t *testing.T) {
	d, ok := cert.Revocation{Subject: public(1), RevokedAt: noon, Reason: cert.DeviceLost}.Document()
	want := cert.RevocationDocument{Subject: hex.EncodeToString(subject(1)), Reason: "device_lost", TimestampMS: noon.UnixMilli()}
	if diff := cmp.Diff(want, d); !ok || diff != "" {
		t.Errorf("%v %s", ok, diff)
	}
	if _, ok := (cert.Revocation{Subject: public(1), Serial: [32]byte{1}, RevokedAt: noon}).Document(); ok {
		t.Error("peers would take it for a revocation of the key")
	}
	for name, d := range map[string]cert.RevocationDocument{
		"no subject":           {},
		"half a subject":       {Subject: want.Subject[:32]},
		"an upper-case one":    {Subject: strings.ToUpper(want.Subject)},
		"another than its key": {Subject: hex.EncodeToString(subject(2))},
		"a long reason":        {Subject: want.Subject, Reason: strings.Repeat("x", cert.MaxReasonBytes+1)},
		"a time before time":   {Subject: want.Subject, TimestampMS: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if key, err := d.Revoked(want.Key()); err == nil {
				t.Errorf("revokes %x", key)
			}
		})
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                "",
		"no JSON":                "{",
		"another form":           `{"subject":1}`,
		"no object":              `[]`,
		"something after it":     `{"subject":""} {}`,
		"bytes that are no text": "{\"subject\":\"\xff\"}",
		"too much":               `{"subject":"` + strings.Repeat("a", cert.MaxDocumentSize) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if d, err := cert.ParseRevocationDocument([]byte(text)); !errors.Is(err, refusal.Serialization) || d != (cert.RevocationDocument{}) {
				t.Errorf("revocation: %v, %v", d, err)
			}
			if d, err := cert.ParseCertificateDocument([]byte(text)); !errors.Is(err, refusal.Serialization) || d != (cert.CertificateDocument{}) {
				t.Errorf("certificate: %v, %v", d, err)
			}
		})
	}
	if d, err := cert.ParseRevocationDocument([]byte(`{"subject":"ab","since":"a later version"}`)); err != nil || d.Subject != "ab" {
		t.Errorf("a field that is not known yet: %v, %v", d, err)
	}
	if _, ok := (cert.Revocation{Subject: public(1), RevokedAt: time.UnixMilli(-1)}).Document(); ok {
		t.Error("a time before time")
	}
}

func subject(n byte) []byte { key := public(n); return key[:] }

func FuzzDocuments(f *testing.F) {
	d, err := signed(f, 1, root).Document(noon)
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(d)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"subject":"","reason":"","timestamp_ms":0} {}`))
	f.Add([]byte(`{"permissions":256}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := cert.ParseCertificateDocument(b); err == nil {
			if c, err := d.Certificate(d.Key()); err == nil {
				again, err := c.Document(time.UnixMilli(d.WrittenAtMS))
				if err != nil || again != d {
					t.Fatalf("came back as %v, %v", again, err)
				}
			}
		} else if !errors.Is(err, refusal.Serialization) {
			t.Fatal(err)
		}
		if d, err := cert.ParseRevocationDocument(b); err == nil {
			if key, err := d.Revoked(d.Key()); err == nil && hex.EncodeToString(key[:]) != d.Subject {
				t.Fatalf("%x for %s", key, d.Subject)
			}
		}
	})
}
