package genesis

import (
	"crypto/ed25519"
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// policies are in the order of their byte.
var policies = [...]tenant.EnrollmentPolicy{tenant.Open, tenant.Controlled, tenant.Strict}

// Both records are a name after its 16-bit length, a body of fixed size and the
// policy. The two bodies happen to be equally long: seed, authority secret and
// time; or mesh id, formation secret and authority key.
const (
	meshIDSize = 8
	bodySize   = SecretSize + SecretSize + 8
	minSize    = 2 + bodySize + 1
)

// Encode returns g as peat-mesh keeps it. It refuses what Decode would not give
// back.
func (g Genesis) Encode() ([]byte, error) {
	return encode(g.Name, g.Policy, func(out []byte) []byte {
		out = append(out, g.Seed[:]...)
		out = append(out, g.AuthoritySecret[:]...)
		return binary.LittleEndian.AppendUint64(out, g.CreatedAtMS)
	})
}

// Decode reads what Encode wrote. As in peat-mesh, bytes that follow are
// ignored, and nothing ties the authority secret to the seed.
func Decode(b []byte) (Genesis, error) {
	name, body, rest, err := split("genesis", b)
	if err != nil {
		return Genesis{}, err
	}
	policy, err := policyOf(rest)
	if err != nil {
		return Genesis{}, err
	}
	return Genesis{
		Name:            name,
		Seed:            Secret(body[:SecretSize]),
		AuthoritySecret: Secret(body[SecretSize : 2*SecretSize]),
		CreatedAtMS:     binary.LittleEndian.Uint64(body[2*SecretSize:]),
		Policy:          policy,
	}, nil
}

// Encode returns c as peat-mesh shares it. It refuses what DecodeCredentials
// would not give back.
func (c Credentials) Encode() ([]byte, error) {
	switch {
	case len(c.MeshID) != meshIDSize:
		return nil, refusal.Serialization.New("mesh_id of %d bytes, must be %d", len(c.MeshID), meshIDSize)
	case !utf8.ValidString(c.MeshID):
		return nil, refusal.Serialization.New("invalid mesh_id: not UTF-8")
	case len(c.AuthorityPublicKey) != ed25519.PublicKeySize:
		return nil, refusal.Serialization.New("authority key of %d bytes, must be %d", len(c.AuthorityPublicKey), ed25519.PublicKeySize)
	}
	return encode(c.Name, c.Policy, func(out []byte) []byte {
		out = append(out, c.MeshID...)
		out = append(out, c.FormationSecret[:]...)
		return append(out, c.AuthorityPublicKey...)
	})
}

// DecodeCredentials reads what Credentials.Encode wrote. As in peat-mesh, bytes
// that follow are ignored, and the mesh id may be any 8 bytes of text.
func DecodeCredentials(b []byte) (Credentials, error) {
	name, body, rest, err := split("credentials", b)
	if err != nil {
		return Credentials{}, err
	}
	id := body[:meshIDSize]
	if !utf8.Valid(id) {
		return Credentials{}, refusal.Serialization.New("invalid mesh_id: not UTF-8")
	}
	policy, err := policyOf(rest)
	if err != nil {
		return Credentials{}, err
	}
	return Credentials{
		Name:               name,
		MeshID:             string(id),
		FormationSecret:    Secret(body[meshIDSize : meshIDSize+SecretSize]),
		AuthorityPublicKey: slices.Clone(body[meshIDSize+SecretSize:]),
		Policy:             policy,
	}, nil
}

func encode(name string, policy tenant.EnrollmentPolicy, body func([]byte) []byte) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	last, err := policyByte(policy)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, minSize+len(name))
	out = binary.LittleEndian.AppendUint16(out, uint16(len(name)))
	out = append(out, name...)
	return append(body(out), last), nil
}

// split takes a record apart. rest begins with the policy. The checks are in the
// order of peat-mesh, as the error is part of what both sides agree on.
func split(what string, b []byte) (name string, body, rest []byte, err error) {
	if len(b) < minSize {
		return "", nil, nil, refusal.Serialization.New("%s too short: %d bytes (min %d)", what, len(b), minSize)
	}
	n := int(binary.LittleEndian.Uint16(b))
	if len(b) < minSize+n {
		return "", nil, nil, refusal.Serialization.New("%s truncated at mesh_name", what)
	}
	if !utf8.Valid(b[2 : 2+n]) {
		return "", nil, nil, refusal.Serialization.New("invalid mesh_name: not UTF-8")
	}
	rest = b[2+n:]
	return string(b[2 : 2+n]), rest[:bodySize:bodySize], rest[bodySize:], nil
}

func policyOf(rest []byte) (tenant.EnrollmentPolicy, error) {
	if int(rest[0]) >= len(policies) {
		return "", refusal.Serialization.New("invalid policy byte: %d", rest[0])
	}
	return policies[rest[0]], nil
}

func policyByte(policy tenant.EnrollmentPolicy) (byte, error) {
	i := slices.Index(policies[:], policy)
	if i < 0 {
		return 0, refusal.Serialization.New("unknown policy %q", policy)
	}
	return byte(i), nil
}
