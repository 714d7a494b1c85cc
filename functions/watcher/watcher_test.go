package watcher

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/coder/websocket"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var key = tenant.Key{Org: "acme", App: "logistics"}

// counted is what the watcher reported.
type counted struct {
	mu       sync.Mutex
	captured int
	refused  []string
	rung     []uint64
	traces   []string // that the bell rang in
	explode  bool     // panic once, at the next change
}

func (c *counted) Captured(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.explode {
		c.explode = false
		panic("told to")
	}
	c.captured += n
}

func (c *counted) Refused(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = append(c.refused, what)
}
func (c *counted) SessionOpened() {}
func (c *counted) SessionClosed() {}

func (c *counted) Publish(ctx context.Context, e cloudevents.Event) error {
	var data event.LogData
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rung, c.traces = append(c.rung, data.Position), append(c.traces, tracing.Of(ctx))
	return nil
}

// bench is a watcher behind a real HTTP server, on a real store.
type bench struct {
	t       testing.TB
	store   *store.Store
	f       *Function
	server  *httptest.Server
	counted *counted
}

func setup(t testing.TB, s Settings) *bench {
	t.Helper()
	st, err := store.Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	b := &bench{t: t, store: st, counted: &counted{}}
	b.tx(func(tx *store.Tx) error {
		now := store.Precise(time.Now())
		org := tenant.Org{ID: key.Org, DisplayName: "x", Quotas: tenant.DefaultQuotas(), CreatedAt: now}
		org.Quotas.MaxDocumentsPerFormation = 3
		if err := tx.CreateOrg(context.Background(), org); err != nil {
			return err
		}
		return tx.CreateFormation(context.Background(), tenant.Formation{Org: key.Org, App: key.App, MeshID: "AAAAAAAA",
			Policy: tenant.Open, State: tenant.Active, AuthorityPublicKey: []byte{1}, CreatedAt: now})
	})
	if s.Holder == "" {
		s.Holder = "one"
	}
	b.f, err = New(Deps{Store: st, Bus: b.counted, Notify: func() {}, Metrics: b.counted, Log: slog.New(slog.DiscardHandler),
		Now: time.Now, Random: rand.Reader, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	var handler = web.Mux(b.f.Routes(), web.Options{Authorize: access.NewBootstrap("token").Authorize})
	b.server = httptest.NewServer(handler)
	t.Cleanup(func() {
		_ = b.f.Close()
		b.server.Close()
	})
	return b
}

func (b *bench) tx(fn func(tx *store.Tx) error) {
	b.t.Helper()
	if err := b.store.InTx(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

// ticket issues one through the API, checked against its description.
func (b *bench) ticket(t *testing.T, body string) (id, url string) {
	t.Helper()
	h := openapitest.New(t).Handler(t, web.Mux(b.f.Routes(), web.Options{Authorize: access.NewBootstrap("token").Authorize}))
	r := httptest.NewRequest("POST", "/orgs/acme/formations/logistics/sync-tickets", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	r.Header.Set("Content-Type", "application/json")
	r.Host = strings.TrimPrefix(b.server.URL, "http://")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var out issuedTicket
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return out.ID, out.URL
}

// peer is a client of the protocol that does just what it is told.
type peer struct {
	t    *testing.T
	c    codec
	conn *websocket.Conn
	name string
}

func (b *bench) connect(t *testing.T, url, name string) *peer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	p := &peer{t, mustCodec(t), conn, name}
	p.send(message{Type: typeJoin, SenderID: name, Versions: []string{"1"}})
	return p
}

func (b *bench) join(t *testing.T, name string) *peer {
	t.Helper()
	_, url := b.ticket(t, `{}`)
	p := b.connect(t, url, name)
	if m := p.next(); m.Type != typePeer || m.TargetID != name || m.Version != "1" {
		t.Fatalf("answer to join: %+v", m)
	}
	return p
}

func (p *peer) send(m message) {
	p.t.Helper()
	b, err := p.c.encode(m)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.conn.Write(p.t.Context(), websocket.MessageBinary, b); err != nil {
		p.t.Fatal(err)
	}
}

// read returns the next message, or why there is none.
func (p *peer) read() (message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, b, err := p.conn.Read(ctx)
	if err != nil {
		return message{}, err
	}
	return p.c.decode(b)
}

func (p *peer) next() message {
	p.t.Helper()
	m, err := p.read()
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// ended returns the reason that the session ended for, after any other messages.
func (p *peer) ended() string {
	p.t.Helper()
	for {
		m, err := p.read()
		if err != nil {
			p.t.Fatalf("the session ended without a reason: %v", err)
		}
		if m.Type == typeError {
			if _, err := p.read(); websocket.CloseStatus(err) == -1 {
				p.t.Errorf("no close frame: %v", err)
			}
			return m.Message
		}
	}
}

// offer sends changes in one sync message, as they are.
func (p *peer) offer(id automerge.DocumentID, heads []automerge.Hash, chunks ...[]byte) {
	p.t.Helper()
	m := automerge.SyncMessage{Heads: heads, Changes: chunks}
	p.send(message{Type: typeSync, SenderID: p.name, TargetID: "x", DocumentID: string(id), Data: m.Encode()})
}

// heads waits for a sync message about the document that names these heads.
func (p *peer) heads(id automerge.DocumentID, want []automerge.Hash) *automerge.SyncMessage {
	p.t.Helper()
	for {
		m := p.next()
		if m.Type != typeSync || m.DocumentID != string(id) {
			p.t.Fatalf("waiting for heads, got %+v", m)
		}
		sync, err := automerge.DecodeSyncMessage(m.Data, automerge.DefaultLimits())
		if err != nil {
			p.t.Fatal(err)
		}
		if slices.Equal(sync.Heads, want) {
			return sync
		}
	}
}

// log reads the formation's log.
func (b *bench) log() []change.Settled {
	b.t.Helper()
	all, err := b.store.ChangesAfter(context.Background(), key, 0, 10_000, 1<<30)
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// history makes n changes of one document by one author.
func history(n int) (doc *automerge.Doc, chunks [][]byte) {
	doc = automerge.NewDoc()
	a := automergetest.NewAuthor("aa")
	for i := range n {
		chunks = append(chunks, a.Commit(doc, automergetest.Put(i, "n")))
	}
	return doc, chunks
}

func documentID(n byte) automerge.DocumentID { return automerge.NewDocumentID([16]byte{n}) }

// eventually waits for what happens by itself, soon.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}
