package documents

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var (
	key   = tenant.Key{Org: "acme", App: "logistics"}
	start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
)

const (
	cdc       = "/orgs/acme/formations/logistics/cdc"
	events    = cdc + "/events"
	consumers = cdc + "/consumers"
)

// world is the function over a store of its own with one formation.
type world struct {
	t     testing.TB
	store *store.Store
	f     *Function
	api   http.Handler
	watch *openapitest.Checker // made when it is first needed: it is slow to make
	seqs  map[string]uint64
	made  int
}

func newWorld(t testing.TB, s Settings) *world {
	t.Helper()
	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: st, seqs: map[string]uint64{}}
	w.f = New(Deps{Store: st, Settings: s, Now: func() time.Time { return start }})
	w.api = web.Mux(w.f.Routes(), web.Options{Authorize: access.NewBootstrap("token").Authorize})
	w.addFormation(key)
	t.Cleanup(func() { _ = w.f.Close(); _ = st.Close() })
	return w
}

// with is the same world, asked on behalf of a subtest.
func (w *world) with(t testing.TB) *world {
	same := *w
	same.t = t
	return &same
}

func (w *world) tx(fn func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.store.InTx(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) addFormation(k tenant.Key) {
	w.t.Helper()
	w.tx(func(tx *store.Tx) error { return w.create(tx, k) })
}

func (w *world) create(tx *store.Tx, k tenant.Key) error {
	ctx := context.Background()
	w.made++
	if _, err := tx.Org(ctx, k.Org); err != nil {
		if err := tx.CreateOrg(ctx, tenant.Org{ID: k.Org, DisplayName: "x", Quotas: tenant.DefaultQuotas(), CreatedAt: start}); err != nil {
			return err
		}
	}
	// Two formations of one name may have the same mesh id: it has 32 bits only.
	return tx.CreateFormation(ctx, tenant.Formation{Org: k.Org, App: k.App, MeshID: "ABCD1234", Policy: tenant.Open,
		State: tenant.Active, AuthorityPublicKey: []byte{1}, CreatedAt: start.Add(time.Duration(w.made) * time.Microsecond)})
}

// remake deletes the formation and makes another of its name.
func (w *world) remake() {
	w.t.Helper()
	w.tx(func(tx *store.Tx) error {
		if err := tx.DestroyFormation(context.Background(), key); err != nil {
			return err
		}
		return w.create(tx, key)
	})
	clear(w.seqs)
}

// write appends one change to each of the documents, in their order, in one transaction.
func (w *world) write(documents ...string) { w.t.Helper(); w.writeSized(10, documents...) }

func (w *world) writeSized(bytes int, documents ...string) {
	w.t.Helper()
	var batch []change.Settled
	for _, d := range documents {
		w.seqs[d]++
		seq := w.seqs[d]
		var prev *change.Hash
		if seq > 1 {
			prev = &change.Hash{}
			copy(prev[:], fmt.Sprint(d, seq-1))
		}
		c := change.Change{Actor: "aa", ActorSeq: seq, StartOp: seq, Message: "two\nlines", Raw: []byte{1, 2, 3},
			Patches: []byte("[\n" + `{"action":"put","value":"` + strings.Repeat("x", bytes) + "\"}\n]")}
		copy(c.Hash[:], fmt.Sprint(d, seq))
		s := change.Follow(c, d, seq, prev)
		s.ReceivedAt, s.Origin = start, change.Sync
		batch = append(batch, s)
	}
	w.tx(func(tx *store.Tx) error {
		_, err := tx.AppendChanges(context.Background(), key, batch)
		return err
	})
}

// ring is the doorbell for the formation.
func (w *world) ring() {
	w.t.Helper()
	for _, s := range w.f.Events() {
		if err := s.Handle(context.Background(), event.LogAppended(key, 1, start)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// log is every event there is, as it should arrive.
func (w *world) log(format delivery.Format) []string {
	w.t.Helper()
	changes, err := w.store.ChangesAfter(context.Background(), key, 0, 1<<30, 1<<40)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, c := range changes {
		b, err := event.DocumentChanged(key, c, format).MarshalJSON()
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, canonical(w.t, b))
	}
	return out
}

// canonical is JSON with its keys in order and nothing between its tokens.
func canonical(t testing.TB, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %.1000s", err, b)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func request(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// watched is the API under the eyes of its description.
func (w *world) watched() http.Handler {
	if w.watch == nil {
		w.watch = openapitest.New(w.t)
	}
	return w.watch.Handler(w.t, w.api)
}

// call makes a request, watches that it is as described, and wants the status.
func (w *world) call(method, path, body string, want int, into any) *httptest.ResponseRecorder {
	w.t.Helper()
	out := httptest.NewRecorder()
	w.watched().ServeHTTP(out, request(method, path, body))
	if out.Code != want {
		w.t.Fatalf("%s %s: %d, want %d\n%.1000s", method, path, out.Code, want, out.Body)
	}
	if into != nil {
		if err := json.Unmarshal(out.Body.Bytes(), into); err != nil {
			w.t.Fatal(err)
		}
	}
	return out
}

type page struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next"`
}

func (w *world) texts(p page) []string {
	w.t.Helper()
	var out []string
	for _, b := range p.Items {
		out = append(out, canonical(w.t, b))
	}
	return out
}

// page fetches one without looking at the description, which is slow.
func (w *world) page(path string) page {
	w.t.Helper()
	out := httptest.NewRecorder()
	w.api.ServeHTTP(out, request("GET", path, ""))
	var p page
	if out.Code != 200 {
		w.t.Fatalf("GET %s: %d %s", path, out.Code, out.Body)
	}
	if err := json.Unmarshal(out.Body.Bytes(), &p); err != nil {
		w.t.Fatalf("%v in %.1000s", err, out.Body)
	}
	return p
}

// frame is what an event stream brings between two empty lines.
type frame struct{ id, event, data, comment string }

// readFrame reads the next frame; an error is the end of the stream.
func readFrame(r *bufio.Reader) (frame, error) {
	var f frame
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return f, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return f, nil
		}
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimPrefix(value, " "); name {
		case "id":
			f.id = value
		case "event":
			f.event = value
		case "data":
			f.data += value
		case "":
			f.comment = "comment"
		}
	}
}

// stream is a client of an event stream, over a real connection.
type stream struct {
	t    testing.TB
	resp *http.Response
	in   *bufio.Reader
	id   string // of the last frame
}

func (w *world) serve() *httptest.Server {
	srv := httptest.NewServer(w.api)
	w.t.Cleanup(srv.Close)
	return srv
}

func connect(t testing.TB, srv *httptest.Server, path, lastID string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer token")
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %d %v", path, resp.StatusCode, resp.Header)
	}
	s := &stream{t: t, resp: resp, in: bufio.NewReader(resp.Body)}
	first, err := readFrame(s.in)
	if err != nil || first.id == "" || first.data != "" {
		t.Fatalf("a stream begins with %+v %v, want an id alone", first, err)
	}
	s.id = first.id
	return s
}

// next is the data of the next event.
func (s *stream) next() string {
	s.t.Helper()
	for {
		f, err := readFrame(s.in)
		if err != nil {
			s.t.Fatalf("the stream ended: %v", err)
		}
		if f.comment != "" {
			continue
		}
		if f.id == "" || f.event != "document.changed" {
			s.t.Fatalf("a frame of another kind: %+v", f)
		}
		s.id = f.id
		return canonical(s.t, []byte(f.data))
	}
}
