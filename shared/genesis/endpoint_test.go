package genesis_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

func TestVectorsIrohEndpoint(t *testing.T) {
	type in struct {
		Secret bytesHex `json:"formation_secret_hex"`
		NodeID string   `json:"node_id"`
	}
	type out struct {
		ID         bytesHex `json:"endpoint_id"`
		Secret     bytesHex `json:"iroh_secret_hex"`
		SPKI       bytesHex `json:"spki_der_hex"`
		ServerName string   `json:"tls_server_name"`
	}
	for _, v := range refusaltest.Vectors[in, out](t, "iroh_endpoint") {
		t.Run(v.ID, func(t *testing.T) {
			key, err := genesis.EndpointKey(v.In.Secret, v.In.NodeID)
			if err != nil {
				t.Fatal(err)
			}
			id := key.Public().(ed25519.PublicKey)
			name, err := genesis.EndpointServerName(id)
			if err != nil {
				t.Fatal(err)
			}
			// What a node shows in TLS is what the standard library makes of a key.
			spki, err := x509.MarshalPKIXPublicKey(id)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.Out, out{bytesHex(id), key.Seed(), spki, name}); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := genesis.EndpointServerName(nil); !errors.Is(err, refusal.InvalidPublicKey) {
		t.Errorf("no key has a name: %v", err)
	}
}

func TestVectorsIrohEndpointPeatProtocol(t *testing.T) {
	type in struct{ Seed string }
	type out struct {
		ID     bytesHex `json:"endpoint_id"`
		Secret bytesHex `json:"iroh_secret_hex"`
	}
	for _, v := range refusaltest.Vectors[in, out](t, "iroh_endpoint_peat_protocol") {
		t.Run(v.ID, func(t *testing.T) {
			key := genesis.ProtocolEndpointKey(v.In.Seed)
			if !bytes.Equal(key.Seed(), v.Out.Secret) || !bytes.Equal(key.Public().(ed25519.PublicKey), v.Out.ID) {
				t.Errorf("endpoint %x of %x", key.Public(), key.Seed())
			}
		})
	}
}
