package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// peers is a run of test/js/peers.mjs.
type peers struct {
	t      testing.TB
	report string
	out    *tail
	made   chan int      // changes made so far, now and then
	edited chan struct{} // closed when all changes are made
	done   chan struct{} // closed when the peers have ended
	err    error         // valid after done
}

type peersJob struct {
	URLs      []string `json:"urls"`
	Documents int      `json:"documents"`
	Changes   int      `json:"changes"`
	Rate      int      `json:"rate,omitempty"`
	Seed      uint64   `json:"seed"`
	TimeoutS  int      `json:"timeout_s"`
	Report    string   `json:"report"`
}

func startPeers(t testing.TB, job peersJob) *peers {
	t.Helper()
	if job.Report == "" {
		job.Report = filepath.Join(testenv.Dir(t), "report.json")
	}
	p := &peers{t: t, report: job.Report, out: &tail{}, made: make(chan int, 10_000), edited: make(chan struct{}), done: make(chan struct{})}
	input, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "peers.mjs")
	cmd.Dir = testenv.Node(t)
	cmd.Stdin = bytes.NewReader(append(input, '\n'))
	cmd.Stderr = writer(func(s string) { p.out.add("stderr: " + s) })
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		var once sync.Once
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e struct {
				Event string `json:"event"`
				Made  int    `json:"made"`
			}
			if json.Unmarshal(lines.Bytes(), &e) != nil {
				p.out.add(lines.Text())
				continue
			}
			switch e.Event {
			case "change":
				p.made <- e.Made
				continue
			case "edited":
				once.Do(func() { close(p.edited) })
			}
			p.out.add(lines.Text())
		}
		p.err = cmd.Wait()
		once.Do(func() { close(p.edited) })
	}()
	return p
}

// wait returns the report of peers that ended in agreement.
func (p *peers) wait(limit time.Duration) report {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("the peers have not ended within %s:\n%s", limit, p.out)
	}
	if p.err != nil {
		p.t.Fatalf("the peers: %v\n%s", p.err, p.out)
	}
	b, err := os.ReadFile(p.report)
	if err != nil {
		p.t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

type writer func(string)

func (w writer) Write(b []byte) (int, error) {
	w(strings.TrimSpace(string(b)))
	return len(b), nil
}

// sinks3 is the three ways out that most tests use: a webhook, a NATS stream and
// a file, each with every change from the beginning, raw and as patches.
type sinks3 struct {
	g         *gateway
	formation string
	hook      *webhook
	hookSink  sink
}

const (
	natsStream = "PEATTEST"
	sinkFile   = "changes.ndjson"
)

func threeSinks(t testing.TB, g *gateway, formation string, fateOf func([]byte) fate) *sinks3 {
	t.Helper()
	s := &sinks3{g: g, formation: formation, hook: newWebhook(t, fateOf)}
	s.hookSink = g.sink(formation, "webhook", map[string]any{"url": s.hook.URL})
	s.hook.verify(t, s.hookSink.Secret)
	g.sink(formation, "nats", map[string]any{"subject_prefix": "peat", "stream": natsStream})
	g.sink(formation, "file", map[string]any{"path": sinkFile})
	return s
}

// wait waits until each of the three has n different events.
func (s *sinks3) wait(t testing.TB, n int, limit time.Duration) {
	t.Helper()
	within(t, limit, fmt.Sprintf("%d events at three sinks", n), func() (bool, string) {
		hook, file := s.hook.count(), fileCount(s.g.sinkFile(sinkFile))
		stream, err := natsCount(s.g.natsURL, natsStream)
		if hook >= n && file >= n && stream >= n {
			return true, ""
		}
		time.Sleep(200 * time.Millisecond)
		return false, fmt.Sprintf("webhook %d, file %d, nats %d (%v); sinks: %s", hook, file, stream, err, s.g.lags(t, s.formation))
	})
	time.Sleep(time.Second) // what should not come has a moment to come
}

// judge checks what the three sinks received.
func (s *sinks3) judge(t testing.TB, r report, org, app string) []changed {
	t.Helper()
	hook := check(r, org, app, s.hook.deliveries(t))
	hook.mustHold(t, "webhook")
	stream := check(r, org, app, natsDeliveries(t, s.g.natsURL, natsStream))
	stream.mustHold(t, "nats")
	file := check(r, org, app, fileDeliveries(t, s.g.sinkFile(sinkFile)))
	file.mustHold(t, "file")
	mustAgree(t, hook, stream)
	mustAgree(t, hook, file)
	return hook.first
}

// mustMatchLibrary compares every event's patches with those that the JavaScript
// library reports for that change.
func mustMatchLibrary(t testing.TB, r report, events []changed) {
	t.Helper()
	var in bytes.Buffer
	for _, e := range events {
		line, err := json.Marshal(map[string]any{
			"document_id": e.Data.Document, "seq": e.Data.Seq, "change": e.Data.Change, "patches": e.Data.Patches,
		})
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), "node", "patches.mjs")
	cmd.Dir = testenv.Node(t)
	cmd.Stdin = &in
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var summary struct {
		Changes   int                 `json:"changes"`
		Different int                 `json:"different"`
		Patches   int                 `json:"patches"`
		Heads     map[string][]string `json:"heads"`
	}
	if json.Unmarshal(lines[len(lines)-1], &summary) != nil || summary.Changes != len(events) {
		t.Fatalf("patches.mjs: %v\n%s", err, out)
	}
	t.Logf("%d patches of %d changes compared with the library's: %d changes differ", summary.Patches, summary.Changes, summary.Different)
	if summary.Different > 0 {
		for _, line := range lines[:min(5, len(lines)-1)] {
			t.Errorf("patches differ: %.2000s", line)
		}
		t.Errorf("patches of %d changes differ from the library's", summary.Different)
	}
	for id, d := range r.Documents {
		if fmt.Sprint(summary.Heads[id]) != fmt.Sprint(d.Heads) {
			t.Errorf("document %s: the events lead to heads %v, the peers have %v", id, summary.Heads[id], d.Heads)
		}
	}
}

// urls makes a ticket for each of n peers.
func (g *gateway) urls(formation string, n int) []string {
	g.t.Helper()
	urls := make([]string, n)
	for i := range urls {
		urls[i] = g.ticket(formation, map[string]any{"ttl_seconds": 3600}).URL
	}
	return urls
}

// TestRealPeers: three automerge-repo clients edit fifty documents two thousand
// times, and each change reaches each sink: in order, once, with the patches the
// library itself has for it.
func TestRealPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: takes a minute")
	}
	testenv.Node(t)
	_, seed := seeded(t)
	g := startGateway(t, options{})
	formation := g.formation("acme", "logistics")
	sinks := threeSinks(t, g, formation, always(take))

	p := startPeers(t, peersJob{URLs: g.urls(formation, 3), Documents: 50, Changes: 2000, Seed: seed, TimeoutS: 120})
	r := p.wait(4 * time.Minute)
	if r.count() != 2000 || len(r.Documents) != 50 {
		t.Fatalf("the peers made %d changes in %d documents", r.count(), len(r.Documents))
	}
	sinks.wait(t, r.count(), 2*time.Minute)
	events := sinks.judge(t, r, "acme", "logistics")
	mustMatchLibrary(t, r, events)

	concurrent := 0
	for _, e := range events {
		if e.Data.Concurrent {
			concurrent++
		}
	}
	t.Logf("%d of %d changes were concurrent with the one before", concurrent, len(events))
	if concurrent < 50 {
		t.Errorf("only %d concurrent changes: the run shows little", concurrent)
	}
	for _, s := range g.sinks(formation) {
		if s.State != "active" || s.Lag.Events != 0 {
			t.Errorf("sink %s is %s and %d events behind", s.Kind, s.State, s.Lag.Events)
		}
	}
}

func (g *gateway) sinks(formation string) []sink {
	g.t.Helper()
	var page struct {
		Items []sink `json:"items"`
	}
	g.do("GET", formation+"/cdc/sinks", nil, &page, 200)
	return page.Items
}
