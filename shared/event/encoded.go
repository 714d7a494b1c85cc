package event

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Attribute is one of an event's context attributes. All of ours are text.
type Attribute struct{ Name, Value string }

// Encoded is an event ready to leave, in whichever mode its carrier has:
// attributes and data apart, or together as one JSON object. The SDK's own
// encoder costs more than the rest of a delivery.
type Encoded struct {
	Attributes []Attribute
	Data       []byte // JSON
}

// Attribute returns the attribute of that name, or "".
func (e Encoded) Attribute(name string) string {
	for _, a := range e.Attributes {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// AppendJSON appends the event in the structured mode of CloudEvents.
func (e Encoded) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for _, a := range e.Attributes {
		dst = append(append(append(dst, '"'), a.Name...), `":`...) // names are lower-case letters and digits
		dst = append(appendString(dst, a.Value), ',')
	}
	dst = append(dst, `"data":`...)
	return append(append(dst, e.Data...), '}')
}

// Size is about how long AppendJSON makes it.
func (e Encoded) Size() int {
	n := len(e.Data) + len(`{"data":}`)
	for _, a := range e.Attributes {
		n += len(a.Name) + len(a.Value) + len(`"":"",`)
	}
	return n
}

// Encode is any event, ready to leave.
func Encode(e cloudevents.Event) (Encoded, error) {
	out := Encoded{Data: e.Data(), Attributes: []Attribute{
		{"specversion", e.SpecVersion()}, {"id", e.ID()}, {"source", e.Source()}, {"type", e.Type()},
		{"subject", e.Subject()}, {"datacontenttype", e.DataContentType()}, {"time", types.FormatTime(e.Time())},
	}}
	for name, value := range e.Extensions() {
		text, err := types.Format(value)
		if err != nil {
			return Encoded{}, fmt.Errorf("the event's %s cannot be written: %w", name, err)
		}
		out.Attributes = append(out.Attributes, Attribute{name, text})
	}
	if !json.Valid(out.Data) {
		return Encoded{}, fmt.Errorf("the event's data is not JSON")
	}
	return out, nil
}

// Occasion is what one delivery of a change's event may say beyond the change.
type Occasion struct {
	Prev   *change.Hash // the last event that the sink got of the document; not the change's own
	Replay string       // the id of the replay that sends it once more
}

// EncodeChange is DocumentChanged, ready to leave. A sink with a filter gets its
// own prev by the occasion; without one the change's is used.
func EncodeChange(key tenant.Key, c change.Settled, format delivery.Format, o *Occasion) Encoded {
	prev := c.Prev
	if o != nil && o.Replay == "" {
		prev = o.Prev
	}
	e := Encoded{Data: appendDocument(make([]byte, 0, 640+len(c.Patches)+len(c.Raw)*4/3), key, c, format, prev)}
	e.Attributes = append(make([]Attribute, 0, 13), Attribute{"specversion", "1.0"},
		Attribute{"id", DocumentChangedID(key, c.Document, c.Hash)})
	e.Attributes = append(e.Attributes, changeAttributes(DocumentChangedType, key, c)...)
	if c.Trace != "" {
		e.Attributes = append(e.Attributes, Attribute{"traceparent", c.Trace})
	}
	if o != nil && o.Replay != "" {
		e.Attributes = append(e.Attributes, Attribute{"replayid", o.Replay})
	}
	return e
}

func changeAttributes(eventType string, key tenant.Key, c change.Settled) []Attribute {
	org, app := string(key.Org), string(key.App)
	return []Attribute{
		{"source", FormationSource(key.Org, key.App)}, {"type", eventType}, {"subject", c.Document},
		{"datacontenttype", cloudevents.ApplicationJSON}, {"time", c.ReceivedAt.UTC().Format(time.RFC3339Nano)},
		{"partitionkey", org + "/" + app + "/" + c.Document}, {"sequence", sequence(c.Seq)},
		{"peatapp", app}, {"peatorg", org},
	}
}

// sequence is a number that sorts as text.
func sequence(seq uint64) string {
	digits := strconv.FormatUint(seq, 10)
	return "00000000000000000000"[len(digits):] + digits
}

// appendDocument appends DocumentData, as encoding/json would.
func appendDocument(b []byte, key tenant.Key, c change.Settled, format delivery.Format, prev *change.Hash) []byte {
	b = append(b, `{"org_id":`...)
	b = appendString(b, string(key.Org))
	b = append(b, `,"app_id":`...)
	b = appendString(b, string(key.App))
	b = append(b, `,"document_id":`...)
	b = appendString(b, c.Document)
	b = append(b, `,"change_hash":`...)
	b = appendHash(b, c.Hash)
	b = append(b, `,"deps":[`...)
	for i, d := range c.Deps {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendHash(b, d)
	}
	b = append(b, `],"actor_id":`...)
	b = appendString(b, c.Actor)
	b = strconv.AppendUint(append(b, `,"actor_seq":`...), c.ActorSeq, 10)
	b = strconv.AppendUint(append(b, `,"start_op":`...), c.StartOp, 10)
	b = strconv.AppendInt(append(b, `,"timestamp_ms":`...), c.TimestampMS(), 10)
	b = append(b, `,"message":`...)
	b = appendString(b, c.Message)
	b = strconv.AppendUint(append(b, `,"seq":`...), c.Seq, 10)
	b = append(b, `,"prev":`...)
	if prev == nil {
		b = append(b, "null"...)
	} else {
		b = appendHash(b, *prev)
	}
	b = strconv.AppendBool(append(b, `,"concurrent":`...), c.Concurrent)
	b = strconv.AppendUint(append(b, `,"position":`...), c.Position, 10)
	if (format == delivery.Patches || format == delivery.Both) && len(c.Patches) > 0 {
		b = append(append(b, `,"patches":`...), c.Patches...)
	}
	if (format == delivery.Raw || format == delivery.Both) && len(c.Raw) > 0 {
		b = base64.StdEncoding.AppendEncode(append(b, `,"change":"`...), c.Raw)
		b = append(b, '"')
	}
	b = strconv.AppendInt(append(b, `,"received_at_ms":`...), c.ReceivedAt.UnixMilli(), 10)
	b = append(b, `,"origin":`...)
	b = appendString(b, string(c.Origin))
	return append(b, `,"metadata":{}}`...)
}

func appendHash(b []byte, h change.Hash) []byte {
	b = append(b, '"')
	b = hex.AppendEncode(b, h[:])
	return append(b, '"')
}

// appendString appends s as JSON. Nearly all of ours need no escaping.
func appendString(b []byte, s string) []byte {
	if !isPlain(s) {
		quoted, err := json.Marshal(s)
		if err != nil {
			panic(err) // a string always can be
		}
		return append(b, quoted...)
	}
	return append(append(append(b, '"'), s...), '"')
}

// isPlain reports whether s is printable ASCII with nothing to escape. It looks at
// eight bytes at a time: byte by byte this was a tenth of writing to a file.
func isPlain(s string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(s) >= 8; s = s[8:] {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		// Each term has a high bit set if some byte of w is what it looks for.
		quote, slash, del := w^ones*'"', w^ones*'\\', w^ones*0x7f
		found := w | (w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash | (del-ones)&^del
		if found&highs != 0 {
			return false
		}
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
