//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// syncServer is test/js/server.mjs, the real library's own server.
type syncServer struct {
	t    *testing.T
	url  string
	in   io.Writer
	out  *bufio.Reader
	stop func()
}

type served struct {
	Peers     []string `json:"peers"`
	Documents map[string]struct {
		Heads   []string `json:"heads"`
		Changes []struct {
			Actor string `json:"actor"`
			Time  int64  `json:"time"`
		} `json:"changes"`
		JSON map[string]any `json:"json"`
	} `json:"documents"`
}

func startServer(t *testing.T, port string) *syncServer {
	t.Helper()
	cmd := exec.Command("node", "server.mjs", port)
	cmd.Dir = testenv.Node(t)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &syncServer{t: t, in: in, out: bufio.NewReader(out)}
	s.stop = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(s.stop)
	var hello struct{ URL string }
	line, err := s.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &hello)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.url = hello.URL
	return s
}

func (s *syncServer) documents() served {
	s.t.Helper()
	fmt.Fprintln(s.in)
	line, err := s.out.ReadBytes('\n')
	var d served
	if err == nil {
		err = json.Unmarshal(line, &d)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (d served) changes() (n int) {
	for _, doc := range d.Documents {
		n += len(doc.Changes)
	}
	return n
}

// until waits for the server to hold n changes.
func (s *syncServer) until(n int) served {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		d := s.documents()
		if d.changes() >= n {
			return d
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server has %d changes, want %d", d.changes(), n)
		}
	}
}

// start runs a peer; what it returns ends it.
func start(t *testing.T, url, dir string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, slog.New(slog.DiscardHandler), url, dir, 10*time.Millisecond) }()
	return func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("peer: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the peer does not end")
		}
	}
}

func TestPeerWithTheRealLibrary(t *testing.T) {
	server := startServer(t, "0")
	dir := t.TempDir()
	stop := start(t, server.url+"/?ticket=secret", dir)
	first := server.until(60)
	stop()

	if len(first.Peers) != 1 || !strings.HasPrefix(first.Peers[0], "demo-") {
		t.Errorf("the server sees peers %v", first.Peers)
	}
	if len(first.Documents) != len(kinds()) {
		t.Errorf("%d documents, want %d", len(first.Documents), len(kinds()))
	}
	now := time.Now().Unix()
	for id, d := range first.Documents {
		for _, c := range d.Changes {
			if c.Time < now-3600 || c.Time > now+3600 {
				t.Errorf("document %s: a change's time is %d, not in seconds", id, c.Time)
				break
			}
		}
	}

	t.Run("resumes its documents", func(t *testing.T) {
		before := server.documents()
		stop := start(t, server.url, dir)
		after := server.until(before.changes() + 40)
		stop()
		if len(after.Documents) != len(before.Documents) {
			t.Errorf("%d documents, before there were %d", len(after.Documents), len(before.Documents))
		}
		for id, d := range after.Documents {
			if len(d.Changes) < len(before.Documents[id].Changes) {
				t.Errorf("document %s has %d changes, before it had %d", id, len(d.Changes), len(before.Documents[id].Changes))
			}
		}
	})
	t.Run("finds a server that was away", func(t *testing.T) {
		stop := start(t, server.url, dir)
		defer stop()
		before := server.documents().changes()
		port := server.url[strings.LastIndex(server.url, ":")+1:]
		server.stop()
		time.Sleep(300 * time.Millisecond)
		again := startServer(t, port) // it has forgotten everything
		again.until(before + 20)
	})
}

// TestEdits runs every kind of edit often, so that none has a state in which it
// fails.
func TestEdits(t *testing.T) {
	lib, err := openLibrary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := editor{rng: rand.New(rand.NewPCG(1, 0))}
	said := map[string]bool{}
	for range 1500 {
		_, message, err := e.edit(lib)
		if err != nil {
			t.Fatal(err)
		}
		said[message] = true
	}
	if len(said) < 60 {
		t.Errorf("only %d different things were done", len(said))
	}
	if err := lib.save(); err != nil {
		t.Fatal(err)
	}
	again, err := openLibrary(lib.dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.peer != lib.peer || len(again.documents) != len(lib.documents) {
		t.Errorf("peer %s with %d documents, was %s with %d", again.peer, len(again.documents), lib.peer, len(lib.documents))
	}
	for _, d := range lib.documents {
		if got := again.find(d.id); got == nil || fmt.Sprint(got.doc.Heads()) != fmt.Sprint(d.doc.Heads()) {
			t.Errorf("document %s did not come back as it was", d.id)
		}
	}
	l := lib.current("log")
	l.changes = maxChanges
	if lib.current("log") != nil {
		t.Error("a document that has had enough is edited on")
	}
}

func TestTicketStaysSecret(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	address := "ws://127.0.0.1:1/sync?ticket=top%2Fsecret"
	run(ctx, slog.New(slog.NewTextHandler(&log, nil)), address, t.TempDir(), time.Hour)
	if !strings.Contains(log.String(), "no connection") || strings.Contains(log.String(), "secret") {
		t.Errorf("the log says %s", log.String())
	}
	if err := run(ctx, slog.New(slog.DiscardHandler), "http://x/?ticket=secret", t.TempDir(), time.Hour); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a wrong address gives %v", err)
	}
	if got := redact(errors.New("top/secret and top%2Fsecret"), address); strings.Contains(got, "secret") {
		t.Errorf("redact leaves %q", got)
	}
}

func TestDocumentID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newDocumentID()
		if len(id) < 26 || len(id) > 28 || seen[id] {
			t.Fatalf("document id %q", id)
		}
		seen[id] = true
	}
}
