package keyring

import (
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// The kinds of records. They are part of what is authentic, and so never change.
const (
	Genesis    = "genesis"
	Authority  = "authority"
	Sink       = "sink"
	SigningKey = "signing-key"
	Provider   = "identity-provider"
)

// OfGenesis is the record of a formation's genesis.
func OfGenesis(key tenant.Key) envelope.Record {
	return envelope.Record{Org: string(key.Org), App: string(key.App), Kind: Genesis}
}

// OfAuthority is the record of an authority that is not the genesis' own: the 32
// bytes of its Ed25519 seed.
func OfAuthority(key tenant.Key, id string) envelope.Record {
	return envelope.Record{Org: string(key.Org), App: string(key.App), Kind: Authority, ID: id}
}

// OfSink is the record of a sink's secrets.
func OfSink(org tenant.OrgID, id string) envelope.Record {
	return envelope.Record{Org: string(org), Kind: Sink, ID: id}
}

// OfSigningKey is the record of the private half of a key that signs what sinks
// send.
func OfSigningKey(org tenant.OrgID, id string) envelope.Record {
	return envelope.Record{Org: string(org), Kind: SigningKey, ID: id}
}

// OfProvider is the record of an identity provider's secrets.
func OfProvider(org tenant.OrgID, id string) envelope.Record {
	return envelope.Record{Org: string(org), Kind: Provider, ID: id}
}
