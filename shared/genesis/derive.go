package genesis

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"strings"
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
		return nil, KeypairError.new("derive keypair: %v", err)
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
		return "", InvalidPublicKey.new("public key: expected %d bytes, got %d", ed25519.PublicKeySize, len(pub))
	}
	if !isPoint(pub) {
		return "", InvalidPublicKey.new("public key: not a point of the curve")
	}
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:deviceIDSize]), nil
}

// ParseDeviceID returns s as DeviceID writes it. It is stricter than peat-mesh,
// whose parser also takes a plus sign for a digit.
func ParseDeviceID(s string) (string, error) {
	if len(s)%2 != 0 {
		return "", InvalidDeviceID.new("device id: odd length")
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return "", InvalidDeviceID.new("device id: invalid hex")
	}
	if len(b) != deviceIDSize {
		return "", InvalidDeviceID.new("device id: expected %d bytes, got %d", deviceIDSize, len(b))
	}
	return hex.EncodeToString(b), nil
}

// isPoint tells whether pub decompresses, which crypto/ed25519 tells nobody: it
// has one answer for a bad key and a bad signature. The curve is
// -x²+y² = 1+d·x²·y², so y is on it if (y²-1)/(d·y²+1) is a square. Public keys
// are no secret, so big numbers, whose time varies, will do.
func isPoint(pub ed25519.PublicKey) bool {
	p := new(big.Int).Lsh(big.NewInt(1), 255)
	p.Sub(p, big.NewInt(19))
	d := new(big.Int).ModInverse(big.NewInt(121666), p)
	d.Mul(d, big.NewInt(-121665)).Mod(d, p)

	reversed := make([]byte, len(pub)) // the encoding is little-endian, big.Int is not
	for i, b := range pub {
		reversed[len(pub)-1-i] = b
	}
	reversed[0] &= 0x7f // the sign of x
	y2 := new(big.Int).SetBytes(reversed)
	y2.Mul(y2, y2).Mod(y2, p)

	one := big.NewInt(1)
	u := new(big.Int).Sub(y2, one)
	v := d.Mul(d, y2).Add(d, one)
	// u/v is a square exactly if u·v is, and u/v is never undefined: -1/d is
	// not a square, so v is not zero.
	u.Mul(u, v).Mod(u, p)
	return big.Jacobi(u, p) >= 0
}
