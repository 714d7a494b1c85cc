package cert_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/point"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// list returns revocations of the tests' mesh.
func list(t testing.TB, issuer byte, version uint64, entries ...cert.Revocation) cert.RevocationList {
	t.Helper()
	l, err := cert.RevocationList{
		MeshID: "A1B2C3D4", Version: version, IssuedAt: noon, NextAt: noon.Add(time.Hour), Entries: entries,
	}.Sign(key(issuer))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serial returns what names c in a list.
func serial(t testing.TB, c cert.Certificate) [32]byte {
	t.Helper()
	b, err := hex.DecodeString(c.Serial())
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(b)
}

func TestRevocationListComesBack(t *testing.T) {
	l := list(t, root, 7,
		cert.Revocation{Subject: public(3), RevokedAt: noon, Reason: cert.KeyCompromise},
		cert.Revocation{Subject: public(1), Serial: [32]byte{2}, RevokedAt: noon.Add(-time.Hour), Reason: 200},
		cert.Revocation{Subject: public(1), Serial: [32]byte{1}, RevokedAt: noon, Reason: cert.Superseded},
	)
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := cert.DecodeRevocations(b)
	if diff := cmp.Diff(l, again); err != nil || diff != "" {
		t.Fatalf("%v %s", err, diff)
	}
	if err := again.Verify(); err != nil {
		t.Error(err)
	}
	if got := again.Entries[0].Reason.String() + again.Entries[1].Reason.String(); again.Entries[1].Reason == 200 && got != "supersededunspecified" {
		t.Errorf("reasons are %s", got)
	}
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 1
		if l, err := cert.DecodeRevocations(changed); err == nil && l.Verify() == nil {
			t.Fatalf("byte %d can be changed", i)
		}
	}
}

func TestRevocationsAreFound(t *testing.T) {
	one, two, other := signed(t, 1, root), signed(t, 1, root, of(cert.Edge)), signed(t, 2, root)
	for name, tc := range map[string]struct {
		entries []cert.Revocation
		revoked map[string]bool
	}{
		"nothing":          {nil, map[string]bool{}},
		"one certificate":  {[]cert.Revocation{{Subject: public(1), Serial: serial(t, one)}}, map[string]bool{"one": true}},
		"the other":        {[]cert.Revocation{{Subject: public(1), Serial: serial(t, two)}}, map[string]bool{"two": true}},
		"both":             {[]cert.Revocation{{Subject: public(1), Serial: serial(t, two)}, {Subject: public(1), Serial: serial(t, one)}}, map[string]bool{"one": true, "two": true}},
		"the key":          {[]cert.Revocation{{Subject: public(1)}, {Subject: public(3)}}, map[string]bool{"one": true, "two": true}},
		"everything":       {[]cert.Revocation{{Subject: public(1)}, {Subject: public(2)}}, map[string]bool{"one": true, "two": true, "other": true}},
		"a serial of none": {[]cert.Revocation{{Subject: public(2), Serial: serial(t, one)}}, map[string]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range tc.entries {
				tc.entries[i].RevokedAt = noon
			}
			l := list(t, root, 1, tc.entries...)
			for name, c := range map[string]cert.Certificate{"one": one, "two": two, "other": other} {
				if e, got := l.Find(c); got != tc.revoked[name] || got && e.Subject != c.Subject {
					t.Errorf("%s is revoked: %v", name, got)
				}
			}
		})
	}
}

func TestTrustTakesTheNewestRevocations(t *testing.T) {
	revoke := cert.Revocation{Subject: public(1), RevokedAt: noon}
	known := list(t, root, 5, revoke)
	otherMesh, err := cert.RevocationList{MeshID: "FFFFFFFF", Version: 6, IssuedAt: noon}.Sign(key(root))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		next  cert.RevocationList
		class refusal.Class
	}{
		"a newer one":                 {list(t, root, 6), ""},
		"a newer one by the other":    {list(t, otherRoot, 6), ""},
		"the same":                    {list(t, root, 5, revoke), ""},
		"an older one":                {list(t, root, 4), refusal.Certificate},
		"another of this version":     {list(t, root, 5), refusal.Certificate},
		"the other's of this version": {list(t, otherRoot, 5, revoke), refusal.Certificate},
		"a stranger's":                {list(t, stranger, 6), refusal.Certificate},
		"another mesh's":              {otherMesh, refusal.Certificate},
		"one that was changed":        {func() cert.RevocationList { l := list(t, root, 6); l.Version++; return l }(), refusal.InvalidSignature},
		"one by whom it is not":       {func() cert.RevocationList { l := list(t, stranger, 6); l.Issuer = public(root); return l }(), refusal.InvalidSignature},
		"version 0":                   {cert.RevocationList{MeshID: "A1B2C3D4", IssuedAt: noon}, refusal.Serialization},
	} {
		t.Run(name, func(t *testing.T) {
			trust := believing(t, 1)
			if err := trust.Add(noon, signed(t, 1, root)); err != nil {
				t.Fatal(err)
			}
			if err := trust.Revoke(known); err != nil {
				t.Fatal(err)
			}
			if trust.Len() != 0 {
				t.Fatal("what is revoked is still there")
			}
			if got, want := result(trust.Revoke(tc.next)), result(classError(tc.class)); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
			_, stillRevoked := tc.next.Find(signed(t, 1, root))
			if err := trust.Add(noon, signed(t, 1, root)); (err != nil) != (tc.class != "" || stillRevoked) {
				t.Errorf("added again: %v", err)
			}
		})
	}
}

func TestRevocationListRefuses(t *testing.T) {
	twice := cert.Revocation{Subject: public(1), RevokedAt: noon}
	many := make([]cert.Revocation, cert.MaxRevocations+1)
	for i := range many {
		many[i] = cert.Revocation{Subject: [32]byte{byte(i >> 16), byte(i >> 8), byte(i)}, RevokedAt: noon}
	}
	for name, l := range map[string]cert.RevocationList{
		"version 0":              {MeshID: "M", IssuedAt: noon},
		"a mesh id of 256":       {MeshID: string(make([]byte, 256)), Version: 1, IssuedAt: noon},
		"no time of issue":       {MeshID: "M", Version: 1},
		"a next one at zero":     {MeshID: "M", Version: 1, IssuedAt: noon, NextAt: time.UnixMilli(0)},
		"one twice":              {MeshID: "M", Version: 1, IssuedAt: noon, Entries: []cert.Revocation{twice, twice}},
		"one revoked at no time": {MeshID: "M", Version: 1, IssuedAt: noon, Entries: []cert.Revocation{{Subject: public(1)}}},
		"too many":               {MeshID: "M", Version: 1, IssuedAt: noon, Entries: many},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := l.Sign(key(root)); !errors.Is(err, refusal.Serialization) {
				t.Errorf("Sign: %v", err)
			}
			if _, err := l.Encode(); !errors.Is(err, refusal.Serialization) {
				t.Errorf("Encode: %v", err)
			}
		})
	}
	if _, err := (cert.RevocationList{}).Sign(nil); !errors.Is(err, refusal.Keypair) {
		t.Errorf("signed with nothing: %v", err)
	}
}

func TestDecodeRevocationsRefuses(t *testing.T) {
	l := list(t, root, 1, cert.Revocation{Subject: public(1), RevokedAt: noon}, cert.Revocation{Subject: public(2), RevokedAt: noon})
	good, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	entries := len(good) - 64 - 2*73
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"other magic":        append([]byte("PENV"), good[4:]...),
		"another format":     append([]byte("PRVL\x02"), good[5:]...),
		"something after it": append(bytes.Clone(good), 0),
		"a byte less":        good[:len(good)-1],
		"an entry more":      append(append(bytes.Clone(good[:entries-4]), 3, 0, 0, 0), good[entries:]...),
		"billions of them":   append(append(bytes.Clone(good[:entries-4]), 255, 255, 255, 255), good[entries:]...),
		"out of order":       append(append(append(bytes.Clone(good[:entries]), good[entries+73:entries+146]...), good[entries:entries+73]...), good[entries+146:]...),
		"a long mesh id":     append(append(bytes.Clone(good[:5]), 255), good[6:]...),
		"a mesh id of bytes": append(append(bytes.Clone(good[:6]), 255), good[7:]...),
	} {
		t.Run(name, func(t *testing.T) {
			if l, err := cert.DecodeRevocations(b); !errors.Is(err, refusal.Serialization) || l.Entries != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestNoListIsACertificate shows that a signature over a list cannot be taken for
// one over a certificate or a request to enroll: both begin with a key.
func TestNoListIsACertificate(t *testing.T) {
	const context = "peat-gateway/revocation-list/v1\x00"
	if len(context) != 32 || point.OnCurve(ed25519.PublicKey(context)) {
		t.Error("the mark of a list could be somebody's key")
	}
	l := list(t, root, 1)
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	issuer := public(root)
	if ed25519.Verify(issuer[:], b[:len(b)-64], b[len(b)-64:]) {
		t.Error("signed without the mark")
	}
	if !ed25519.Verify(issuer[:], append([]byte(context), b[:len(b)-64]...), b[len(b)-64:]) {
		t.Error("signed with another mark")
	}
}

func TestReasonsHaveNames(t *testing.T) {
	for r := cert.Unspecified; r <= cert.AuthorityTainted; r++ {
		if got, err := cert.ParseReason(r.String()); err != nil || got != r {
			t.Errorf("%s became %s, %v", r, got, err)
		}
	}
	if _, err := cert.ParseReason("because"); !errors.Is(err, refusal.Serialization) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeRevocations(f *testing.F) {
	for _, l := range []cert.RevocationList{
		list(f, root, 1), list(f, root, 2, cert.Revocation{Subject: public(1), RevokedAt: noon}, cert.Revocation{Subject: public(2), RevokedAt: noon}),
	} {
		b, err := l.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := cert.DecodeRevocations(b)
		if err != nil {
			if !errors.Is(err, refusal.Serialization) {
				t.Fatal(err)
			}
			return
		}
		again, err := l.Encode()
		if err != nil || !bytes.Equal(again, b) || len(b) > cert.MaxListSize {
			t.Fatalf("%d bytes came back as %d, %v", len(b), len(again), err)
		}
	})
}
