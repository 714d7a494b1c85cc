// Package kmstest has key services to test against: one that speaks the protocol
// of AWS KMS and checks signatures, and one that answers as the Transit engine of
// Vault and OpenBao does. Both encrypt for real, and both fail on request.
package kmstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
)

// Faults are answers that a service gives instead of its own.
type Faults struct {
	mu     sync.Mutex
	queue  []http.HandlerFunc
	always http.HandlerFunc
	watch  func(*http.Request)
	pad    int
	seen   int
}

// Next has the next requests answered by each of these, one each.
func (f *Faults) Next(answers ...http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, answers...)
}

// Always has every request answered by this one, or by the service again if it is nil.
func (f *Faults) Always(answer http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.always = answer
}

// Watch has every request shown to a function before it is answered.
func (f *Faults) Watch(watch func(*http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = watch
}

// Pad has every answer of the service begin with so many bytes more, which mean
// nothing: whoever reads on finds the answer.
func (f *Faults) Pad(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pad = n
}

// Seen returns how many requests there were.
func (f *Faults) Seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// ServeHTTP answers as told, and otherwise that there is nothing here.
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.Before(http.NotFoundHandler()).ServeHTTP(w, r)
}

// Before returns next with these faults before it.
func (f *Faults) Before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := f.instead(r); answer != nil {
			answer(w, r)
			return
		}
		next.ServeHTTP(f.padded(w), r)
	})
}

// Listen serves nothing but what it is told, for as long as the test lives.
func (f *Faults) Listen(t testing.TB) *url.URL { return listen(t, f) }

func listen(t testing.TB, h http.Handler) *url.URL {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// padded returns w with what Pad wants before the answer.
func (f *Faults) padded(w http.ResponseWriter) http.ResponseWriter {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pad == 0 {
		return w
	}
	return &padded{ResponseWriter: w, pad: f.pad}
}

type padded struct {
	http.ResponseWriter
	pad  int
	done bool
}

func (p *padded) WriteHeader(status int) {
	p.Header().Del("Content-Length")
	p.ResponseWriter.WriteHeader(status)
}

func (p *padded) Write(b []byte) (int, error) {
	if !p.done {
		p.done = true
		p.Header().Del("Content-Length")
		if _, err := p.ResponseWriter.Write(bytes.Repeat([]byte(" "), p.pad)); err != nil {
			return 0, err
		}
	}
	return p.ResponseWriter.Write(b)
}

// instead returns what is to answer a request, or nil for the service itself.
func (f *Faults) instead(r *http.Request) http.HandlerFunc {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	if f.watch != nil {
		f.watch(r)
	}
	if len(f.queue) > 0 {
		next := f.queue[0]
		f.queue = f.queue[1:]
		return next
	}
	return f.always
}

// Hang answers when the client has gone.
func Hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // net/http looks out for the end of a client only then
	<-r.Context().Done()
}

// Cut ends the connection in the middle of an answer.
func Cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	w.WriteHeader(http.StatusOK)
	panic(http.ErrAbortHandler)
}

// Status answers with a status and a text that says nothing.
func Status(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>no</html>", status) }
}

// Redirect sends the client elsewhere.
func Redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
}

// aead returns AES-256-GCM under a new key.
func aead() cipher.AEAD {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

// name is a name that nobody has yet.
func name(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}
