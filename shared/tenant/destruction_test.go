package tenant_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var authority = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func destruction() tenant.Destruction {
	return tenant.Destruction{
		Key: tenant.Key{Org: "acme", App: "logistics"}, MeshID: "C5EB1329", Authority: authority.Public().(ed25519.PublicKey),
		CreatedAt: time.UnixMicro(1_700_000_000_000_001).UTC(), At: time.UnixMicro(1_800_000_000_000_002).UTC(),
		By: "admin", RequestID: "r-1", Certificates: 12, Position: 345,
	}
}

func TestADestructionIsReadAsItWasSigned(t *testing.T) {
	signed := destruction().Sign(authority, "01D")
	got, err := signed.Verify()
	if diff := cmp.Diff(destruction(), got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if diff := cmp.Diff(signed.Statement, got.Encode()); diff != "" {
		t.Error(diff)
	}
	long := destruction()
	long.By = strings.Repeat("x", 70_000)
	if _, err := long.Sign(authority, "01D").Verify(); err != nil {
		t.Errorf("a long name: %v", err)
	}
}

func TestADestructionThatWasTouchedIsRefused(t *testing.T) {
	good := destruction().Sign(authority, "01D")
	for i := range good.Statement {
		bad := good
		bad.Statement = bytes.Clone(good.Statement)
		bad.Statement[i] ^= 1
		if _, err := bad.Verify(); err == nil {
			t.Errorf("byte %d may be another", i)
		}
	}
	for name, tc := range map[string]struct {
		change func(*tenant.SignedDestruction)
		kind   fault.Kind
	}{
		"cut off":    {func(s *tenant.SignedDestruction) { s.Statement = s.Statement[:len(s.Statement)-1] }, fault.Malformed},
		"longer":     {func(s *tenant.SignedDestruction) { s.Statement = append(bytes.Clone(s.Statement), 0) }, fault.Malformed},
		"nothing":    {func(s *tenant.SignedDestruction) { s.Statement = nil }, fault.Malformed},
		"not signed": {func(s *tenant.SignedDestruction) { *s = destruction().Unsigned("01D") }, fault.Invalid},
		"another's": {func(s *tenant.SignedDestruction) {
			*s = destruction().Sign(ed25519.NewKeyFromSeed(make([]byte, 32)), "01D")
		}, fault.Invalid},
		"a name with '/'": {func(s *tenant.SignedDestruction) { d := destruction(); d.App = "a/b"; *s = d.Sign(authority, "01D") }, fault.Invalid},
		"a short key": {func(s *tenant.SignedDestruction) {
			d := destruction()
			d.Authority = d.Authority[:31]
			*s = d.Sign(authority, "01D")
		}, fault.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			tc.change(&s)
			if _, err := s.Verify(); !errors.Is(err, tc.kind) {
				t.Errorf("got %v, want %v", err, tc.kind)
			}
		})
	}
}

func FuzzDestruction(f *testing.F) {
	f.Add(destruction().Encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, statement []byte) {
		d, err := tenant.DecodeDestruction(statement)
		if err != nil {
			if !errors.Is(err, fault.Malformed) && !errors.Is(err, fault.Invalid) {
				t.Errorf("another class: %v", err)
			}
			return
		}
		if !bytes.Equal(d.Encode(), statement) {
			t.Errorf("read as %+v, which is written otherwise", d)
		}
	})
}
