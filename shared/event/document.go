package event

import (
	"encoding/base64"
	"encoding/json"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// DocumentData is one settled change, as a sink receives it. Fields may be added,
// none is ever renamed.
type DocumentData struct {
	Org         tenant.OrgID      `json:"org_id"`
	App         tenant.AppID      `json:"app_id"`
	Document    string            `json:"document_id"`
	Hash        change.Hash       `json:"change_hash"`
	Deps        []change.Hash     `json:"deps"`
	Actor       string            `json:"actor_id"`
	ActorSeq    uint64            `json:"actor_seq"`
	StartOp     uint64            `json:"start_op"`
	TimestampMS int64             `json:"timestamp_ms"`
	Message     string            `json:"message"`
	Seq         uint64            `json:"seq"`
	Prev        *change.Hash      `json:"prev"`
	Concurrent  bool              `json:"concurrent"`
	Position    uint64            `json:"position"`
	Patches     json.RawMessage   `json:"patches,omitempty"`
	Change      string            `json:"change,omitempty"` // base64 of the change chunk
	ReceivedAt  int64             `json:"received_at_ms"`
	Origin      change.Origin     `json:"origin"`
	Metadata    map[string]string `json:"metadata"`
}

// DocumentChanged is the event of one change in the form the sink asked for. It
// is the same, id and all, however often it is made.
func DocumentChanged(key tenant.Key, c change.Settled, format delivery.Format) cloudevents.Event {
	data := DocumentData{
		Org: key.Org, App: key.App, Document: c.Document,
		Hash: c.Hash, Deps: c.Deps, Actor: c.Actor, ActorSeq: c.ActorSeq, StartOp: c.StartOp,
		TimestampMS: c.TimestampMS(), Message: c.Message,
		Seq: c.Seq, Prev: c.Prev, Concurrent: c.Concurrent, Position: c.Position,
		ReceivedAt: c.ReceivedAt.UnixMilli(), Origin: c.Origin, Metadata: map[string]string{},
	}
	if data.Deps == nil {
		data.Deps = []change.Hash{}
	}
	if format == delivery.Patches || format == delivery.Both {
		data.Patches = c.Patches
	}
	if format == delivery.Raw || format == delivery.Both {
		data.Change = base64.StdEncoding.EncodeToString(c.Raw)
	}
	e := aboutChange(DocumentChangedType, key, c)
	e.SetID(DocumentChangedID(key, c.Document, c.Hash))
	return with(e, data)
}

// DocumentChangedID names a change's event: the same over retries, replays and
// restarts, and unique across sources.
func DocumentChangedID(key tenant.Key, document string, hash change.Hash) string {
	return deterministicID(string(key.Org), string(key.App), document, hash.String())
}

// SkippedData tells a consumer that a change will not come: an operator decided
// so. The document's seq goes on after it.
type SkippedData struct {
	Org      tenant.OrgID `json:"org_id"`
	App      tenant.AppID `json:"app_id"`
	Document string       `json:"document_id"`
	Hash     change.Hash  `json:"change_hash"`
	Seq      uint64       `json:"seq"`
	Prev     *change.Hash `json:"prev"`
	Position uint64       `json:"position"`
}

// ChangeSkipped takes the place of a change that an operator skipped at one sink.
func ChangeSkipped(key tenant.Key, sink string, c change.Settled) cloudevents.Event {
	e := aboutChange(ChangeSkippedType, key, c)
	e.SetID(deterministicID(string(key.Org), string(key.App), c.Document, c.Hash.String(), "skipped", sink))
	return with(e, SkippedData{key.Org, key.App, c.Document, c.Hash, c.Seq, c.Prev, c.Position})
}

func aboutChange(eventType string, key tenant.Key, c change.Settled) cloudevents.Event {
	e := inFormation(eventType, key.Org, key.App, c.Document, c.ReceivedAt)
	e.SetExtension("partitionkey", string(key.Org)+"/"+string(key.App)+"/"+c.Document)
	e.SetExtension("sequence", sequence(c.Seq))
	if c.Trace != "" {
		e.SetExtension("traceparent", c.Trace) // of CloudEvents' Distributed Tracing extension
	}
	return e
}

// TestData is the body of a test event.
type TestData struct {
	Org  tenant.OrgID `json:"org_id"`
	Sink string       `json:"sink_id"`
	Note string       `json:"note"`
}

// SinkTest is an event that means nothing: it shows that a sink can be reached.
func SinkTest(org tenant.OrgID, sink string, now time.Time) cloudevents.Event {
	e := newEvent(SinkTestType, OrgSource(org), sink, now)
	e.SetExtension("peatorg", string(org))
	e.SetExtension("partitionkey", string(org)+"/"+sink)
	return with(e, TestData{org, sink, "sent on request, to show that this sink can be reached"})
}
