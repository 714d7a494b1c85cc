package envelope

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// What holds for every key service on a network. A sealed secret is opened while
// somebody waits for an answer, so it is better to say soon that it cannot be.
const (
	callTimeout  = 10 * time.Second // of a call with all its attempts
	attempts     = 4
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
	maxAnswer    = 1 << 20
)

// TrustedURL tells why a key service may not be asked at u: data keys travel to it
// in the clear but for TLS. Without TLS it must be on this very machine, as an
// agent that forwards is.
func TrustedURL(u *url.URL) error {
	host := u.Hostname()
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case host == "":
		return errors.New("the key service's address has no host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("the key service's address may hold neither user, query nor fragment")
	case u.Scheme == "https" || u.Scheme == "http" && loopback:
		return nil
	default:
		return errors.New("the key service's address must begin with https://, or with http:// and be on this machine")
	}
}

// refused and unavailable say why, in words that hold no part of what was sent or
// answered.
func refused(why string) error { return fmt.Errorf("%w: %s", ErrKeyRefused, why) }

func unavailable(why error) error { return fmt.Errorf("%w: %w", ErrUnavailable, why) }

// cause is what may be told of an error on the way to the service and back.
func cause(err error) error {
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	var dns *net.DNSError
	var out interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &out) && out.Timeout():
		return errors.New("it took too long")
	case errors.As(err, &certificate):
		return fmt.Errorf("its certificate is not accepted: %w", certificate.Err)
	case errors.As(err, &dns):
		return errors.New("its name is not known")
	case errors.As(err, &op):
		return fmt.Errorf("%s: %w", op.Op, op.Err) // without the addresses
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the answer broke off")
	default:
		return errors.New("no request, or no usable answer")
	}
}

// word is s if it is one, as an error's code is, and no more of it than may be told.
func word(s string) string {
	letter := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return !letter(r) }) {
		return "an error without a name"
	}
	return s
}

// backoff is the pause after attempt n, each time twice as long, by a part that
// differs between replicas.
func backoff(n int) time.Duration {
	longest := min(firstPause<<max(n-1, 0), longestPause)
	return longest/2 + rand.N(longest/2)
}

// newHTTPClient gives an attempt a part of the time that the call has, follows no
// redirect, and reads no more of an answer than one may have.
func newHTTPClient(transport http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport:     limited{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       timeout / 2,
	}
}

type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}
