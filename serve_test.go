package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/eventing"
	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// cluster is every function as a process of its own would be: a host each, one
// database, and a broker between them that speaks HTTP and knows only the triggers.
type cluster struct {
	dir    string
	serves map[string]*httptest.Server
	broker *httptest.Server
}

func newCluster(t *testing.T, functions ...string) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir(), serves: map[string]*httptest.Server{}}
	triggers, err := eventing.Triggers()
	if err != nil {
		t.Fatal(err)
	}
	c.broker = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		e, err := cehttp.NewEventFromHTTPRequest(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, tr := range triggers {
			if server := c.serves[tr.Subscriber]; server != nil && tr.Matches(*e) {
				go c.deliver(server.URL+tr.Path, body)
			}
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(c.broker.Close)
	for _, name := range functions {
		host, err := gateway.NewHost(settings(t, map[string]string{
			"PEAT_DATABASE_URL": "sqlite:" + filepath.Join(c.dir, "x.db"), "PEAT_KEK_FILE": filepath.Join(c.dir, "kek"),
			"PEAT_FILE_SINK_DIR": filepath.Join(c.dir, "sinks"), "K_SINK": c.broker.URL, "HOSTNAME": name, "PEAT_FUNCTION": name,
		}), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		serving, err := host.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(serving)
		c.serves[name] = server
		t.Cleanup(func() {
			server.Close()
			if err := serving.Close(); err != nil {
				t.Error(err)
			}
			if err := host.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return c
}

func (c *cluster) deliver(url string, body []byte) {
	resp, err := http.Post(url, "application/cloudevents+json", bytes.NewReader(body))
	if err == nil {
		_ = resp.Body.Close()
	}
}

func (c *cluster) post(t *testing.T, function, path, body string) []byte {
	t.Helper()
	r, _ := http.NewRequest("POST", c.serves[function].URL+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 201 {
		t.Fatalf("POST %s: %d %s", path, resp.StatusCode, answer)
	}
	return answer
}

// TestFunctionsMeetOnlyInTheStoreAndTheBroker: an organization made by one
// process, a sink by another, and delivered to by a third that hears of both.
func TestFunctionsMeetOnlyInTheStoreAndTheBroker(t *testing.T) {
	c := newCluster(t, "orgs", "sinks", "sink-file")
	c.post(t, "orgs", "/orgs", `{"org_id":"acme","display_name":"Acme"}`)
	c.post(t, "orgs", "/orgs/acme/formations", `{"app_id":"logistics"}`)
	c.post(t, "sinks", "/orgs/acme/cdc/sinks", `{"kind":"file","config":{"path":"all.ndjson"},"formations":["*"],"start":"beginning"}`)

	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(c.dir, "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	key := tenant.Key{Org: "acme", App: "logistics"}
	append1 := func(seq uint64) uint64 {
		var position uint64
		s := change.Follow(change.Change{Hash: change.Hash{byte(seq)}, Raw: []byte{1}, Patches: []byte("[]")}, "d", seq, nil)
		s.ReceivedAt, s.Origin = store.Precise(time.Now()), change.Sync
		if err := st.InTx(t.Context(), func(tx *store.Tx) error {
			position, err = tx.AppendChanges(t.Context(), key, []change.Settled{s})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return position
	}
	file := filepath.Join(c.dir, "sinks", "all.ndjson")
	arrived := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			text, _ := os.ReadFile(file)
			if bytes.Count(text, []byte("\n")) >= n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d events did not arrive; the file: %s", n, text)
			}
		}
	}
	broker := bus.NewKnative(c.broker.URL)
	if err := broker.Publish(t.Context(), event.LogAppended(key, append1(1), time.Now())); err != nil {
		t.Fatal(err)
	}
	arrived(1)
	append1(2) // nobody rings for this one: the sweep finds it
	if err := broker.Publish(t.Context(), event.Ping(time.Now())); err != nil {
		t.Fatal(err)
	}
	arrived(2)
}

func TestReadyAsksTheStore(t *testing.T) {
	host, err := gateway.NewHost(settings(t, nil), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := host.Open(t.Context(), "orgs")
	if err != nil {
		t.Fatal(err)
	}
	status := func() string {
		w := httptest.NewRecorder()
		serving.ServeHTTP(w, httptest.NewRequest("GET", "/health/ready", nil))
		return fmt.Sprint(w.Code)
	}
	if got := status(); got != "200" {
		t.Errorf("ready = %s", got)
	}
	_ = serving.Close()
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != "503" {
		t.Errorf("without its store: ready = %s", got)
	}
	if err := serving.Ready(context.Background()); err == nil {
		t.Error("Ready of a closed store")
	}
}
