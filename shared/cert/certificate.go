// Package cert is a formation's certificates: the bytes in which peat-mesh signs
// and keeps them, the rules by which they are issued, and those by which they are
// believed. Every byte agrees with peat-mesh. What is believed does not, where
// peat-mesh believes too much: see Trust.
//
//	certificate.go  what a certificate says, its signature and its time
//	codec.go        its bytes
//	issue.go        which certificates may be made
//	trust.go        which certificates are believed
//	revocation.go   those that are believed no more
//	document.go     the documents in which peers pass them on
//
// What is not here: the keys (shared/genesis) and the ledger of what was issued
// (shared/authority, shared/store).
package cert

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/point"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// Certificate says that a key belongs to a node of a mesh and what the node may
// do there, in the words of whoever signed it.
type Certificate struct {
	Subject     [ed25519.PublicKeySize]byte // the node's key
	MeshID      string                      // at most 255 bytes
	NodeID      string                      // at most 255 bytes
	Tier        Tier
	Permissions Permission
	IssuedAt    time.Time                   // to the millisecond, as is ExpiresAt
	ExpiresAt   time.Time                   // zero: never
	Issuer      [ed25519.PublicKeySize]byte // whose signature follows
	Signature   [ed25519.SignatureSize]byte
}

// Tier is a node's place in the hierarchy. A lower number is a higher place.
type Tier uint8

// The tiers.
const (
	Enterprise Tier = iota
	Regional
	Tactical
	Edge
)

var tierNames = [...]string{"Enterprise", "Regional", "Tactical", "Edge"}

// String returns the name that peat-mesh has for the tier.
func (t Tier) String() string {
	if int(t) < len(tierNames) {
		return tierNames[t]
	}
	return "unknown"
}

// Valid tells whether there is such a tier.
func (t Tier) Valid() bool { return int(t) < len(tierNames) }

// ParseTier reads a tier by its name.
func ParseTier(s string) (Tier, error) {
	i := slices.Index(tierNames[:], s)
	if i < 0 {
		return 0, refusal.Serialization.New("tier must be Enterprise, Regional, Tactical or Edge")
	}
	return Tier(i), nil
}

// Permission is a set of what a node may do. Bits without a meaning are carried
// along when certificates are read, and are in none that is issued here.
type Permission uint8

// The permissions.
const (
	Relay     Permission = 0x01 // pass on what others sent
	Emergency Permission = 0x02 // act in an emergency
	Enroll    Permission = 0x04 // issue certificates
	Admin     Permission = 0x80

	NoPermission Permission = 0
	Standard                = Relay | Emergency
	Authority               = Relay | Emergency | Enroll | Admin
)

// Has tells whether p contains all of q.
func (p Permission) Has(q Permission) bool { return p&q == q }

// Root tells whether c is signed with the key that it is about.
func (c Certificate) Root() bool { return c.Subject == c.Issuer }

// Sign returns c signed by key, whose public half becomes the issuer.
func (c Certificate) Sign(key ed25519.PrivateKey) (Certificate, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Certificate{}, refusal.Keypair.New("signing key of %d bytes, must be %d", len(key), ed25519.PrivateKeySize)
	}
	c.Issuer = [ed25519.PublicKeySize]byte(key.Public().(ed25519.PublicKey))
	c.IssuedAt, c.ExpiresAt = trim(c.IssuedAt), trim(c.ExpiresAt)
	body, err := c.appendBody(nil)
	if err != nil {
		return Certificate{}, err
	}
	c.Signature = [ed25519.SignatureSize]byte(ed25519.Sign(key, body))
	return c, nil
}

// Verify tells whether the issuer signed c as it is. Whether that means anything
// is for Trust to say.
func (c Certificate) Verify() error {
	body, err := c.appendBody(nil)
	if err != nil {
		return err
	}
	return verify(c.Issuer[:], body, c.Signature[:])
}

func verify(key ed25519.PublicKey, body, signature []byte) error {
	switch {
	case ed25519.Verify(key, body, signature):
		return nil
	case !point.OnCurve(key):
		return refusal.InvalidPublicKey.New("issuer: not a point of the curve")
	}
	return refusal.InvalidSignature.New("the signature is not the issuer's")
}

// ValidAt tells whether now is in c's time: from its issue until just before it
// expires. Clocks are taken to agree, as in peat-mesh.
func (c Certificate) ValidAt(now time.Time) bool {
	now = trim(now)
	return !now.Before(c.IssuedAt) && (c.ExpiresAt.IsZero() || now.Before(c.ExpiresAt))
}

// Forever is how much time remains to what never expires.
const Forever = time.Duration(math.MaxInt64)

// Remaining returns how long c is valid yet: Forever if it never expires, and
// nothing if it has.
func (c Certificate) Remaining(now time.Time) time.Duration {
	if c.ExpiresAt.IsZero() {
		return Forever
	}
	return max(0, c.ExpiresAt.Sub(trim(now)))
}

// Serial returns what names this certificate and no other: the SHA-256 of its
// bytes in hexadecimal, or nothing if it cannot be encoded.
func (c Certificate) Serial() string {
	b, err := c.Encode()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// trim returns t as a certificate keeps it.
func trim(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Millisecond)
}
