//go:build cgo

// Demo-peer is a peer to look at: it keeps a few documents of a made-up
// logistics unit in a folder, edits them now and then, and syncs them with a
// gateway or any other server of automerge-repo's WebSocket protocol. Started
// again with the same folder it is the same peer with the same documents.
//
//	demo-peer --url ws://127.0.0.1:8080/orgs/acme/formations/logistics/sync?ticket=… --data demo
//
// It is built on automerge-go, which needs cgo, so nothing of the gateway imports
// it: the gateway itself reads Automerge in Go.
//
//	main.go       settings, and the loop that owns the documents
//	session.go    the WebSocket protocol
//	library.go    the documents in their folder
//	edits.go      what is edited
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	var (
		address  = flag.String("url", os.Getenv("PEAT_DEMO_URL"), "`address` to sync with, its ticket included (or PEAT_DEMO_URL)")
		data     = flag.String("data", "demo-peer", "`folder` for the peer's documents")
		interval = flag.Duration("interval", time.Second, "`time` between edits")
		verbose  = flag.Bool("v", false, "tell every edit")
	)
	flag.Parse()
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, log, *address, *data, *interval); err != nil {
		log.Error("demo-peer ended", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, address, data string, interval time.Duration) error {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") {
		// The address has the ticket in it, so the message has not the address.
		return errors.New("--url (or PEAT_DEMO_URL) must be a ws:// or wss:// address")
	}
	if interval <= 0 {
		return fmt.Errorf("--interval must be more than nothing, not %s", interval)
	}
	lib, err := openLibrary(data)
	if err != nil {
		return err
	}
	log.Info("demo-peer", "peer", lib.peer, "documents", len(lib.documents), "host", u.Host)

	p := &peer{
		lib:     lib,
		log:     log,
		address: address,
		editor:  editor{rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))},
	}
	return p.loop(ctx, interval)
}

// peer owns the documents: only its loop touches them.
type peer struct {
	lib     *library
	log     *slog.Logger
	address string
	editor  editor
	session *session // nil while there is no connection
}

// loop edits while connected and while not: a peer needs no server to work.
func (p *peer) loop(ctx context.Context, interval time.Duration) error {
	edits := time.NewTicker(interval)
	defer edits.Stop()
	guardian := os.Getppid()

	var dialled chan *session // the attempt that is under way
	retry := time.NewTimer(0)
	pause := minPause
	for {
		var frames <-chan frame
		if p.session != nil {
			frames = p.session.frames
		}
		select {
		case <-ctx.Done():
			if p.session != nil {
				p.session.close()
			}
			return p.lib.save()

		case <-retry.C:
			dialled = make(chan *session, 1)
			go func(to chan<- *session) { to <- connect(ctx, p.log, p.address, p.lib.peer) }(dialled)

		case s := <-dialled:
			dialled = nil
			if s == nil {
				pause = min(2*pause, maxPause)
				retry.Reset(pause)
				break
			}
			pause = minPause
			p.session = s
			p.log.Info("connected", "to", s.server)
			for _, d := range p.lib.documents {
				p.offer(d)
			}

		case f, ok := <-frames:
			if !ok {
				p.log.Info("connection lost", "why", p.clean(p.session.ended))
				p.session = nil
				retry.Reset(pause)
				break
			}
			if err := p.receive(f); err != nil {
				return err
			}

		case <-edits.C:
			if os.Getppid() != guardian {
				return p.lib.save() // whoever started us is gone
			}
			if err := p.edit(); err != nil {
				return err
			}
		}
	}
}

// edit changes one document, keeps it, and only then tells others: what others
// have seen must not be forgotten here.
func (p *peer) edit() error {
	d, message, err := p.editor.edit(p.lib)
	if err != nil {
		return err
	}
	if err := p.lib.keep(d); err != nil {
		return err
	}
	p.log.Debug("edit", "document", d.id, "what", message)
	p.offer(d)
	return nil
}

// receive takes in what the other side sent about one of our documents.
func (p *peer) receive(f frame) error {
	if f.Type != "sync" && f.Type != "request" {
		return nil
	}
	d := p.lib.find(f.DocumentID)
	if d == nil {
		if f.Type == "request" {
			p.session.send(frame{Type: "doc-unavailable", DocumentID: f.DocumentID})
		}
		return nil // somebody else's: the demonstration keeps to its own
	}
	if _, err := p.session.state(d).ReceiveMessage(f.Data); err != nil {
		p.log.Warn("sync message not understood", "document", d.id, "err", err)
		return nil
	}
	if err := p.lib.keep(d); err != nil {
		return err
	}
	p.offer(d)
	return nil
}

// offer sends what the other side still lacks of a document.
func (p *peer) offer(d *document) {
	if p.session == nil {
		return
	}
	for {
		m, more := p.session.state(d).GenerateMessage()
		if !more {
			return
		}
		p.session.send(frame{Type: "sync", DocumentID: d.id, Data: m.Bytes()})
	}
}

// clean takes the address out of an error, since the address has the ticket.
func (p *peer) clean(err error) string { return redact(err, p.address) }

func redact(err error, address string) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if u, parseErr := url.Parse(address); parseErr == nil {
		for _, secret := range u.Query()["ticket"] {
			text = strings.ReplaceAll(text, url.QueryEscape(secret), "…")
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return text
}
