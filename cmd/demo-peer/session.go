//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/automerge/automerge-go"
	"github.com/coder/websocket"
	"github.com/fxamacker/cbor/v2"
)

const (
	minPause = 200 * time.Millisecond // between attempts to connect
	maxPause = 5 * time.Second

	// maxFrame bounds a message: a first sync of a long history comes in one.
	maxFrame = 64 << 20
)

// frame is one message of automerge-repo's WebSocket protocol, version 1.
type frame struct {
	Type       string         `cbor:"type"`
	SenderID   string         `cbor:"senderId"`
	TargetID   string         `cbor:"targetId,omitempty"`
	DocumentID string         `cbor:"documentId,omitempty"`
	Data       []byte         `cbor:"data,omitempty"`
	Message    string         `cbor:"message,omitempty"` // of "error"
	Metadata   map[string]any `cbor:"peerMetadata,omitempty"`
	Versions   []string       `cbor:"supportedProtocolVersions,omitempty"`
}

// session is a connection after join and peer.
type session struct {
	conn   *websocket.Conn
	id     string
	server string
	frames chan frame // closed at the end
	ended  error      // why, valid then

	// states is what we know the other side to have. It is worth nothing after
	// the connection, so it lives and dies with it.
	states map[string]*automerge.SyncState
}

// connect opens a session, or says why not and returns nil.
func connect(ctx context.Context, log *slog.Logger, address, id string) *session {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := greet(ctx, address, id)
	if err != nil {
		log.Warn("no connection", "err", redact(err, address))
		return nil
	}
	go s.read()
	return s
}

func greet(ctx context.Context, address, id string) (*session, error) {
	conn, _, err := websocket.Dial(ctx, address, nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(maxFrame)
	s := &session{conn: conn, id: id, frames: make(chan frame, 64), states: map[string]*automerge.SyncState{}}
	if err := s.write(ctx, frame{Type: "join", Metadata: map[string]any{"isEphemeral": false}, Versions: []string{"1"}}); err != nil {
		conn.CloseNow()
		return nil, err
	}
	f, err := s.next(ctx)
	if err == nil && f.Type != "peer" {
		err = fmt.Errorf("refused: %s", f.Message)
	}
	if err != nil {
		conn.CloseNow()
		return nil, err
	}
	s.server = f.SenderID
	return s, nil
}

func (s *session) read() {
	defer close(s.frames)
	for {
		f, err := s.next(context.Background())
		if err == nil && f.Type == "error" {
			err = errors.New(f.Message)
		}
		if err != nil {
			s.ended = err
			s.conn.CloseNow()
			return
		}
		s.frames <- f
	}
}

func (s *session) next(ctx context.Context) (frame, error) {
	_, b, err := s.conn.Read(ctx)
	if err != nil {
		return frame{}, err
	}
	var f frame
	if err := cbor.Unmarshal(b, &f); err != nil {
		return frame{}, fmt.Errorf("frame: %w", err)
	}
	return f, nil
}

// send sends to the server. If that fails the connection is broken, and whoever
// reads from it learns so.
func (s *session) send(f frame) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	f.TargetID = s.server
	if err := s.write(ctx, f); err != nil {
		s.conn.CloseNow()
	}
}

func (s *session) write(ctx context.Context, f frame) error {
	f.SenderID = s.id
	b, err := cbor.Marshal(f)
	if err != nil {
		return err
	}
	return s.conn.Write(ctx, websocket.MessageBinary, b)
}

func (s *session) state(d *document) *automerge.SyncState {
	if s.states[d.id] == nil {
		s.states[d.id] = automerge.NewSyncState(d.doc)
	}
	return s.states[d.id]
}

func (s *session) close() { s.conn.Close(websocket.StatusNormalClosure, "going away") }
