package keyring_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var logistics = tenant.Key{Org: "acme", App: "logistics"}

// version1 seals as peat-gateway 0.1 did.
func version1(t testing.TB, key envelope.KeyProvider, text string) []byte {
	t.Helper()
	dek := make([]byte, 32)
	dek[0] = 1
	wrapped, err := key.Wrap(t.Context(), envelope.Record{}, dek)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(dek)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	blob := binary.LittleEndian.AppendUint16([]byte("PENV\x01"), uint16(len(wrapped)))
	return aead.Seal(append(blob, wrapped...), nil, []byte(text), nil)
}

// formation has one root, and remembers what was marked.
type formation struct {
	root  keyring.Root
	err   error
	marks []bool
}

func (f *formation) keyring(s *service) *keyring.Keyring {
	d := deps(s)
	d.CacheFor = 0
	d.Root = func(context.Context, tenant.Key) (keyring.Root, error) { return f.root, f.err }
	d.Mark = func(_ context.Context, key tenant.Key, shut bool) error {
		f.marks, f.root.Shut = append(f.marks, shut), shut
		return nil
	}
	return keyring.New(d)
}

func newGenesis(t *testing.T, seed byte) (g genesis.Genesis, plain []byte) {
	t.Helper()
	g, err := genesis.FromSeed("logistics", tenant.Controlled, 0, genesis.Secret{seed})
	if err == nil {
		plain, err = g.Encode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return g, plain
}

func sealFor(t *testing.T, s *service, rec envelope.Record, plain []byte) []byte {
	t.Helper()
	blob, err := envelope.Seal(t.Context(), s, rec, plain)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func TestAuthority(t *testing.T) {
	s := newService(t, 1)
	g, plain := newGenesis(t, 1)
	older, olderPlain := newGenesis(t, 2)
	seed := ed25519.NewKeyFromSeed(slices.Repeat([]byte{7}, 32))
	second := seed.Public().(ed25519.PublicKey)
	rec, recAuthority := keyring.OfGenesis(logistics), keyring.OfAuthority(logistics, "a2")
	for name, tc := range map[string]struct {
		root keyring.Root
		ok   bool
	}{
		"the genesis":                      {keyring.Root{Record: rec, Sealed: sealFor(t, s, rec, plain), PublicKey: g.AuthorityPublicKey()}, true},
		"an authority of its own":          {keyring.Root{Record: recAuthority, Sealed: sealFor(t, s, recAuthority, seed.Seed()), PublicKey: second}, true},
		"an older genesis, brought back":   {keyring.Root{Record: rec, Sealed: sealFor(t, s, rec, olderPlain), PublicKey: g.AuthorityPublicKey()}, false},
		"a row that names another":         {keyring.Root{Record: rec, Sealed: sealFor(t, s, rec, plain), PublicKey: older.AuthorityPublicKey()}, false},
		"a genesis where an authority is":  {keyring.Root{Record: recAuthority, Sealed: sealFor(t, s, recAuthority, plain), PublicKey: g.AuthorityPublicKey()}, false},
		"an authority where a genesis is":  {keyring.Root{Record: rec, Sealed: sealFor(t, s, rec, seed.Seed()), PublicKey: second}, false},
		"what is no authority":             {keyring.Root{Record: keyring.OfSink("acme", "x"), Sealed: sealFor(t, s, keyring.OfSink("acme", "x"), seed.Seed()), PublicKey: second}, false},
		"another formation's":              {keyring.Root{Record: rec, Sealed: sealFor(t, s, keyring.OfGenesis(tenant.Key{Org: "acme", App: "medevac"}), plain), PublicKey: g.AuthorityPublicKey()}, false},
		"a row without a key of authority": {keyring.Root{Record: rec, Sealed: sealFor(t, s, rec, plain)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := &formation{root: tc.root}
			k := f.keyring(s)
			var kept ed25519.PrivateKey
			use := func(private ed25519.PrivateKey) error {
				kept = private
				if !private.Public().(ed25519.PublicKey).Equal(tc.root.PublicKey) {
					t.Error("another key")
				}
				return nil
			}
			err := errors.Join(k.Authority(t.Context(), logistics, use), k.Sign(t.Context(), tc.root, use))
			if tc.ok {
				if err != nil || len(f.marks) != 0 {
					t.Errorf("%v, %v", err, f.marks)
				}
				if !slices.Equal(kept, make([]byte, ed25519.PrivateKeySize)) {
					t.Error("the key was not wiped")
				}
				return
			}
			if !errors.Is(err, fault.Sealed) || kept != nil || !slices.Equal(f.marks, []bool{true, true}) { // one for each attempt on a root that was not known to be shut
				t.Errorf("%v, %v", err, f.marks)
			}
		})
	}
}

func TestTheErrorOfTheSignatureIsPassedOn(t *testing.T) {
	s := newService(t, 1)
	g, plain := newGenesis(t, 1)
	rec := keyring.OfGenesis(logistics)
	f := &formation{root: keyring.Root{Record: rec, Sealed: sealFor(t, s, rec, plain), PublicKey: g.AuthorityPublicKey()}}
	mine := errors.New("no")
	if err := f.keyring(s).Authority(t.Context(), logistics, func(ed25519.PrivateKey) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("%v", err)
	}
	f.err = fault.NotFound.New("no formation")
	if err := f.keyring(s).Authority(t.Context(), logistics, nil); !errors.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	if err := keyring.New(deps(s)).Authority(t.Context(), logistics, nil); err == nil {
		t.Error("signed without knowing where the root is")
	}
}

// TestAFormationIsMarkedOnlyByWhatIsKnown: trouble that passes does not make a
// formation look sealed, and the mark goes when it opens again.
func TestAFormationIsMarkedOnlyByWhatIsKnown(t *testing.T) {
	s := newService(t, 1)
	g, plain := newGenesis(t, 1)
	rec := keyring.OfGenesis(logistics)
	f := &formation{root: keyring.Root{Record: rec, Sealed: sealFor(t, s, rec, plain), PublicKey: g.AuthorityPublicKey()}}
	nop := func(ed25519.PrivateKey) error { return nil }
	for _, step := range []struct {
		what  string
		says  error
		want  error
		marks []bool
	}{
		{"it opens", nil, nil, nil},
		{"no answer", envelope.ErrUnavailable, fault.Unavailable, nil},
		{"refused", envelope.ErrKeyRefused, fault.Sealed, []bool{true}},
		{"refused still", envelope.ErrKeyRefused, fault.Sealed, []bool{true}},
		{"no answer any more", envelope.ErrUnavailable, fault.Unavailable, []bool{true}},
		{"it opens again", nil, nil, []bool{true, false}},
	} {
		s.will(step.says)
		err := f.keyring(s).Authority(t.Context(), logistics, nop) // a new process each time
		if !errors.Is(err, step.want) || !slices.Equal(f.marks, step.marks) {
			t.Errorf("%s: %v, marks %v", step.what, err, f.marks)
		}
	}
}
