// Package oidc verifies the JWTs of an OpenID provider by the keys that it publishes.
//
//	oidc.go    the configuration
//	verify.go  one token: its header, its signature, its claims
//	event.go   one that tells of an event
//	issuers.go the keys of an issuer, kept, looked at anew, and used during an outage
//	memory.go  keys that another process has fetched
//	jwks.go    what of a published key set is of use
//	check.go   whether a provider can be used
//
// Discovery, and the order in which a token is looked at, are go-oidc's. Its key set
// is not used: it asks the provider for every unknown key, waits for as long as the
// provider likes, and never lets go of what it has.
package oidc

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/backchannel"
	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
)

// Config is a provider's configuration. All of it is public.
type Config struct {
	Issuer     string   `json:"issuer"`
	Algorithms []string `json:"algorithms,omitempty"` // default: every one there is, of Algorithms
	MaxOutage  string   `json:"max_outage,omitempty"` // default 24h
	tokenclaims.Rules
	TLS *backchannel.TLS `json:"tls,omitempty"`

	outage time.Duration
}

// Algorithms are those that a token may be signed with. All have two keys: who can
// check a signature cannot make one.
var Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

const (
	// MaxOutage is how long the keys of a provider that does not answer are believed,
	// unless its configuration says otherwise.
	MaxOutage = 24 * time.Hour

	longestOutage = 7 * 24 * time.Hour
)

// Parse checks a configuration; see identity.Parse.
func Parse(in json.RawMessage, _ []byte, s identity.Settings) (identity.Config, error) {
	var c Config
	if err := identity.DecodeConfig(in, &c); err != nil {
		return identity.Config{}, err
	}
	u, err := backchannel.CheckURL(c.Issuer, s.AllowPrivate)
	if err != nil {
		return identity.Config{}, identity.Invalid("config/issuer", err.Error())
	}
	if u.RawQuery != "" || u.ForceQuery || strings.HasSuffix(c.Issuer, "/.well-known/openid-configuration") {
		return identity.Config{}, identity.Invalid("config/issuer", "must be the issuer as its tokens name it, without a query and without /.well-known/openid-configuration")
	}
	if err := c.prepare(s); err != nil {
		return identity.Config{}, err
	}
	return identity.Config{Issuer: c.Issuer, Public: c}, nil
}

// prepare checks the configuration and makes it ready.
func (c *Config) prepare(s identity.Settings) error {
	for _, a := range c.Algorithms {
		if !slices.Contains(Algorithms, a) {
			return identity.Invalid("config/algorithms", "must be of "+strings.Join(Algorithms, ", "))
		}
	}
	var err error
	if c.outage, err = tokenclaims.Duration("max_outage", c.MaxOutage, MaxOutage, 0, longestOutage); err != nil {
		return err
	}
	if err := c.Prepare(); err != nil {
		return err
	}
	if len(c.audiences(s)) == 0 {
		return identity.Invalid("config/audiences", "must be given: the gateway does not know its public URL, which would be the audience")
	}
	return c.TLS.Check()
}

// audiences are those for which a token may be.
func (c *Config) audiences(s identity.Settings) []string {
	if len(c.Audiences) == 0 && s.PublicURL != nil {
		return []string{s.PublicURL.String()}
	}
	return c.Audiences
}

// algorithms are those that are accepted.
func (c *Config) algorithms() []string {
	if len(c.Algorithms) == 0 {
		return Algorithms
	}
	return c.Algorithms
}

// Open makes a verifier with keys of its own; see Issuers.Open for one that shares
// them.
func Open(o identity.Opening) (identity.Verifier, error) { return NewIssuers(nil).Open(o) }
