// Package oauth is what the flows of OAuth 2.0 that we take part in have in common:
// where a provider's endpoints are, and how its token endpoint is asked. What is in
// a token is not its business; a token is believed only by a verifier.
//
//	oauth.go     who asks, and where the endpoints are
//	token.go     asking, and how a provider says no
//	pkce.go      a proof that who brings a code is who asked for it
package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Limits of what a provider may answer, and how long it may take.
const (
	maxAnswer = 256 << 10
	patience  = 10 * time.Second
)

// fresh is how long the endpoints are believed to be where they were.
const fresh = time.Hour

// Client asks one provider. It is used by many at once.
type Client struct {
	Issuer string
	ID     string     // as the provider knows us
	Secret env.Secret // not set: a public client, which has none
	HTTP   *http.Client
	Now    func() time.Time

	mu    sync.Mutex
	known *Metadata
	asOf  time.Time
}

// Metadata is what a provider says of itself (OpenID Connect Discovery 1.0), as far
// as it is of use here. What it does not have is empty.
type Metadata struct {
	Issuer              string   `json:"issuer"`
	Authorization       string   `json:"authorization_endpoint"`
	Token               string   `json:"token_endpoint"`
	EndSession          string   `json:"end_session_endpoint"`
	DeviceAuthorization string   `json:"device_authorization_endpoint"`
	NamesIssuer         bool     `json:"authorization_response_iss_parameter_supported"`
	AuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
}

// ParseIssuer reads the address of a provider. Whoever sits between us and it could be
// anybody to us, so it is https, or on this machine.
func ParseIssuer(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || len(text) > 1024:
		return nil, errors.New("must be a URL with a host")
	case u.Scheme != "https" && !(u.Scheme == "http" && onThisMachine(u.Hostname())):
		return nil, errors.New("must begin with https://")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, "?#"):
		return nil, errors.New("must be without user, query and fragment")
	}
	return u, nil
}

func onThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Metadata says where the endpoints are. While the provider does not answer, they
// are where they were.
func (c *Client) Metadata(ctx context.Context) (Metadata, error) {
	c.mu.Lock()
	known, asOf := c.known, c.asOf
	c.mu.Unlock()
	now := c.Now()
	if known != nil && now.Sub(asOf) < fresh {
		return *known, nil
	}
	m, err := c.fetch(ctx)
	if err != nil && known != nil {
		return *known, nil
	}
	if err != nil {
		return Metadata{}, fault.Unavailable.Wrap(err, "the identity provider cannot be reached")
	}
	c.mu.Lock()
	c.known, c.asOf = &m, now
	c.mu.Unlock()
	return m, nil
}

func (c *Client) fetch(ctx context.Context) (Metadata, error) {
	issuer, err := ParseIssuer(c.Issuer)
	if err != nil {
		return Metadata{}, fmt.Errorf("issuer: %w", err)
	}
	r, err := http.NewRequest(http.MethodGet, strings.TrimSuffix(c.Issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return Metadata{}, err
	}
	status, body, err := c.do(ctx, r)
	if err != nil {
		return Metadata{}, fmt.Errorf("discovery: %w", err)
	}
	if status != http.StatusOK {
		return Metadata{}, fmt.Errorf("discovery is answered with status %d", status)
	}
	return ParseMetadata(body, issuer)
}

// ParseMetadata reads a discovery document, which must be the issuer's own and point
// to nothing that is less safe to talk to than the issuer.
func ParseMetadata(body []byte, issuer *url.URL) (Metadata, error) {
	var m Metadata
	if err := json.Unmarshal(body, &m); err != nil {
		return Metadata{}, errors.New("the discovery document is not what it should be")
	}
	if m.Issuer != issuer.String() {
		return Metadata{}, errors.New("the discovery document is of another issuer")
	}
	for name, text := range map[string]string{
		"authorization_endpoint": m.Authorization, "token_endpoint": m.Token,
		"end_session_endpoint": m.EndSession, "device_authorization_endpoint": m.DeviceAuthorization,
	} {
		if text == "" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || len(text) > 2048 ||
			u.Scheme != "https" && !(u.Scheme == "http" && issuer.Scheme == "http" && onThisMachine(u.Hostname())) {
			return Metadata{}, fmt.Errorf("the discovery document has a %s that may not be used", name)
		}
	}
	return m, nil
}

// do sends a request and reads the answer, within the limits.
func (c *Client) do(ctx context.Context, r *http.Request) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r.Header.Set("Accept", "application/json")
	answer, err := c.HTTP.Do(r.WithContext(ctx))
	if err != nil {
		return 0, nil, plain(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, plain(err)
	case len(body) > maxAnswer:
		return 0, nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return answer.StatusCode, body, nil
}

// plain takes the address out of an error: it may hold a code.
func plain(err error) error {
	var inner *url.Error
	if errors.As(err, &inner) {
		return inner.Err
	}
	return err
}

// Transport is how providers are reached: by dial, without redirects, which would
// carry our secret wherever they like. Roots are the authorities that vouch for them;
// nil means the system's.
func Transport(dial func(ctx context.Context, network, address string) (net.Conn, error), roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: patience, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
