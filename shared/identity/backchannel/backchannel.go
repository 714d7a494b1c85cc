// Package backchannel is how the gateway itself asks an identity provider: at an
// address that an organization chose, and that may be anybody's. What is asked, and
// what an answer means, is its users' business.
package backchannel

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// Limits of one request.
const (
	Patience  = 10 * time.Second // unless the settings say otherwise
	MaxAnswer = 256 << 10

	maxHeader = 64 << 10
	maxCA     = 64 << 10
)

// TLS is how a provider is met over TLS, as an organization says it in the field
// "tls" of a configuration. A nil one is the usual: the system's roots.
type TLS struct {
	CA string `json:"ca_pem,omitempty"` // instead of the system's roots, not beside them
}

// Check says what is wrong with it, if anything.
func (t *TLS) Check() error {
	_, err := t.roots()
	return err
}

// PEM is the authorities' certificates; empty for the system's.
func (t *TLS) PEM() string {
	if t == nil {
		return ""
	}
	return t.CA
}

func (t *TLS) roots() (*x509.CertPool, error) {
	if t.PEM() == "" {
		return nil, nil
	}
	if len(t.CA) > maxCA {
		return nil, identity.Invalid("config/tls/ca_pem", "is longer than 64 KiB")
	}
	pool := x509.NewCertPool()
	n := 0
	for rest := []byte(t.CA); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, identity.Invalid("config/tls/ca_pem", "holds something that is no certificate")
		}
		pool.AddCert(cert)
	}
	if n == 0 {
		return nil, identity.Invalid("config/tls/ca_pem", "holds no certificate in PEM")
	}
	return pool, nil
}

// CheckURL reads the address of something of a provider's. Unencrypted is only what
// the operator has said is inside: whoever is between could answer in its place.
func CheckURL(text string, private []netip.Prefix) (*url.URL, error) {
	schemes := []string{"https"}
	if len(private) > 0 {
		schemes = append(schemes, "http")
	}
	return netguard.New(private).URL(text, schemes...)
}

// Client asks. It follows no redirect, reads a bounded answer, and takes every status
// but 200 for an error.
type Client struct {
	*http.Client
	secure, plain *http.Transport
	private       []netip.Prefix
	patience      time.Duration
	now           func() time.Time
	ahead         atomic.Int64 // how far the other side's clock was ahead, when last heard
}

// New returns a client for one provider.
func New(t *TLS, s identity.Settings) (*Client, error) {
	roots, err := t.roots()
	if err != nil {
		return nil, err
	}
	guard := netguard.New(s.AllowPrivate)
	c := &Client{private: s.AllowPrivate, patience: cmp.Or(s.Patience, Patience), now: s.Now}
	c.secure = transport(guard.DialContext)
	c.secure.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	c.plain = transport(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := guard.DialContext(ctx, network, address)
		if err == nil && !c.inside(conn.RemoteAddr()) {
			_ = conn.Close()
			return nil, errPlain
		}
		return conn, err
	})
	c.Client = &http.Client{
		Transport:     roundTripper{c},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func transport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		// No proxy: it would be the proxy that resolves the name, behind the guard's back.
		DialContext: dial, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: Patience, MaxResponseHeaderBytes: maxHeader,
		DisableCompression: true, // a small answer must not become a large one
	}
}

// inside tells whether an address is one that the operator has allowed by name.
func (c *Client) inside(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && slices.ContainsFunc(c.private, func(p netip.Prefix) bool { return p.Contains(tcp.AddrPort().Addr().Unmap()) })
}

// Limit is ctx for as long as the provider may take.
func (c *Client) Limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.patience)
}

// Ahead is how far the other side's clock was ahead of ours when it last answered.
func (c *Client) Ahead() time.Duration { return time.Duration(c.ahead.Load()) }

// Close lets idle connections go.
func (c *Client) Close() {
	c.secure.CloseIdleConnections()
	c.plain.CloseIdleConnections()
}

var (
	errPlain   = errors.New("it is not encrypted, and not inside")
	errTooLong = errors.New("the answer is longer than 256 KiB")
)

// StatusError is an answer other than 200.
type StatusError int

func (e StatusError) Error() string {
	if e/100 == 3 {
		return fmt.Sprintf("the answer is %d, a redirect, which is not followed", int(e))
	}
	return fmt.Sprintf("the answer is %d %s", int(e), http.StatusText(int(e)))
}

type roundTripper struct{ c *Client }

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	carry := t.c.secure
	if r.URL.Scheme != "https" {
		carry = t.c.plain
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "peat-gateway")
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	resp, err := carry.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.c.ahead.Store(int64(date.Sub(t.c.now().Truncate(time.Second))))
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, StatusError(resp.StatusCode)
	}
	if resp.ContentLength > MaxAnswer {
		_ = resp.Body.Close()
		return nil, errTooLong
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: MaxAnswer}
	return resp, nil
}

// bounded fails when there is more to read than there may be.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// Describe says why an answer was not had, in words that hold neither an address nor
// anything of the answer: who chose where to ask may not learn what is there.
func Describe(err error) string {
	var status StatusError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var dns *net.DNSError
	var netErr net.Error
	switch {
	case errors.As(err, &status):
		return status.Error()
	case errors.Is(err, errTooLong):
		return errTooLong.Error()
	case errors.Is(err, errPlain):
		return errPlain.Error()
	case errors.Is(err, netguard.ErrForbidden):
		return netguard.ErrForbidden.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "there is no answer in time"
	case errors.As(err, &unknown):
		return "its certificate is from an authority that is not known here"
	case errors.As(err, &host):
		return "its certificate is for another name"
	case errors.As(err, &invalid):
		return "its certificate is not valid"
	case errors.As(err, &dns):
		return "its name cannot be resolved"
	}
	return "there is no answer that can be read"
}
