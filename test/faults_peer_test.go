package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// stretch is some of a document's changes: from, and before to.
type stretch struct {
	history
	from, to int
}

// author is a peer that brings prepared changes and does not rest until each is
// acknowledged, however often the gateway dies meanwhile.
type author struct {
	t    testing.TB
	url  string
	name string
	s    *session
}

// bring hands stretches of documents over and returns when the gateway has
// acknowledged all of them.
func (a *author) bring(of []stretch, limit time.Duration) error {
	waiting := map[[32]byte]stretch{}
	for _, s := range of {
		waiting[s.hashes[s.to-1]] = s
	}
	end := time.Now().Add(limit)
	for len(waiting) > 0 {
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d documents are not acknowledged after %s", len(waiting), len(of), limit)
		}
		if err := a.try(waiting); err != nil {
			a.leave()
			time.Sleep(10 * time.Millisecond) // nothing tells when a gateway is back
		}
	}
	return nil
}

// silence is how long an author waits for an acknowledgement before it brings
// again what has none, in a new session.
const silence = 3 * time.Second

// try brings what waits and takes out what is acknowledged, until nothing waits or
// the session has ended.
func (a *author) try(waiting map[[32]byte]stretch) error {
	if err := a.enter(); err != nil {
		return err
	}
	for head, s := range waiting {
		if err := a.s.sync(s.id, bring(head, s.chunks[s.from:s.to]...)); err != nil {
			return err
		}
	}
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	for len(waiting) > 0 {
		select {
		case m, ok := <-a.s.frames:
			if !ok {
				return a.s.ended()
			}
			data, _ := m["data"].([]byte)
			for _, h := range headsOf(data) {
				delete(waiting, h)
			}
			quiet.Reset(silence)
		case <-quiet.C:
			return fmt.Errorf("no acknowledgement within %s", silence)
		}
	}
	return nil
}

// enter makes sure that there is a session.
func (a *author) enter() error {
	if a.s != nil {
		return nil
	}
	conn, status, err := connect(a.t, a.url)
	if err != nil {
		return fmt.Errorf("status %d: %w", status, err)
	}
	s := begin(a.t, conn, a.name)
	m, ok := s.next(silence)
	if server, is := m["senderId"].(string); ok && is && m["type"] == "peer" {
		s.server, a.s = server, s
		return nil
	}
	s.conn.CloseNow()
	for range s.frames { // its reader says why when it has ended
	}
	return fmt.Errorf("not let in: %v (%v)", m, s.ended())
}

// leave ends the session, if there is one.
func (a *author) leave() {
	if a.s != nil {
		a.s.conn.Close(websocket.StatusGoingAway, "")
		for range a.s.frames { // its reader waits for somebody who reads
		}
		a.s = nil
	}
}
