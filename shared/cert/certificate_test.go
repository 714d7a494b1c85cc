package cert_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

// key returns one of many keys, always the same for the same number.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(n byte) [32]byte { return [32]byte(key(n).Public().(ed25519.PublicKey)) }

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// member is a certificate as they usually are, unsigned.
func member(subject byte) cert.Certificate {
	return cert.Certificate{
		Subject: public(subject), MeshID: "A1B2C3D4", NodeID: "node-1", Tier: cert.Tactical,
		Permissions: cert.Standard, IssuedAt: noon, ExpiresAt: noon.Add(24 * time.Hour),
	}
}

func TestEncodeRefusesWhatCannotBeReadAgain(t *testing.T) {
	for name, change := range map[string]func(*cert.Certificate){
		"a mesh id of 256 bytes":            func(c *cert.Certificate) { c.MeshID = strings.Repeat("m", 256) },
		"a node id of 256 bytes":            func(c *cert.Certificate) { c.NodeID = strings.Repeat("n", 256) },
		"a node id of 300 bytes":            func(c *cert.Certificate) { c.NodeID = strings.Repeat("n", 300) },
		"a mesh id that is no text":         func(c *cert.Certificate) { c.MeshID = "\xff" },
		"a node id that is no text":         func(c *cert.Certificate) { c.NodeID = "\xc0\x80" },
		"a tier that is none":               func(c *cert.Certificate) { c.Tier = 4 },
		"no time of issue":                  func(c *cert.Certificate) { c.IssuedAt = time.Time{} },
		"issued before time":                func(c *cert.Certificate) { c.IssuedAt = time.UnixMilli(-1) },
		"expiring before time":              func(c *cert.Certificate) { c.ExpiresAt = time.UnixMilli(-1) },
		"an end at zero, which means never": func(c *cert.Certificate) { c.ExpiresAt = time.UnixMilli(0) },
		"an end that rounds to zero":        func(c *cert.Certificate) { c.ExpiresAt = time.Unix(0, 999) },
		"an end after all time":             func(c *cert.Certificate) { c.ExpiresAt = time.Unix(1<<62, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			c := member(1)
			change(&c)
			if signed, err := c.Sign(key(9)); !errors.Is(err, refusal.Serialization) || signed != (cert.Certificate{}) {
				t.Errorf("Sign: %v", err)
			}
			if b, err := c.Encode(); !errors.Is(err, refusal.Serialization) || b != nil {
				t.Errorf("Encode: %v", err)
			}
			if err := c.Verify(); !errors.Is(err, refusal.Serialization) {
				t.Errorf("Verify: %v", err)
			}
			if c.Serial() != "" {
				t.Error("and yet it has a serial")
			}
		})
	}
}

func TestDecodeRefusesANodeIDThatIsNoText(t *testing.T) {
	c, err := member(1).Sign(key(9))
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b[32+1+8+1] = 0xff
	_, err = cert.Decode(b)
	refusaltest.Failure{Class: refusal.Serialization, Message: "invalid node_id"}.Check(t, err)
}

func TestSignTrimsTimesToWhatIsKept(t *testing.T) {
	c := member(1)
	c.IssuedAt = c.IssuedAt.Add(123_456_789 * time.Nanosecond).In(time.FixedZone("", 3600))
	c, err := c.Sign(key(9))
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := cert.Decode(b)
	if diff := cmp.Diff(c, again); err != nil || diff != "" || c != again {
		t.Errorf("%v %s", err, diff)
	}
	if !c.ValidAt(noon.Add(123_400_000*time.Nanosecond)) || c.ValidAt(noon.Add(122*time.Millisecond)) {
		t.Error("valid from another millisecond than that of its issue")
	}
	if _, err := c.Sign(nil); !errors.Is(err, refusal.Keypair) {
		t.Errorf("signed with nothing: %v", err)
	}
}

func TestSerialNamesOneCertificate(t *testing.T) {
	c, err := member(1).Sign(key(9))
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	padded, err := cert.Decode(append(b, "and more"...))
	if err != nil || padded.Serial() != c.Serial() || len(c.Serial()) != 64 {
		t.Errorf("%s and %s, %v", padded.Serial(), c.Serial(), err)
	}
	other := c
	other.Signature[0]++
	if other.Serial() == c.Serial() {
		t.Error("two certificates of one serial")
	}
}

func TestTiersHaveNames(t *testing.T) {
	for _, tier := range []cert.Tier{cert.Enterprise, cert.Regional, cert.Tactical, cert.Edge} {
		if got, err := cert.ParseTier(tier.String()); err != nil || got != tier {
			t.Errorf("%s became %s, %v", tier, got, err)
		}
	}
	for _, s := range []string{"", "edge", "unknown"} {
		if _, err := cert.ParseTier(s); !errors.Is(err, refusal.Serialization) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if cert.Tier(4).Valid() || cert.Tier(4).String() != "unknown" {
		t.Error("there are four tiers")
	}
}
