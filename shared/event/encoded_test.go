package event_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func asMap(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m
}

func sdk(t *testing.T, e cloudevents.Event) map[string]any {
	t.Helper()
	text, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return asMap(t, text)
}

// FuzzEncodeChange compares our encoder with the SDK's, whatever the author wrote.
func FuzzEncodeChange(f *testing.F) {
	f.Add(uint64(1), "half \"full\"", "doc")
	f.Add(uint64(2), "\x00\x1f<&>\u2028é\xff", "notes:7/§")
	f.Fuzz(func(t *testing.T, seed uint64, message, document string) {
		if document == "" {
			t.Skip("a document has an id")
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		c := settled()
		c.Document, c.Message = document, message
		c.Seq, c.Position, c.ActorSeq, c.StartOp = rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64()
		c.Time, c.Concurrent = int64(rng.Uint64()>>20), rng.IntN(2) == 0
		c.ReceivedAt = time.UnixMicro(int64(rng.Uint64() >> 14)).UTC()
		c.Deps = make([]change.Hash, rng.IntN(3))
		if rng.IntN(2) == 0 {
			c.Prev = nil
		}
		if rng.IntN(2) == 0 {
			c.Trace = traceparent
		}
		for _, format := range []delivery.Format{delivery.Patches, delivery.Raw, delivery.Both} {
			got := asMap(t, event.EncodeChange(key, c, format, nil).AppendJSON(nil))
			want := sdk(t, event.DocumentChanged(key, c, format))
			// The SDK trims a subject. Ours is the document's id to the letter: two ids
			// that differ in a blank are two documents.
			quoted, _ := json.Marshal(document)
			want["subject"] = asMap(t, []byte(`{"is":`+string(quoted)+`}`))["is"]
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-sdk +ours):\n%s", format, diff)
			}
		}
	})
}

func TestEncodeAnyEvent(t *testing.T) {
	for _, e := range []cloudevents.Event{event.SinkTest("acme", "01SINK", now), event.ChangeSkipped(key, "01SINK", settled())} {
		got, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sdk(t, e), asMap(t, got.AppendJSON(nil))); diff != "" || got.Attribute("id") != e.ID() || got.Attribute("none") != "" {
			t.Errorf("%s: %s", e.Type(), diff)
		}
		if size := len(got.AppendJSON(nil)); got.Size() < size-8 || got.Size() > size+8 {
			t.Errorf("size %d of %d", got.Size(), size)
		}
	}
}

func TestOccasions(t *testing.T) {
	last := change.Hash{0xcc}
	data := func(o *event.Occasion) map[string]any {
		e := asMap(t, event.EncodeChange(key, settled(), delivery.Patches, o).AppendJSON(nil))
		return map[string]any{"prev": e["data"].(map[string]any)["prev"], "replayid": e["replayid"], "id": e["id"]}
	}
	id := event.DocumentChangedID(key, settled().Document, settled().Hash)
	for name, tc := range map[string]struct {
		o    *event.Occasion
		prev any
		by   any
	}{
		"none":                      {nil, change.Hash{0xaa}.String(), nil},
		"the sink's own last event": {&event.Occasion{Prev: &last}, last.String(), nil},
		"the sink's first":          {&event.Occasion{}, nil, nil},
		"a replay":                  {&event.Occasion{Replay: "r1"}, change.Hash{0xaa}.String(), "r1"},
	} {
		if diff := cmp.Diff(map[string]any{"prev": tc.prev, "replayid": tc.by, "id": id}, data(tc.o)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func BenchmarkEncodeChange(b *testing.B) {
	for name, encode := range map[string]func(tenant.Key, change.Settled) int{
		"ours": func(k tenant.Key, c change.Settled) int {
			return len(event.EncodeChange(k, c, delivery.Patches, nil).AppendJSON(nil))
		},
		"sdk": func(k tenant.Key, c change.Settled) int {
			text, _ := event.DocumentChanged(k, c, delivery.Patches).MarshalJSON()
			return len(text)
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if encode(key, settled()) == 0 {
					b.Fatal("nothing")
				}
			}
		})
	}
}
