package test

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/fxamacker/cbor/v2"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// session is a peer played by hand.
type session struct {
	t      testing.TB
	conn   *websocket.Conn
	id     string
	server string                // the gateway's peer id
	frames chan map[string]any   // closed when the session has ended
	end    atomic.Pointer[error] // why it has
}

// dial opens the socket until the test ends. status is that of the answer to the
// upgrade.
func dial(t testing.TB, url string) (conn *websocket.Conn, status int, err error) {
	t.Helper()
	if conn, status, err = connect(t, url); err == nil {
		t.Cleanup(func() { conn.CloseNow() })
	}
	return conn, status, err
}

// connect opens the socket.
func connect(t testing.TB, url string) (conn *websocket.Conn, status int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, url, nil)
	if resp != nil {
		status = resp.StatusCode
	}
	if err == nil {
		conn.SetReadLimit(64 << 20)
	}
	return conn, status, err
}

// open dials and joins. What happens afterwards arrives in frames.
func open(t testing.TB, url, id string) *session {
	t.Helper()
	conn, status, err := dial(t, url)
	if err != nil {
		t.Fatalf("dial: status %d: %v", status, err)
	}
	return begin(t, conn, id)
}

// begin joins.
func begin(t testing.TB, conn *websocket.Conn, id string) *session {
	t.Helper()
	s := &session{t: t, conn: conn, id: id, frames: make(chan map[string]any, 1000)}
	go func() {
		defer close(s.frames)
		for {
			_, b, err := conn.Read(context.Background())
			if err != nil {
				s.end.Store(&err)
				return
			}
			var m map[string]any
			if cbor.Unmarshal(b, &m) == nil {
				s.frames <- m
			}
		}
	}()
	s.send(map[string]any{
		"type": "join", "senderId": id, "peerMetadata": map[string]any{"isEphemeral": true}, "supportedProtocolVersions": []string{"1"},
	})
	return s
}

// join is open for a peer that is let in.
func join(t testing.TB, url, id string) *session {
	t.Helper()
	s := open(t, url, id)
	m, ok := s.next(30 * time.Second)
	if !ok || m["type"] != "peer" {
		t.Fatalf("after join came %v (%v), not peer", m, s.ended())
	}
	s.server, _ = m["senderId"].(string)
	if m["targetId"] != id || s.server == "" || m["selectedProtocolVersion"] != "1" {
		t.Fatalf("the answer to join is %v", m)
	}
	return s
}

func (s *session) send(message map[string]any) error {
	s.t.Helper()
	b, err := cbor.Marshal(message)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.raw(b)
}

func (s *session) raw(frame []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageBinary, frame)
}

func (s *session) sync(document string, data []byte) error {
	return s.send(map[string]any{"type": "sync", "senderId": s.id, "targetId": s.server, "documentId": document, "data": data})
}

// ended is why the session has ended; nil if it has not.
func (s *session) ended() error {
	if err := s.end.Load(); err != nil {
		return *err
	}
	return nil
}

// next returns the next message; false if the session ended or none came.
func (s *session) next(limit time.Duration) (map[string]any, bool) {
	select {
	case m, ok := <-s.frames:
		return m, ok
	case <-time.After(limit):
		return nil, false
	}
}

// reason waits for the session's end and says what the other side gave as its
// reason, in an error message or in the close frame.
func (s *session) reason(limit time.Duration) (why string, ended bool) {
	timeout := time.After(limit)
	for {
		select {
		case m, ok := <-s.frames:
			if !ok {
				var closed websocket.CloseError
				if errors.As(s.ended(), &closed) && closed.Reason != "" {
					return strings.TrimSpace(why + " " + closed.Reason), true
				}
				return why, true
			}
			if m["type"] == "error" {
				why = fmt.Sprint(m["message"])
			}
		case <-timeout:
			return "", false
		}
	}
}

// honest is a document and how a peer would send it, from the library itself.
type honest struct {
	Document string   `json:"document_id"`
	Message  []byte   `json:"message"`
	Changes  [][]byte `json:"changes"`
}

func honestDocument(t testing.TB) honest {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "hostile.mjs")
	cmd.Dir = testenv.Node(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var h honest
	if err := json.Unmarshal(out, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func uleb(n uint64) []byte { return binary.AppendUvarint(nil, n) }

// message is a sync message, version 1, that brings these chunks.
func message(chunks ...[]byte) []byte {
	b := []byte{0x42, 0, 0, 0}
	b = append(b, uleb(uint64(len(chunks)))...)
	for _, c := range chunks {
		b = append(append(b, uleb(uint64(len(c)))...), c...)
	}
	return b
}

// chunk wraps a body so that its checksum is right, as an attacker would.
func chunk(kind byte, body []byte) []byte {
	inner := append(append([]byte{kind}, uleb(uint64(len(body)))...), body...)
	hashed := inner
	if kind == 2 { // deflated: the checksum is over the plain form
		plain, _ := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body)), 1<<22))
		hashed = append(append([]byte{1}, uleb(uint64(len(plain)))...), plain...)
	}
	sum := sha256.Sum256(hashed)
	return append(append([]byte{0x85, 0x6f, 0x4a, 0x83}, sum[:4]...), inner...)
}

// body is that of a change chunk: what is between its length and its end.
func body(change []byte) []byte {
	_, n := binary.Uvarint(change[9:])
	return change[9+n:]
}

// bomb is a change of a few bytes that claims to have a great many operations.
func bomb(ops uint64) []byte {
	sleb := func(n uint64) []byte { // of a number that is not negative
		var b []byte
		for {
			c := byte(n & 0x7f)
			n >>= 7
			if n == 0 && c&0x40 == 0 {
				return append(b, c)
			}
			b = append(b, c|0x80)
		}
	}
	run := func(value ...byte) []byte { return append(sleb(ops), value...) }
	columns := []struct {
		spec byte
		data []byte
	}{
		{0x15, run(1, 'k')}, // key
		{0x34, uleb(ops)},   // insert: that many times no
		{0x42, run(1)},      // action: set
		{0x56, run(0)},      // value: null
		{0x70, run(0)},      // predecessors: none
	}
	b := []byte{0, 16} // no dependencies; an actor of 16 bytes
	b = append(b, bytes.Repeat([]byte{7}, 16)...)
	b = append(b, 1, 1, 0, 0, 0) // seq, start op, time, message, other actors
	b = append(b, byte(len(columns)))
	for _, c := range columns {
		b = append(append(b, c.spec), uleb(uint64(len(c.data)))...)
	}
	for _, c := range columns {
		b = append(b, c.data...)
	}
	return chunk(1, b)
}

// deflated is a deflated chunk that is a thousand times larger inside.
func deflated(size int) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	zeros := make([]byte, 1<<20)
	for range size >> 20 {
		w.Write(zeros)
	}
	w.Close()
	return chunk(2, b.Bytes())
}

// TestBadInput: what hostile peers send ends their own session, with a reason,
// and nothing else: the process lives, its memory stays within bounds, and a
// session that was there before goes on.
func TestBadInput(t *testing.T) {
	testenv.Node(t)
	rng, _ := seeded(t)
	g := startGateway(t, options{})
	formation := g.formation("acme", "logistics")
	h := honestDocument(t)

	witness := join(t, g.ticket(formation, nil).URL, "witness")
	hostile := g.ticket(formation, nil).URL
	before := g.residentMB()

	// after opens a session, lets the case do its harm and demands an end.
	after := func(t *testing.T, mustEnd bool, harm func(s *session) error) {
		t.Helper()
		s := join(t, hostile, "hostile")
		defer s.conn.CloseNow()
		sent := harm(s)
		limit := 300 * time.Millisecond
		if mustEnd {
			limit = 15 * time.Second
		}
		why, ended := s.reason(limit)
		if !g.alive() {
			t.Fatal("the process died of it")
		}
		if mustEnd && !ended {
			t.Error("the session goes on")
		}
		if ended && why == "" {
			t.Errorf("the session ended without a reason: %v (sending: %v)", s.ended(), sent)
		}
	}

	crafted := map[string][]byte{
		"nothing":                               {},
		"an unknown version":                    {0x99, 0, 0, 0, 0},
		"a billion heads":                       append([]byte{0x42}, uleb(1<<30)...),
		"2^63 changes":                          append([]byte{0x42, 0, 0, 0}, uleb(1<<63)...),
		"a change longer than the message":      append([]byte{0x42, 0, 0, 0, 1}, uleb(1<<40)...),
		"a change that is not one":              message([]byte("not a change at all, only text")),
		"a change of a kind nobody knows":       message(chunk(9, []byte("body"))),
		"an empty change":                       message(chunk(1, nil)),
		"a hundred million operations":          message(bomb(100_000_000)),
		"2^60 operations":                       message(bomb(1 << 60)),
		"a quarter gigabyte, deflated":          message(deflated(256 << 20)),
		"a change with another's checksum":      message(append(append([]byte{}, h.Changes[1][:8]...), h.Changes[2][8:]...)),
		"a document chunk in place of a change": message(chunk(0, body(h.Changes[0]))),
	}
	for name, data := range crafted {
		t.Run(name, func(t *testing.T) {
			after(t, true, func(s *session) error { return s.sync(h.Document, data) })
		})
	}
	t.Run("ten million operations are refused or survived", func(t *testing.T) {
		after(t, false, func(s *session) error { return s.sync(h.Document, message(bomb(10_000_000))) })
	})
	for name, frame := range map[string][]byte{
		"not CBOR":                     []byte("\xff\xff\xff\xff"),
		"CBOR null":                    {0xf6},
		"a list":                       {0x83, 1, 2, 3},
		"a map that does not end":      {0xbf, 0x61, 'a', 1},
		"a string of an exabyte":       {0xa1, 0x64, 't', 'y', 'p', 'e', 0x7b, 0x10, 0, 0, 0, 0, 0, 0, 0},
		"a thousand lists in a list":   bytes.Repeat([]byte{0x81}, 1000),
		"a type that is a number":      {0xa1, 0x64, 't', 'y', 'p', 'e', 1},
		"a message without a document": mustCBOR(t, map[string]any{"type": "sync", "senderId": "hostile", "targetId": witness.server, "data": h.Message}),
		"data that is text":            mustCBOR(t, map[string]any{"type": "sync", "senderId": "hostile", "targetId": witness.server, "documentId": h.Document, "data": "text"}),
		"a document id with a wrong checksum": mustCBOR(t, map[string]any{"type": "sync", "senderId": "hostile", "targetId": witness.server,
			"documentId": "1111111111111111111111111111", "data": h.Message}),
		"a document id of a megabyte": mustCBOR(t, map[string]any{"type": "sync", "senderId": "hostile", "targetId": witness.server,
			"documentId": strings.Repeat("1", 1<<20), "data": h.Message}),
	} {
		t.Run(name, func(t *testing.T) {
			after(t, true, func(s *session) error { return s.raw(frame) })
		})
	}
	t.Run("an oversized message", func(t *testing.T) {
		after(t, true, func(s *session) error { return s.sync(h.Document, make([]byte, 256<<20)) })
	})
	t.Run("truncated messages", func(t *testing.T) {
		for range 30 {
			// Not in its last bytes: what follows the changes may be left out.
			cut := h.Message[:rng.IntN(len(h.Message)-16)]
			after(t, true, func(s *session) error { return s.sync(h.Document, cut) })
		}
	})
	t.Run("flipped bits", func(t *testing.T) {
		for range 60 {
			after(t, false, func(s *session) error { return s.sync(h.Document, flip(rng, h.Message)) })
		}
	})
	t.Run("flipped bits under a right checksum", func(t *testing.T) {
		for range 60 {
			c := chunk(1, flip(rng, body(h.Changes[rng.IntN(len(h.Changes))])))
			after(t, false, func(s *session) error { return s.sync(h.Document, message(c)) })
		}
	})

	if now := g.residentMB(); now > before+512 {
		t.Errorf("the process holds %d MB, %d before", now, before)
	} else {
		t.Logf("resident memory: %d MB before, %d MB after", before, now)
	}
	t.Run("the session from before goes on", func(t *testing.T) {
		other := honestDocument(t)
		hook := newWebhook(t, always(take))
		g := g.with(t)
		g.sink(formation, "webhook", map[string]any{"url": hook.URL})
		if err := witness.sync(other.Document, other.Message); err != nil {
			t.Fatal(err)
		}
		within(t, 30*time.Second, "the events of an honest document", func() (bool, string) {
			n := 0
			hook.mu.Lock()
			defer hook.mu.Unlock()
			for _, d := range hook.taken {
				if string(documentOf(d.body)) == other.Document {
					n++
				}
			}
			return n == len(other.Changes), fmt.Sprintf("%d of %d (%v)", n, len(other.Changes), witness.ended())
		})
	})
}

func flip(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(4) {
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	}
	return b
}

func mustCBOR(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTickets: without a good ticket nobody gets as far as a session, and a
// ticket is its first peer's alone.
func TestTickets(t *testing.T) {
	g := startGateway(t, options{})
	formation := g.formation("acme", "logistics")
	other := g.formation("acme", "medical")
	foreign := g.formation("globex", "logistics")
	base := "ws" + strings.TrimPrefix(g.url, "http")

	good := g.ticket(formation, nil)
	revoked := g.ticket(formation, nil)
	g.do("DELETE", formation+"/sync-tickets/"+revoked.ID, nil, nil, 204)
	expired := g.ticket(formation, map[string]any{"ttl_seconds": 1})
	time.Sleep(time.Until(expired.ExpiresAt) + 200*time.Millisecond)

	for name, url := range map[string]string{
		"no ticket":                     base + formation + "/sync",
		"an empty ticket":               base + formation + "/sync?ticket=",
		"a ticket nobody made":          base + formation + "/sync?ticket=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"a very long ticket":            base + formation + "/sync?ticket=" + strings.Repeat("A", 4096),
		"another formation's":           base + other + "/sync?ticket=" + good.Ticket,
		"another organization's":        base + foreign + "/sync?ticket=" + good.Ticket,
		"a formation that is not there": base + "/orgs/acme/formations/nowhere/sync?ticket=" + good.Ticket,
		"an organization that is not":   base + "/orgs/nobody/formations/logistics/sync?ticket=" + good.Ticket,
		"a revoked ticket":              revoked.URL,
		"an expired ticket":             expired.URL,
	} {
		t.Run(name, func(t *testing.T) {
			_, status, err := dial(t, url)
			if err == nil {
				t.Fatal("the session was opened")
			}
			if status != 401 && status != 403 && status != 404 {
				t.Errorf("status %d (%v), want 401, 403 or 404", status, err)
			}
		})
	}

	t.Run("a ticket is its first peer's alone", func(t *testing.T) {
		first := join(t, good.URL, "alice")
		why, ended := open(t, good.URL, "mallory").reason(10 * time.Second)
		if !ended || why == "" {
			t.Errorf("another peer's session with it ended: %t, with the reason %q", ended, why)
		}
		first.conn.CloseNow()
		again := join(t, good.URL, "alice") // a client that reconnects
		g.do("DELETE", formation+"/sync-tickets/"+good.ID, nil, nil, 204)
		if why, ended := again.reason(10 * time.Second); !ended || why == "" {
			t.Errorf("the session after its ticket was revoked ended: %t, with the reason %q", ended, why)
		}
	})
	t.Run("a ticket can be made for a peer", func(t *testing.T) {
		k := g.ticket(formation, map[string]any{"peer_id": "bob"})
		if why, ended := open(t, k.URL, "mallory").reason(10 * time.Second); !ended || why == "" {
			t.Errorf("another peer's session ended: %t, with the reason %q", ended, why)
		}
		join(t, k.URL, "bob")
	})
	t.Run("tickets are listed without what opens the door", func(t *testing.T) {
		k := g.ticket(formation, nil)
		status, body := g.call("GET", formation+"/sync-tickets", nil, nil)
		if status != 200 || !strings.Contains(body, k.ID) || strings.Contains(body, k.Ticket) {
			t.Errorf("status %d, has the id: %t, has the ticket: %t", status, strings.Contains(body, k.ID), strings.Contains(body, k.Ticket))
		}
		if strings.Contains(g.logs.String(), k.Ticket) || strings.Contains(g.logs.String(), good.Ticket) {
			t.Error("a ticket is in the log")
		}
	})
}

// TestBadRequests: what the API refuses it refuses as a problem document with the
// status that says why, and nothing of it is done.
func TestBadRequests(t *testing.T) {
	g := startGateway(t, options{})
	formation := g.formation("acme", "logistics")
	long := strings.Repeat("x", 300)
	for name, tc := range map[string]struct {
		method, path, contentType, body string
		token                           string
		status                          []int
	}{
		"JSON that does not end":       {"POST", "/orgs", "application/json", `{"org_id":"a`, adminToken, []int{400}},
		"a list":                       {"POST", "/orgs", "application/json", `[]`, adminToken, []int{400, 422}},
		"two values":                   {"POST", "/orgs", "application/json", `{"org_id":"one"}{"org_id":"two"}`, adminToken, []int{400}},
		"no body":                      {"POST", "/orgs", "application/json", ``, adminToken, []int{400, 422}},
		"an unknown field":             {"POST", "/orgs", "application/json", `{"org_id":"one","colour":"red"}`, adminToken, []int{400, 422}},
		"a wrong type":                 {"POST", "/orgs", "application/json", `{"org_id":7}`, adminToken, []int{400, 422}},
		"an id that is too long":       {"POST", "/orgs", "application/json", `{"org_id":"` + long + `"}`, adminToken, []int{400, 422}},
		"an id with a wildcard":        {"POST", "/orgs", "application/json", `{"org_id":"acme.>"}`, adminToken, []int{400, 422}},
		"an organization again":        {"POST", "/orgs", "application/json", `{"org_id":"acme","display_name":"x"}`, adminToken, []int{409}},
		"a formation again":            {"POST", "/orgs/acme/formations", "application/json", `{"app_id":"logistics","enrollment_policy":"open"}`, adminToken, []int{409}},
		"a formation of nobody":        {"POST", "/orgs/nobody/formations", "application/json", `{"app_id":"x","enrollment_policy":"open"}`, adminToken, []int{404}},
		"a policy nobody knows":        {"POST", "/orgs/acme/formations", "application/json", `{"app_id":"x","enrollment_policy":"maybe"}`, adminToken, []int{400, 422}},
		"a sink of an unknown kind":    {"POST", formation + "/cdc/sinks", "application/json", `{"kind":"pigeon","config":{}}`, adminToken, []int{400, 422}},
		"a webhook without an address": {"POST", formation + "/cdc/sinks", "application/json", `{"kind":"webhook","config":{}}`, adminToken, []int{400, 422}},
		"a file outside":               {"POST", formation + "/cdc/sinks", "application/json", `{"kind":"file","config":{"path":"../../etc/cron.d/x"}}`, adminToken, []int{400, 422}},
		"a ticket for a year":          {"POST", formation + "/sync-tickets", "application/json", `{"ttl_seconds":31536000}`, adminToken, []int{400, 422}},
		"another media type":           {"POST", "/orgs", "text/plain", `{"org_id":"one"}`, adminToken, []int{415}},
		"a body that is too large":     {"POST", "/orgs", "application/json", `{"org_id":"one","display_name":"` + strings.Repeat("x", 1<<20+64<<10) + `"}`, adminToken, []int{413}},
		"no token":                     {"GET", "/orgs", "", "", "", []int{401}},
		"a wrong token":                {"GET", "/orgs", "", "", "wrong", []int{401}},
		"a sink that is not there":     {"GET", formation + "/cdc/sinks/01ARZ3NDEKTSV4RRFFQ69G5FAV/dead-letters", "", "", adminToken, []int{404}},
		"a path that is not there":     {"GET", "/nowhere", "", "", adminToken, []int{404}},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, g.url+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if tc.contentType != "" {
				req.Header.Set("Content-Type", tc.contentType)
			}
			if tc.token != "" {
				req.Header.Set("Authorization", "Bearer "+tc.token)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var problem struct {
				Type, Title, Detail string
				Status              int
			}
			body, _ := io.ReadAll(resp.Body)
			ok := false
			for _, want := range tc.status {
				ok = ok || resp.StatusCode == want
			}
			if !ok {
				t.Errorf("status %d, want one of %v: %.300s", resp.StatusCode, tc.status, body)
			}
			if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/problem+json") {
				t.Errorf("content type %q, want a problem document: %.200s", ct, body)
			} else if json.Unmarshal(body, &problem) != nil || problem.Status != resp.StatusCode || problem.Title == "" {
				t.Errorf("not a problem document: %.300s", body)
			}
			if strings.Contains(string(body), adminToken) {
				t.Error("the answer has the token in it")
			}
		})
	}
	var orgs struct {
		Items []struct {
			ID string `json:"org_id"`
		} `json:"items"`
	}
	g.do("GET", "/orgs", nil, &orgs, 200)
	if len(orgs.Items) != 1 || orgs.Items[0].ID != "acme" {
		t.Errorf("afterwards there are %v, want acme alone", orgs.Items)
	}
}
