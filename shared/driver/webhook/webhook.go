// Package webhook is the sink that posts events to a URL, signed by Standard
// Webhooks 1.0.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// webhookConfig is what a webhook sink shows.
type webhookConfig struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"` // values are sealed: they are how receivers know a caller
	Signing string            `json:"signing"`
}

// webhookSecrets is what it keeps sealed.
type webhookSecrets struct {
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers,omitempty"`
}

const (
	secretPrefix = "whsec_" // by the Standard Webhooks specification
	secretBytes  = 32
	sealedValue  = "[sealed]"
	maxHeaders   = 20
	maxHeader    = 4096
)

// Parse checks the configuration of a webhook sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var c webhookConfig
	if err := driver.DecodeConfig(in, &c); err != nil {
		return driver.Config{}, err
	}
	if _, err := netguard.New(s.AllowPrivate).URL(c.URL, "https", "http"); err != nil {
		return driver.Config{}, driver.Invalid("config/url", err.Error())
	}
	switch c.Signing {
	case "", "hmac":
		c.Signing = "hmac"
	default:
		return driver.Config{}, driver.Invalid("config/signing", "must be hmac")
	}
	if err := checkHeaders(c.Headers); err != nil {
		return driver.Config{}, err
	}
	var kept webhookSecrets
	if err := driver.Prior(prior, &kept); err != nil {
		return driver.Config{}, err
	}
	secrets := webhookSecrets{Secret: kept.Secret, Headers: map[string]string{}}
	shown := map[string]string{}
	for name, value := range c.Headers {
		if old, ok := kept.Headers[name]; ok && value == sealedValue {
			value = old
		}
		secrets.Headers[name], shown[name] = value, sealedValue
	}
	c.Headers = shown
	out := driver.Config{Public: c}
	if secrets.Secret == "" {
		key := make([]byte, secretBytes)
		_, _ = rand.Read(key) // never fails
		secrets.Secret = secretPrefix + base64.StdEncoding.EncodeToString(key)
		out.Once = secrets.Secret
	}
	out.Secrets = secrets
	return out, nil
}

// checkHeaders refuses what would change how the request is framed or what the
// signature says, or what is ours to set.
func checkHeaders(headers map[string]string) error {
	if len(headers) > maxHeaders {
		return driver.Invalid("config/headers", "are more than 20")
	}
	for name, value := range headers {
		lower := strings.ToLower(name)
		switch {
		case !isToken(name) || len(name) > 128:
			return driver.Invalid("config/headers", "hold a name that is not a header's")
		case !isHeaderValue(value) || len(value) > maxHeader:
			return driver.Invalid("config/headers/"+name, "has a value that a header cannot have")
		case strings.HasPrefix(lower, "webhook-"), strings.HasPrefix(lower, "content-"), strings.HasPrefix(lower, "proxy-"),
			lower == "host", lower == "connection", lower == "transfer-encoding", lower == "trailer", lower == "te",
			lower == "upgrade", lower == "expect", lower == "keep-alive":
			return driver.Invalid("config/headers/"+name, "is set by the gateway")
		}
	}
	return nil
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

// atOnce is how many documents a webhook is told about at the same time.
const atOnce = 16

// webhook posts events to a URL, signed by Standard Webhooks 1.0.
type webhook struct {
	url     string
	headers map[string]string
	key     []byte
	limit   time.Duration // of one attempt
	now     func() time.Time
	client  *http.Client
}

// Open makes a driver of it.
func Open(o driver.Opening) (driver.Driver, error) {
	var c webhookConfig
	var s webhookSecrets
	if err := o.Read(&c, &s); err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Secret, secretPrefix))
	if err != nil {
		return nil, errors.New("the signing secret cannot be read")
	}
	return newWebhook(c.URL, s.Headers, key, netguard.New(o.AllowPrivate), o.AttemptTimeout, o.Now), nil
}

func newWebhook(target string, headers map[string]string, key []byte, g *netguard.Guard, limit time.Duration, now func() time.Time) *webhook {
	return &webhook{url: target, headers: headers, key: key, limit: limit, now: now, client: &http.Client{
		Transport: &http.Transport{
			// No proxy: it would be the proxy that resolves the name, behind the guard's back.
			DialContext:         g.DialContext,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 2 * atOnce,
			IdleConnTimeout:     time.Minute,
			TLSHandshakeTimeout: 10 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Deliver posts one event per request, the documents side by side.
func (w *webhook) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	documents := make(chan []int)
	var wg sync.WaitGroup
	groups := driver.ByDocument(batch)
	for range min(atOnce, len(groups)) {
		wg.Go(func() {
			for places := range documents {
				for _, i := range places {
					if ctx.Err() != nil || !time.Now().Before(until) {
						break
					}
					if outs[i] = w.post(ctx, batch[i]); outs[i].Verdict != driver.Delivered {
						break
					}
				}
			}
		})
	}
	for _, g := range groups {
		documents <- g
	}
	close(documents)
	wg.Wait()
	return outs
}

func (w *webhook) post(parent context.Context, it driver.Event) driver.Outcome {
	ctx, cancel := context.WithTimeout(parent, w.limit)
	defer cancel()
	connected, body := false, it.Structured()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: "the URL cannot be used"}
	}
	for name, value := range w.headers {
		req.Header.Set(name, value)
	}
	w.sign(req.Header, it.ID, body)
	// A list that is empty is not sent; it tells net/http that it may send the
	// request again when a kept connection turns out to be closed already.
	req.Header["X-Idempotency-Key"] = nil
	resp, err := w.client.Do(req)
	if err != nil {
		if parent.Err() != nil {
			return driver.Outcome{} // we broke it off ourselves
		}
		return driver.Outcome{Verdict: driver.Retry, Unreachable: !connected, Reason: w.describe(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, driver.MaxExcerpt))
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	return w.judge(resp, answer)
}

// sign sets the headers of Standard Webhooks 1.0.
func (w *webhook) sign(h http.Header, id string, body []byte) {
	stamp := strconv.FormatInt(w.now().Unix(), 10)
	mac := hmac.New(sha256.New, w.key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	h.Set("Content-Type", "application/cloudevents+json")
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "peat-gateway")
	}
}

func (w *webhook) judge(resp *http.Response, body []byte) driver.Outcome {
	status := resp.StatusCode
	o := driver.Outcome{Verdict: driver.Refused, Status: strconv.Itoa(status), Excerpt: driver.Excerpt(body), Reason: fmt.Sprintf("the receiver answered %d %s", status, http.StatusText(status))}
	switch {
	case status/100 == 2:
		return driver.Outcome{Verdict: driver.Delivered}
	case status/100 == 3:
		o.Reason += "; redirects are not followed"
	case status == http.StatusGone:
		o.Verdict, o.Gone = driver.Retry, true
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status/100 == 5:
		o.Verdict = driver.Retry
		o.NotBefore = retryAfter(resp.Header.Get("Retry-After"), w.now())
	}
	return o
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
func (w *webhook) describe(err error) string {
	var asURL *url.Error
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return netguard.ErrForbidden.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", w.limit)
	case errors.As(err, &dns):
		return "the receiver's name cannot be resolved"
	case errors.As(err, &op) && op.Err != nil:
		return op.Op + ": " + op.Err.Error()
	case errors.As(err, &asURL):
		return asURL.Err.Error()
	}
	return err.Error()
}

func (w *webhook) Close() error {
	w.client.CloseIdleConnections()
	return nil
}
