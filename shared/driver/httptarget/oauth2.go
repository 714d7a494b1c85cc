package httptarget

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// OAuth2 is how to get the token that the receiver wants: the client credentials
// grant (RFC 6749, section 4.4).
type OAuth2 struct {
	TokenURL     string   `json:"token_url"`
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret,omitempty"` // sealed
	Scopes       []string `json:"scopes,omitempty"`
	Audience     string   `json:"audience,omitempty"`
}

const (
	maxScopes   = 20
	maxScope    = 256
	maxClientID = 256
	maxSecret   = 4096
	maxAudience = 2048
	maxToken    = 16 << 10
)

func (c *OAuth2) parse(prior string, guard *netguard.Guard) (secret string, err error) {
	if c == nil {
		return "", nil
	}
	if _, err := guard.URL(c.TokenURL, "https", "http"); err != nil {
		return "", driver.Invalid("config/oauth2/token_url", err.Error())
	}
	if c.ClientSecret == "" || c.ClientSecret == driver.Sealed {
		c.ClientSecret = prior
	}
	switch {
	case c.ClientID == "" || len(c.ClientID) > maxClientID:
		return "", driver.Invalid("config/oauth2/client_id", "is missing or longer than 256 bytes")
	case c.ClientSecret == "" || len(c.ClientSecret) > maxSecret:
		return "", driver.Invalid("config/oauth2/client_secret", "is missing or longer than 4096 bytes")
	case len(c.Audience) > maxAudience:
		return "", driver.Invalid("config/oauth2/audience", "is longer than 2048 bytes")
	case len(c.Scopes) > maxScopes:
		return "", driver.Invalid("config/oauth2/scopes", "are more than 20")
	}
	for _, s := range c.Scopes {
		// As RFC 6749 writes a scope: what would end it is not in it.
		if s == "" || len(s) > maxScope || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return "", driver.Invalid("config/oauth2/scopes", "hold one that is empty, longer than 256 bytes, or not in plain ASCII without spaces, quotes and backslashes")
		}
	}
	secret, c.ClientSecret = c.ClientSecret, driver.Sealed
	return secret, nil
}

// tokens gets tokens and keeps the newest until shortly before it expires.
type tokens struct {
	config clientcredentials.Config
	client *http.Client
	limit  time.Duration
	now    func() time.Time

	rounds atomic.Uint64 // how often it was tried
	turn   chan struct{} // held by the one who tries; guards what is below
	header string        // "Bearer …"; empty: there is none
	until  time.Time     // when to get another; zero: when the receiver no longer takes it
	failed error         // what the last try came to
}

// errNoToken is all that is told when the token server's answer is no help.
var errNoToken = errors.New("the token server's answer holds no usable token")

func (c *OAuth2) open(secret string, authority *driver.TLSConfig, guard *netguard.Guard, limit time.Duration, now func() time.Time) (*tokens, error) {
	if c == nil {
		return nil, nil
	}
	// The token server is not the receiver: it gets no client certificate of ours,
	// and may as well be a public one as one that the receiver's authority vouches for.
	config, err := (*driver.TLSConfig)(nil).Open("")
	if err != nil {
		return nil, err
	}
	if authority != nil && authority.CA != "" {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
		config.RootCAs.AppendCertsFromPEM([]byte(authority.CA))
	}
	out := &tokens{
		config: clientcredentials.Config{ClientID: c.ClientID, ClientSecret: secret, TokenURL: c.TokenURL, Scopes: c.Scopes},
		client: &http.Client{
			Transport:     newTransport(guard, config, 1),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		limit: limit, now: now, turn: make(chan struct{}, 1),
	}
	if c.Audience != "" {
		out.config.EndpointParams = url.Values{"audience": {c.Audience}}
	}
	return out, nil
}

// get returns the value of the Authorization header, one that is not stale. Many may
// ask at once; one of them goes, and those who waited take what it brought, also if
// that is an error.
func (t *tokens) get(ctx context.Context, stale string) (string, error) {
	before := t.rounds.Load()
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if t.failed != nil && t.rounds.Load() != before {
		return "", t.failed
	}
	if t.header != "" && t.header != stale && (t.until.IsZero() || t.now().Before(t.until)) {
		return t.header, nil
	}
	t.header, t.failed = t.fetch(ctx)
	if ctx.Err() != nil && t.failed != nil {
		t.failed = nil // called off by this caller, which says nothing to the others
		return "", ctx.Err()
	}
	t.rounds.Add(1)
	return t.header, t.failed
}

// fetch gets a token, and notes how long it is good.
func (t *tokens) fetch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, t.client), t.limit)
	defer cancel()
	token, err := t.config.Token(ctx)
	if err != nil {
		return "", describeToken(err, t.limit)
	}
	if !strings.EqualFold(token.Type(), "Bearer") || !isHeaderValue(token.AccessToken) || len(token.AccessToken) > maxToken {
		return "", errNoToken
	}
	t.until = time.Time{}
	if life := time.Until(token.Expiry); !token.Expiry.IsZero() {
		// The receiver's clock is not ours, and a request takes its time.
		t.until = t.now().Add(life - min(30*time.Second, life/4))
	}
	return "Bearer " + token.AccessToken, nil
}

// describeToken says what went wrong, without what the server said: it may repeat
// the secret.
func describeToken(err error, limit time.Duration) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		var sent *url.Error
		if errors.As(err, &sent) {
			return fmt.Errorf("the token server: %s", describe(err, limit))
		}
		return errNoToken
	}
	if refused.Response != nil && refused.Response.StatusCode/100 != 2 {
		return fmt.Errorf("the token server answered %d %s", refused.Response.StatusCode, http.StatusText(refused.Response.StatusCode))
	}
	return errNoToken
}

func (t *tokens) close() {
	if t != nil {
		t.client.CloseIdleConnections()
	}
}

// encrypted reports whether the secret travels inside TLS.
func (t *tokens) encrypted() bool {
	return strings.HasPrefix(strings.ToLower(t.config.TokenURL), "https://")
}
