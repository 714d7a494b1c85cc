// Package httptargettest is a receiver that drivers post to in tests, and the
// harness that holds them to what every driver promises.
package httptargettest

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// Decode reads what a request holds, or fails the test.
type Decode func(t testing.TB, r *http.Request, body []byte) []drivertest.Received

// Receiver is an HTTP server that takes events, with the temper that a test gives it.
type Receiver struct {
	TLS *tls.Config // nil: it speaks plainly; else also HTTP/2

	t      testing.TB
	decode Decode
	proxy  *drivertest.Proxy

	mu      sync.Mutex
	server  *http.Server
	done    chan struct{}
	got     []drivertest.Received
	refused map[string]bool
	busy    bool
	token   string
}

// maxBody is the longest request it reads.
const maxBody = 5 << 18

// secrets are what no reason may tell.
const (
	firstToken  = "hush-first-token"
	secondToken = "hush-second-token"
	query       = "hush-query"
)

// Start starts a receiver. It lives as long as the test.
func Start(t testing.TB, config *tls.Config, decode Decode) *Receiver {
	t.Helper()
	r := &Receiver{TLS: config, t: t, decode: decode, refused: map[string]bool{}, token: firstToken}
	r.proxy = drivertest.NewProxy(t, "")
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *Receiver) start() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Error(err)
		return
	}
	r.proxy.Target(l.Addr().String())
	server, done := &http.Server{Handler: http.HandlerFunc(r.take), TLSConfig: r.TLS, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}, make(chan struct{})
	r.mu.Lock()
	r.server, r.done = server, done
	r.mu.Unlock()
	go func() {
		defer close(done)
		if r.TLS != nil {
			err = server.ServeTLS(l, "", "")
		} else {
			err = server.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			r.t.Error(err)
		}
	}()
}

func (r *Receiver) kill() {
	r.mu.Lock()
	server, done := r.server, r.done
	r.mu.Unlock()
	_ = server.Close()
	<-done
}

// URL is where drivers post to, with a query that is nobody else's business. The
// name is one that only resolving shows to be an address inside.
func (r *Receiver) URL(o drivertest.Options) string {
	host := r.proxy.Addr()
	if o.Guarded {
		host = strings.Replace(host, "127.0.0.1", "localhost", 1)
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: host, Path: "/hook", RawQuery: "token=" + query}).String()
}

// Token is what it wants as a bearer, or something else.
func (r *Receiver) Token(o drivertest.Options) string {
	if o.Wrong {
		return "hush-wrong-token"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.token
}

// asks is for how long a busy receiver asks to be left alone.
const asks = 90 * time.Second

func (r *Receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		return // nobody hears the answer
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case req.URL.RawQuery != "token="+query:
		r.t.Errorf("the query is %q", req.URL.RawQuery)
	case req.Header.Get("Authorization") != "Bearer "+r.token:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.busy:
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	events := r.decode(r.t, req, body)
	for _, e := range events {
		if r.refused[e.Document] {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "not this one")
			return
		}
	}
	r.got = append(r.got, events...)
}

// Harness is the receiver for the suite. open parses and opens the kind's
// configuration, which has the header that holds the token. None of secrets may
// be told in a reason.
func (r *Receiver) Harness(kind string, open func(t testing.TB, o drivertest.Options, config string) driver.Driver, config func(url string) map[string]any) drivertest.Harness {
	return drivertest.Harness{
		Kind: kind,
		Open: func(t testing.TB, o drivertest.Options) driver.Driver {
			c := config(r.URL(o))
			c["headers"] = map[string]string{"Authorization": "Bearer " + r.Token(o)}
			text, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			return open(t, o, string(text))
		},
		Received: func(testing.TB) []drivertest.Received {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.got
		},
		Proxy: r.proxy,
		Kill:  r.kill,
		Restart: func() {
			r.kill()
			r.start()
		},
		Refuse: func(document string) { r.set(func() { r.refused[document] = true }) },
		Busy:   func(busy bool) { r.set(func() { r.busy = busy }) },
		Asks:   asks, MaxEvent: maxBody * 4 / 5,
		Rotate:  func() { r.set(func() { r.token = secondToken }) },
		Denies:  true,
		Secrets: []string{query, firstToken, secondToken, "hush"},
		Cannot: map[drivertest.Promise]string{
			drivertest.DropsRepeats: "What a receiver makes of a repeat is the receiver's; it tells repeats by the id.",
		},
	}
}

func (r *Receiver) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// Open is a kind's Parse and Open, one after the other, as a test's driver.
func Open(t testing.TB, parse driver.Parse, open driver.Open, config string, s driver.Settings) driver.Driver {
	t.Helper()
	made, err := parse(json.RawMessage(config), nil, s)
	if err != nil {
		t.Fatal(err)
	}
	return OpenMade(t, open, made, driver.Opening{Settings: s})
}

// OpenMade opens what was parsed.
func OpenMade(t testing.TB, open driver.Open, made driver.Config, o driver.Opening) driver.Driver {
	t.Helper()
	var err error
	if o.Config, err = json.Marshal(made.Public); err != nil {
		t.Fatal(err)
	}
	if o.Secrets, err = json.Marshal(made.Secrets); err != nil {
		t.Fatal(err)
	}
	d, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}
