package sinks

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// traced is a traceparent of trace n.
func traced(n int) string { return fmt.Sprintf("00-%032x-00000000000000aa-01", n) }

// writeTraced appends changes of a document, the n-th in the n-th of the traces.
func (w *world) writeTraced(document string, traces ...string) {
	w.t.Helper()
	for _, parent := range traces {
		w.seqs[document]++
		seq := w.seqs[document]
		c := change.Follow(change.Change{Hash: hashOf(document, seq), Raw: []byte("raw"), Patches: []byte(`[]`), Actor: "aa", ActorSeq: seq}, document, seq, nil)
		c.ReceivedAt, c.Origin, c.Trace = w.clock.now(), change.Sync, parent
		w.tx(func(tx *store.Tx) error {
			_, err := tx.AppendChanges(context.Background(), w.pair.key, []change.Settled{c})
			return err
		})
	}
}

func TestABatchLeadsBackToTheTracesOfItsChanges(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, traced(i+1), traced(i+1))
	}
	for name, tc := range map[string]struct {
		traces []string
		links  int
		parent bool // it is of the one trace
	}{
		"of one":        {[]string{traced(1), traced(1)}, 1, true},
		"of two":        {[]string{traced(1), traced(2)}, 2, false},
		"of none":       {[]string{"", ""}, 0, false},
		"of what is no": {[]string{"x"}, 0, false},
		"of many":       {many, maxLinks, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sqlite(t))
			spans := tracetest.NewInMemoryExporter()
			w.d.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("")
			w.writeTraced("a", tc.traces...)
			w.deliver()
			got := spans.GetSpans()
			if len(got) != 1 || len(got[0].Links) != tc.links {
				t.Fatalf("%d spans, the first of %+v", len(got), got)
			}
			seen := map[string]bool{}
			for _, l := range got[0].Links {
				seen[l.SpanContext.TraceID().String()] = true
			}
			if len(seen) != tc.links || seen[got[0].SpanContext.TraceID().String()] != tc.parent {
				t.Errorf("%d traces, its own among them: %v", len(seen), !tc.parent)
			}
		})
	}
}

// took remembers how long events took.
type took struct {
	noMetrics
	all []time.Duration
}

func (k *took) Took(_ string, d time.Duration) { k.all = append(k.all, d) }

func TestWhatBecameOfABatchIsInItsSpan(t *testing.T) {
	w := newWorld(t, sqlite(t))
	spans, counted := tracetest.NewInMemoryExporter(), &took{}
	w.d.Tracer, w.d.Metrics = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer(""), counted
	w.write("good", "good", "bad", "bad", "slow")
	w.driver.answer = func(it driver.Event) driver.Outcome {
		return map[string]driver.Outcome{"good": {Verdict: driver.Delivered}, "bad": {Verdict: driver.Refused, Reason: "secret"}, "slow": {Verdict: driver.Retry}}[it.Document]
	}
	w.clock.advance(3 * time.Second)
	w.deliver()
	got := spans.GetSpans()
	if len(got) != 1 || got[0].Status.Code.String() != "Error" {
		t.Fatalf("%+v", got)
	}
	attributes := map[string]string{}
	for _, a := range got[0].Attributes {
		attributes[string(a.Key)] = a.Value.String()
	}
	want := map[string]string{"peat.kind": "webhook", "peat.org": "acme", "peat.app": "logistics", "peat.sink": w.pair.sink,
		"messaging.batch.message_count": "5", "peat.delivered": "2", "peat.refused": "1", "peat.retried": "1", "peat.untried": "1"}
	if diff := cmp.Diff(want, attributes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]time.Duration{3 * time.Second, 3 * time.Second}, counted.all); diff != "" {
		t.Error(diff)
	}
}
