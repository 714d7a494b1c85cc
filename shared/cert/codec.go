package cert

import (
	"crypto/ed25519"
	"encoding/binary"
	"math"
	"time"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// Around the two ids, a certificate has fixed sizes.
const (
	// MaxIDBytes is the longest mesh or node id, in bytes.
	MaxIDBytes = math.MaxUint8
	// MaxSize is the longest certificate, in bytes.
	MaxSize = minSize + 2*MaxIDBytes

	tailSize = 1 + 1 + 8 + 8 + ed25519.PublicKeySize + ed25519.SignatureSize // from the tier on
	minSize  = ed25519.PublicKeySize + 1 + 1 + tailSize
)

// Encode returns c as peat-mesh keeps it. It refuses what Decode would not give
// back. It does not ask whether the signature is good.
func (c Certificate) Encode() ([]byte, error) {
	body, err := c.appendBody(make([]byte, 0, minSize+len(c.MeshID)+len(c.NodeID)))
	if err != nil {
		return nil, err
	}
	return append(body, c.Signature[:]...), nil
}

// appendBody appends what is signed.
func (c Certificate) appendBody(out []byte) ([]byte, error) {
	if err := checkID("mesh_id", c.MeshID); err != nil {
		return nil, err
	}
	if err := checkID("node_id", c.NodeID); err != nil {
		return nil, err
	}
	if !c.Tier.Valid() {
		return nil, refusal.Serialization.New("invalid tier byte: %d", c.Tier)
	}
	issued, err := toMillis(c.IssuedAt)
	if err != nil {
		return nil, refusal.Serialization.New("issued before 1970, or after all time")
	}
	expires, err := toMillis(c.ExpiresAt)
	switch {
	case c.ExpiresAt.IsZero():
		expires = 0
	case err != nil || expires == 0:
		// A zero would make it last forever.
		return nil, refusal.Serialization.New("expires before 1970, or after all time")
	}
	out = append(out, c.Subject[:]...)
	out = append(out, byte(len(c.MeshID)))
	out = append(out, c.MeshID...)
	out = append(out, byte(len(c.NodeID)))
	out = append(out, c.NodeID...)
	out = append(out, byte(c.Tier), byte(c.Permissions))
	out = binary.LittleEndian.AppendUint64(out, issued)
	out = binary.LittleEndian.AppendUint64(out, expires)
	return append(out, c.Issuer[:]...), nil
}

// checkID refuses what one byte cannot count. peat-mesh writes such an id behind
// a length that has lost its upper bits, signs that, and nobody can read it.
func checkID(field, id string) error {
	switch {
	case len(id) > MaxIDBytes:
		return refusal.Serialization.New("%s of %d bytes is longer than %d", field, len(id), MaxIDBytes)
	case !utf8.ValidString(id):
		return refusal.Serialization.New("invalid %s: not UTF-8", field)
	}
	return nil
}

// Decode reads what Encode wrote. As in peat-mesh, bytes that follow are ignored,
// so that one certificate has many spellings: compare Serial, not the bytes. The
// signature is not looked at.
func Decode(b []byte) (Certificate, error) {
	c, _, err := decode(b)
	return c, err
}

// DecodeExact is Decode for bytes of which all must belong to the certificate.
func DecodeExact(b []byte) (Certificate, error) {
	c, rest, err := decode(b)
	if err != nil {
		return Certificate{}, err
	}
	if len(rest) > 0 {
		return Certificate{}, refusal.Serialization.New("certificate followed by %d bytes that are not of it", len(rest))
	}
	return c, nil
}

// decode checks in the order of peat-mesh, as the error is part of what both
// sides agree on.
func decode(b []byte) (c Certificate, rest []byte, err error) {
	if len(b) < minSize {
		return Certificate{}, nil, refusal.Serialization.New("certificate too short: %d bytes (min %d)", len(b), minSize)
	}
	c.Subject = [ed25519.PublicKeySize]byte(b)
	rest = b[ed25519.PublicKeySize:]
	n := int(rest[0])
	if rest = rest[1:]; len(rest) <= n {
		return Certificate{}, nil, refusal.Serialization.New("certificate truncated at mesh_id")
	}
	if c.MeshID, rest = string(rest[:n]), rest[n:]; !utf8.ValidString(c.MeshID) {
		return Certificate{}, nil, refusal.Serialization.New("invalid mesh_id: not UTF-8")
	}
	n = int(rest[0])
	if rest = rest[1:]; len(rest) < n+tailSize {
		return Certificate{}, nil, refusal.Serialization.New("certificate truncated at node_id")
	}
	if c.NodeID, rest = string(rest[:n]), rest[n:]; !utf8.ValidString(c.NodeID) {
		return Certificate{}, nil, refusal.Serialization.New("invalid node_id: not UTF-8")
	}
	c.Tier, c.Permissions = Tier(rest[0]), Permission(rest[1])
	if !c.Tier.Valid() {
		return Certificate{}, nil, refusal.Serialization.New("invalid tier byte: %d", rest[0])
	}
	c.IssuedAt = millis.Time(binary.LittleEndian.Uint64(rest[2:]))
	if ms := binary.LittleEndian.Uint64(rest[10:]); ms != 0 {
		c.ExpiresAt = millis.Time(ms)
	}
	c.Issuer = [ed25519.PublicKeySize]byte(rest[18:])
	c.Signature = [ed25519.SignatureSize]byte(rest[18+ed25519.PublicKeySize:])
	return c, rest[tailSize:], nil
}

func toMillis(t time.Time) (uint64, error) {
	ms, ok := millis.Of(t)
	if !ok {
		return 0, refusal.Serialization.New("not a time of this protocol")
	}
	return ms, nil
}
