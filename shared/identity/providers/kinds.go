package providers

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/introspection"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oidc"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
)

// kind is what must be known of a kind of identity provider.
type kind struct {
	parse identity.Parse
	open  identity.Open
	// issuer reads whom a proof names as its issuer, before anything is believed. nil:
	// proofs of this kind name nobody, and every provider of the kind may be meant.
	issuer func(p identity.Proof) (string, error)
	// rotate makes anew what the gateway itself has made for the provider. Optional.
	rotate func(config json.RawMessage, prior []byte, s identity.Settings) (identity.Config, error)
}

// newKinds is every kind of identity provider there is. It is made for each Providers,
// since kinds may have something that their verifiers share.
func newKinds(m oidc.Memory) map[identity.Kind]kind {
	issuers := oidc.NewIssuers(m)
	return map[identity.Kind]kind{
		identity.OIDC:          {parse: oidc.Parse, open: issuers.Open},
		identity.Introspection: {parse: introspection.Parse, open: introspection.Open},
		identity.SAML:          {parse: saml.Parse, open: saml.Open, issuer: saml.IssuerOf, rotate: saml.Rotate},
		identity.MTLS:          {parse: mtls.Parse, open: mtls.Open},
	}
}

func (p *Providers) kindNames() string {
	var names []string
	for k := range maps.Keys(p.kinds) {
		names = append(names, string(k))
	}
	slices.Sort(names)
	return strings.Join(names, " or ")
}
