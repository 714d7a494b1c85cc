package automerge_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
)

// seeded returns a source of chance whose seed is printed, or given by PEAT_SEED.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := envInt(t, "PEAT_SEED", int(time.Now().UnixNano()%1_000_000))
	t.Logf("PEAT_SEED=%d", seed)
	return rand.New(rand.NewPCG(uint64(seed), 0))
}

func decode(t testing.TB, chunk []byte) *automerge.Change {
	t.Helper()
	c, err := automerge.DecodeChange(chunk, automerge.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func apply(t testing.TB, d *automerge.Doc, chunk []byte) []automerge.Patch {
	t.Helper()
	ps, err := d.Apply(decode(t, chunk))
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// holdback applies what it can of chunks, in any order, and returns the rest.
func holdback(t testing.TB, d *automerge.Doc, chunks [][]byte) [][]byte {
	t.Helper()
	for progress := true; progress; {
		progress = false
		var rest [][]byte
		for _, chunk := range chunks {
			switch _, err := d.Apply(decode(t, chunk)); {
			case err == nil:
				progress = true
			case errors.Is(err, automerge.ErrMissingDeps):
				rest = append(rest, chunk)
			case !errors.Is(err, automerge.ErrDuplicate):
				t.Fatal(err)
			}
		}
		chunks = rest
	}
	return chunks
}

// history is the changes of a document made by several authors at once.
type history struct{ chunks [][]byte }

func randomHistory(rng *rand.Rand, authors, steps int) history {
	type replica struct {
		author *automergetest.Author
		doc    *automerge.Doc
		has    int // of the history
	}
	var h history
	first := automergetest.NewAuthor("00ff")
	start := automerge.NewDoc()
	h.chunks = append(h.chunks, first.Commit(start, automergetest.Put(map[string]any{
		"list": []any{}, "text": automergetest.Text("seed"), "n": automergetest.Counter(3),
	}, "top")))
	var replicas []*replica
	for i := range authors {
		r := &replica{author: automergetest.NewAuthor(fmt.Sprintf("%02x%02x", rng.IntN(256), i)), doc: automerge.NewDoc()}
		automergetest.Replay(r.doc, h.chunks[0])
		r.has = 1
		replicas = append(replicas, r)
	}
	for range steps {
		r := replicas[rng.IntN(len(replicas))]
		if rng.IntN(3) == 0 {
			// What others wrote was written in an order that fits.
			for _, chunk := range h.chunks[r.has:] {
				c, err := automerge.DecodeChange(chunk, automerge.DefaultLimits())
				if err != nil {
					panic(err)
				}
				if !r.doc.Has(c.Hash) {
					automergetest.Replay(r.doc, chunk)
				}
			}
			r.has = len(h.chunks)
		}
		h.chunks = append(h.chunks, r.author.Commit(r.doc, randomEdits(rng, r.doc)...))
	}
	return h
}

func randomEdits(rng *rand.Rand, d *automerge.Doc) []automergetest.Edit {
	scalars := []any{nil, true, 7, -3.5, "word", "żółw😀", []byte{1, 2}, uint64(9), automergetest.Counter(5), automergetest.Timestamp(99)}
	value := func() any {
		switch rng.IntN(5) {
		case 0:
			return map[string]any{"x": scalars[rng.IntN(len(scalars))], "y": []any{1, "two"}}
		case 1:
			return automergetest.Text("ab😀")
		default:
			return scalars[rng.IntN(len(scalars))]
		}
	}
	keys := []string{"a", "b", "c", "top"}
	key := keys[rng.IntN(len(keys)-1)]
	top, ok := d.JSON().(map[string]any)["top"].(map[string]any)
	if !ok {
		return []automergetest.Edit{automergetest.Put(value(), key)}
	}
	list, _ := top["list"].([]any)
	length := 0
	for ; ; length++ {
		if _, ok := d.Locate("top", "text", length); !ok {
			break
		}
	}
	switch rng.IntN(8) {
	case 0:
		return []automergetest.Edit{automergetest.Put(value(), key)}
	case 1:
		return []automergetest.Edit{automergetest.Delete(key)}
	case 2, 3:
		return []automergetest.Edit{automergetest.Insert(value(), "top", "list", rng.IntN(len(list)+1)), automergetest.Put(value(), key)}
	case 4:
		if len(list) > 0 {
			at := rng.IntN(len(list))
			if rng.IntN(2) == 0 {
				return []automergetest.Edit{automergetest.Delete("top", "list", at)}
			}
			return []automergetest.Edit{automergetest.Put(value(), "top", "list", at)}
		}
		fallthrough
	case 5:
		return []automergetest.Edit{automergetest.Increment(int64(rng.IntN(9)), "top", "n")}
	default:
		at := rng.IntN(length + 1)
		// Both ends of an edit must be between characters.
		if p, ok := d.Locate("top", "text", at); ok && p.Width == 2 {
			at = 0
		}
		return []automergetest.Edit{automergetest.Splice(min(rng.IntN(2), length-at), []string{"", "q", "new", "ł😀"}[rng.IntN(4)], "top", "text", at)}
	}
}

// shuffled returns the changes in another causal order.
func (h history) shuffled(rng *rand.Rand) [][]byte {
	waiting := append([][]byte(nil), h.chunks...)
	done := map[automerge.Hash]bool{}
	var out [][]byte
	for len(waiting) > 0 {
		i := rng.IntN(len(waiting))
		c, err := automerge.DecodeChange(waiting[i], automerge.DefaultLimits())
		if err != nil {
			panic(err)
		}
		ready := true
		for _, dep := range c.Deps {
			ready = ready && done[dep]
		}
		if ready {
			done[c.Hash] = true
			out = append(out, waiting[i])
			waiting = append(waiting[:i], waiting[i+1:]...)
		}
	}
	return out
}

// closure returns some of the changes, in order, with all they depend on.
func (h history) closure(rng *rand.Rand, ordered [][]byte) [][]byte {
	have := map[automerge.Hash]bool{}
	var out [][]byte
	for _, chunk := range ordered {
		c, _ := automerge.DecodeChange(chunk, automerge.DefaultLimits())
		ok := rng.IntN(8) > 0
		for _, dep := range c.Deps {
			ok = ok && have[dep]
		}
		if ok {
			have[c.Hash] = true
			out = append(out, chunk)
		}
	}
	return out
}

func TestAnyOrderGivesTheSame(t *testing.T) {
	rng := seeded(t)
	for range 60 {
		h := randomHistory(rng, 2+rng.IntN(3), 30)
		want := automerge.NewDoc()
		automergetest.Replay(want, h.chunks...)
		for range 3 {
			got, view := automerge.NewDoc(), newView()
			for _, chunk := range h.shuffled(rng) {
				view.apply(t, patchValues(t, apply(t, got, chunk)))
			}
			if diff := cmp.Diff(want.Heads(), got.Heads()); diff != "" {
				t.Fatalf("heads:\n%s", diff)
			}
			if diff := cmp.Diff(want.JSON(), got.JSON()); diff != "" {
				t.Fatalf("contents:\n%s", diff)
			}
			if diff := cmp.Diff(want.JSON(), view.value()); diff != "" {
				t.Fatalf("patches lead elsewhere:\n%s", diff)
			}
		}
	}
}

// peer is a document with connections to others.
type peer struct {
	doc    *automerge.Doc
	held   [][]byte
	states map[int]*automerge.SyncState
}

func (p *peer) need(t *testing.T) []automerge.Hash {
	var out []automerge.Hash
	for _, chunk := range p.held {
		for _, dep := range decode(t, chunk).Deps {
			if !p.doc.Has(dep) {
				out = append(out, dep)
			}
		}
	}
	return out
}

// pass carries one message from a to b and reports whether there was one.
func pass(t *testing.T, a, b *peer, from, to int) bool {
	t.Helper()
	m := a.doc.GenerateSync(a.states[to], a.need(t))
	if m == nil {
		return false
	}
	got, err := automerge.DecodeSyncMessage(m.Encode(), automerge.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	b.held = holdback(t, b.doc, append(b.held, got.Changes...))
	b.doc.ReceiveSync(b.states[from], got)
	return true
}

func TestSyncConverges(t *testing.T) {
	rng := seeded(t)
	for round := range 60 {
		h := randomHistory(rng, 3, 40)
		order := h.shuffled(rng)
		peers := make([]*peer, 2+rng.IntN(2))
		for i := range peers {
			peers[i] = &peer{doc: automerge.NewDoc(), states: map[int]*automerge.SyncState{}}
			automergetest.Replay(peers[i].doc, h.closure(rng, order)...)
		}
		connect := func(i, j int) {
			for _, e := range [][2]int{{i, j}, {j, i}} {
				s := automerge.NewSyncState()
				s.MaxSendBytes = 1 << (6 + rng.IntN(12))
				peers[e[0]].states[e[1]] = s
			}
		}
		// A chain: the ends learn of each other through the middle.
		for i := range peers[1:] {
			connect(i, i+1)
		}
		drops := rng.IntN(20)
		for quiet, messages := 0, 0; quiet < 2*len(peers); messages++ {
			if messages > 5000 {
				t.Fatalf("round %d: no end to it", round)
			}
			i := rng.IntN(len(peers) - 1)
			if drops > 0 && rng.IntN(10) == 0 {
				drops--
				connect(i, i+1)
			}
			said := false
			for i := range peers[1:] {
				said = pass(t, peers[i], peers[i+1], i, i+1) || said
				said = pass(t, peers[i+1], peers[i], i+1, i) || said
			}
			if said {
				quiet = 0
			} else {
				quiet++
			}
		}
		for _, p := range peers[1:] {
			if diff := cmp.Diff(peers[0].doc.Heads(), p.doc.Heads()); diff != "" {
				t.Fatalf("round %d: heads:\n%s", round, diff)
			}
			if diff := cmp.Diff(peers[0].doc.JSON(), p.doc.JSON()); diff != "" {
				t.Fatalf("round %d: contents:\n%s", round, diff)
			}
		}
	}
}

// A peer that will not take our change, and one whose change we will not take,
// must not keep us talking.
func TestSyncEndsWithoutAgreement(t *testing.T) {
	author := automergetest.NewAuthor("aa")
	a, b := automerge.NewDoc(), automerge.NewDoc()
	author.Commit(a, automergetest.Put(1, "k"))
	sa, sb := automerge.NewSyncState(), automerge.NewSyncState()
	for n := 0; ; n++ {
		if n > 10 {
			t.Fatal("no end to it")
		}
		said := false
		if m := a.GenerateSync(sa, nil); m != nil {
			said = true
			b.ReceiveSync(sb, m) // and applies nothing
		}
		if m := b.GenerateSync(sb, nil); m != nil {
			said = true
			a.ReceiveSync(sa, m)
		}
		if !said {
			return
		}
	}
}
