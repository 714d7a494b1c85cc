package sinks

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

func parseWebhook(in json.RawMessage, s Settings) (config, error) {
	var c webhookConfig
	if err := decodeConfig(in, &c); err != nil {
		return config{}, err
	}
	if _, err := newGuard(s.AllowPrivate).target(c.URL, "https", "http"); err != nil {
		return config{}, err
	}
	switch c.Signing {
	case "", "hmac":
		c.Signing = "hmac"
	default:
		return config{}, invalid("config/signing", "must be hmac")
	}
	if err := checkHeaders(c.Headers); err != nil {
		return config{}, err
	}
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails
	secrets := webhookSecrets{Secret: secretPrefix + base64.StdEncoding.EncodeToString(key), Headers: c.Headers}
	shown := map[string]string{}
	for name := range c.Headers {
		shown[name] = sealedValue
	}
	c.Headers = shown
	return config{public: c, secrets: secrets, once: secrets.Secret}, nil
}

// checkHeaders refuses what would change how the request is framed or what the
// signature says, or what is ours to set.
func checkHeaders(headers map[string]string) error {
	if len(headers) > maxHeaders {
		return invalid("config/headers", "are more than 20")
	}
	for name, value := range headers {
		lower := strings.ToLower(name)
		switch {
		case !isToken(name) || len(name) > 128:
			return invalid("config/headers", "hold a name that is not a header's")
		case !isHeaderValue(value) || len(value) > maxHeader:
			return invalid("config/headers/"+name, "has a value that a header cannot have")
		case strings.HasPrefix(lower, "webhook-"), strings.HasPrefix(lower, "content-"), strings.HasPrefix(lower, "proxy-"),
			lower == "host", lower == "connection", lower == "transfer-encoding", lower == "trailer", lower == "te",
			lower == "upgrade", lower == "expect", lower == "keep-alive":
			return invalid("config/headers/"+name, "is set by the gateway")
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

func openWebhook(o opening) (driver, error) {
	var c webhookConfig
	var s webhookSecrets
	if err := errors.Join(json.Unmarshal(o.sink.Config, &c), json.Unmarshal(o.secrets, &s)); err != nil {
		return nil, errors.New("the configuration cannot be read")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Secret, secretPrefix))
	if err != nil {
		return nil, errors.New("the signing secret cannot be read")
	}
	return newWebhook(c.URL, s.Headers, key, newGuard(o.settings.AllowPrivate), o.settings.AttemptTimeout, o.now), nil
}

func newWebhook(target string, headers map[string]string, key []byte, g *guard, limit time.Duration, now func() time.Time) *webhook {
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
func (w *webhook) Deliver(ctx context.Context, batch []item, until time.Time) []outcome {
	outs := make([]outcome, len(batch))
	documents := make(chan []int)
	var wg sync.WaitGroup
	groups := byDocument(batch)
	for range min(atOnce, len(groups)) {
		wg.Go(func() {
			for places := range documents {
				for _, i := range places {
					if ctx.Err() != nil || !time.Now().Before(until) {
						break
					}
					if outs[i] = w.post(ctx, batch[i]); outs[i].verdict != delivered {
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

func (w *webhook) post(parent context.Context, it item) outcome {
	ctx, cancel := context.WithTimeout(parent, w.limit)
	defer cancel()
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(it.body))
	if err != nil {
		return outcome{verdict: retry, unreachable: true, reason: "the URL cannot be used"}
	}
	for name, value := range w.headers {
		req.Header.Set(name, value)
	}
	w.sign(req.Header, it)
	// A list that is empty is not sent; it tells net/http that it may send the
	// request again when a kept connection turns out to be closed already.
	req.Header["X-Idempotency-Key"] = nil
	resp, err := w.client.Do(req)
	if err != nil {
		if parent.Err() != nil {
			return outcome{} // we broke it off ourselves
		}
		return outcome{verdict: retry, unreachable: !connected, reason: w.describe(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxExcerpt))
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	return w.judge(resp, body)
}

// sign sets the headers of Standard Webhooks 1.0.
func (w *webhook) sign(h http.Header, it item) {
	stamp := strconv.FormatInt(w.now().Unix(), 10)
	mac := hmac.New(sha256.New, w.key)
	mac.Write([]byte(it.id + "." + stamp + "."))
	mac.Write(it.body)
	h.Set("Content-Type", "application/cloudevents+json")
	h.Set("Webhook-Id", it.id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "peat-gateway")
	}
}

func (w *webhook) judge(resp *http.Response, body []byte) outcome {
	status := resp.StatusCode
	o := outcome{verdict: refused, excerpt: excerptOf(body), reason: fmt.Sprintf("the receiver answered %d %s", status, http.StatusText(status))}
	switch {
	case status/100 == 2:
		return outcome{verdict: delivered}
	case status/100 == 3:
		o.reason += "; redirects are not followed"
	case status == http.StatusGone:
		o.verdict, o.gone = retry, true
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status/100 == 5:
		o.verdict = retry
		o.notBefore = retryAfter(resp.Header.Get("Retry-After"), w.now())
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
	case errors.Is(err, errForbiddenTarget):
		return errForbiddenTarget.Error()
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
