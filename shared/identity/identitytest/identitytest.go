// Package identitytest holds what every verifier of identities promises, an OpenID
// provider to try them with, and the attacks that they must withstand.
//
//	identitytest.go  the promises
//	issuer.go        a provider in this process, which can misbehave
//	sign.go          tokens, also such as no provider would make
//	attacks.go       the attacks on tokens, by name
package identitytest

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Suite is one kind of verifier, and what to show it.
type Suite struct {
	Open func(t *testing.T) (identity.Verifier, error)
	Now  time.Time
	Good identity.Proof  // is taken
	Want identity.Claims // with these claims
	// Bad are refused. Their names say what is wrong with them.
	Bad map[string]identity.Proof
}

// Run checks the promises of identity.Verifier.
func Run(t *testing.T, s Suite) {
	t.Run("a good proof is taken", func(t *testing.T) {
		v := s.open(t)
		got, err := v.Verify(t.Context(), s.Good, s.Now)
		if diff := cmp.Diff(s.Want, got); diff != "" || err != nil {
			t.Fatalf("%v\n%s", err, diff)
		}
		sound(t, got)
	})
	t.Run("many are taken at once", func(t *testing.T) {
		v := s.open(t)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if got, err := v.Verify(t.Context(), s.Good, s.Now); err != nil || got.Subject != s.Want.Subject {
					t.Errorf("%q %v", got.Subject, err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("what nobody waits for is not answered", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got, err := s.open(t).Verify(ctx, s.Good, s.Now)
		if err == nil && cmp.Diff(s.Want, got) != "" {
			t.Errorf("half an answer: %+v", got)
		}
		if errors.Is(err, fault.Unauthenticated) {
			t.Errorf("a good proof is called a bad one: %v", err)
		}
	})
	bad := map[string]identity.Proof{"nothing is shown": {}, "it is over": s.Good}
	if s.Good.Token == "" {
		bad["a token is shown to it"] = identity.Proof{Token: "e30.e30.c2ln"}
	}
	if s.Good.SAML == nil {
		bad["a SAML response is shown to it"] = identity.Proof{SAML: []byte("<Response/>")}
	}
	if s.Good.Chain == nil {
		bad["a certificate is shown to it"] = identity.Proof{Chain: []*x509.Certificate{{}}}
	}
	for name, p := range s.Bad {
		bad[name] = p
	}
	v := s.open(t) // one for all: none may spoil it
	for name, p := range bad {
		t.Run(name, func(t *testing.T) {
			now := s.Now
			if name == "it is over" {
				now = now.AddDate(5, 0, 0)
			}
			Refuses(t, v, p, now)
		})
	}
	t.Run("and then a good proof again", func(t *testing.T) {
		if got, err := v.Verify(t.Context(), s.Good, s.Now); err != nil || got.Subject != s.Want.Subject {
			t.Errorf("%q %v", got.Subject, err)
		}
	})
}

func (s Suite) open(t *testing.T) identity.Verifier {
	t.Helper()
	v, err := s.Open(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// Refuses fails unless a verifier takes a proof for a bad one, and says so without
// repeating it. It returns the reason.
func Refuses(t *testing.T, v identity.Verifier, p identity.Proof, now time.Time) string {
	t.Helper()
	got, err := v.Verify(t.Context(), p, now)
	switch {
	case err == nil:
		t.Fatalf("it is taken, as %+v", got)
	case !errors.Is(err, fault.Unauthenticated):
		t.Fatalf("it is not refused as a proof: %v", err)
	case cmp.Diff(identity.Claims{}, got) != "":
		t.Errorf("claims of a bad proof: %+v", got)
	}
	for _, part := range append(strings.Split(p.Token, "."), p.Token) {
		if len(part) > 12 && strings.Contains(err.Error(), part) {
			t.Errorf("the proof is repeated: %v", err)
		}
	}
	if text := identity.Refused(err); !errors.Is(text, fault.Unauthenticated) || strings.Contains(fault.Of(text).Message, fault.Of(err).Message) {
		t.Errorf("who is outside learns why: %v", fault.Of(text).Message)
	}
	return err.Error()
}

// sound checks what all claims have in common.
func sound(t *testing.T, c identity.Claims) {
	t.Helper()
	for name, list := range map[string][]string{"groups": c.Groups, "roles": c.Roles, "amr": c.AMR} {
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("%s are not sorted, or repeat: %q", name, list)
		}
	}
	for name, at := range map[string]time.Time{"authenticated": c.AuthenticatedAt, "expires": c.ExpiresAt, "grace": c.Grace} {
		if !at.IsZero() && at.Location() != time.UTC {
			t.Errorf("%s is not UTC: %s", name, at)
		}
	}
	if c.Subject == "" || c.ExpiresAt.IsZero() || c.Kind == "" {
		t.Errorf("no subject, end or kind: %+v", c)
	}
}
