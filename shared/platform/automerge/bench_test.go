package automerge_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
)

func mapHistory(n int) [][]byte {
	d, a := automerge.NewDoc(), automergetest.NewAuthor(strings.Repeat("a1", 16))
	var out [][]byte
	for i := range n {
		out = append(out, a.Commit(d, automergetest.Put(i, fmt.Sprint("key", i%1000))))
	}
	return out
}

func typedHistory(n int) [][]byte {
	d, a := automerge.NewDoc(), automergetest.NewAuthor(strings.Repeat("a1", 16))
	out := [][]byte{a.Commit(d, automergetest.Put(automergetest.Text(""), "t"))}
	for i := range n {
		out = append(out, a.Commit(d, automergetest.Splice(0, "x", "t", i)))
	}
	return out
}

func randomTextHistory(size, n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 1))
	d, a := automerge.NewDoc(), automergetest.NewAuthor(strings.Repeat("a1", 16))
	out := [][]byte{a.Commit(d, automergetest.Put(automergetest.Text(strings.Repeat("x", size)), "t"))}
	for range n {
		out = append(out, a.Commit(d, automergetest.Splice(rng.IntN(2), "y", "t", rng.IntN(size/2))))
	}
	return out
}

func decodeAll(b testing.TB, chunks [][]byte) []*automerge.Change {
	out := make([]*automerge.Change, len(chunks))
	for i, c := range chunks {
		out[i] = decode(b, c)
	}
	return out
}

func BenchmarkDecodeChange(b *testing.B) {
	chunks := mapHistory(1000)
	for i := 0; b.Loop(); i++ {
		if _, err := automerge.DecodeChange(chunks[i%len(chunks)], automerge.DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	for name, history := range map[string]func() [][]byte{
		"map puts":                  func() [][]byte { return mapHistory(20_000) },
		"typing":                    func() [][]byte { return typedHistory(20_000) },
		"random edits in 100k text": func() [][]byte { return randomTextHistory(100_000, 20_000) },
		"one change with 100k keys": func() [][]byte { return [][]byte{wide(100_000)} },
	} {
		b.Run(name, func(b *testing.B) {
			chunks := history()
			changes := decodeAll(b, chunks)
			d := automerge.NewDoc()
			for i := 0; b.Loop(); i++ {
				if i%len(changes) == 0 {
					b.StopTimer()
					d = automerge.NewDoc()
					if len(changes) > 1 {
						if _, err := d.Apply(changes[0]); err != nil {
							b.Fatal(err)
						}
						i++
					}
					b.StartTimer()
				}
				if _, err := d.Apply(changes[i%len(changes)]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

func wide(n int) []byte {
	m := make([]automergetest.Edit, n)
	for i := range m {
		m[i] = automergetest.Put(i, fmt.Sprint("key", i))
	}
	return automergetest.NewAuthor("aa").Change(automerge.NewDoc(), m...)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkHeap reports what a document keeps; the time means nothing.
func BenchmarkHeap(b *testing.B) {
	for name, history := range map[string]func() [][]byte{
		"map puts over 1000 keys":  func() [][]byte { return mapHistory(20_000) },
		"typing":                   func() [][]byte { return typedHistory(20_000) },
		"random edits in 10k text": func() [][]byte { return randomTextHistory(10_000, 20_000) },
	} {
		b.Run(name, func(b *testing.B) {
			chunks := history()
			raw := 0
			for _, c := range chunks {
				raw += len(c)
			}
			var per float64
			for b.Loop() {
				before := heap()
				d := automerge.NewDoc()
				for _, c := range chunks {
					if err := d.Replay(decode(b, c)); err != nil {
						b.Fatal(err)
					}
				}
				per = float64(heap()-before) / float64(len(chunks))
				runtime.KeepAlive(d)
			}
			b.ReportMetric(per, "B/change")
			b.ReportMetric(float64(raw)/float64(len(chunks)), "rawB/change")
		})
	}
	b.Run("idle small document", func(b *testing.B) {
		chunk := automergetest.NewAuthor(strings.Repeat("a1", 16)).Change(automerge.NewDoc(),
			automergetest.Put("a position report", "kind"), automergetest.Put(map[string]any{"lat": 1.5, "lon": 2.5, "at": 9}, "fix"))
		const n = 5000
		var per float64
		for b.Loop() {
			before := heap()
			docs := make([]*automerge.Doc, n)
			for i := range docs {
				docs[i] = automerge.NewDoc()
				automergetest.Replay(docs[i], chunk)
			}
			per = float64(heap()-before) / n
			runtime.KeepAlive(docs)
		}
		b.ReportMetric(per, "B/doc")
	})
}

func BenchmarkSyncInStep(b *testing.B) {
	chunks := mapHistory(20_000)
	d := automerge.NewDoc()
	automergetest.Replay(d, chunks...)
	s := automerge.NewSyncState()
	d.GenerateSync(s, nil)
	d.ReceiveSync(s, &automerge.SyncMessage{Heads: d.Heads(), Have: []automerge.Have{{LastSync: d.Heads()}}})
	a := automergetest.NewAuthor("bb")
	for b.Loop() {
		a.Commit(d, automergetest.Put(1, "k"))
		m := d.GenerateSync(s, nil)
		if m == nil || len(m.Changes) != 1 {
			b.Fatalf("%+v", m)
		}
		d.ReceiveSync(s, &automerge.SyncMessage{Heads: d.Heads(), Have: []automerge.Have{{LastSync: d.Heads()}}})
	}
}
