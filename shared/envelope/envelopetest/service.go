package envelopetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
)

// Service is a key service on a network with a key that nobody else uses.
type Service struct {
	Open  func(t *testing.T) envelope.KeyProvider // for the key; each call is another replica
	Other func(t *testing.T) envelope.KeyProvider // for another key of the same service

	Refusals map[string]func(t *testing.T) // ways to take the key away
	Faults   *kmstest.Faults               // what stands before the service
	Stumbles map[string]http.HandlerFunc   // answers of this service that mean "later"
	Hidden   []string                      // what no error may show, such as the token
}

// RunService tests a provider whose key is in a key service. Each call of start
// makes a new key.
func RunService(t *testing.T, start func(t *testing.T) Service) {
	Run(t, start(t).Open)
	t.Run("it binds", func(t *testing.T) {
		if err := envelope.Check(t.Context(), start(t).Open(t), mine); err != nil {
			t.Error(err)
		}
	})
	t.Run("every byte counts", func(t *testing.T) {
		s := start(t)
		p := s.Open(t)
		wrapped := wrap(t, p, random(32))
		for i := range wrapped {
			bad := slices.Clone(wrapped)
			bad[i] ^= 1
			if got, err := p.Unwrap(t.Context(), mine, bad); !errors.Is(err, envelope.ErrTampered) || got != nil {
				t.Errorf("byte %d changed: %d bytes, %v", i, len(got), err)
			}
			if got, err := p.Unwrap(t.Context(), mine, wrapped[:i]); !errors.Is(err, envelope.ErrTampered) || got != nil {
				t.Errorf("cut to %d bytes: %d bytes, %v", i, len(got), err)
			}
		}
		if _, err := p.Unwrap(t.Context(), mine, bytes.Repeat([]byte("v"), 0xffff)); !errors.Is(err, envelope.ErrTampered) {
			t.Errorf("as long as it may be: %v", err)
		}
	})
	t.Run("another key does not unwrap", func(t *testing.T) {
		s := start(t)
		wrapped := wrap(t, s.Open(t), random(32))
		if got, err := s.Other(t).Unwrap(t.Context(), mine, wrapped); !errors.Is(err, envelope.ErrTampered) || got != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if s.Other(t).KeyID() == s.Open(t).KeyID() {
			t.Error("two keys have one id")
		}
	})
	for name := range start(t).Refusals {
		t.Run("fails closed: "+name, func(t *testing.T) {
			s := start(t)
			x := newExchange(t, s)
			other := wrap(t, s.Other(t), random(32))
			s.Refusals[name](t)
			x.fails(t, envelope.ErrKeyRefused)
			if _, err := s.Other(t).Unwrap(t.Context(), mine, other); err != nil {
				t.Errorf("the other key fails, too: %v", err)
			}
		})
	}
	stumbles := map[string]http.HandlerFunc{
		"it fails": kmstest.Status(http.StatusInternalServerError), "it is not there": kmstest.Status(http.StatusBadGateway),
		"it is away": kmstest.Status(http.StatusServiceUnavailable), "the answer breaks off": kmstest.Cut,
	}
	for name, answer := range start(t).Stumbles {
		stumbles[name] = answer
	}
	for name, answer := range stumbles {
		t.Run("twice and then not: "+name, func(t *testing.T) {
			s := start(t)
			x := newExchange(t, s)
			s.Faults.Next(answer, answer)
			x.works(t)
		})
		t.Run("for good: "+name, func(t *testing.T) { unavailable(t, start(t), answer) })
	}
	for name, answer := range map[string]http.HandlerFunc{
		"it never answers": kmstest.Hang, "it says something else": kmstest.Status(http.StatusOK),
	} {
		t.Run("for good: "+name, func(t *testing.T) { unavailable(t, start(t), answer) })
	}
	t.Run("an answer that is longer than any should be is not read to its end", func(t *testing.T) {
		s := start(t)
		x := newExchange(t, s)
		s.Faults.Pad(100)
		x.works(t)
		s.Faults.Pad(8 << 20)
		x.fails(t, envelope.ErrUnavailable)
		s.Faults.Pad(0)
		x.works(t)
	})
	t.Run("it does not go where it is sent", func(t *testing.T) {
		s := start(t)
		x := newExchange(t, s)
		var elsewhere kmstest.Faults
		elsewhere.Always(kmstest.Status(http.StatusOK))
		s.Faults.Always(kmstest.Redirect(elsewhere.Listen(t).String()))
		x.fails(t, envelope.ErrUnavailable)
		if n := elsewhere.Seen(); n > 0 {
			t.Errorf("%d requests with keys in them went there", n)
		}
	})
	t.Run("who gives up waiting need not wait", func(t *testing.T) {
		s := start(t)
		p := s.Open(t)
		wrapped := wrap(t, p, random(32))
		for name, call := range map[string]func(context.Context) error{
			"Wrap":   func(ctx context.Context) error { _, err := p.Wrap(ctx, mine, random(32)); return err },
			"Unwrap": func(ctx context.Context) error { _, err := p.Unwrap(ctx, mine, wrapped); return err },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			s.Faults.Always(func(w http.ResponseWriter, r *http.Request) {
				cancel()
				kmstest.Hang(w, r)
			})
			if err := call(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, envelope.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func unavailable(t *testing.T, s Service, answer http.HandlerFunc) {
	x := newExchange(t, s)
	s.Faults.Always(answer)
	x.fails(t, envelope.ErrUnavailable)
	if n := s.Faults.Seen(); n > 100 {
		t.Errorf("%d requests", n)
	}
	s.Faults.Always(nil)
	x.works(t)
}

// exchange is a provider with what it has wrapped while all was well.
type exchange struct {
	service  Service
	provider envelope.KeyProvider
	dek      []byte
	wrapped  []byte
	blob     []byte
}

func newExchange(t *testing.T, s Service) *exchange {
	t.Helper()
	x := &exchange{service: s, provider: s.Open(t), dek: random(32)}
	x.wrapped = wrap(t, x.provider, x.dek)
	var err error
	if x.blob, err = envelope.Seal(t.Context(), x.provider, mine, x.dek); err != nil {
		t.Fatal(err)
	}
	return x
}

// works fails unless what was wrapped can still be read, by this replica and another.
func (x *exchange) works(t *testing.T) {
	t.Helper()
	for _, p := range []envelope.KeyProvider{x.provider, x.service.Open(t)} {
		if !bytes.Equal(unwrap(t, p, x.wrapped), x.dek) || !bytes.Equal(unwrap(t, p, wrap(t, p, x.dek)), x.dek) {
			t.Error("the key came back changed")
		}
	}
	if got, err := envelope.Open(t.Context(), x.provider, mine, x.blob); err != nil || !bytes.Equal(got, x.dek) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// fails fails unless nothing can be wrapped and nothing be read, for one reason
// and no other, of which too much is not said.
func (x *exchange) fails(t *testing.T, want error) {
	t.Helper()
	check := func(what string, got []byte, err error) {
		t.Helper()
		if !errors.Is(err, want) || got != nil {
			t.Errorf("%s: %d bytes, error %v; want %v", what, len(got), err, want)
			return
		}
		for _, other := range []error{envelope.ErrTampered, envelope.ErrKeyRefused, envelope.ErrUnavailable} {
			if other != want && errors.Is(err, other) {
				t.Errorf("%s: it is also %q", what, other)
			}
		}
		// Also what %+v and %#v of anything wrapped would show.
		text := err.Error()
		for e := err; e != nil; e = errors.Unwrap(e) {
			text += fmt.Sprintf("%+v %#v", e, e)
		}
		secrets := append([]string{
			string(x.dek), hex.EncodeToString(x.dek), base64.StdEncoding.EncodeToString(x.dek), fmt.Sprint(x.dek),
			base64.StdEncoding.EncodeToString(x.wrapped), string(x.wrapped), "http://", "127.0.0.1",
		}, x.service.Hidden...)
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s: the error shows %q: %s", what, secret, text)
			}
		}
	}
	var wg sync.WaitGroup // as some take as long as they may
	wg.Go(func() {
		got, err := x.provider.Wrap(t.Context(), mine, x.dek)
		check("Wrap", got, err)
	})
	wg.Go(func() {
		got, err := x.provider.Unwrap(t.Context(), mine, x.wrapped)
		check("Unwrap", got, err)
	})
	wg.Go(func() {
		got, err := envelope.Seal(t.Context(), x.provider, mine, x.dek)
		check("Seal", got, err)
	})
	wg.Go(func() {
		got, err := envelope.Open(t.Context(), x.provider, mine, x.blob)
		check("Open", got, err)
	})
	wg.Wait()
}
