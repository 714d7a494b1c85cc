package automerge_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
)

// column is a column of a crafted change.
type column struct {
	spec uint64
	data []byte
}

// craft makes a change chunk of actor "aa" without dependencies.
func craft(seq, startOp uint64, cols ...column) []byte {
	b := []byte{0, 1, 0xaa}
	b = binary.AppendUvarint(b, seq)
	b = binary.AppendUvarint(b, startOp)
	b = append(b, 0, 0, 0) // time, message, other actors
	b = binary.AppendUvarint(b, uint64(len(cols)))
	for _, c := range cols {
		b = binary.AppendUvarint(b, c.spec)
		b = binary.AppendUvarint(b, uint64(len(c.data)))
	}
	for _, c := range cols {
		b = append(b, c.data...)
	}
	return automergetest.Chunk(1, b)
}

// run is n times the value b, run-length encoded.
func run(n int64, b ...byte) []byte {
	out := []byte{}
	for v := n; ; {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 {
			out = append(out, c)
			break
		}
		out = append(out, c|0x80)
	}
	return append(out, b...)
}

// puts is columns for n puts of null to key "k".
func puts(n int64, more ...column) []column {
	cols := []column{
		{0x15, run(n, 1, 'k')}, {0x34, binary.AppendUvarint(nil, uint64(n))}, {0x42, run(n, 1)}, {0x56, run(n, 0)},
	}
	return append(cols, more...)
}

func TestBombs(t *testing.T) {
	deflated := func(size int) []byte {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, flate.BestCompression)
		_, _ = w.Write(make([]byte, size))
		_ = w.Close()
		return automergetest.Chunk(2, b.Bytes())
	}
	for name, tc := range map[string]struct {
		chunk []byte
		want  error
	}{
		"a million operations":       {craft(1, 1, puts(1e6)...), automerge.ErrLimit},
		"a hundred million":          {craft(1, 1, puts(1e8)...), automerge.ErrLimit},
		"operations within limits":   {craft(1, 1, puts(200_000)...), nil},
		"ten million predecessors":   {craft(1, 1, puts(1, column{0x70, []byte{1, 0x80, 0xad, 0xe2, 4}})...), automerge.ErrLimit},
		"2^40 predecessors":          {craft(1, 1, puts(1, column{0x70, []byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20}})...), automerge.ErrLimit},
		"predecessor of itself":      {craft(1, 1, puts(1, column{0x70, []byte{1, 1}}, column{0x71, []byte{1, 0}}, column{0x73, []byte{1, 1}})...), automerge.ErrBadOp},
		"gap in sequence":            {craft(2, 1, puts(1)...), automerge.ErrSequence},
		"sequence 0":                 {craft(0, 1, puts(1)...), automerge.ErrMalformed},
		"operation 0":                {craft(1, 0, puts(1)...), automerge.ErrMalformed},
		"counters beyond 32 bits":    {craft(1, 1<<32-2, puts(2)...), automerge.ErrMalformed},
		"columns out of order":       {craft(1, 1, column{0x42, nil}, column{0x15, nil}), automerge.ErrMalformed},
		"column twice":               {craft(1, 1, column{0x42, nil}, column{0x42, nil}), automerge.ErrMalformed},
		"compressed column":          {craft(1, 1, column{0x4a, nil}), automerge.ErrMalformed},
		"null action":                {craft(1, 1, column{0x42, []byte{0, 1}}), automerge.ErrMalformed},
		"unknown action":             {craft(1, 1, column{0x15, run(1, 1, 'k')}, column{0x42, run(1, 8)}), automerge.ErrMalformed},
		"increment by a string":      {craft(1, 1, column{0x15, run(1, 1, 'k')}, column{0x42, run(1, 5)}, column{0x56, run(1, 0x16)}, column{0x57, []byte("x")}), automerge.ErrMalformed},
		"element of the root":        {craft(1, 1, column{0x13, run(1, 0)}, column{0x34, []byte{0, 1}}, column{0x42, run(1, 1)}), automerge.ErrBadOp},
		"object that is not there":   {craft(1, 1, column{0x01, run(1, 0)}, column{0x02, run(1, 9)}, column{0x15, run(1, 1, 'k')}, column{0x42, run(1, 1)}), automerge.ErrBadOp},
		"value longer than the data": {craft(1, 1, column{0x15, run(1, 1, 'k')}, column{0x42, run(1, 1)}, column{0x56, run(1, 0xf6, 0xff, 0xff, 0xff, 0x0f)}), automerge.ErrMalformed},
		"bad UTF-8":                  {craft(1, 1, column{0x15, run(1, 1, 0xff)}, column{0x42, run(1, 1)}), automerge.ErrMalformed},
		"deflate bomb":               {deflated(64 << 20), automerge.ErrLimit},
		"document chunk":             {automergetest.Chunk(0, nil), automerge.ErrMalformed},
		"bundle":                     {automergetest.Chunk(3, nil), automerge.ErrMalformed},
		"nothing":                    {nil, automerge.ErrMalformed},
		"empty body":                 {automergetest.Chunk(1, nil), automerge.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			d := automerge.NewDoc()
			c, err := automerge.DecodeChange(tc.chunk, automerge.DefaultLimits())
			if err == nil {
				_, err = d.Apply(c)
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if err != nil && d.Len() != 0 {
				t.Error("the document changed")
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if spent := (after.TotalAlloc - before.TotalAlloc) >> 20; spent > 400 {
				t.Errorf("allocated %d MB", spent)
			}
			if took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// A small change must not take longer for what others piled up before it.
func TestPilesOfConflicts(t *testing.T) {
	const n = 100_000
	d := automerge.NewDoc()
	apply(t, d, craft(1, 1, puts(n)...))
	start := time.Now()
	b := automergetest.NewAuthor("bb")
	p, _ := d.Locate("k")
	if len(p.Values) != n {
		t.Fatalf("%d values", len(p.Values))
	}
	apply(t, d, b.Change(d, automergetest.Delete("k")))
	if _, there := d.JSON().(map[string]any)["k"]; there {
		t.Error("still there")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// Inserts at the head with low ids have to pass all elements with higher ones.
func TestInsertsBehindManyOthers(t *testing.T) {
	d := automerge.NewDoc()
	a := automergetest.NewAuthor("ff")
	first := a.Commit(d, automergetest.Put(automergetest.Text(""), "t"))
	old := automerge.NewDoc()
	automergetest.Replay(old, first)
	for range 50 {
		a.Commit(d, automergetest.Splice(0, string(bytes.Repeat([]byte("x"), 4000)), "t", 0))
	}
	b := automergetest.NewAuthor("00")
	start := time.Now()
	for range 200 {
		apply(t, d, b.Commit(old, automergetest.Splice(0, "yyyyyyyyyyyyyyyyyyyy", "t", 0)))
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestApplyLeavesDocumentAloneOnError(t *testing.T) {
	d := automerge.NewDoc()
	a := automergetest.NewAuthor("aa")
	first := a.Commit(d, automergetest.Put([]any{1, 2}, "l"), automergetest.Put("v", "k"))
	want, heads := d.JSON(), d.Heads()
	other := automerge.NewDoc()
	automergetest.Replay(other, first)
	missing := a.Change(other, automergetest.Put(1, "x"))
	automergetest.Replay(other, missing)
	next := a.Change(other, automergetest.Put(2, "x"))
	for name, tc := range map[string]struct {
		chunk []byte
		want  error
	}{
		"duplicate":    {first, automerge.ErrDuplicate},
		"missing deps": {next, automerge.ErrMissingDeps},
		"seq again":    {craft(1, 1, puts(1)...), automerge.ErrSequence},
		"ops again":    {craft(2, 1, puts(1)...), automerge.ErrSequence},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := d.Apply(decode(t, tc.chunk)); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if !slices.Equal(heads, d.Heads()) || d.Len() != 1 {
				t.Error("history changed")
			}
			if got := d.JSON(); len(got.(map[string]any)) != len(want.(map[string]any)) {
				t.Errorf("contents changed: %v", got)
			}
		})
	}
}

func TestCorruptedInput(t *testing.T) {
	rng := seeded(t)
	h := randomHistory(rng, 2, 20)
	doc := automerge.NewDoc()
	automergetest.Replay(doc, h.chunks...)
	empty := automerge.NewDoc()
	asking := automerge.NewSyncState()
	doc.ReceiveSync(asking, empty.GenerateSync(automerge.NewSyncState(), nil))
	message := doc.GenerateSync(asking, nil).Encode()
	for i := range message {
		_, err := automerge.DecodeSyncMessage(message[:i], automerge.DefaultLimits())
		if err == nil {
			t.Fatalf("message cut at %d passes", i)
		}
	}
	if _, err := automerge.DecodeSyncMessage(append(message, 2, 2, 0x84), automerge.DefaultLimits()); err != nil {
		t.Errorf("message with flags: %v", err)
	}
	for _, chunk := range h.chunks {
		for i := range chunk {
			if _, err := automerge.DecodeChange(chunk[:i], automerge.DefaultLimits()); err == nil {
				t.Fatalf("change cut at %d passes", i)
			}
			bad := bytes.Clone(chunk)
			bad[i] ^= 1 << rng.IntN(8)
			if _, err := automerge.DecodeChange(bad, automerge.DefaultLimits()); err == nil {
				t.Fatalf("change with byte %d altered passes", i)
			}
		}
	}
}
