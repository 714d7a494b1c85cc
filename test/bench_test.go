package test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// BenchmarkGateway measures a whole gateway, once, and prints a table: `make
// bench`. It runs on SQLite, or on Postgres with PEAT_BENCH_POSTGRES=1. PEAT_BENCH
// names the parts to run, if not all: "latency", "delivery/nats delivery/file".
func BenchmarkGateway(b *testing.B) {
	var env []string
	engine := "sqlite"
	if os.Getenv("PEAT_BENCH_POSTGRES") == "1" {
		env, engine = append(env, "PEAT_DATABASE_URL="+testenv.Postgres(b)), "postgres"
	}
	var out table
	out.row("store", engine, "")
	for _, part := range []struct {
		name string
		run  func(*testing.B, *table, []string)
	}{
		{"capture", benchCapture}, {"delivery", benchDelivery}, {"latency", benchLatency}, {"fairness", benchFairness}, {"memory", benchMemory},
		{"scale", benchScale}, {"lists", benchLists}, {"catch-up", benchCatchUp}, {"issue", benchIssue}, {"enroll", benchEnroll}, {"renewals", benchRenewals},
	} {
		if only := os.Getenv("PEAT_BENCH"); only == "" || strings.Contains(only, part.name) {
			part.run(b, &out, env)
		}
	}
	fmt.Printf("\n%s\n", out.text())
	for b.Loop() { // everything is measured above; the framework wants a loop
	}
}

type table struct{ rows [][3]string }

func (t *table) row(what, value, note string) {
	t.rows = append(t.rows, [3]string{what, value, note})
	fmt.Fprintf(os.Stderr, "  %s: %s  %s\n", what, value, note)
}

func (t *table) text() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measured\tvalue\t")
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r[0], r[1], r[2])
	}
	w.Flush()
	return out.String()
}

// history is a document's changes as one author made them.
type history struct {
	id     string
	chunks [][]byte
	hashes [][32]byte
}

// histories makes documents of a few kinds of edits: what is typical of small
// records with some text and a list.
func histories(documents, changes int) []history {
	out := make([]history, documents)
	for d := range out {
		sum := sha256.Sum256([]byte(fmt.Sprintf("bench document %d of %d", d, documents)))
		h := history{id: string(automerge.NewDocumentID([16]byte(sum[:])))}
		doc := automerge.NewDoc()
		author := automergetest.NewAuthor(fmt.Sprintf("%032x", d+1))
		for c := range changes {
			var edit automergetest.Edit
			switch {
			case c == 0:
				edit = automergetest.Put(map[string]any{
					"name": "unit", "count": automergetest.Counter(0), "log": automergetest.Text(""), "items": []any{},
				}, "unit")
			case c%4 == 1:
				edit = automergetest.Put(float64(c)/7, "unit", "fuel")
			case c%4 == 2:
				edit = automergetest.Increment(1, "unit", "count")
			case c%4 == 3:
				edit = automergetest.Splice(0, "seen ", "unit", "log", 0)
			default:
				edit = automergetest.Insert(c, "unit", "items", 0)
			}
			chunk := author.Commit(doc, edit)
			h.chunks = append(h.chunks, chunk)
			h.hashes = append(h.hashes, sha256.Sum256(chunk[8:]))
		}
		out[d] = h
	}
	return out
}

// bring is a sync message that brings chunks and claims the last as its head.
func bring(head [32]byte, chunks ...[]byte) []byte {
	b := append([]byte{0x42, 1}, head[:]...)
	return append(b, message(chunks...)[2:]...)
}

// headsOf reads the heads of a sync message, which its sender has stored.
func headsOf(data []byte) [][32]byte {
	if len(data) < 2 || data[0] != 0x42 {
		return nil
	}
	n, size := binary.Uvarint(data[1:])
	data = data[1+size:]
	var heads [][32]byte
	for range n {
		if len(data) < 32 {
			return nil
		}
		heads = append(heads, [32]byte(data))
		data = data[32:]
	}
	return heads
}

// acknowledged calls seen for each head that the gateway claims to have stored,
// until the session ends.
func acknowledged(s *session, seen func(head [32]byte)) {
	for m := range s.frames {
		data, _ := m["data"].([]byte)
		for _, h := range headsOf(data) {
			seen(h)
		}
	}
}

// benchCapture: how many changes a second are stored, from one peer with the
// backlog of a day: many documents, changes in bundles.
func benchCapture(b *testing.B, t *table, env []string) {
	const documents, changes, bundle = 100, 100, 20
	g := startGateway(b, options{env: env})
	formation := g.formation("acme", "capture")
	made := histories(documents, changes)
	s := join(b, g.ticket(formation, nil).URL, "bench")

	wanted := map[[32]byte]bool{}
	for _, h := range made {
		wanted[h.hashes[changes-1]] = true
	}
	done := make(chan struct{})
	go acknowledged(s, func(head [32]byte) {
		if delete(wanted, head); len(wanted) == 0 {
			select {
			case <-done:
			default:
				close(done)
			}
		}
	})
	begin := time.Now()
	for at := 0; at < changes; at += bundle {
		for _, h := range made {
			last := at + bundle - 1
			if err := s.sync(h.id, bring(h.hashes[last], h.chunks[at:last+1]...)); err != nil {
				b.Fatal(err)
			}
		}
	}
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		b.Fatalf("not all changes were acknowledged; the session: %v", s.ended())
	}
	took := time.Since(begin)
	n := documents * changes
	t.row("capture", fmt.Sprintf("%.0f changes/s", float64(n)/took.Seconds()), fmt.Sprintf("%d changes of %d documents, bundles of %d", n, documents, bundle))
}

// benchMemory: what a document costs that a connected peer has synced and nobody
// touches any more.
func benchMemory(b *testing.B, t *table, env []string) {
	const documents, changes = 2000, 10
	g := startGateway(b, options{env: append(env, "PEAT_DOCUMENT_IDLE=1s", "GOGC=10")})
	formation := g.formation("acme", "memory")
	s := join(b, g.ticket(formation, nil).URL, "bench")
	live := func() int { // the smallest heap seen, garbage being collected early
		least := 0
		for range 60 {
			if n := g.metric("go_memstats_heap_alloc_bytes"); least == 0 || n < least {
				least = n
			}
			time.Sleep(50 * time.Millisecond)
		}
		return least
	}
	before := live()
	var stored atomic.Int64
	last := map[[32]byte]bool{}
	made := histories(documents, changes)
	for _, h := range made {
		last[h.hashes[changes-1]] = true
	}
	go acknowledged(s, func(head [32]byte) {
		if last[head] {
			last[head] = false
			stored.Add(1)
		}
	})
	for _, h := range made {
		if err := s.sync(h.id, bring(h.hashes[changes-1], h.chunks...)); err != nil {
			b.Fatal(err)
		}
	}
	within(b, time.Minute, "all documents stored", func() (bool, string) {
		return stored.Load() == documents, fmt.Sprint(stored.Load())
	})
	time.Sleep(8 * time.Second) // idle, and let go
	after := live()
	t.row("memory per idle document", fmt.Sprintf("%d bytes", max(0, after-before)/documents),
		fmt.Sprintf("%d documents of %d changes, their peer connected; heap %d kB before, %d kB after", documents, changes, before>>10, after>>10))
}

// metric reads one value from /metrics.
func (g *gateway) metric(name string) int {
	g.t.Helper()
	status, body := g.call("GET", "/metrics", nil, nil)
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return int(f)
		}
	}
	g.t.Fatalf("/metrics (status %d) has no %s", status, name)
	return 0
}
