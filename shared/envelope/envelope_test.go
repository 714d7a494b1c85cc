package envelope_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/envelopetest"
)

func newKEK() envelope.KEK {
	var key [32]byte
	rand.Read(key[:])
	return envelope.NewKEK(key)
}

func local(t testing.TB, kek envelope.KEK) *envelope.Local {
	t.Helper()
	p, err := envelope.NewLocal(kek)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func genesisOf(org string) envelope.Record {
	return envelope.Record{Org: org, App: "logistics", Kind: "genesis"}
}

func seal(t testing.TB, p envelope.KeyProvider, rec envelope.Record, text string) []byte {
	t.Helper()
	blob, err := envelope.Seal(t.Context(), p, rec, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func TestLocal(t *testing.T) {
	kek := newKEK()
	envelopetest.Run(t, func(t *testing.T) envelope.KeyProvider { return local(t, kek) })
}

func TestAnotherKeyDoesNotUnwrap(t *testing.T) {
	blob := seal(t, local(t, newKEK()), genesisOf("acme"), "secret")
	if _, err := envelope.Open(t.Context(), local(t, newKEK()), genesisOf("acme"), blob); !errors.Is(err, envelope.ErrTampered) {
		t.Errorf("got %v", err)
	}
}

func TestWithoutAKeyNothingIsSealed(t *testing.T) {
	for _, none := range []envelope.KEK{{}, envelope.NewKEK([32]byte{})} {
		if _, err := envelope.NewLocal(none); err == nil || none.IsSet() {
			t.Error("a provider without a key")
		}
	}
}

func TestRoundTrip(t *testing.T) {
	p := local(t, newKEK())
	for name, tc := range map[string]struct {
		rec  envelope.Record
		text string
	}{
		"a formation's genesis": {genesisOf("acme"), "genesis"},
		"a sink's secrets":      {envelope.Record{Org: "acme", Kind: "sink", ID: "01J"}, `{"secret":"whsec_x"}`},
		"nothing":               {genesisOf("acme"), ""},
		"a megabyte":            {genesisOf("acme"), strings.Repeat("x", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			blob := seal(t, p, tc.rec, tc.text)
			if !envelope.IsEnvelope(blob) || envelope.NeedsReseal(blob) || string(blob[:5]) != "PENV\x02" {
				t.Errorf("begins with %q", blob[:5])
			}
			if want := 5 + 1 + len(p.KeyID()) + 2 + 60 + 12 + len(tc.text) + 16; len(blob) != want {
				t.Errorf("%d bytes, want %d", len(blob), want)
			}
			got, err := envelope.Open(t.Context(), p, tc.rec, blob)
			if err != nil || string(got) != tc.text {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if bytes.Equal(blob, seal(t, p, tc.rec, tc.text)) {
				t.Error("sealing twice gives equal bytes")
			}
		})
	}
}

// TestSwap is the attack that version 1 is open to: whoever can write to the
// database puts one row's secret into another.
func TestSwap(t *testing.T) {
	p := local(t, newKEK())
	mine := envelope.Record{Org: "acme", App: "logistics", Kind: "sink", ID: "01J"}
	blob := seal(t, p, mine, "secret")
	for name, theirs := range map[string]envelope.Record{
		"another organization":         {Org: "evil", App: "logistics", Kind: "sink", ID: "01J"},
		"another formation":            {Org: "acme", App: "medical", Kind: "sink", ID: "01J"},
		"another kind":                 {Org: "acme", App: "logistics", Kind: "genesis", ID: "01J"},
		"another of the kind":          {Org: "acme", App: "logistics", Kind: "sink", ID: "01K"},
		"no formation":                 {Org: "acme", Kind: "sink", ID: "01J"},
		"no id":                        {Org: "acme", App: "logistics", Kind: "sink"},
		"other case":                   {Org: "ACME", App: "logistics", Kind: "sink", ID: "01J"},
		"a letter moved between parts": {Org: "acmel", App: "ogistics", Kind: "sink", ID: "01J"},
		"parts exchanged":              {Org: "logistics", App: "acme", Kind: "sink", ID: "01J"},
		"a part moved":                 {Org: "acme", App: "logistics", Kind: "sink01J"},
		"a length inside a part":       {Org: "acme\x09\x00\x00\x00logistics", App: "", Kind: "sink", ID: "01J"},
		"nothing":                      {},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := envelope.Open(t.Context(), p, theirs, blob)
			if !errors.Is(err, envelope.ErrTampered) || got != nil {
				t.Errorf("opened there: %q, %v", got, err)
			}
		})
	}
}

// TestParts: neither half of an envelope can be replaced by that of another.
func TestParts(t *testing.T) {
	p := local(t, newKEK())
	a, b := seal(t, p, genesisOf("acme"), "secret"), seal(t, p, genesisOf("evil"), "secret")
	wrappedEnd := 5 + 1 + len(p.KeyID()) + 2 + 60
	for name, mixed := range map[string][]byte{
		"key of another":  slices.Concat(b[:wrappedEnd], a[wrappedEnd:]),
		"data of another": slices.Concat(a[:wrappedEnd], b[wrappedEnd:]),
	} {
		for _, rec := range []envelope.Record{genesisOf("acme"), genesisOf("evil")} {
			if _, err := envelope.Open(t.Context(), p, rec, mixed); !errors.Is(err, envelope.ErrTampered) {
				t.Errorf("%s: opened for %s: %v", name, rec.Org, err)
			}
		}
	}
}

// TestDowngrade: calling an envelope version 1 does not rid it of its binding.
func TestDowngrade(t *testing.T) {
	p := local(t, newKEK())
	blob := seal(t, p, genesisOf("acme"), strings.Repeat("secret", 1<<14)) // long enough for any length
	for version, want := range map[byte]error{0: envelope.ErrVersion, 1: envelope.ErrTampered, 3: envelope.ErrVersion, 255: envelope.ErrVersion} {
		blob[4] = version
		if _, err := envelope.Open(t.Context(), p, genesisOf("acme"), blob); !errors.Is(err, want) {
			t.Errorf("version %d: %v, want %v", version, err, want)
		}
	}
	old := unhex(t, vectors(t, "envelope")[0].In.Envelope)
	old[4] = 2
	kek, _ := envelope.ParseKEK(strings.Repeat("42", 32))
	if _, err := envelope.Open(t.Context(), local(t, kek), genesisOf("acme"), old); !errors.Is(err, envelope.ErrTampered) {
		t.Errorf("version 1 passed as 2: %v", err)
	}
}

func TestEveryByteCounts(t *testing.T) {
	p := local(t, newKEK())
	rec := genesisOf("acme")
	blob := seal(t, p, rec, "secret")
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 0x80
		if got, err := envelope.Open(t.Context(), p, rec, bad); err == nil {
			t.Errorf("byte %d changed, still opens to %q", i, got)
		}
		if got, err := envelope.Open(t.Context(), p, rec, blob[:i]); err == nil {
			t.Errorf("%d bytes open to %q", i, got)
		}
	}
	if _, err := envelope.Open(t.Context(), p, rec, append(bytes.Clone(blob), 0)); !errors.Is(err, envelope.ErrTampered) {
		t.Errorf("a byte more: %v", err)
	}
}

func TestErrTamperedSaysNoMore(t *testing.T) {
	p := local(t, newKEK())
	const secret = "the secret text"
	blob := seal(t, p, genesisOf("acme"), secret)
	for i := 8 + len(p.KeyID()); i < len(blob); i++ {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		_, err := envelope.Open(t.Context(), p, genesisOf("acme"), bad)
		if !errors.Is(err, envelope.ErrTampered) || !strings.HasSuffix(err.Error(), envelope.ErrTampered.Error()) {
			t.Errorf("byte %d: %v", i, err)
		}
		if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), hex.EncodeToString(blob[8+len(p.KeyID()):][:60])) {
			t.Errorf("byte %d: too much is said: %v", i, err)
		}
	}
}

// scripted is a provider that answers as told.
type scripted struct {
	id  string
	out []byte
	err error
}

func (s scripted) KeyID() string { return s.id }

func (s scripted) Wrap(context.Context, envelope.Record, []byte) ([]byte, error) {
	return s.out, s.err
}

func (s scripted) Unwrap(context.Context, envelope.Record, []byte) ([]byte, error) {
	return s.out, s.err
}

func TestTroubleOfTheProviderIsToldApart(t *testing.T) {
	p := local(t, newKEK())
	blob := seal(t, p, genesisOf("acme"), "secret")
	for _, why := range []error{envelope.ErrKeyRefused, envelope.ErrUnavailable, io.ErrUnexpectedEOF} {
		provider := scripted{id: p.KeyID(), err: fmt.Errorf("somewhere: %w", why)}
		if got, err := envelope.Open(t.Context(), provider, genesisOf("acme"), blob); !errors.Is(err, why) || errors.Is(err, envelope.ErrTampered) || got != nil {
			t.Errorf("Open: %v, want %v", err, why)
		}
		if got, err := envelope.Seal(t.Context(), provider, genesisOf("acme"), nil); !errors.Is(err, why) || got != nil {
			t.Errorf("Seal: %v, want %v", err, why)
		}
	}
	if _, err := envelope.Open(t.Context(), scripted{id: p.KeyID(), out: make([]byte, 16)}, genesisOf("acme"), blob); !errors.Is(err, envelope.ErrTampered) {
		t.Errorf("Open with a short data key: %v", err)
	}
	if _, err := envelope.Seal(t.Context(), scripted{id: "x", out: make([]byte, 1<<16)}, genesisOf("acme"), nil); err == nil {
		t.Error("Seal wrote a wrapped key whose length does not fit")
	}
}

func TestTheIdOfTheKeyMustFit(t *testing.T) {
	for name, id := range map[string]string{
		"none": "", "too long": strings.Repeat("k", 256), "a space": "a b", "a line": "a\nb", "not ASCII": "schlüssel", "a control": "a\x7f",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := envelope.Seal(t.Context(), scripted{id: id, out: make([]byte, 60)}, genesisOf("acme"), nil); err == nil {
				t.Error("sealed")
			}
			if len(id) > 255 {
				return
			}
			blob := slices.Concat([]byte("PENV\x02"), []byte{byte(len(id))}, []byte(id), []byte{0, 0}, make([]byte, 28))
			if h, err := envelope.ReadHeader(blob); !errors.Is(err, envelope.ErrTampered) {
				t.Errorf("read: %+v, %v", h, err)
			}
		})
	}
	blob := seal(t, scripted{id: strings.Repeat("k", 255), out: make([]byte, 60)}, genesisOf("acme"), "x")
	if h, err := envelope.ReadHeader(blob); err != nil || h.KeyID != strings.Repeat("k", 255) || h.Version != 2 {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestTheNamedKeyOpens: which key is asked is part of what is authentic. Whoever
// can write to the database cannot send a record to another key, even one that
// would unwrap it.
func TestTheNamedKeyOpens(t *testing.T) {
	kek := newKEK()
	mine, rec := local(t, kek), genesisOf("acme")
	blob := seal(t, mine, rec, "secret")
	if h, err := envelope.ReadHeader(blob); err != nil || h != (envelope.Header{Version: 2, KeyID: kek.ID()}) {
		t.Fatalf("%+v, %v", h, err)
	}
	other := renamed{mine, "local:0000000000000000"}
	if got, err := envelope.Open(t.Context(), other, rec, blob); !errors.Is(err, envelope.ErrTampered) || got != nil {
		t.Errorf("a key of another name opened it: %q, %v", got, err)
	}
	forged := bytes.Replace(blob, []byte(mine.KeyID()), []byte(other.id), 1)
	for name, p := range map[string]envelope.KeyProvider{"the key": mine, "the key under that name": other} {
		if got, err := envelope.Open(t.Context(), p, rec, forged); !errors.Is(err, envelope.ErrTampered) || got != nil {
			t.Errorf("%s opened what names another: %q, %v", name, got, err)
		}
	}
}

// renamed is a key under another name.
type renamed struct {
	envelope.KeyProvider
	id string
}

func (r renamed) KeyID() string { return r.id }

func TestAnIdTellsNothingButWhichKey(t *testing.T) {
	a, b := envelope.NewKEK([32]byte{1}), envelope.NewKEK([32]byte{2})
	if a.ID() == b.ID() || a.ID() != envelope.NewKEK([32]byte{1}).ID() || (envelope.KEK{}).ID() != "" {
		t.Errorf("%q, %q", a.ID(), b.ID())
	}
	if got, want := a.ID(), "local:a5d86a66623bb946"; got != want {
		t.Errorf("the id of a key is %q now, was %q: what it sealed no longer opens", got, want)
	}
}

func TestSealNeedsToKnowWhatFor(t *testing.T) {
	for _, rec := range []envelope.Record{{}, {Org: "acme"}, {Kind: "genesis"}} {
		if _, err := envelope.Seal(t.Context(), local(t, newKEK()), rec, nil); err == nil {
			t.Errorf("sealed for %+v", rec)
		}
	}
}

func FuzzOpen(f *testing.F) {
	kek, err := envelope.ParseKEK(strings.Repeat("42", 32))
	if err != nil {
		f.Fatal(err)
	}
	p := local(f, kek)
	for _, group := range []string{"envelope", "envelope_open"} {
		for _, v := range vectors(f, group) {
			f.Add(unhex(f, v.In.Envelope))
		}
	}
	rec := genesisOf("acme")
	f.Add(seal(f, p, rec, "secret"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		before := bytes.Clone(blob)
		got, err := envelope.Open(t.Context(), p, rec, blob)
		if !bytes.Equal(before, blob) {
			t.Fatal("Open changed its argument")
		}
		if err == nil && len(got) > len(blob)-7-12-16 {
			t.Fatalf("%d bytes out of %d", len(got), len(blob))
		}
		if !envelope.IsEnvelope(blob) && !errors.Is(err, envelope.ErrNotEnvelope) {
			t.Fatalf("not an envelope, but %v", err)
		}
		if sealed := seal(t, p, rec, string(blob)); !envelope.IsEnvelope(sealed) {
			t.Fatal("Seal made something else")
		} else if again, err := envelope.Open(t.Context(), p, rec, sealed); err != nil || !bytes.Equal(again, blob) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

func Example() {
	ctx := context.Background()
	provider, _ := envelope.NewLocal(newKEK())

	acme := envelope.Record{Org: "acme", App: "logistics", Kind: "genesis"}
	blob, _ := envelope.Seal(ctx, provider, acme, []byte("seed"))

	plaintext, err := envelope.Open(ctx, provider, acme, blob)
	fmt.Println(string(plaintext), err)

	evil := envelope.Record{Org: "evil", App: "logistics", Kind: "genesis"}
	_, err = envelope.Open(ctx, provider, evil, blob)
	fmt.Println(err)
	// Output:
	// seed <nil>
	// envelope: not ours or not intact
}
