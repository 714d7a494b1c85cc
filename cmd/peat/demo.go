package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// demonstration is what `make run` shows: an organization with a formation, two
// sinks, and a peer whose edits arrive in both. Everything is made through the
// API, as a newcomer would; what is there from last time is used again.
type demonstration struct {
	url, token, nats, data string
	out                    io.Writer
	mu                     sync.Mutex
}

const (
	demoOrg       = "acme"
	demoFormation = "logistics"
	demoFile      = "logistics.ndjson"
	demoPrefix    = "cdc"
	demoShown     = 12 // events that are shown one by one; later ones are counted
)

// start runs the demonstration until the context ends; the returned function
// waits for its end.
func (d *demonstration) start(ctx context.Context) func() {
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.run(ctx); err != nil && ctx.Err() == nil {
			d.say("The demonstration stopped: %v", err)
		}
	})
	return wg.Wait
}

func (d *demonstration) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}

func (d *demonstration) run(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	ticket, err := d.ticket(ctx)
	if err != nil {
		return err
	}
	d.say(`
peat-gateway is running.

  API          %[1]s
  admin token  %[2]s
  NATS         %[3]s
  file sink    %[4]s
  NATS subject %[5]s.%[6]s.%[7]s.<document>
  log          %[8]s

To use the API from another terminal:

  export PEAT=%[1]s TOKEN=%[2]s

To connect a peer of your own (automerge-repo's WebSocketClientAdapter takes this address; good for a day):

  %[9]s

Ctrl-C ends it; the next start goes on where this one was. First events:
`, d.url, d.token, d.nats, filepath.Join(d.data, "sinks", demoFile), demoOrg, demoPrefix, demoFormation,
		filepath.Join(d.data, "gateway.log"), ticket)

	stopNATS, err := d.listenNATS()
	if err != nil {
		return err
	}
	defer stopNATS()
	own, err := d.ticket(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { d.follow(ctx, filepath.Join(d.data, "sinks", demoFile)) })
	return d.peer(ctx, own)
}

// prepare makes what is not there yet.
func (d *demonstration) prepare(ctx context.Context) error {
	formation := "/orgs/" + demoOrg + "/formations"
	sinks := formation + "/" + demoFormation + "/cdc/sinks"
	for _, step := range []struct {
		path string
		body any
	}{
		{"/orgs", map[string]any{"org_id": demoOrg, "display_name": "Acme"}},
		{formation, map[string]any{"app_id": demoFormation, "enrollment_policy": "controlled"}},
	} {
		status, err := d.call(ctx, http.MethodPost, step.path, step.body, nil)
		if err != nil && status != http.StatusConflict {
			return err
		}
	}
	var have struct {
		Items []struct {
			Kind string `json:"kind"`
		} `json:"items"`
	}
	if _, err := d.call(ctx, http.MethodGet, sinks+"?limit=200", nil, &have); err != nil {
		return err
	}
	kinds := map[string]bool{}
	for _, s := range have.Items {
		kinds[s.Kind] = true
	}
	for kind, config := range map[string]map[string]any{
		"file": {"path": demoFile},
		"nats": {"subject_prefix": demoPrefix},
	} {
		if kinds[kind] {
			continue
		}
		if _, err := d.call(ctx, http.MethodPost, sinks, map[string]any{"kind": kind, "config": config, "start": "beginning"}, nil); err != nil {
			return err
		}
	}
	return nil
}

// ticket returns an address that a peer can connect to.
func (d *demonstration) ticket(ctx context.Context) (string, error) {
	var ticket struct {
		URL string `json:"url"`
	}
	_, err := d.call(ctx, http.MethodPost, "/orgs/"+demoOrg+"/formations/"+demoFormation+"/sync-tickets",
		map[string]any{"ttl_seconds": 24 * 60 * 60}, &ticket)
	return ticket.URL, err
}

func (d *demonstration) call(ctx context.Context, method, path string, in, out any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return resp.StatusCode, err
	}
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, fmt.Errorf("%s %s answered %d: %s", method, path, resp.StatusCode, text)
	}
	if out != nil {
		err = json.Unmarshal(text, out)
	}
	return resp.StatusCode, err
}

// peer runs the demonstration's peer, a program of its own: it is built on the
// Automerge library for Go, which the gateway does without.
func (d *demonstration) peer(ctx context.Context, address string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program := filepath.Join(filepath.Dir(self), "demo-peer")
	if _, err := os.Stat(program); err != nil {
		d.say("There is no %s, so nobody edits. `make bin/demo-peer` builds it; or connect a peer of your own.", program)
		<-ctx.Done()
		return nil
	}
	log, err := os.OpenFile(filepath.Join(d.data, "demo-peer.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(ctx, program, "--data", filepath.Join(d.data, "demo-peer"))
	// The address holds the ticket: arguments can be seen by every user of a machine.
	cmd.Env = append(os.Environ(), "PEAT_DEMO_URL="+address)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil // ended because we did
	}
	return fmt.Errorf("the demonstration's peer ended (%v); see %s", err, log.Name())
}

// shownEvent is the part of an event that is shown.
type shownEvent struct {
	Subject string `json:"subject"`
	Data    struct {
		Seq     uint64            `json:"seq"`
		Hash    string            `json:"change_hash"`
		Patches []json.RawMessage `json:"patches"`
	} `json:"data"`
}

func (d *demonstration) show(where string, n int, line []byte) {
	var e shownEvent
	if json.Unmarshal(line, &e) != nil || len(e.Data.Hash) < 12 {
		return
	}
	switch {
	case n <= demoShown:
		first := "{}"
		if len(e.Data.Patches) > 0 {
			first = string(e.Data.Patches[0])
		}
		if len(first) > 70 {
			first = first[:70] + "…"
		}
		d.say("  %-4s  %.8s…  seq %-4d  change %.12s  %2d patches  %s", where, e.Subject, e.Data.Seq, e.Data.Hash, len(e.Data.Patches), first)
	case n%100 == 0:
		d.say("  %-4s  %d events so far", where, n)
	}
}

// follow shows what is added to the file from now on.
func (d *demonstration) follow(ctx context.Context, path string) {
	var file *os.File
	var lines *bufio.Reader
	var rest []byte
	began := time.Now()
	for n := 0; ; {
		if file == nil {
			if f, err := os.Open(path); err == nil {
				file = f
				defer func() { _ = f.Close() }()
				// A file from last time is read from its end.
				if info, err := f.Stat(); err == nil && info.ModTime().Before(began) {
					_, _ = f.Seek(0, io.SeekEnd)
				}
				lines = bufio.NewReader(f)
			}
		}
		for file != nil {
			part, err := lines.ReadBytes('\n')
			rest = append(rest, part...)
			if err != nil {
				break
			}
			n++
			d.show("file", n, rest)
			rest = rest[:0]
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// listenNATS shows what arrives on the NATS subject.
func (d *demonstration) listenNATS() (func(), error) {
	conn, err := nats.Connect(d.nats)
	if err != nil {
		return nil, err
	}
	n := 0
	if _, err := conn.Subscribe(demoOrg+"."+demoPrefix+"."+demoFormation+".>", func(m *nats.Msg) {
		n++
		d.show("nats", n, m.Data)
	}); err != nil {
		conn.Close()
		return nil, err
	}
	return conn.Close, nil
}
