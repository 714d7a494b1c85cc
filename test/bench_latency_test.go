package test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// benchLatency: at 1,000 changes a second, one at a time on many documents, how
// long until the peer is told that a change is stored, and from there until a
// webhook has it.
func benchLatency(b *testing.B, t *table, env []string) {
	g := startGateway(b, options{env: env})
	formation := g.formation("acme", "latency")
	l := measureLatency(b, g, formation, 50, 1000, 10*time.Second)
	t.row("received → acknowledged to the peer", l.stored.String(), l.note)
	t.row("in the log → at a webhook", l.delivered.String(), l.note)
}

// latency is what a steady stream of changes met.
type latency struct {
	stored, delivered distribution
	note              string
}

// measureLatency sends changes evenly to a formation that has one webhook. How many
// documents there are decides which they are, so one number is good for one time.
func measureLatency(b *testing.B, g *gateway, formation string, documents, perSecond int, during time.Duration) latency {
	b.Helper()
	changes := int(during.Seconds()) * perSecond / documents
	made := histories(documents, changes)
	s := join(b, g.ticket(formation, nil).URL, "bench")

	var mu sync.Mutex
	sent, stored, arrived := map[[32]byte]time.Time{}, map[[32]byte]time.Duration{}, map[[32]byte]time.Duration{}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		now := time.Now()
		hash, at := field(body, `"change_hash":"`), field(body, `"time":"`)
		logged, err := time.Parse(time.RFC3339Nano, string(at))
		if len(hash) == 64 && err == nil {
			var h [32]byte
			_, _ = hex.Decode(h[:], hash)
			mu.Lock()
			if _, again := arrived[h]; !again {
				arrived[h] = now.Sub(logged)
			}
			mu.Unlock()
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	var hook sink
	g.do("POST", formation+"/cdc/sinks", map[string]any{"kind": "webhook", "config": map[string]any{"url": receiver.URL}, "start": "now"}, &hook, 201)
	go acknowledged(s, func(head [32]byte) {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		if at, ok := sent[head]; ok {
			if _, again := stored[head]; !again {
				stored[head] = now.Sub(at)
			}
		}
	})
	begin := time.Now()
	n := documents * changes
	for i := range n {
		h := made[i%documents]
		c := i / documents
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		mu.Lock()
		sent[h.hashes[c]] = time.Now()
		mu.Unlock()
		if err := s.sync(h.id, bring(h.hashes[c], h.chunks[c])); err != nil {
			b.Fatal(err)
		}
	}
	sending := time.Since(begin)
	within(b, time.Minute, "the last change", func() (bool, string) {
		mu.Lock()
		defer mu.Unlock()
		return len(arrived) == n, fmt.Sprintf("%d stored, %d arrived of %d", len(stored), len(arrived), n)
	})
	g.do("DELETE", formation+"/cdc/sinks/"+hook.ID, nil, nil, 204)
	mu.Lock()
	defer mu.Unlock()
	return latency{sorted(stored), sorted(arrived), fmt.Sprintf("%d changes at %.0f/s; %d heads acknowledged singly", n, float64(n)/sending.Seconds(), len(stored))}
}

// field is what stands behind a mark in an event, up to the next quote.
func field(body []byte, mark string) []byte {
	_, after, ok := bytes.Cut(body, []byte(mark))
	if !ok {
		return nil
	}
	value, _, _ := bytes.Cut(after, []byte(`"`))
	return value
}

type distribution []time.Duration

func sorted(of map[[32]byte]time.Duration) distribution {
	var all distribution
	for _, d := range of {
		all = append(all, d)
	}
	slices.Sort(all)
	return all
}

func (d distribution) at(percent int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return d[min(len(d)-1, len(d)*percent/100)].Round(100 * time.Microsecond)
}

func (d distribution) String() string {
	if len(d) == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s, p99 %s", d.at(50), d.at(99))
}

// benchFairness: what an organization with a million events behind does to the
// latency of another one. Both are measured in turns on the same gateway.
func benchFairness(b *testing.B, t *table, env []string) {
	const behind = 1_000_000
	g := startGateway(b, options{env: env})
	g.roomy("whale")
	g.roomy("minnow")
	whale := g.formation("whale", "log")
	minnow := g.formation("minnow", "log")
	fill(b, g, env, []tenant.Key{{Org: "whale", App: "log"}}, 5000, behind)
	server := startNATSServer(b)
	const rounds = 3
	var alone, beside []time.Duration
	note := ""
	for n := range rounds {
		alone = append(alone, measureLatency(b, g, minnow, 50+2*n, 200, 10*time.Second).delivered.at(99))
		s := g.sink(whale, "nats", map[string]any{"url": server, "subject_prefix": fmt.Sprint("whale", n), "stream": fmt.Sprint("WHALE", n)})
		beside = append(beside, measureLatency(b, g, minnow, 51+2*n, 200, 10*time.Second).delivered.at(99))
		var got sink
		g.do("GET", whale+"/cdc/sinks/"+s.ID, nil, &got, 200)
		note = fmt.Sprintf("%d events of the other were left", got.Lag.Events)
		if got.Lag.Events == 0 || got.Lag.Events == behind {
			b.Error("the other organization had caught up, or got nothing; the comparison means nothing")
		}
		g.do("DELETE", whale+"/cdc/sinks/"+s.ID, nil, nil, 204)
	}
	t.row("p99 beside an organization a million events behind", fmt.Sprintf("%.2f times", float64(median(beside))/float64(median(alone))),
		fmt.Sprintf("200 changes/s; alone %v, beside %v; %s", alone, beside, note))
}
