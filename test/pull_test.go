package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestPull: while peers edit and the gateway is killed once, one receiver waits
// for pages and acknowledges them, and another listens to a stream and resumes it.
// Each gets every change.
func TestPull(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: takes ten seconds")
	}
	testenv.Node(t)
	_, seed := seeded(t)
	g := startGateway(t, options{})
	formation := g.formation("acme", "logistics")
	g.do("PUT", formation+"/cdc/consumers/billing", map[string]any{"start": "beginning", "format": "both"}, nil, 201)

	// Changes come for four seconds or so, so that both have to wait for some.
	const changes = 240
	p := startPeers(t, peersJob{URLs: g.urls(formation, 2), Documents: 8, Changes: changes, Rate: 80, Seed: seed, TimeoutS: 60})
	var polled, streamed pulled
	var wg sync.WaitGroup
	same := g.with(t) // restarting writes to g
	wg.Go(func() { same.pollAll(&polled, formation, changes) })
	wg.Go(func() { same.streamAll(&streamed, formation, changes) })
	within(t, 30*time.Second, "the first events", func() (bool, string) {
		return polled.len() > changes/10 && streamed.len() > changes/10, fmt.Sprintf("%d polled, %d streamed", polled.len(), streamed.len())
	})
	g.kill()
	g.start()

	r := p.wait(time.Minute)
	if r.count() != changes {
		t.Fatalf("the peers made %d changes", r.count())
	}
	wg.Wait()
	byPoll, byStream := check(r, "acme", "logistics", polled.got), check(r, "acme", "logistics", streamed.got)
	byPoll.mustHold(t, "long poll")
	byStream.mustHold(t, "stream")
	mustAgree(t, byPoll, byStream)
	for i, e := range byStream.first {
		if e.Data.Position != uint64(i)+1 {
			t.Fatalf("event %d of the stream has position %d", i, e.Data.Position)
		}
	}
	if byStream.duplicates > 0 {
		t.Errorf("%d events came twice to a client that resumed by id", byStream.duplicates)
	}
	var consumer struct {
		Position int `json:"position"`
		Lag      struct {
			Events int `json:"events"`
		} `json:"lag"`
	}
	if g.do("GET", formation+"/cdc/consumers/billing", nil, &consumer, 200); consumer.Position != changes || consumer.Lag.Events != 0 {
		t.Errorf("the consumer is at %d, %d behind", consumer.Position, consumer.Lag.Events)
	}
	t.Logf("%d pages and %d streams; %d events came twice by page", polled.requests, streamed.requests, byPoll.duplicates)
}

// TestAStreamDoesNotHoldUpTheEnd: a process that is told to stop ends its streams,
// whole, and does not wait for their readers.
func TestAStreamDoesNotHoldUpTheEnd(t *testing.T) {
	g := startGateway(t, options{})
	formation := g.formation("acme", "logistics")
	req, err := http.NewRequestWithContext(t.Context(), "GET", g.url+formation+"/cdc/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := g.interrupt(15 * time.Second); err != nil { // readers are waited for for 20 s
		t.Error(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.HasPrefix(b, []byte("retry: ")) {
		t.Errorf("the stream ended with %v after %q", err, b)
	}
}

// pulled is what a receiver that fetches has got.
type pulled struct {
	mu       sync.Mutex
	got      []delivery
	ids      map[string]bool
	requests int
}

func (p *pulled) add(event []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var e changed
	if p.ids == nil {
		p.ids = map[string]bool{}
	}
	if json.Unmarshal(event, &e) == nil {
		p.ids[e.ID] = true
	}
	p.got = append(p.got, delivery{body: bytes.Clone(event)})
}

// len counts each event once.
func (p *pulled) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ids)
}

// pollAll fetches from the consumer until it has n events, acknowledging each page.
func (g *gateway) pollAll(p *pulled, formation string, n int) {
	const consumer = "/cdc/consumers/billing"
	for deadline := time.Now().Add(time.Minute); p.len() < n && time.Now().Before(deadline); {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		status, _ := g.call("GET", formation+consumer+"/events?wait=10s&limit=50", nil, &page)
		if status != 200 {
			time.Sleep(20 * time.Millisecond) // it is being killed and started
			continue
		}
		p.requests++
		for _, e := range page.Items {
			p.add(e)
		}
		for status = 0; status != 200 && time.Now().Before(deadline); {
			status, _ = g.call("POST", formation+consumer+"/ack", map[string]string{"cursor": page.Next}, nil)
		}
	}
}

// streamAll listens until it has n events, and connects again when the stream ends.
func (g *gateway) streamAll(p *pulled, formation string, n int) {
	last := ""
	for deadline := time.Now().Add(time.Minute); p.len() < n && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		req, err := http.NewRequestWithContext(g.t.Context(), "GET", g.url+formation+"/cdc/stream?format=both", nil)
		if err != nil {
			g.t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		p.requests++
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		id := ""
		for p.len() < n && lines.Scan() {
			if text, ok := bytes.CutPrefix(lines.Bytes(), []byte("id: ")); ok {
				id = string(text)
			}
			if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: ")); ok {
				p.add(data)
				last = id // only now: what broke off in between is to come again
			}
		}
		_ = resp.Body.Close()
	}
}
