// Package httptarget is what the kinds of sinks that post to a URL have in common:
// where and how (Config), one request and what its answer means (Target), and many
// documents side by side without one overtaking itself (Deliver).
//
// What a request holds is its kind's.
package httptarget

import (
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// Config is the part of a sink's configuration that says where to post, and as whom.
type Config struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"` // values are sealed: they are how receivers know a caller
	TLS     *driver.TLSConfig `json:"tls,omitempty"`
	OAuth2  *OAuth2           `json:"oauth2,omitempty"`
}

// Secrets is what of it is kept sealed.
type Secrets struct {
	Headers      map[string]string `json:"headers,omitempty"`
	ClientKey    string            `json:"client_key,omitempty"`
	ClientSecret string            `json:"client_secret,omitempty"`
}

const (
	maxHeaders = 20
	maxHeader  = 4096
	maxName    = 128
)

// Parse checks the configuration and takes the secrets out of it. prior is what was
// sealed before. ours are beginnings of header names, in lower case, that the kind
// sets by itself.
func (c *Config) Parse(prior Secrets, s driver.Settings, ours ...string) (Secrets, error) {
	guard := netguard.New(s.AllowPrivate)
	target, err := guard.URL(c.URL, "https", "http")
	if err != nil {
		return Secrets{}, driver.Invalid("config/url", err.Error())
	}
	out := Secrets{}
	if c.TLS != nil {
		if target.Scheme != "https" {
			return Secrets{}, driver.Invalid("config/tls", "needs an https:// URL")
		}
		if out.ClientKey, err = c.TLS.Parse(prior.ClientKey, s.Now()); err != nil {
			return Secrets{}, err
		}
	}
	if out.ClientSecret, err = c.OAuth2.parse(prior.ClientSecret, guard); err != nil {
		return Secrets{}, err
	}
	if err := checkHeaders(c.Headers, ours, c.OAuth2 != nil); err != nil {
		return Secrets{}, err
	}
	if len(c.Headers) == 0 {
		return out, nil
	}
	shown := make(map[string]string, len(c.Headers))
	out.Headers = make(map[string]string, len(c.Headers))
	for name, value := range c.Headers {
		if value == driver.Sealed {
			old, ok := prior.Headers[name]
			if !ok {
				return Secrets{}, driver.Invalid("config/headers/"+name, "has no value yet, or the sink leads elsewhere now: it must be given")
			}
			value = old
		}
		out.Headers[name], shown[name] = value, driver.Sealed
	}
	c.Headers = shown
	return out, nil
}

// checkHeaders refuses what would change how the request is framed or what it
// claims, or what is ours to set.
func checkHeaders(headers map[string]string, ours []string, authorizes bool) error {
	if len(headers) > maxHeaders {
		return driver.Invalid("config/headers", "are more than 20")
	}
	seen := map[string]bool{}
	for name, value := range headers {
		lower := strings.ToLower(name)
		switch {
		case !isToken(name) || len(name) > maxName:
			return driver.Invalid("config/headers", "hold a name that is not a header's")
		case !isHeaderValue(value) || len(value) > maxHeader:
			return driver.Invalid("config/headers/"+name, "has a value that a header cannot have")
		case framing[lower], strings.HasPrefix(lower, "content-"), strings.HasPrefix(lower, "proxy-"), hasAnyPrefix(lower, ours):
			return driver.Invalid("config/headers/"+name, "is set by the gateway")
		case authorizes && lower == "authorization":
			return driver.Invalid("config/headers/"+name, "is set by oauth2")
		case seen[lower]:
			return driver.Invalid("config/headers/"+name, "is there twice")
		}
		seen[lower] = true
	}
	return nil
}

// framing are the headers that say how a request is carried, not what it is.
var framing = map[string]bool{
	"host": true, "connection": true, "transfer-encoding": true, "trailer": true, "te": true, "upgrade": true, "expect": true,
	"keep-alive": true, "accept-encoding": true, "idempotency-key": true, "x-idempotency-key": true,
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// isToken reports whether s may be the name of a header (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20 // letters in lower case
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(s[i])) {
			return false
		}
	}
	return s != ""
}

// isHeaderValue reports whether s may be the value of a header: no control
// characters, so that a value can never begin another header.
func isHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
