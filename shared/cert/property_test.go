package cert_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// seeded returns a source of chance whose seed is printed, or given by PEAT_SEED.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("PEAT_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PEAT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// world is what a Trust was told, and what follows from that by the rules alone.
type world struct {
	trust    *cert.Trust
	depth    int
	now      time.Time
	believed map[byte]cert.Certificate // the last one that was taken, by key
	revoked  map[byte]bool
	owner    map[string]byte // of node ids
	version  uint64
}

const people = 6 // keys 0 to 5; the authorities and the stranger come on top

// TestTrustBelievesOnlyWhatFollows gives a Trust certificates and revocations by
// chance, most of them wrong, and holds what it believes against the rules.
func TestTrustBelievesOnlyWhatFollows(t *testing.T) {
	rng := seeded(t)
	taken := 0
	for range 8 {
		depth := 1 + rng.IntN(3)
		trust, err := cert.NewTrust(cert.Policy{MeshID: "A1B2C3D4", Depth: depth, Limit: 20, Authorities: believing(t, 1).Authorities()})
		if err != nil {
			t.Fatal(err)
		}
		w := world{trust, depth, noon, map[byte]cert.Certificate{}, map[byte]bool{}, map[string]byte{}, 0}
		for range 60 {
			w.now = w.now.Add(time.Duration(rng.IntN(60)) * time.Minute)
			if rng.IntN(12) == 0 {
				w.revoke(t, rng)
			} else if w.add(t, rng) {
				taken++
			}
			w.check(t)
		}
	}
	if taken < 20 {
		t.Errorf("only %d certificates were taken: nothing was tried", taken)
	}
}

func (w *world) add(t *testing.T, rng *rand.Rand) bool {
	t.Helper()
	issuers := []byte{root, root, otherRoot, stranger, 0, 1, 2, 3}
	subject, issuer := byte(rng.IntN(people)), issuers[rng.IntN(len(issuers))]
	issuedAt := w.now.Add(time.Duration(rng.IntN(240)-200) * time.Minute)
	c := signed(t, subject, issuer,
		may([]cert.Permission{0, cert.Standard, enroller, enroller, cert.Authority}[rng.IntN(5)]),
		of(cert.Tier(rng.IntN(4))), issued(issuedAt), until(issuedAt.Add(time.Duration(rng.IntN(48))*time.Hour)),
		node(fmt.Sprint("node-", (int(subject)+rng.IntN(8)/7)%people)),
		func(c *cert.Certificate) {
			if rng.IntN(20) == 0 {
				c.MeshID = "FFFFFFFF"
			}
			if rng.IntN(20) == 0 {
				c.ExpiresAt = time.Time{}
			}
		})
	if err := w.trust.Add(w.now, c); err != nil {
		if !errors.Is(err, refusal.Certificate) {
			t.Fatal(err)
		}
		return false
	}
	if old, ok := w.believed[subject]; ok && old != c && !c.IssuedAt.After(old.IssuedAt) {
		t.Fatalf("key %d was set back to %s", subject, c.IssuedAt)
	}
	if w.revoked[subject] {
		t.Fatalf("key %d is revoked", subject)
	}
	if owner, ok := w.owner[c.NodeID]; ok && owner != subject {
		t.Fatalf("%s went from key %d to key %d", c.NodeID, owner, subject)
	}
	w.believed[subject], w.owner[c.NodeID] = c, subject
	return true
}

func (w *world) revoke(t *testing.T, rng *rand.Rand) {
	t.Helper()
	key := byte(rng.IntN(people))
	w.revoked[key] = true
	if rng.IntN(2) == 0 {
		delete(w.revoked, byte(rng.IntN(people))) // what an authority may take back
	}
	w.version++
	var entries []cert.Revocation
	for key := range w.revoked {
		entries = append(entries, cert.Revocation{Subject: public(key), RevokedAt: w.now})
	}
	if err := w.trust.Revoke(list(t, otherRoot, w.version, entries...)); err != nil {
		t.Fatal(err)
	}
	for key := range w.revoked {
		delete(w.believed, key)
		for id, owner := range w.owner {
			if owner == key {
				delete(w.owner, id)
			}
		}
	}
}

// check derives for every key whether it is to be believed now.
func (w *world) check(t *testing.T) {
	t.Helper()
	for key := range byte(people) {
		c, ok := w.believed[key]
		want := ok && c.ValidAt(w.now) && w.follows(c, 1)
		got, err := w.trust.Peer(w.now, c.Subject[:])
		if !ok {
			subject := public(key)
			_, err = w.trust.Peer(w.now, subject[:])
		}
		if (err == nil) != want || err == nil && got != c {
			t.Fatalf("key %d: believed is %v (%v), and should be %v", key, err == nil, err, want)
		}
		if byName, err := w.trust.Node(w.now, c.NodeID); ok && (err == nil) != want || want && byName != c {
			t.Fatalf("%s: %v, and should be %v", c.NodeID, err, want)
		}
	}
}

// follows tells whether c leads to an authority in as many steps as are left.
func (w *world) follows(c cert.Certificate, length int) bool {
	if length > w.depth {
		return false
	}
	if c.Issuer == public(root) || c.Issuer == public(otherRoot) {
		return true
	}
	for key, issuer := range w.believed {
		if public(key) != c.Issuer {
			continue
		}
		return issuer.ValidAt(w.now) && issuer.Permissions&cert.Enroll != 0 && c.Tier >= issuer.Tier && c.Permissions&^issuer.Permissions == 0 &&
			!c.IssuedAt.Before(issuer.IssuedAt) && (issuer.ExpiresAt.IsZero() || !c.ExpiresAt.IsZero() && !c.ExpiresAt.After(issuer.ExpiresAt)) &&
			w.follows(issuer, length+1)
	}
	return false
}
