package genesis

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/point"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// What each derivation is for. These are part of the mesh's protocol.
const (
	meshIDInfo          = "peat-mesh:mesh-id"
	formationSecretInfo = "peat-mesh:formation-secret"
	authorityInfo       = "peat-mesh:authority-keypair"
)

// MeshID returns 8 upper-case hexadecimal characters. They are for people to
// recognise a mesh by: 32 bits are too few to tell formations apart.
func (g Genesis) MeshID() string {
	id := g.derive(g.Name, meshIDInfo)
	return strings.ToUpper(hex.EncodeToString(id[:4]))
}

// FormationSecret returns what all members share.
func (g Genesis) FormationSecret() Secret { return g.derive(g.Name, formationSecretInfo) }

// AuthorityKey returns the key that signs the formation's certificates.
func (g Genesis) AuthorityKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(g.AuthoritySecret[:])
}

// AuthorityPublicKey returns the key that the formation's certificates are
// checked with.
func (g Genesis) AuthorityPublicKey() ed25519.PublicKey {
	return g.AuthorityKey().Public().(ed25519.PublicKey)
}

// derivedAuthority has no salt, other than the derivations above: two meshes of
// one seed have one authority, whatever their names.
func (g Genesis) derivedAuthority() Secret { return g.derive("", authorityInfo) }

func (g Genesis) derive(salt, info string) Secret {
	out, err := expand(g.Seed[:], salt, info)
	if err != nil {
		// HKDF refuses only lengths that we do not use, and in FIPS mode keys
		// shorter than a seed is.
		panic("genesis: " + err.Error())
	}
	return out
}

// DeviceKeypair returns the key that seed and context determine, which is how
// a node with a formation secret makes its own. A seed may have any length.
func DeviceKeypair(seed []byte, context string) (ed25519.PrivateKey, error) {
	secret, err := expand(seed, "", context)
	if err != nil {
		return nil, refusal.Keypair.New("derive keypair: %v", err)
	}
	return ed25519.NewKeyFromSeed(secret[:]), nil
}

func expand(ikm []byte, salt, info string) (Secret, error) {
	out, err := hkdf.Key(sha256.New, ikm, []byte(salt), info, SecretSize)
	if err != nil {
		return Secret{}, err
	}
	return Secret(out), nil
}

const deviceIDSize = 16 // bytes

// DeviceID returns the name of the device that has this key: 32 lower-case
// hexadecimal characters.
func DeviceID(pub ed25519.PublicKey) (string, error) {
	if len(pub) != ed25519.PublicKeySize {
		return "", refusal.InvalidPublicKey.New("public key: expected %d bytes, got %d", ed25519.PublicKeySize, len(pub))
	}
	if !point.OnCurve(pub) {
		return "", refusal.InvalidPublicKey.New("public key: not a point of the curve")
	}
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:deviceIDSize]), nil
}

// ParseDeviceID returns s as DeviceID writes it. It is stricter than peat-mesh,
// whose parser also takes a plus sign for a digit.
func ParseDeviceID(s string) (string, error) {
	if len(s)%2 != 0 {
		return "", refusal.InvalidDeviceID.New("device id: odd length")
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return "", refusal.InvalidDeviceID.New("device id: invalid hex")
	}
	if len(b) != deviceIDSize {
		return "", refusal.InvalidDeviceID.New("device id: expected %d bytes, got %d", deviceIDSize, len(b))
	}
	return hex.EncodeToString(b), nil
}
