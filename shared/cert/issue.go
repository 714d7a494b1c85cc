package cert

import (
	"crypto/ed25519"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/platform/point"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// Order is what a certificate is to say.
type Order struct {
	Subject     ed25519.PublicKey // whose owner has shown that it is theirs; that is not for Issue to know
	MeshID      string
	NodeID      string
	Tier        Tier
	Permissions Permission
	IssuedAt    time.Time
	Validity    time.Duration // from IssuedAt; Forever if it is never to expire
}

// Issue returns the certificate that o asks for, signed by a formation's
// authority. It refuses what no member should ever have: a key for which anybody
// can sign, the authority's own key, a name that peers cannot look up,
// permissions that mean nothing, a life that has no end by mistake.
func Issue(authority ed25519.PrivateKey, o Order) (Certificate, error) {
	if err := checkSubject(o.Subject); err != nil {
		return Certificate{}, err
	}
	if err := checkName("mesh_id", o.MeshID); err != nil {
		return Certificate{}, err
	}
	if err := checkName("node_id", o.NodeID); err != nil {
		return Certificate{}, err
	}
	switch {
	case o.Permissions&^Authority != 0:
		return Certificate{}, refusal.Certificate.New("permissions of no meaning: %#02x", uint8(o.Permissions&^Authority))
	case o.Validity < time.Millisecond:
		return Certificate{}, refusal.Certificate.New("a validity of %s is none", o.Validity)
	}
	c := Certificate{
		Subject: [ed25519.PublicKeySize]byte(o.Subject), MeshID: o.MeshID, NodeID: o.NodeID,
		Tier: o.Tier, Permissions: o.Permissions, IssuedAt: o.IssuedAt,
	}
	if o.Validity != Forever {
		c.ExpiresAt = o.IssuedAt.Add(o.Validity)
	}
	c, err := c.Sign(authority)
	switch {
	case err != nil:
		return Certificate{}, err
	case c.Root():
		// peat-mesh takes such a certificate for a root.
		return Certificate{}, refusal.Certificate.New("the authority's own key cannot be a member's")
	}
	return c, nil
}

// IssueRoot returns the certificate that an authority has of itself: of the
// highest tier, with every permission, forever.
func IssueRoot(authority ed25519.PrivateKey, meshID, nodeID string, at time.Time) (Certificate, error) {
	if err := checkName("mesh_id", meshID); err != nil {
		return Certificate{}, err
	}
	if err := checkName("node_id", nodeID); err != nil {
		return Certificate{}, err
	}
	if len(authority) != ed25519.PrivateKeySize {
		return Certificate{}, refusal.Keypair.New("signing key of %d bytes, must be %d", len(authority), ed25519.PrivateKeySize)
	}
	return Certificate{
		Subject: [ed25519.PublicKeySize]byte(authority.Public().(ed25519.PublicKey)), MeshID: meshID, NodeID: nodeID,
		Tier: Enterprise, Permissions: Authority, IssuedAt: at,
	}.Sign(authority)
}

func checkSubject(key ed25519.PublicKey) error {
	switch {
	case len(key) != ed25519.PublicKeySize:
		return refusal.InvalidPublicKey.New("public key: expected %d bytes, got %d", ed25519.PublicKeySize, len(key))
	case point.Weak(key):
		return refusal.InvalidPublicKey.New("public key: anybody can sign for it")
	case !point.OnCurve(key):
		return refusal.InvalidPublicKey.New("public key: not a point of the curve")
	}
	return nil
}

// checkName holds a name to what a person can read in a list and a peer can look
// up. peat-mesh has no such rule.
func checkName(field, name string) error {
	if err := checkID(field, name); err != nil {
		return err
	}
	if name == "" {
		return refusal.Certificate.New("%s is empty", field)
	}
	for _, r := range name {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return refusal.Certificate.New("%s contains a character that does not print", field)
		}
	}
	return nil
}
