package watcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Times and sizes of a session.
const (
	joinTimeout     = 15 * time.Second // from the upgrade to the join message
	pingEvery       = 20 * time.Second
	pingTimeout     = 20 * time.Second
	writeTimeout    = 20 * time.Second
	readChunk       = 64 << 10
	maxOutboxBytes  = 64 << 20 // unsent messages to one peer
	maxReasonBytes  = 120      // what a close frame may carry
	maxDocsUnstored = 1_000    // documents a peer may ask for that nobody has
)

// session is one peer's connection. The goroutine of its HTTP request reads;
// another writes; the formation's goroutine owns docs.
type session struct {
	conn   *websocket.Conn
	key    tenant.Key
	ticket store.Ticket
	peer   string

	maxPeers int // the formation's quota when the session was opened

	name string // what we call ourselves towards the peer

	docs     map[automerge.DocumentID]*automerge.SyncState // owned by the formation
	unstored int                                           // of docs, how many nobody has

	mu     sync.Mutex
	queue  [][]byte
	queued int
	signal chan struct{}
	reason string

	ending context.Context // done when the session is to end
	cancel context.CancelFunc
}

// getSync is the door peers come in by. What is wrong with the formation or the
// ticket is said before the upgrade, in plain HTTP.
func (f *Function) getSync(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	formation, err := f.Store.Formation(r.Context(), key)
	if err != nil {
		return err
	}
	if err := formation.State.MustBe(tenant.Active); err != nil {
		return err
	}
	ticket, err := f.redeem(r, key, r.URL.Query().Get("ticket"))
	if err != nil {
		return err
	}
	if !f.admit() {
		return fault.RetryIn(fault.Unavailable.New("too many sessions here"), 5*time.Second)
	}
	defer f.leave()
	watched, err := f.open(r.Context(), key)
	if err != nil {
		return err
	}
	defer watched.release()
	org, err := f.Store.Org(r.Context(), key.Org)
	if err != nil {
		return err
	}
	if most := org.Quotas.MaxPeersPerFormation; watched.full(ticket.PeerID, most) {
		f.Metrics.Refused("quota")
		return tenant.Exceeded(tenant.MaxPeersPerFormation, most)
	}
	// Any origin may connect: a ticket is a bearer credential in the URL, and no
	// cookie of ours would ride along.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return nil // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	s := &session{
		conn: conn, key: key, ticket: ticket, maxPeers: org.Quotas.MaxPeersPerFormation, name: "peat-gateway/" + key.String(),
		docs: map[automerge.DocumentID]*automerge.SyncState{}, signal: make(chan struct{}, 1),
	}
	s.ending, s.cancel = context.WithCancel(f.ctx)
	f.serve(s, watched)
	return nil
}

// serve runs a session from its join message to its end.
//
// The connection is read under a context of its own: the library closes a
// connection whose read is cancelled, and a peer that is sent away is to hear why.
func (f *Function) serve(s *session, watched *formation) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.write(f.codec) })
	wg.Go(func() { s.ping(ctx) })
	if err := f.join(ctx, s); err != nil {
		s.end(err.Error())
		return
	}
	// A ticket opens sessions and bounds them: access ends when it does.
	expiry := time.AfterFunc(s.ticket.ExpiresAt.Sub(f.Now()), func() { s.end("the ticket has expired") })
	defer expiry.Stop()
	if refused := watched.attach(s); refused != "" {
		s.end(refused)
		return
	}
	defer watched.detach(s)
	if err := f.welcome(ctx, s); err != nil {
		s.end(err.Error())
		return
	}
	f.Metrics.SessionOpened()
	defer f.Metrics.SessionClosed()
	for {
		in, err := f.receive(ctx, s)
		if err != nil {
			s.end(f.explain(err))
			return
		}
		if in != nil && !watched.submit(s.ending, in) {
			f.budget.Release(in.held)
			in.finish(errUnwatched)
			s.end(reasonUnwatched)
			return
		}
	}
}

// reasonSuspended is told to peers that may come again once the formation is resumed.
const reasonSuspended = "the formation is suspended"

// reasonDestroyed is told to peers that need not come again.
const reasonDestroyed = "the formation was destroyed"

// reasonUnwatched sends a peer away that will be served when it comes again.
const reasonUnwatched = "the formation is not watched here any more"

// join reads the first message, which says who the peer is, and ties the ticket to it.
func (f *Function) join(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s.conn.SetReadLimit(readChunk)
	_, frame, err := s.conn.Read(ctx)
	if err != nil {
		return errors.New("no join message came")
	}
	m, err := f.codec.decode(frame)
	if err != nil {
		return err
	}
	if m.Type != typeJoin {
		return errors.New("the first message must be join")
	}
	s.peer = m.SenderID
	bound, err := f.Store.BindTicket(ctx, s.key, s.ticket.ID, s.peer)
	if err != nil {
		f.Log.ErrorContext(ctx, "ticket not bound", "formation", s.key.String(), "err", err)
		return errors.New("the ticket cannot be checked now")
	}
	if bound != s.peer {
		return errors.New("the ticket belongs to another peer id")
	}
	s.conn.SetReadLimit(int64(f.Settings.MaxMessageBytes))
	return nil
}

// welcome answers the join of a session that is attached. Ticket and formation are
// looked at once more: had one been revoked or suspended before the session was attached, nobody would
// have found the session to end it.
func (f *Function) welcome(ctx context.Context, s *session) error {
	t, err := f.Store.TicketByHash(ctx, s.key, s.ticket.Hash)
	if err != nil {
		f.Log.ErrorContext(ctx, "ticket not checked", "formation", s.key.String(), "err", err)
		return errors.New("the ticket cannot be checked now")
	}
	if state := ticketState(t, f.Now()); state != "valid" {
		return fmt.Errorf("the ticket is %s", state)
	}
	formation, err := f.Store.Formation(ctx, s.key)
	if err != nil {
		f.Log.ErrorContext(ctx, "formation not checked", "formation", s.key.String(), "err", err)
		return errors.New("the formation cannot be checked now")
	}
	if formation.State != tenant.Active {
		return errors.New(reasonSuspended)
	}
	return s.send(f.codec, message{Type: typePeer, SenderID: s.name, TargetID: s.peer, Version: protocolVersion, Metadata: &metadata{}})
}

// receive reads one frame and decodes all of it here, so that the formation's
// goroutine is not kept busy by it. nil means a message to pass over.
func (f *Function) receive(ctx context.Context, s *session) (*incoming, error) {
	_, r, err := s.conn.Reader(ctx)
	if err != nil {
		return nil, err
	}
	frame, held, err := f.readFrame(s.ending, r)
	if err != nil {
		f.budget.Release(held)
		return nil, err
	}
	in, err := f.decode(s, frame)
	if in == nil {
		f.budget.Release(held)
		return nil, err
	}
	in.held = held
	return in, nil
}

var errBusy = errors.New("too much is being received here; try again later")

// readFrame reads a frame while the memory set aside for frames lasts. It
// returns how much of that it took, also with an error.
//
// It waits for its first piece, holding nothing, and for none after: two that
// each hold half of what both need would wait for ever.
func (f *Function) readFrame(ctx context.Context, r io.Reader) (frame []byte, held int64, err error) {
	if err := f.budget.Acquire(ctx, readChunk); err != nil {
		return nil, 0, err
	}
	for first := true; ; first = false {
		if !first && !f.budget.TryAcquire(readChunk) {
			return nil, held, errBusy
		}
		held += readChunk
		frame = append(frame, make([]byte, readChunk)...)
		n, err := io.ReadFull(r, frame[len(frame)-readChunk:])
		frame = frame[:len(frame)-readChunk+n]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return frame, held, nil
		}
		if err != nil {
			return nil, held, err
		}
	}
}

// decode turns a frame into work for the formation, or nil if there is nothing
// to do. Every change is decoded, and its hash checked, before it gets further.
func (f *Function) decode(s *session, frame []byte) (*incoming, error) {
	m, err := f.codec.decode(frame)
	if err != nil {
		return nil, err
	}
	if m.Type != typeSync && m.Type != typeRequest {
		return nil, nil
	}
	// Messages in another peer's name are passed over, as the reference server does.
	if m.SenderID != s.peer {
		return nil, nil
	}
	in := &incoming{session: s, request: m.Type == typeRequest, span: f.begin(s.key)}
	if err := in.read(m, f.Settings.Limits); err != nil {
		in.finish(err)
		return nil, err
	}
	return in, nil
}

func (in *incoming) read(m message, limits automerge.Limits) (err error) {
	if in.document, err = automerge.ParseDocumentID(m.DocumentID); err != nil {
		return fmt.Errorf("%w: %v", errMalformed, err)
	}
	if in.sync, err = automerge.DecodeSyncMessage(m.Data, limits); err != nil {
		return &refusedError{"sync_message", err}
	}
	for _, chunk := range in.sync.Changes {
		c, err := automerge.DecodeChange(chunk, limits)
		if err != nil {
			return &refusedError{"change", err}
		}
		in.changes = append(in.changes, c)
	}
	return nil
}

// refusedError is input that was refused, with the kind of input for the metric.
type refusedError struct {
	what  string
	cause error
}

func (e *refusedError) Error() string { return e.cause.Error() }
func (e *refusedError) Unwrap() error { return e.cause }

// explain is what a peer is told about the end of its session.
func (f *Function) explain(err error) string {
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		f.Metrics.Refused(refused.what)
		return err.Error()
	case errors.Is(err, errMalformed), errors.Is(err, errBusy):
		f.Metrics.Refused("message")
		return err.Error()
	case websocket.CloseStatus(err) != -1, errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
		return "" // the peer went, or we did
	}
	return "connection lost"
}

// send queues a message. A peer that does not read is let go rather than kept in memory.
func (s *session) send(c codec, m message) error {
	frame, err := c.encode(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Type, err)
	}
	s.mu.Lock()
	full := s.queued+len(frame) > maxOutboxBytes && len(s.queue) > 0
	if !full {
		s.queue = append(s.queue, frame)
		s.queued += len(frame)
	}
	s.mu.Unlock()
	if full {
		s.end("the peer does not read fast enough")
		return nil
	}
	select {
	case s.signal <- struct{}{}:
	default:
	}
	return nil
}

// end ends the session for the first reason given. The empty reason is for ends
// that need no explanation.
func (s *session) end(reason string) {
	s.mu.Lock()
	if s.reason == "" {
		s.reason = reason
	}
	s.mu.Unlock()
	s.cancel()
}

// next takes what is queued.
func (s *session) next() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.queue
	s.queue, s.queued = nil, 0
	return queue
}

// write sends what is queued until the session is to end, then says goodbye.
func (s *session) write(c codec) {
	defer s.goodbye(c)
	for {
		for _, frame := range s.next() {
			// Not under s.ending: the library closes a connection whose write is
			// cancelled, and the peer would not hear why.
			ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
			err := s.conn.Write(ctx, websocket.MessageBinary, frame)
			cancel()
			if err != nil {
				s.end("")
				return
			}
		}
		select {
		case <-s.ending.Done():
			return
		case <-s.signal:
		}
	}
}

// ping finds out that a peer is gone which never said so.
func (s *session) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ending.Done():
			return
		case <-tick.C:
		}
		pctx, cancel := context.WithTimeout(ctx, pingTimeout)
		err := s.conn.Ping(pctx)
		cancel()
		if err != nil {
			s.end("")
			return
		}
	}
}

// goodbye tells the peer why, as a message of the protocol and as the close
// frame's reason, and closes the connection, which ends the reading too.
func (s *session) goodbye(c codec) {
	s.mu.Lock()
	reason := s.reason
	s.mu.Unlock()
	if reason == "" {
		_ = s.conn.Close(websocket.StatusGoingAway, "")
		return
	}
	if frame, err := c.encode(message{Type: typeError, SenderID: s.name, TargetID: s.peer, Message: reason}); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = s.conn.Write(ctx, websocket.MessageBinary, frame)
		cancel()
	}
	_ = s.conn.Close(websocket.StatusPolicyViolation, strings.ToValidUTF8(reason[:min(len(reason), maxReasonBytes)], ""))
}
