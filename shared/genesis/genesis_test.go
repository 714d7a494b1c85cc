package genesis_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestNew(t *testing.T) {
	at := time.Date(2026, 11, 23, 0, 0, 0, 123_456_789, time.UTC)
	random := bytes.NewReader(bytes.Repeat([]byte{0x42}, 64))
	got, err := genesis.New("TEST", tenant.Open, at, random)
	if err != nil || random.Len() != 32 {
		t.Fatalf("%v, %d bytes of 64 left", err, random.Len())
	}
	want, err := genesis.FromSeed("TEST", tenant.Open, 1_795_392_000_123, genesis.Secret(bytes.Repeat([]byte{0x42}, 32)))
	if err != nil || got != want {
		t.Errorf("%v; created at %d", err, got.CreatedAtMS)
	}
	other, err := genesis.New("TEST", tenant.Open, at, rand.Reader)
	if err != nil || other.Seed == got.Seed || other.MeshID() == got.MeshID() {
		t.Errorf("not from random: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for name, tc := range map[string]struct {
		name   string
		policy tenant.EnrollmentPolicy
		at     time.Time
		random io.Reader
		want   error
	}{
		"a name that is too long": {strings.Repeat("a", 65536), tenant.Open, now, rand.Reader, refusal.Serialization},
		"a name that is no text":  {"\xff", tenant.Open, now, rand.Reader, refusal.Serialization},
		"an unknown policy":       {"X", "sometimes", now, rand.Reader, refusal.Serialization},
		"no policy":               {"X", "", now, rand.Reader, refusal.Serialization},
		"a time before time":      {"X", tenant.Open, time.Time{}, rand.Reader, refusal.Serialization},
		"too little randomness":   {"X", tenant.Open, now, bytes.NewReader(make([]byte, 31)), io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := genesis.New(tc.name, tc.policy, tc.at, tc.random); !errors.Is(err, tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := genesis.New(strings.Repeat("a", 65535), tenant.Open, now, rand.Reader); err != nil {
		t.Errorf("the longest name: %v", err)
	}
}

func TestAuthority(t *testing.T) {
	seed := genesis.Secret(bytes.Repeat([]byte{7}, 32))
	a, _ := genesis.FromSeed("A", tenant.Open, 0, seed)
	b, _ := genesis.FromSeed("B", tenant.Open, 0, seed)
	if !a.AuthorityPublicKey().Equal(b.AuthorityPublicKey()) || a.MeshID() == b.MeshID() || a.FormationSecret() == b.FormationSecret() {
		t.Error("the name decides over the mesh id and the secret, and not over the authority")
	}
	if !ed25519.Verify(a.AuthorityPublicKey(), []byte("x"), ed25519.Sign(a.AuthorityKey(), []byte("x"))) {
		t.Error("the two keys are not a pair")
	}
	c := a.WithAuthority(genesis.Secret(bytes.Repeat([]byte{8}, 32)))
	if a.ExternalAuthority() || !c.ExternalAuthority() || c.MeshID() != a.MeshID() || c.AuthorityPublicKey().Equal(a.AuthorityPublicKey()) {
		t.Error("an authority from outside counts, and changes nothing else")
	}
	key, err := genesis.DeviceKeypair(seed[:], "peat-mesh:authority-keypair")
	if err != nil || !key.Equal(a.AuthorityKey()) {
		t.Errorf("the authority is the device of its context: %v", err)
	}
}

func TestDeviceKeypairOfAnySeed(t *testing.T) {
	seen := map[string]bool{}
	for _, seed := range [][]byte{nil, {0}, make([]byte, 65), make([]byte, 1<<16)} {
		key, err := genesis.DeviceKeypair(seed, "ctx")
		if err != nil {
			t.Errorf("%d bytes: %v", len(seed), err)
		}
		seen[string(key)] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d different keys", len(seen))
	}
}

func TestEveryPublicKeyIsAPoint(t *testing.T) {
	for range 50 {
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := genesis.DeviceID(public); err != nil {
			t.Errorf("%x: %v", public, err)
		} else if again, err := genesis.ParseDeviceID(strings.ToUpper(id)); err != nil || again != id {
			t.Errorf("%s came back as %s, %v", id, again, err)
		}
	}
	// Half of all numbers are y of a point.
	points := 0
	for i := range 200 {
		key := make([]byte, 32)
		rand.Read(key)
		key[0] = byte(i)
		if _, err := genesis.DeviceID(key); err == nil {
			points++
		}
	}
	if points < 50 || points > 150 {
		t.Errorf("%d of 200", points)
	}
}

func TestParseDeviceIDRefuses(t *testing.T) {
	for _, in := range []string{"", "abc", strings.Repeat("ab", 15), strings.Repeat("ab", 17), strings.Repeat("é", 16), strings.Repeat("+f", 16), " " + strings.Repeat("ab", 15) + "a"} {
		if got, err := genesis.ParseDeviceID(in); !errors.Is(err, refusal.InvalidDeviceID) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestCredentialsAreEncodedStrictly(t *testing.T) {
	good := sample(t).Credentials()
	if _, err := good.Encode(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*genesis.Credentials){
		"a short mesh id":         func(c *genesis.Credentials) { c.MeshID = "ABC" },
		"a long mesh id":          func(c *genesis.Credentials) { c.MeshID = "ABCDEF012" },
		"a mesh id of no text":    func(c *genesis.Credentials) { c.MeshID = "ABCDEF0\xff" },
		"no authority":            func(c *genesis.Credentials) { c.AuthorityPublicKey = nil },
		"half an authority":       func(c *genesis.Credentials) { c.AuthorityPublicKey = c.AuthorityPublicKey[:16] },
		"a name that is too long": func(c *genesis.Credentials) { c.Name = strings.Repeat("a", 65536) },
		"a name that is no text":  func(c *genesis.Credentials) { c.Name = "\xff" },
		"no policy":               func(c *genesis.Credentials) { c.Policy = "" },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			spoil(&c)
			if b, err := c.Encode(); !errors.Is(err, refusal.Serialization) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
}

func TestCredentialsHoldNoPartOfTheRecord(t *testing.T) {
	b, _ := sample(t).Credentials().Encode()
	c, err := genesis.DecodeCredentials(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if diff := cmp.Diff(sample(t).Credentials(), c); diff != "" {
		t.Error(diff)
	}
}

func sample(t testing.TB) genesis.Genesis {
	t.Helper()
	g, err := genesis.FromSeed("logistics", tenant.Controlled, 1_700_000_000_000, genesis.Secret(bytes.Repeat([]byte{97}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return g.WithAuthority(genesis.Secret(bytes.Repeat([]byte{98}, 32)))
}

func TestSecretsDoNotPrint(t *testing.T) {
	g := sample(t)
	c := g.Credentials()
	c.FormationSecret = g.Seed // one that is easy to look for
	nested := struct {
		G *genesis.Genesis
		C []genesis.Credentials
		S *genesis.Secret
	}{&g, []genesis.Credentials{c}, &g.Seed}

	var out bytes.Buffer
	// Not %p: that one goes past Format, but go vet refuses it.
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U", "%T"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+verb+"\n", g, &g, c, nested, g.Seed)
	}
	b, err := json.Marshal(map[string]any{"g": g, "c": c, "n": nested, "s": g.Seed})
	fmt.Fprintf(&out, "%s %v\n", b, err)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "g", g, "c", c, "n", nested, "s", g.Seed)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "g", g, "c", c, "n", nested, "s", g.Seed)
	for _, form := range []string{"aaa", "bbb", "6161", "6262", "97 97", "97,97", "98 98", "0x61", "U+0061", "YWFh"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is in:\n%s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), "logistics") {
		t.Error("and what is no secret is to be seen")
	}
}

func ExampleGenesis() {
	g, err := genesis.New("logistics", tenant.Controlled, time.UnixMilli(1_700_000_000_000), rand.Reader)
	if err != nil {
		panic(err)
	}
	record, _ := g.Encode() // to be sealed, see shared/envelope
	again, err := genesis.Decode(record)
	fmt.Println(again == g, err)
	fmt.Println(g, g.Seed)
	// Output:
	// true <nil>
	// genesis of "logistics" [secret]
}
