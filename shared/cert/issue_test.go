package cert_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

// order is one that is served.
func order() cert.Order {
	return cert.Order{
		Subject: key(1).Public().(ed25519.PublicKey), MeshID: "A1B2C3D4", NodeID: "node-1", Tier: cert.Tactical,
		Permissions: cert.Standard, IssuedAt: noon, Validity: 24 * time.Hour,
	}
}

func TestIssue(t *testing.T) {
	want, err := member(1).Sign(key(root))
	if err != nil {
		t.Fatal(err)
	}
	got, err := cert.Issue(key(root), order())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	o := order()
	o.Validity = cert.Forever
	if got, err := cert.Issue(key(root), o); err != nil || !got.ExpiresAt.IsZero() || got.Remaining(noon) != cert.Forever {
		t.Errorf("forever is until %s, %v", got.ExpiresAt, err)
	}
}

func TestIssueRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*cert.Order)
		class  refusal.Class
	}{
		"no key":                        {func(o *cert.Order) { o.Subject = nil }, refusal.InvalidPublicKey},
		"half a key":                    {func(o *cert.Order) { o.Subject = o.Subject[:16] }, refusal.InvalidPublicKey},
		"a key that is no point":        {func(o *cert.Order) { o.Subject = append([]byte{2}, make([]byte, 31)...) }, refusal.InvalidPublicKey},
		"a key for which anybody signs": {func(o *cert.Order) { o.Subject = append([]byte{1}, make([]byte, 31)...) }, refusal.InvalidPublicKey},
		"the authority's own key":       {func(o *cert.Order) { o.Subject = key(root).Public().(ed25519.PublicKey) }, refusal.Certificate},
		"no mesh id":                    {func(o *cert.Order) { o.MeshID = "" }, refusal.Certificate},
		"no node id":                    {func(o *cert.Order) { o.NodeID = "" }, refusal.Certificate},
		"a node id of 256 bytes":        {func(o *cert.Order) { o.NodeID = strings.Repeat("n", 256) }, refusal.Serialization},
		"a node id that is no text":     {func(o *cert.Order) { o.NodeID = "\xff" }, refusal.Serialization},
		"a node id of two lines":        {func(o *cert.Order) { o.NodeID = "node\n1" }, refusal.Certificate},
		"a node id with a nothing":      {func(o *cert.Order) { o.NodeID = "node\x001" }, refusal.Certificate},
		"a node id that turns around":   {func(o *cert.Order) { o.NodeID = "node\u202e1" }, refusal.Certificate},
		"a tier that is none":           {func(o *cert.Order) { o.Tier = 4 }, refusal.Serialization},
		"a permission without meaning":  {func(o *cert.Order) { o.Permissions = 0x08 }, refusal.Certificate},
		"no validity":                   {func(o *cert.Order) { o.Validity = 0 }, refusal.Certificate},
		"validity in the past":          {func(o *cert.Order) { o.Validity = -time.Hour }, refusal.Certificate},
		"validity that rounds to none":  {func(o *cert.Order) { o.Validity = time.Microsecond }, refusal.Certificate},
		"no time of issue":              {func(o *cert.Order) { o.IssuedAt = time.Time{} }, refusal.Serialization},
	} {
		t.Run(name, func(t *testing.T) {
			o := order()
			tc.change(&o)
			if c, err := cert.Issue(key(root), o); !errors.Is(err, tc.class) || c != (cert.Certificate{}) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := cert.Issue(nil, order()); !errors.Is(err, refusal.Keypair) {
		t.Errorf("signed with nothing: %v", err)
	}
}

func TestIssueRoot(t *testing.T) {
	c, err := cert.IssueRoot(key(root), "A1B2C3D4", "hq", noon)
	if err != nil || !c.Root() || c.Tier != cert.Enterprise || c.Permissions != 0x87 || !c.ExpiresAt.IsZero() || c.Verify() != nil {
		t.Errorf("%+v, %v", c, err)
	}
	for name, tc := range map[string]struct {
		key        ed25519.PrivateKey
		mesh, node string
		class      refusal.Class
	}{
		"no key":     {nil, "A1B2C3D4", "hq", refusal.Keypair},
		"no mesh id": {key(root), "", "hq", refusal.Certificate},
		"no node id": {key(root), "A1B2C3D4", "", refusal.Certificate},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cert.IssueRoot(tc.key, tc.mesh, tc.node, noon); !errors.Is(err, tc.class) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestVectorsGatewayTierPermissionMap(t *testing.T) {
	type in struct {
		Permissions uint32
		Tier        cert.Rank
	}
	type out struct {
		Permissions cert.Permission `json:"mesh_permissions"`
		Tier        cert.Tier       `json:"mesh_tier"`
		TierName    string          `json:"mesh_tier_name"`
	}
	for _, v := range refusaltest.Vectors[in, out](t, "gateway_tier_permission_map") {
		t.Run(v.ID, func(t *testing.T) {
			tier, err := v.In.Tier.Tier()
			got := out{cert.FromMask(v.In.Permissions), tier, tier.String()}
			if diff := cmp.Diff(v.Out, got); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
			if back, ok := tier.Rank(); !ok || back != v.In.Tier {
				t.Errorf("the tier's rank is %s", back)
			}
			if back := got.Permissions.Mask(); back != v.In.Permissions&0x0f || cert.FromMask(back) != got.Permissions {
				t.Errorf("the permissions' mask is %#x", back)
			}
		})
	}
	if _, err := cert.Rank("endpoint").Tier(); !errors.Is(err, refusal.Serialization) {
		t.Errorf("got %v", err)
	}
	if _, ok := cert.Edge.Rank(); ok {
		t.Error("the tier Edge has no rank")
	}
}

func ExampleIssue() {
	authority := ed25519.NewKeyFromSeed(make([]byte, 32)) // of a formation, see shared/genesis
	node := ed25519.NewKeyFromSeed([]byte("a node makes its own; this is one"[:32]))

	c, err := cert.Issue(authority, cert.Order{
		Subject: node.Public().(ed25519.PublicKey), MeshID: "A1B2C3D4", NodeID: "truck-7", Tier: cert.Tactical,
		Permissions: cert.Standard, IssuedAt: noon, Validity: 24 * time.Hour,
	})
	if err != nil {
		panic(err)
	}
	b, _ := c.Encode()
	again, err := cert.DecodeExact(b)
	fmt.Println(len(b), "bytes:", again.NodeID, again.Tier, again.Permissions.Has(cert.Relay), err)
	fmt.Println(again.Verify(), again.ValidAt(noon.Add(25*time.Hour)))
	// Output:
	// 163 bytes: truck-7 Tactical true <nil>
	// <nil> false
}

func ExampleTrust() {
	authority := ed25519.NewKeyFromSeed(make([]byte, 32))
	trust, err := cert.NewTrust(cert.Policy{
		MeshID: "A1B2C3D4", Authorities: []ed25519.PublicKey{authority.Public().(ed25519.PublicKey)}, Depth: 1, Limit: 1000,
	})
	if err != nil {
		panic(err)
	}
	member, _ := cert.Issue(authority, order())
	fmt.Println(trust.Add(noon, member))

	intruder, _ := cert.IssueRoot(key(66), "A1B2C3D4", "intruder", noon)
	fmt.Println(trust.Add(noon, intruder))

	list, _ := cert.RevocationList{MeshID: "A1B2C3D4", Version: 1, IssuedAt: noon, Entries: []cert.Revocation{
		{Subject: member.Subject, RevokedAt: noon, Reason: cert.DeviceLost},
	}}.Sign(authority)
	fmt.Println(trust.Revoke(list))
	_, err = trust.Node(noon, "node-1")
	fmt.Println(err)
	// Output:
	// <nil>
	// signed by itself, and not an authority here
	// <nil>
	// no certificate of this node
}
