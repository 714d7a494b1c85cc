package identity

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// MaxProviders is how many identity providers an organization may have.
const MaxProviders = 50

// Kind is a kind of identity provider.
type Kind string

// The kinds. Enrollment tokens are no provider: the gateway itself made them.
const (
	OIDC          Kind = "oidc"          // JWTs, checked by the provider's published keys
	Introspection Kind = "introspection" // opaque tokens, checked by asking (RFC 7662)
	SAML          Kind = "saml"          // signed assertions
	MTLS          Kind = "mtls"          // client certificates, such as a CAC's
)

// Provider is one identity provider of an organization, as it is kept.
type Provider struct {
	Key
	Kind      Kind
	Label     string
	Issuer    string // proofs name it, and so find their provider; unique among an organization's of SAML, and of the rest
	Enabled   bool
	Config    json.RawMessage // public: returned by the API
	Sealed    []byte          // its secrets; nil if there are none
	Version   int64           // counts its changes, for ETags
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Config is a provider's configuration, divided by who may see it.
type Config struct {
	Issuer  string
	Public  any // returned by the API
	Secrets any // sealed; nil if there are none
}

// Parse checks a configuration and divides it. prior is what was sealed for the
// provider before, in JSON, or nil for a new one: a secret that in leaves out stays
// what it was.
type Parse func(in json.RawMessage, prior []byte, s Settings) (Config, error)

// Open makes a verifier ready. It reaches for nothing: that is for Verify and Check.
type Open func(o Opening) (Verifier, error)

// Opening is what a verifier is made of.
type Opening struct {
	Provider Provider
	Secrets  []byte // Config.Secrets in JSON; nil if there are none
	Settings
}

// Settings are the operator's choices that verifiers need.
type Settings struct {
	PublicURL    *url.URL       // of the gateway, as devices and people reach it; audiences and SAML endpoints derive from it
	AllowPrivate []netip.Prefix // networks inside that providers may be in; none by default
	Patience     time.Duration  // how long a provider may take to answer; default: ten seconds
	Now          func() time.Time
	CRLDir       string // where the operator keeps lists of revocations for client certificates; empty: nowhere
}

// Org is the organization that the verifier is for.
func (o Opening) Org() tenant.OrgID { return o.Provider.Org }
