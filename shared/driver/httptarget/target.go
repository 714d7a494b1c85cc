package httptarget

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// Target is where a sink posts to. It may be used by several goroutines.
type Target struct {
	url    *url.URL
	header http.Header // of every request
	tls    *driver.TLSConfig
	carry  *http.Transport // by itself: a client would add redirects and cookies
	tokens *tokens         // nil: the receiver wants none
	limit  time.Duration
	now    func() time.Time
	judge  Judge
	pace   *pace
}

// Judge says what a status other than 2xx means for the event.
type Judge func(status int) driver.Outcome

// Open makes a configuration ready. It connects to nothing.
func (c Config) Open(secrets Secrets, s driver.Settings, judge Judge) (*Target, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New("the URL cannot be read")
	}
	config, err := c.TLS.Open(secrets.ClientKey)
	if err != nil {
		return nil, err
	}
	guard := netguard.New(s.AllowPrivate)
	t := &Target{
		url: u, header: http.Header{"User-Agent": {"peat-gateway"}}, tls: c.TLS, carry: newTransport(guard, config, maxAtOnce),
		limit: s.AttemptTimeout, now: s.Now, judge: judge, pace: newPace(),
	}
	for name, value := range secrets.Headers {
		t.header.Set(name, value)
	}
	// A list that is empty is not sent; it tells net/http that it may send the
	// request again when a kept connection turns out to be closed already.
	t.header["X-Idempotency-Key"] = nil
	t.tokens, err = c.OAuth2.open(secrets.ClientSecret, c.TLS, guard, s.AttemptTimeout, s.Now)
	return t, err
}

// maxAnswerHeader bounds what is read of an answer before its body.
const maxAnswerHeader = 64 << 10

func newTransport(g *netguard.Guard, config *tls.Config, connections int) *http.Transport {
	return &http.Transport{
		// No proxy: it would be the proxy that resolves the name, behind the guard's back.
		DialContext:            g.DialContext,
		TLSClientConfig:        config,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    connections,
		IdleConnTimeout:        time.Minute,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
	}
}

// Header is what every request has. The caller may add to it.
func (t *Target) Header() http.Header { return maps.Clone(t.header) }

// Post sends one request and says what became of what it holds. The body must not
// be changed afterwards: it may still be on its way when the answer is here.
func (t *Target) Post(ctx context.Context, header http.Header, body []byte) driver.Outcome {
	token := ""
	for range 2 {
		if t.tokens != nil {
			var err error
			if token, err = t.tokens.get(ctx, token); err != nil {
				if ctx.Err() != nil {
					return driver.Outcome{}
				}
				return driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: err.Error()}
			}
			header = maps.Clone(header) // what was sent before may still be read
			header["Authorization"] = []string{token}
		}
		out := t.send(ctx, header, body)
		if t.tokens == nil || out.Status != "401" {
			return out
		}
		// The token may have been withdrawn; a fresh one is worth one more try.
	}
	return driver.Outcome{
		Verdict: driver.Retry, Unreachable: true, Status: "401",
		Reason: "the receiver answered 401 Unauthorized to a new token",
	}
}

// broken says what became of a request that had no answer.
func (t *Target) broken(parent context.Context, err error, connected bool) driver.Outcome {
	if parent.Err() != nil {
		return driver.Outcome{} // we broke it off ourselves
	}
	return driver.Outcome{Verdict: driver.Retry, Unreachable: !connected, Reason: describe(err, t.limit)}
}

func (t *Target) send(parent context.Context, header http.Header, body []byte) driver.Outcome {
	connected := false
	resp, cancel, err := t.do(parent, http.MethodPost, header, body, &connected)
	defer cancel()
	if err != nil {
		return t.broken(parent, err, connected)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 == 2 {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
		return driver.Outcome{Verdict: driver.Delivered}
	}
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, driver.MaxExcerpt))
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	out := t.judge(resp.StatusCode)
	out.Status, out.Excerpt = strconv.Itoa(resp.StatusCode), driver.Excerpt(answer)
	out.Reason = fmt.Sprintf("the receiver answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if resp.StatusCode/100 == 3 {
		out.Reason += "; redirects are not followed"
	}
	if out.Verdict == driver.Retry && !out.Gone {
		out.NotBefore = retryAfter(resp.Header.Get("Retry-After"), t.now())
	}
	return out
}

// do sends a request; connected is whether it had a connection.
func (t *Target) do(ctx context.Context, method string, header http.Header, body []byte, connected *bool) (*http.Response, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { *connected = true }})
	req := (&http.Request{
		Method: method, URL: t.url, Host: t.url.Host, Header: header, ContentLength: int64(len(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if body != nil {
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	resp, err := t.carry.RoundTrip(req)
	return resp, cancel, err
}

// maxRetryAfter bounds what a receiver may ask for.
const maxRetryAfter = time.Hour

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(text string, now time.Time) time.Time {
	if text == "" {
		return time.Time{}
	}
	at, err := http.ParseTime(text)
	if seconds, atoi := strconv.ParseUint(text, 10, 31); atoi == nil {
		at, err = now.Add(time.Duration(seconds)*time.Second), nil
	}
	if err != nil || !at.After(now) {
		return time.Time{}
	}
	if latest := now.Add(maxRetryAfter); at.After(latest) {
		return latest
	}
	return at
}

// describe says what went wrong without the URL, whose query may hold a secret,
// and without addresses of our own network.
func describe(err error, limit time.Duration) string {
	var asURL *url.Error
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return netguard.ErrForbidden.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", limit)
	case errors.As(err, &dns):
		return "the name cannot be resolved"
	case errors.As(err, &op) && op.Err != nil:
		for inner := (*net.OpError)(nil); errors.As(op.Err, &inner) && inner.Err != nil; {
			op = inner // whose text would tell its addresses
		}
		return op.Op + ": " + op.Err.Error()
	case errors.As(err, &asURL):
		err = asURL.Err
	}
	return driver.Excerpt([]byte(err.Error())) // it may quote an answer that is not HTTP
}

// Close lets the connections go.
func (t *Target) Close() error {
	t.carry.CloseIdleConnections()
	t.tokens.close()
	return nil
}
