package cert_test

import (
	"bytes"
	"crypto/ed25519"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

type hexBytes = refusaltest.Hex

// at is a time as a vector has it.
func at(ms refusaltest.Uint) time.Time {
	return time.Unix(int64(ms/1000), int64(ms%1000)*1e6).UTC()
}

func TestVectorsCertificate(t *testing.T) {
	type in struct {
		ExpiresAt    refusaltest.Uint `json:"expires_at_ms"`
		IssuedAt     refusaltest.Uint `json:"issued_at_ms"`
		Issuer       hexBytes         `json:"issuer_hex"`
		IssuerSecret hexBytes         `json:"issuer_secret_hex"`
		MeshID       string           `json:"mesh_id"`
		NodeID       string           `json:"node_id"`
		Permissions  uint8
		Subject      hexBytes `json:"subject_hex"`
		Tier         uint8
	}
	type out struct {
		Encoded   hexBytes        `json:"encoded_hex"`
		Length    int             `json:"encoded_len"`
		Has       map[string]bool `json:"has_permission"`
		Root      bool            `json:"is_root"`
		Signable  hexBytes        `json:"signable_hex"`
		Signature hexBytes        `json:"signature_hex"`
		TierName  string          `json:"tier_name"`
		Validity  []struct {
			Now       refusaltest.Uint `json:"now_ms"`
			Remaining refusaltest.Uint `json:"remaining_ms"`
			Valid     bool
		}
	}
	permissions := map[string]cert.Permission{
		"relay": cert.Relay, "emergency": cert.Emergency, "enroll": cert.Enroll, "admin": cert.Admin,
	}
	for _, v := range refusaltest.Vectors[in, out](t, "certificate") {
		t.Run(v.ID, func(t *testing.T) {
			key := ed25519.NewKeyFromSeed(v.In.IssuerSecret)
			c := cert.Certificate{
				Subject: [32]byte(v.In.Subject), MeshID: v.In.MeshID, NodeID: v.In.NodeID,
				Tier: cert.Tier(v.In.Tier), Permissions: cert.Permission(v.In.Permissions), IssuedAt: at(v.In.IssuedAt),
			}
			if v.In.ExpiresAt != 0 {
				c.ExpiresAt = at(v.In.ExpiresAt)
			}
			c, err := c.Sign(key)
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := c.Encode()
			if err != nil || !bytes.Equal(encoded, v.Out.Encoded) || len(encoded) != v.Out.Length {
				t.Errorf("encoded to %x, %v", encoded, err)
			}
			if !bytes.Equal(c.Signature[:], v.Out.Signature) || !bytes.Equal(c.Issuer[:], v.In.Issuer) || !bytes.HasPrefix(encoded, v.Out.Signable) {
				t.Errorf("signed differently: %x by %x", c.Signature, c.Issuer)
			}
			again, err := cert.Decode(v.Out.Encoded)
			if diff := cmp.Diff(c, again); err != nil || diff != "" {
				t.Errorf("decoded to something else, %v %s", err, diff)
			}
			if err := again.Verify(); err != nil {
				t.Error(err)
			}
			if again.Root() != v.Out.Root || again.Tier.String() != v.Out.TierName {
				t.Errorf("root %v, tier %s", again.Root(), again.Tier)
			}
			for name, want := range v.Out.Has {
				if got := again.Permissions.Has(permissions[name]); got != want {
					t.Errorf("has %s: %v", name, got)
				}
			}
			for _, w := range v.Out.Validity {
				// A duration ends at 292 years, where the vectors go on.
				remaining := cert.Forever
				if w.Remaining < math.MaxInt64/1_000_000 {
					remaining = time.Duration(w.Remaining) * time.Millisecond
				}
				now := at(w.Now)
				if again.ValidAt(now) != w.Valid || again.Remaining(now) != remaining {
					t.Errorf("at %d: valid %v, remaining %s; want %v, %s", w.Now, again.ValidAt(now), again.Remaining(now), w.Valid, remaining)
				}
			}
		})
	}
}

type recordIn struct{ Hex hexBytes }

type recordOut struct {
	Reencoded hexBytes `json:"reencoded_hex"`
	Verify    string
}

func TestVectorsCertificateDecodeAndVerify(t *testing.T) {
	for _, group := range []string{"certificate_decode", "certificate_verify"} {
		for _, v := range refusaltest.Vectors[recordIn, recordOut](t, group) {
			t.Run(v.ID, func(t *testing.T) {
				c, err := cert.Decode(v.In.Hex)
				if v.Error != nil && group == "certificate_decode" {
					v.Error.Check(t, err)
					_, err = cert.DecodeExact(v.In.Hex)
					v.Error.Check(t, err)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if v.Error != nil {
					v.Error.Check(t, c.Verify())
					return
				}
				again, err := c.Encode()
				if err != nil || !bytes.Equal(again, v.Out.Reencoded) || c.Verify() != nil || v.Out.Verify != "ok" {
					t.Errorf("encoded to %x, %v; verified: %v", again, err, c.Verify())
				}
				_, err = cert.DecodeExact(v.In.Hex)
				if len(v.In.Hex) == len(v.Out.Reencoded) {
					if err != nil {
						t.Error(err)
					}
				} else {
					refusaltest.Failure{Class: refusal.Serialization, Message: "followed by"}.Check(t, err)
				}
			})
		}
	}
}
