package genesis

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// EndpointKey returns the transport key of a node, which every member of the
// formation can compute from the secret that they share: it shows that somebody is
// a member, and never who. The secret may have any length.
func EndpointKey(formationSecret []byte, nodeID string) (ed25519.PrivateKey, error) {
	return DeviceKeypair(formationSecret, "iroh:"+nodeID)
}

// ProtocolEndpointKey is EndpointKey for nodes of the older peat-protocol, whose
// seed is a text such as "formation/node".
func ProtocolEndpointKey(seed string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte(seed))
	return ed25519.NewKeyFromSeed(sum[:])
}

// EndpointServerName returns the name under which a node is asked for in TLS.
func EndpointServerName(endpoint ed25519.PublicKey) (string, error) {
	if len(endpoint) != ed25519.PublicKeySize {
		return "", refusal.InvalidPublicKey.New("public key: expected %d bytes, got %d", ed25519.PublicKeySize, len(endpoint))
	}
	text := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(endpoint)
	return strings.ToLower(text) + ".iroh.invalid", nil
}
