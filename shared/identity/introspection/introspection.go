// Package introspection verifies tokens by asking their provider (RFC 7662): opaque
// ones, which nobody else can read, and JWTs whose provider is to have the last word.
//
//	introspection.go  the configuration
//	verify.go         one token: asked about, or remembered
//	remembered.go     answers, for a short time
package introspection

import (
	"encoding/json"
	"net/url"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/backchannel"
	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
)

// Config is a provider's configuration.
type Config struct {
	URL string `json:"introspection_url"`
	// Issuer is whom its tokens name, if they can be read. JWTs that name it are asked
	// about here, and no answer may name another. Default: the URL, which no token names.
	Issuer string `json:"issuer,omitempty"`

	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret,omitempty"` // sealed
	Auth         string `json:"auth,omitempty"`          // how they are sent: "basic", which is the default, or "post"

	// A provider answers for tokens that it gave to anybody. Those of others are kept out
	// by the audience or the party, unless this says that none is to be kept out.
	AnyAudience bool   `json:"any_audience,omitempty"`
	CacheFor    string `json:"cache_for,omitempty"` // default 30s
	tokenclaims.Rules
	TLS *backchannel.TLS `json:"tls,omitempty"`

	cache time.Duration
}

// secrets is what is sealed. The host is whom the secret is for: it is not sent to
// another because somebody has changed the URL.
type secrets struct {
	ClientSecret string `json:"client_secret"`
	Host         string `json:"host"`
}

const (
	basic = "basic"
	post  = "post"

	defaultCache = 30 * time.Second
	maxCache     = 5 * time.Minute
	maxClientID  = 256
	maxSecret    = 4096
	maxIssuer    = 2048
)

// Parse checks a configuration; see identity.Parse.
func Parse(in json.RawMessage, prior []byte, s identity.Settings) (identity.Config, error) {
	var c Config
	if err := identity.DecodeConfig(in, &c); err != nil {
		return identity.Config{}, err
	}
	u, err := c.prepare(s)
	if err != nil {
		return identity.Config{}, err
	}
	var before secrets
	if prior != nil && json.Unmarshal(prior, &before) != nil {
		return identity.Config{}, errUnreadable
	}
	if c.ClientSecret == "" || c.ClientSecret == identity.Sealed {
		if before.Host != hostOf(u) {
			return identity.Config{}, identity.Invalid("config/client_secret", "is missing, or was given for another host")
		}
		c.ClientSecret = before.ClientSecret
	}
	if len(c.ClientSecret) > maxSecret {
		return identity.Config{}, identity.Invalid("config/client_secret", "is longer than 4096 bytes")
	}
	sealed := secrets{c.ClientSecret, hostOf(u)}
	c.ClientSecret = identity.Sealed
	return identity.Config{Issuer: c.issuer(), Public: c, Secrets: sealed}, nil
}

func hostOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

func (c *Config) issuer() string {
	if c.Issuer == "" {
		return c.URL
	}
	return c.Issuer
}

// prepare checks the configuration and makes it ready.
func (c *Config) prepare(s identity.Settings) (*url.URL, error) {
	u, err := backchannel.CheckURL(c.URL, s.AllowPrivate)
	switch {
	case err != nil:
		return nil, identity.Invalid("config/introspection_url", err.Error())
	case len(c.Issuer) > maxIssuer:
		return nil, identity.Invalid("config/issuer", "is longer than 2048 bytes")
	case c.ClientID == "" || len(c.ClientID) > maxClientID:
		return nil, identity.Invalid("config/client_id", "is missing or longer than 256 bytes")
	case c.Auth != "" && c.Auth != basic && c.Auth != post:
		return nil, identity.Invalid("config/auth", "must be basic or post")
	}
	if c.cache, err = tokenclaims.Duration("cache_for", c.CacheFor, defaultCache, 0, maxCache); err != nil {
		return nil, err
	}
	if err := c.Prepare(); err != nil {
		return nil, err
	}
	if len(c.Audiences)+len(c.Parties) == 0 && !c.AnyAudience {
		return nil, identity.Invalid("config/audiences", "or authorized_parties must be given, or any_audience: else every token of the provider, whoever it is for, would do")
	}
	return u, c.TLS.Check()
}
