package automerge_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
)

// fuzzLimits keep one execution short; the code paths are those of any limits.
func fuzzLimits() automerge.Limits {
	lim := automerge.DefaultLimits()
	lim.MaxOps, lim.MaxPreds = 2000, 4000
	lim.MaxInflatedBytes = 1 << 20
	return lim
}

// prompt fails the execution if it takes longer than any of its size should.
func prompt(t *testing.T) func() {
	start := time.Now()
	return func() {
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
	}
}

// repaired gives a chunk the length and checksum its body should have, so that
// mutations get past them.
func repaired(chunk []byte) []byte {
	const header = 9
	if len(chunk) <= header {
		return chunk
	}
	typ, rest := chunk[header-1], chunk[header:]
	if _, n := binary.Uvarint(rest); n > 0 {
		rest = rest[n:]
	}
	return automergetest.Chunk(typ&1|1, rest)
}

func FuzzDecodeChange(f *testing.F) {
	for _, doc := range corpus(f) {
		for _, rec := range doc.Changes[:min(len(doc.Changes), 4)] {
			if len(rec.Raw) < 2000 {
				f.Add(rec.Raw)
			}
		}
	}
	f.Add(craft(1, 1, puts(3)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer prompt(t)()
		for _, chunk := range [][]byte{b, repaired(b)} {
			c, err := automerge.DecodeChange(chunk, fuzzLimits())
			if err != nil {
				continue
			}
			again, err := automerge.DecodeChange(c.Raw, fuzzLimits())
			if err != nil || again.Hash != c.Hash || !bytes.Equal(again.Raw, c.Raw) {
				t.Fatalf("raw form of %s: %v", c.Hash, err)
			}
		}
	})
}

func FuzzDecodeSyncMessage(f *testing.F) {
	h := automerge.Hash{1, 2, 3}
	for _, m := range []automerge.SyncMessage{
		{},
		{Heads: []automerge.Hash{h}, Need: []automerge.Hash{h}},
		{Have: []automerge.Have{{LastSync: []automerge.Hash{h}}}, Changes: [][]byte{craft(1, 1, puts(1)...)}},
	} {
		f.Add(m.Encode())
	}
	d := automerge.NewDoc()
	automergetest.NewAuthor("aa").Commit(d, automergetest.Put(1, "k"))
	f.Add(d.GenerateSync(automerge.NewSyncState(), nil).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		defer prompt(t)()
		m, err := automerge.DecodeSyncMessage(b, fuzzLimits())
		if err != nil {
			return
		}
		again, err := automerge.DecodeSyncMessage(m.Encode(), automerge.DefaultLimits())
		if err != nil || !bytes.Equal(again.Encode(), m.Encode()) {
			t.Fatalf("encoded again: %v", err)
		}
		s := automerge.NewSyncState()
		d.GenerateSync(s, m.Need)
		d.ReceiveSync(s, m)
		d.GenerateSync(s, nil)
		d.ReceiveSync(s, m)
		d.GenerateSync(s, m.Heads)
	})
}

// FuzzApply takes chunks, each behind two bytes of length, and applies what
// passes to a document that has a bit of everything.
func FuzzApply(f *testing.F) {
	pack := func(chunks ...[]byte) []byte {
		var b []byte
		for _, c := range chunks {
			b = binary.BigEndian.AppendUint16(b, uint16(len(c)))
			b = append(b, c...)
		}
		return b
	}
	author := automergetest.NewAuthor("aa")
	base := automerge.NewDoc()
	first := author.Commit(base, automergetest.Put(map[string]any{
		"l": []any{1, map[string]any{"x": automergetest.Counter(1)}}, "t": automergetest.Text("text"), "n": automergetest.Counter(2),
	}, "m"))
	for _, e := range []automergetest.Edit{
		automergetest.Splice(1, "né", "m", "t", 2), automergetest.Insert("i", "m", "l", 1), automergetest.Put("p", "m", "l", 0),
		automergetest.Delete("m"), automergetest.Increment(5, "m", "n"), automergetest.Increment(1, "m", "l", 1, "x"),
	} {
		f.Add(pack(author.Change(base, e), automergetest.NewAuthor("bb").Change(base, e)))
	}
	for _, doc := range corpus(f) {
		var chunks [][]byte
		for _, rec := range doc.Changes {
			if len(rec.Raw) < 2000 {
				chunks = append(chunks, rec.Raw)
			}
		}
		f.Add(pack(chunks...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		defer prompt(t)()
		d, view := automerge.NewDoc(), newView()
		replayed := automerge.NewDoc()
		try := func(chunk []byte) {
			c, err := automerge.DecodeChange(chunk, fuzzLimits())
			if err != nil {
				return
			}
			ps, err := d.Apply(c)
			if again := replayed.Replay(c); (again == nil) != (err == nil) {
				t.Fatalf("Apply says %v, Replay %v", err, again)
			}
			if err != nil {
				return
			}
			if _, err := automerge.PatchesJSON(ps, 1<<20); err != nil {
				view = nil
				return
			}
			view.apply(t, patchValues(t, ps))
		}
		try(first)
		for len(b) >= 2 && view != nil {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			chunk := b[2 : 2+n]
			b = b[2+n:]
			try(chunk)
			if view != nil {
				try(repaired(chunk))
			}
		}
		one, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if two, err := replayed.MarshalJSON(); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("Apply leads to %s, Replay to %s (%v)", one, two, err)
		}
	})
}

func FuzzParseDocumentID(f *testing.F) {
	f.Add(automerge.NewDocumentID([16]byte{1, 2, 3}).String())
	f.Add(automerge.NewDocumentID([16]byte{}).String())
	f.Add("")
	f.Add(strings.Repeat("z", 28))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := automerge.ParseDocumentID(s)
		if err == nil && id.String() != s {
			t.Fatalf("%q became %q", s, id)
		}
	})
}
