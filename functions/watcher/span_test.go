package watcher

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

// spansOf is what spans say they came to, in the order of their ends.
func spansOf(b *bench) *tracetest.InMemoryExporter {
	spans := tracetest.NewInMemoryExporter()
	b.f.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("")
	return spans
}

func TestAChangeIsStoredInTheTraceOfTheMessageThatLetItIn(t *testing.T) {
	b := setup(t, Settings{})
	spans := spansOf(b)
	p := b.join(t, "p")
	doc, chunks := history(3)
	p.offer(documentID(1), doc.Heads(), chunks[1]) // waits for its cause
	p.heads(documentID(1), nil)
	p.offer(documentID(1), doc.Heads(), chunks[0], chunks[2])
	p.heads(documentID(1), doc.Heads())
	_ = p.conn.CloseNow()
	_ = b.f.Close()

	got := spans.GetSpans()
	var counts [][2]int64
	for _, s := range got {
		var c [2]int64
		for _, a := range s.Attributes {
			switch a.Key {
			case "peat.changes":
				c[0] = a.Value.AsInt64()
			case "peat.settled":
				c[1] = a.Value.AsInt64()
			}
		}
		counts = append(counts, c)
		if s.Parent.IsValid() || s.Status.Code.String() != "Unset" {
			t.Errorf("%+v", s)
		}
	}
	if diff := cmp.Diff([][2]int64{{1, 0}, {2, 3}}, counts); diff != "" {
		t.Fatalf("changes brought and let in: %s", diff)
	}
	for i, c := range b.log() {
		if want := tracing.Format(got[1].SpanContext); c.Trace != want {
			t.Errorf("change %d is in trace %q, want %q", i, c.Trace, want)
		}
	}
	b.counted.mu.Lock()
	defer b.counted.mu.Unlock()
	if len(b.counted.traces) == 0 || !slices.Contains(b.counted.traces, tracing.Format(got[1].SpanContext)) {
		t.Errorf("the doorbell rang in %q", b.counted.traces)
	}
}

func TestASpanSaysWhyNothingWasStored(t *testing.T) {
	for name, tc := range map[string]struct {
		send func(p *peer)
		want string
	}{
		"a change that is none": {func(p *peer) { p.offer(documentID(1), nil, []byte("hush")) }, "refused: change"},
		"a message that is none": {func(p *peer) {
			p.send(message{Type: typeSync, SenderID: "p", DocumentID: string(documentID(1)), Data: []byte("hush")})
		}, "refused: sync_message"},
		"a document that is none": {func(p *peer) { p.send(message{Type: typeSync, SenderID: "p", DocumentID: "hush", Data: []byte{1}}) }, "refused: message"},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, Settings{})
			spans := spansOf(b)
			p := b.join(t, "p")
			tc.send(p)
			p.ended()
			if got := spans.GetSpans(); len(got) != 1 || got[0].Status.Description != tc.want || len(got[0].Events) != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}
