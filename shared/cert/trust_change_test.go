package cert_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// TestTrustIsAskedAgain shows that a belief ends with what it stands on.
func TestTrustIsAskedAgain(t *testing.T) {
	delegate := signed(t, 1, root, may(enroller))
	for name, end := range map[string]func(*testing.T, *cert.Trust) time.Time{
		"when the delegate expires":         func(*testing.T, *cert.Trust) time.Time { return delegate.ExpiresAt },
		"when it expires itself, to the ms": func(*testing.T, *cert.Trust) time.Time { return noon.Add(12 * time.Hour) },
		"when the authority is believed no longer": func(_ *testing.T, trust *cert.Trust) time.Time {
			authority := public(root)
			trust.Distrust(authority[:])
			return noon
		},
		"when the delegate may enroll no more": func(t *testing.T, trust *cert.Trust) time.Time {
			later := noon.Add(time.Minute)
			if err := trust.Add(later, signed(t, 1, root, issued(later))); err != nil {
				t.Fatal(err)
			}
			return later
		},
		"when the delegate is revoked": func(t *testing.T, trust *cert.Trust) time.Time {
			if err := trust.Revoke(list(t, root, 1, cert.Revocation{Subject: public(1), RevokedAt: noon})); err != nil {
				t.Fatal(err)
			}
			return noon
		},
		"when it is revoked itself": func(t *testing.T, trust *cert.Trust) time.Time {
			if err := trust.Revoke(list(t, root, 1, cert.Revocation{Subject: public(2), RevokedAt: noon})); err != nil {
				t.Fatal(err)
			}
			return noon
		},
	} {
		t.Run(name, func(t *testing.T) {
			trust := believing(t, 2)
			c := signed(t, 2, 1, until(noon.Add(12*time.Hour)))
			for _, add := range []cert.Certificate{delegate, c} {
				if err := trust.Add(noon, add); err != nil {
					t.Fatal(err)
				}
			}
			just := noon.Add(12*time.Hour - time.Millisecond)
			if _, err := trust.Node(just, "node-2"); err != nil {
				t.Fatalf("it never was believed: %v", err)
			}
			at := end(t, trust)
			if _, err := trust.Node(at, "node-2"); !errors.Is(err, refusal.Certificate) {
				t.Errorf("believed by name: %v", err)
			}
			if _, err := trust.Peer(at, c.Subject[:]); !errors.Is(err, refusal.Certificate) {
				t.Errorf("believed by key: %v", err)
			}
		})
	}
}

func TestAddAllTakesAnyOrder(t *testing.T) {
	chain := []cert.Certificate{signed(t, 3, 2), signed(t, 2, 1, may(enroller)), signed(t, 9, stranger), signed(t, 1, root, may(enroller))}
	trust := believing(t, 3)
	errs := trust.AddAll(noon, chain)
	for i, err := range errs {
		if want := i == 2; (err != nil) != want {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	if trust.Len() != 3 {
		t.Errorf("%d certificates", trust.Len())
	}
}

func TestANodeThatChangedItsName(t *testing.T) {
	trust := believing(t, 1)
	for _, c := range []cert.Certificate{signed(t, 1, root, node("old")), signed(t, 1, root, node("new"), issued(noon.Add(time.Second)))} {
		if err := trust.Add(noon.Add(time.Minute), c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := trust.Node(noon.Add(time.Minute), "old"); !errors.Is(err, refusal.Certificate) {
		t.Errorf("still known by its old name: %v", err)
	}
	if c, err := trust.Node(noon.Add(time.Minute), "new"); err != nil || c.NodeID != "new" {
		t.Errorf("%v, %v", c.NodeID, err)
	}
}

func TestALostDeviceIsReplaced(t *testing.T) {
	trust := believing(t, 1)
	if err := trust.Add(noon, signed(t, 1, root, node("truck"))); err != nil {
		t.Fatal(err)
	}
	replacement := signed(t, 2, root, node("truck"))
	if err := trust.Add(noon, replacement); err == nil {
		t.Fatal("two keys have one name")
	}
	if err := trust.Revoke(list(t, otherRoot, 1, cert.Revocation{Subject: public(1), RevokedAt: noon, Reason: cert.DeviceLost})); err != nil {
		t.Fatal(err)
	}
	if err := trust.Add(noon, replacement); err != nil {
		t.Fatal(err)
	}
	if c, err := trust.Node(noon, "truck"); err != nil || c != replacement {
		t.Errorf("%v", err)
	}
	if err := trust.Add(noon, signed(t, 1, root, node("truck-2"), issued(noon.Add(time.Second)))); !errors.Is(err, refusal.Certificate) {
		t.Errorf("the lost key is back: %v", err)
	}
}

// TestTrustReplacesWhatIsBelievedNoMore shows that nobody is locked out by a
// certificate that counts for nothing.
func TestTrustReplacesWhatIsBelievedNoMore(t *testing.T) {
	later := noon.Add(2 * time.Hour)
	for name, given := range map[string][]cert.Certificate{
		"the authority's, which has expired": {signed(t, 2, root, until(noon.Add(time.Hour)))},
		"a delegate's, who is none any more": {signed(t, 3, root, may(enroller)), signed(t, 2, 3), signed(t, 3, root, issued(noon.Add(time.Second)))},
	} {
		t.Run(name, func(t *testing.T) {
			trust := believing(t, 3)
			chain := []cert.Certificate{signed(t, 1, root, may(enroller)), signed(t, 4, 1, may(enroller))}
			for i, c := range append(given, chain...) {
				if err := trust.Add(noon.Add(time.Minute), c); err != nil {
					t.Fatalf("certificate %d: %v", i, err)
				}
			}
			c := signed(t, 2, 4, issued(later))
			if err := trust.Add(later, c); err != nil {
				t.Fatal(err)
			}
			if got, err := trust.Node(later, "node-2"); err != nil || got != c {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestRevocationBringsNothingOlderBack: what replaced a certificate is revoked by
// itself, which must not make the replaced one good again.
func TestRevocationBringsNothingOlderBack(t *testing.T) {
	trust := believing(t, 1)
	high := signed(t, 1, root, of(cert.Enterprise))
	low := signed(t, 1, root, of(cert.Edge), issued(noon.Add(time.Minute)))
	later := noon.Add(time.Hour)
	for _, c := range []cert.Certificate{high, low} {
		if err := trust.Add(later, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := trust.Revoke(list(t, root, 1, cert.Revocation{Subject: low.Subject, Serial: serial(t, low), RevokedAt: later})); err != nil {
		t.Fatal(err)
	}
	if err := trust.Add(later, high); !errors.Is(err, refusal.Certificate) {
		t.Errorf("the older one is back: %v", err)
	}
	if err := trust.Add(later, signed(t, 1, root, issued(later))); err != nil {
		t.Errorf("a newer one: %v", err)
	}
}

// TestKeysAreBounded: those of which all is revoked do not count, or a formation
// could not go on for ever.
func TestKeysAreBounded(t *testing.T) {
	trust := believing(t, 1)
	var entries []cert.Revocation
	for i := byte(1); i <= 10; i++ {
		c := signed(t, i, root)
		if err := trust.Add(noon, c); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, cert.Revocation{Subject: c.Subject, Serial: serial(t, c), RevokedAt: noon})
		if err := trust.Revoke(list(t, root, uint64(i), entries...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := trust.Add(noon, signed(t, 11, root)); !errors.Is(err, refusal.Certificate) {
		t.Errorf("an eleventh key: %v", err)
	}
	entries[0].Serial = [32]byte{}
	if err := trust.Revoke(list(t, root, 11, entries...)); err != nil {
		t.Fatal(err)
	}
	if err := trust.Add(noon, signed(t, 11, root)); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestNamesAreBounded(t *testing.T) {
	trust := believing(t, 1)
	for i := range 10 {
		at := noon.Add(time.Duration(i) * time.Second)
		if err := trust.Add(at, signed(t, 1, root, issued(at), node(fmt.Sprint("name-", i)))); err != nil {
			t.Fatal(err)
		}
	}
	at := noon.Add(time.Minute)
	if err := trust.Add(at, signed(t, 1, root, issued(at), node("one-more"))); !errors.Is(err, refusal.Certificate) {
		t.Errorf("an eleventh name: %v", err)
	}
	for _, id := range []string{"name-3", ""} {
		at = at.Add(time.Second)
		if err := trust.Add(at, signed(t, 1, root, issued(at), node(id))); err != nil {
			t.Errorf("a name it had, %q: %v", id, err)
		}
	}
}

func TestNewTrustRefuses(t *testing.T) {
	good := []ed25519.PublicKey{key(root).Public().(ed25519.PublicKey)}
	for name, tc := range map[string]struct {
		policy cert.Policy
		class  refusal.Class
	}{
		"no mesh":                       {cert.Policy{Depth: 1, Limit: 1, Authorities: good}, refusal.Certificate},
		"a mesh id that is too long":    {cert.Policy{MeshID: string(make([]byte, 256)), Depth: 1, Limit: 1, Authorities: good}, refusal.Certificate},
		"no depth":                      {cert.Policy{MeshID: "M", Limit: 1, Authorities: good}, refusal.Certificate},
		"too much depth":                {cert.Policy{MeshID: "M", Depth: cert.MaxDepth + 1, Limit: 1, Authorities: good}, refusal.Certificate},
		"no room":                       {cert.Policy{MeshID: "M", Depth: 1, Authorities: good}, refusal.Certificate},
		"half a key":                    {cert.Policy{MeshID: "M", Depth: 1, Limit: 1, Authorities: []ed25519.PublicKey{good[0][:16]}}, refusal.InvalidPublicKey},
		"a key for which anybody signs": {cert.Policy{MeshID: "M", Depth: 1, Limit: 1, Authorities: []ed25519.PublicKey{append([]byte{1}, make([]byte, 31)...)}}, refusal.InvalidPublicKey},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cert.NewTrust(tc.policy); !errors.Is(err, tc.class) {
				t.Errorf("got %v", err)
			}
		})
	}
	trust := believing(t, 1)
	if len(trust.Authorities()) != 2 {
		t.Error("two authorities are believed")
	}
	trust.Distrust(nil)
	trust.Distrust(good[0])
	if got := trust.Authorities(); len(got) != 1 || got[0].Equal(good[0]) {
		t.Error("one of them is believed no more")
	}
	if _, err := trust.Peer(noon, nil); !errors.Is(err, refusal.InvalidPublicKey) {
		t.Errorf("no key has a certificate: %v", err)
	}
}
