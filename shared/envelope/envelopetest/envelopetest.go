// Package envelopetest holds what every envelope.KeyProvider promises, as tests.
package envelopetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
)

// mine is the record that everything here is wrapped for.
var mine = envelope.Record{Org: "acme", App: "logistics", Kind: "genesis"}

// Run tests a provider. Each call of open returns a provider for the same key,
// as two replicas of the gateway have it.
func Run(t *testing.T, open func(t *testing.T) envelope.KeyProvider) {
	t.Run("what is wrapped can be unwrapped", func(t *testing.T) {
		p := open(t)
		for _, n := range []int{32, 16} {
			dek := random(n)
			if got := unwrap(t, p, wrap(t, p, dek)); !bytes.Equal(got, dek) {
				t.Errorf("a key of %d bytes came back as %d other bytes", n, len(got))
			}
		}
	})
	t.Run("another replica unwraps it", func(t *testing.T) {
		dek := random(32)
		if got := unwrap(t, open(t), wrap(t, open(t), dek)); !bytes.Equal(got, dek) {
			t.Error("the key came back changed")
		}
	})
	t.Run("wrapping says nothing about the key", func(t *testing.T) {
		p, dek := open(t), random(32)
		first, second := wrap(t, p, dek), wrap(t, p, dek)
		if bytes.Equal(first, second) {
			t.Error("one key wrapped twice gives equal bytes")
		}
		if bytes.Contains(first, dek[:8]) {
			t.Error("the key can be seen through its wrapping")
		}
	})
	t.Run("wrapped keys fit an envelope", func(t *testing.T) {
		if n := len(wrap(t, open(t), random(32))); n == 0 || n > 0xffff {
			t.Errorf("%d bytes", n)
		}
	})
	t.Run("arguments are left alone", func(t *testing.T) {
		p, dek := open(t), random(32)
		before := slices.Clone(dek)
		wrapped := wrap(t, p, dek)
		kept := slices.Clone(wrapped)
		clear(unwrap(t, p, wrapped)) // the caller owns the result
		clear(dek)                   // … and wipes the key
		if !bytes.Equal(wrapped, kept) {
			t.Error("Unwrap changed its argument or returned a part of it")
		}
		if !bytes.Equal(unwrap(t, p, wrapped), before) {
			t.Error("Wrap kept a reference to its argument")
		}
	})
	t.Run("what is changed is refused", func(t *testing.T) {
		p, dek := open(t), random(32)
		wrapped := wrap(t, p, dek)
		for name, bad := range damaged(wrapped) {
			got, err := p.Unwrap(t.Context(), mine, bad)
			if !errors.Is(err, envelope.ErrTampered) {
				t.Errorf("%s: %d bytes, error %v; want ErrTampered", name, len(got), err)
				continue
			}
			for _, form := range []string{string(dek), hex.EncodeToString(dek), base64.StdEncoding.EncodeToString(dek), fmt.Sprint(dek)} {
				if strings.Contains(err.Error(), form) {
					t.Errorf("%s: the error holds the key", name)
				}
			}
		}
	})
	t.Run("its id fits an envelope and stays", func(t *testing.T) {
		id := open(t).KeyID()
		if !regexp.MustCompile(`^[!-~]{1,255}$`).MatchString(id) || id != open(t).KeyID() {
			t.Errorf("the id %q, then %q", id, open(t).KeyID())
		}
	})
	t.Run("a key wrapped for no record is unwrapped for none", func(t *testing.T) {
		p, dek := open(t), random(32)
		wrapped, err := p.Wrap(t.Context(), envelope.Record{}, dek)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Unwrap(t.Context(), envelope.Record{}, wrapped); err != nil || !bytes.Equal(got, dek) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("a key wrapped for one record is of no use for another", func(t *testing.T) {
		p := open(t)
		wrapped := wrap(t, p, random(32))
		for name, theirs := range map[string]envelope.Record{
			"another organization": {Org: "evil", App: "logistics", Kind: "genesis"},
			"another formation":    {Org: "acme", App: "medical", Kind: "genesis"},
			"another kind":         {Org: "acme", App: "logistics", Kind: "sink"},
			"another id":           {Org: "acme", App: "logistics", Kind: "genesis", ID: "2"},
			"parts moved":          {Org: "acmelogistics", Kind: "genesis"},
			"no record":            {},
		} {
			if got, err := p.Unwrap(t.Context(), theirs, wrapped); !errors.Is(err, envelope.ErrTampered) || got != nil {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	})
	t.Run("who gave up waiting is told so", func(t *testing.T) {
		p := open(t)
		wrapped := wrap(t, p, random(32))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		// One that needs not wait may answer all the same.
		if _, err := p.Wrap(ctx, mine, random(32)); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Wrap: %v", err)
		}
		if _, err := p.Unwrap(ctx, mine, wrapped); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Unwrap: %v", err)
		}
	})
	t.Run("it may be used by many at once", func(t *testing.T) {
		p := open(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				dek := random(32)
				wrapped, err := p.Wrap(t.Context(), mine, dek)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := p.Unwrap(t.Context(), mine, wrapped); err != nil || !bytes.Equal(got, dek) {
					t.Errorf("the key came back changed, or not at all: %v", err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("secrets are sealed with it and opened", func(t *testing.T) {
		blob, err := envelope.Seal(t.Context(), open(t), mine, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := envelope.Open(t.Context(), open(t), mine, blob)
		if err != nil || string(got) != "secret" {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// damaged returns ways in which wrapped may have suffered. A provider behind a
// network is asked once for each, so there are few.
func damaged(wrapped []byte) map[string][]byte {
	flip := func(i int) []byte {
		b := slices.Clone(wrapped)
		b[i] ^= 1
		return b
	}
	return map[string][]byte{
		"first byte changed":  flip(0),
		"middle byte changed": flip(len(wrapped) / 2),
		"last byte changed":   flip(len(wrapped) - 1),
		"one byte short":      slices.Clone(wrapped[:len(wrapped)-1]),
		"one byte long":       append(slices.Clone(wrapped), 0),
		"one byte":            {wrapped[0]},
		"nothing":             {},
	}
}

func wrap(t *testing.T, p envelope.KeyProvider, dek []byte) []byte {
	t.Helper()
	wrapped, err := p.Wrap(t.Context(), mine, dek)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

func unwrap(t *testing.T, p envelope.KeyProvider, wrapped []byte) []byte {
	t.Helper()
	dek, err := p.Unwrap(t.Context(), mine, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	return dek
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
