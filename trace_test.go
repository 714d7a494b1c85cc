package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/fxamacker/cbor/v2"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// TestOneTraceFromThePeerToTheSink: a peer's message, the change in the log, the
// event at the receiver and the delivery of it belong together.
func TestOneTraceFromThePeerToTheSink(t *testing.T) {
	dir := t.TempDir()
	host, err := gateway.NewHost(settings(t, map[string]string{"PEAT_DATABASE_URL": "sqlite:" + filepath.Join(dir, "x.db"),
		"PEAT_WEBHOOK_ALLOW": "127.0.0.0/8", "OTEL_TRACES_SAMPLER": "always_on"}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewInMemoryExporter()
	host.Settings.Tracing.Exporter = spans
	serving, err := host.OpenDev(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(serving)
	defer server.Close()
	type received struct{ header, event string }
	arrived := make(chan received, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct {
			Trace string `json:"traceparent"`
		}
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		arrived <- received{r.Header.Get(tracing.Header), e.Trace}
	}))
	defer receiver.Close()
	c := &cluster{serves: map[string]*httptest.Server{"all": server}}
	c.post(t, "all", "/orgs", `{"org_id":"acme","display_name":"Acme"}`)
	c.post(t, "all", "/orgs/acme/formations", `{"app_id":"logistics"}`)
	c.post(t, "all", "/orgs/acme/formations/logistics/cdc/sinks", `{"kind":"webhook","config":{"url":"`+receiver.URL+`"}}`)
	writeAsPeer(t, c)
	got := <-arrived

	st, err := host.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log, err := st.ChangesAfter(t.Context(), tenant.Key{Org: "acme", App: "logistics"}, 0, 10, 1<<20)
	if err != nil || len(log) != 1 {
		t.Fatalf("%d changes, %v", len(log), err)
	}
	if err := serving.Close(); err != nil { // waits for what is being delivered
		t.Fatal(err)
	}
	byName := map[string]tracetest.SpanStub{}
	for _, span := range spans.GetSpans() {
		if span.Name != "sync message" || len(span.Attributes) > 0 && settledSomething(span) {
			byName[span.Name] = span
		}
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	message, delivery := byName["sync message"], byName["deliver"]
	want := tracing.Format(message.SpanContext)
	if want == "" || log[0].Trace != want {
		t.Errorf("the change is of %q, the message was %q", log[0].Trace, want)
	}
	if got.event != want {
		t.Errorf("the event is of %q, the message was %q", got.event, want)
	}
	if got.header != tracing.Format(delivery.SpanContext) {
		t.Errorf("the request came from %q, the delivery was %v", got.header, delivery.SpanContext)
	}
	if len(delivery.Links) != 1 || tracing.Format(delivery.Links[0].SpanContext) != want || delivery.Parent.SpanID() != message.SpanContext.SpanID() {
		t.Errorf("the delivery leads back to %+v", delivery.Links)
	}
}

// settledSomething reports whether a message brought a change: there are others.
func settledSomething(span tracetest.SpanStub) bool {
	for _, a := range span.Attributes {
		if a.Key == "peat.settled" {
			return a.Value.AsInt64() > 0
		}
	}
	return false
}

// writeAsPeer connects as a peer and sends one change.
func writeAsPeer(t *testing.T, c *cluster) {
	t.Helper()
	var ticket struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(c.post(t, "all", "/orgs/acme/formations/logistics/sync-tickets", `{}`), &ticket); err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(t.Context(), ticket.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	doc := automerge.NewDoc()
	chunk := automergetest.NewAuthor("aa").Commit(doc, automergetest.Put(1, "n"))
	sync := automerge.SyncMessage{Heads: doc.Heads(), Changes: [][]byte{chunk}}
	for _, m := range []map[string]any{
		{"type": "join", "senderId": "p", "supportedProtocolVersions": []string{"1"}},
		{"type": "sync", "senderId": "p", "targetId": "x", "documentId": string(automerge.NewDocumentID([16]byte{1})), "data": sync.Encode()},
	} {
		frame, err := cbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), websocket.MessageBinary, frame); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(t.Context()); err != nil { // the welcome, then the acknowledgement
			t.Fatal(err)
		}
	}
}
