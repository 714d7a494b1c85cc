package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// delivery is one event as a sink received it.
type delivery struct {
	body    []byte
	id      string // of the transport: webhook-id, Nats-Msg-Id; empty for a file
	subject string // of a NATS message
}

// changed is the CloudEvent of a changed document, structured JSON.
type changed struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Type            string    `json:"type"`
	Source          string    `json:"source"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	PartitionKey    string    `json:"partitionkey"`
	Sequence        string    `json:"sequence"`
	Org             string    `json:"peatorg"`
	App             string    `json:"peatapp"`

	Data struct {
		Org        string          `json:"org_id"`
		App        string          `json:"app_id"`
		Document   string          `json:"document_id"`
		Hash       string          `json:"change_hash"`
		Deps       []string        `json:"deps"`
		Actor      string          `json:"actor_id"`
		ActorSeq   uint64          `json:"actor_seq"`
		StartOp    uint64          `json:"start_op"`
		Seq        uint64          `json:"seq"`
		Prev       *string         `json:"prev"`
		Concurrent bool            `json:"concurrent"`
		Position   uint64          `json:"position"`
		Patches    json.RawMessage `json:"patches"`
		Change     string          `json:"change"`
		ReceivedAt int64           `json:"received_at_ms"`
		Origin     string          `json:"origin"`
	} `json:"data"`
}

const changedType = "com.defenseunicorns.peat.gateway.document.changed.v1"

// report is what the peers say, at the end, that the library holds (peers.mjs).
type report struct {
	Seed      uint64                    `json:"seed"`
	Documents map[string]reportDocument `json:"documents"`
}

type reportDocument struct {
	Heads   []string       `json:"heads"`
	Changes []reportChange `json:"changes"`
}

type reportChange struct {
	Hash    string   `json:"hash"`
	Deps    []string `json:"deps"`
	Actor   string   `json:"actor"`
	Seq     uint64   `json:"seq"`
	StartOp uint64   `json:"startOp"`
	Raw     string   `json:"raw"`
}

func (r report) count() (n int) {
	for _, d := range r.Documents {
		n += len(d.Changes)
	}
	return n
}

// verdict is what checking a sink's deliveries gave.
type verdict struct {
	first      []changed // each event once, in the order of first arrival
	duplicates int
	problems   []string
}

// check holds what one sink received against what the library reports: every
// change of every document and no other; in each document first arrivals in the
// order of seq without a gap, after their dependencies, chained by prev; what
// came twice came with the same id and content.
func check(r report, org, app string, got []delivery) verdict {
	var v verdict
	problem := func(format string, args ...any) { v.problems = append(v.problems, fmt.Sprintf(format, args...)) }

	bodies := map[string][]byte{}        // by event id
	ids := map[string]string{}           // by document and hash
	settled := map[string][]string{}     // hashes by document, in order of arrival
	seen := map[string]map[string]bool{} // the same as a set
	positions := map[uint64]string{}
	known := map[string]map[string]reportChange{}
	for id, d := range r.Documents {
		known[id] = map[string]reportChange{}
		for _, c := range d.Changes {
			known[id][c.Hash] = c
		}
	}

	for n, d := range got {
		var e changed
		if err := json.Unmarshal(d.body, &e); err != nil {
			problem("delivery %d is not an event: %v", n, err)
			continue
		}
		at := fmt.Sprintf("delivery %d (%s seq %d)", n, e.Data.Document, e.Data.Seq)
		if e.Type != changedType {
			problem("%s: type %s", at, e.Type)
			continue
		}
		if d.id != "" && d.id != e.ID {
			problem("%s: the transport says id %s, the event %s", at, d.id, e.ID)
		}
		if first, again := bodies[e.ID]; again {
			v.duplicates++
			if !sameEvent(first, d.body) {
				problem("%s: id %s came before with other content", at, e.ID)
			}
			continue
		}
		bodies[e.ID] = d.body
		doc, hash := e.Data.Document, e.Data.Hash
		if other, again := ids[doc+" "+hash]; again {
			problem("%s: change %s came before under id %s", at, hash, other)
			continue
		}
		ids[doc+" "+hash] = e.ID
		v.first = append(v.first, e)

		c, ok := known[doc][hash]
		if !ok {
			problem("%s: the library has no change %s in that document", at, hash)
			continue
		}
		if e.Data.Actor != c.Actor || e.Data.ActorSeq != c.Seq || e.Data.StartOp != c.StartOp {
			problem("%s: author %s %d %d, the library says %s %d %d", at, e.Data.Actor, e.Data.ActorSeq, e.Data.StartOp, c.Actor, c.Seq, c.StartOp)
		}
		if !slices.Equal(slices.Sorted(slices.Values(e.Data.Deps)), slices.Sorted(slices.Values(c.Deps))) {
			problem("%s: deps %v, the library says %v", at, e.Data.Deps, c.Deps)
		}
		if e.Data.Change != c.Raw {
			problem("%s: the change's bytes differ from the library's", at)
		}
		if !bytes.HasPrefix(bytes.TrimSpace(e.Data.Patches), []byte("[")) {
			problem("%s: no list of patches: %.40s", at, e.Data.Patches)
		}
		for _, dep := range c.Deps {
			if !seen[doc][dep] {
				problem("%s: came before its dependency %s", at, dep)
			}
		}
		before := settled[doc]
		if want := uint64(len(before)) + 1; e.Data.Seq != want {
			problem("%s: seq %d where %d was due", at, e.Data.Seq, want)
		}
		switch {
		case len(before) == 0:
			if e.Data.Prev != nil {
				problem("%s: the first has a prev", at)
			}
			if e.Data.Concurrent {
				problem("%s: the first is said to be concurrent", at)
			}
		case e.Data.Prev == nil || *e.Data.Prev != before[len(before)-1]:
			problem("%s: prev does not name the event before", at)
		default:
			if want := !slices.Contains(c.Deps, *e.Data.Prev); e.Data.Concurrent != want {
				problem("%s: concurrent is %t, want %t", at, e.Data.Concurrent, want)
			}
		}
		if other, taken := positions[e.Data.Position]; taken {
			problem("%s: position %d is also that of %s", at, e.Data.Position, other)
		}
		positions[e.Data.Position] = at
		if seen[doc] == nil {
			seen[doc] = map[string]bool{}
		}
		seen[doc][hash] = true
		settled[doc] = append(before, hash)
		for _, p := range attributes(e, org, app, d.subject) {
			problem("%s: %s", at, p)
		}
	}

	for doc, changes := range known {
		var missing []string
		for hash := range changes {
			if !seen[doc][hash] {
				missing = append(missing, hash)
			}
		}
		if len(missing) > 0 {
			problem("document %s: %d of %d changes never came, for example %s", doc, len(missing), len(changes), missing[0])
		}
	}
	for p := uint64(1); p <= uint64(len(positions)); p++ {
		if _, ok := positions[p]; !ok {
			problem("position %d is missing among %d", p, len(positions))
			break
		}
	}
	return v
}

// attributes checks what an event says around its data.
func attributes(e changed, org, app, subject string) (problems []string) {
	for _, a := range []struct{ name, got, want string }{
		{"specversion", e.SpecVersion, "1.0"},
		{"source", e.Source, "/orgs/" + org + "/formations/" + app},
		{"subject", e.Subject, e.Data.Document},
		{"datacontenttype", e.DataContentType, "application/json"},
		{"partitionkey", e.PartitionKey, org + "/" + app + "/" + e.Data.Document},
		{"sequence", e.Sequence, fmt.Sprintf("%020d", e.Data.Seq)},
		{"peatorg", e.Org, org},
		{"peatapp", e.App, app},
		{"org_id", e.Data.Org, org},
		{"app_id", e.Data.App, app},
		{"origin", e.Data.Origin, "sync"},
	} {
		if a.got != a.want {
			problems = append(problems, fmt.Sprintf("%s is %q, want %q", a.name, a.got, a.want))
		}
	}
	if e.Time.UnixMilli() != e.Data.ReceivedAt {
		problems = append(problems, fmt.Sprintf("time %s is not received_at_ms %d", e.Time, e.Data.ReceivedAt))
	}
	if subject != "" {
		parts := strings.Split(subject, ".")
		if len(parts) != 4 || parts[0] != org || parts[2] != app || parts[3] != e.Data.Document {
			problems = append(problems, fmt.Sprintf("NATS subject %s", subject))
		}
	}
	return problems
}

// sameEvent compares two events but for the trace they belong to.
func sameEvent(a, b []byte) bool {
	plain := func(body []byte) string {
		var m map[string]any
		if json.Unmarshal(body, &m) != nil {
			return string(body)
		}
		delete(m, "traceparent")
		delete(m, "tracestate")
		out, _ := json.Marshal(m)
		return string(out)
	}
	return bytes.Equal(a, b) || plain(a) == plain(b)
}

// documentOf is the document an event is about.
func documentOf(body []byte) []byte {
	var e struct {
		Subject string `json:"subject"`
	}
	if json.Unmarshal(body, &e) != nil {
		return nil
	}
	return []byte(e.Subject)
}

// mustHold fails the test for every problem, the first twenty in full.
func (v verdict) mustHold(t testing.TB, sink string) {
	t.Helper()
	for i, p := range v.problems {
		if i == 20 {
			t.Errorf("%s: and %d problems more", sink, len(v.problems)-20)
			break
		}
		t.Errorf("%s: %s", sink, p)
	}
	t.Logf("%s: %d events, %d of them twice or more", sink, len(v.first), v.duplicates)
}

// mustAgree fails the test if two sinks name or place the same change differently.
func mustAgree(t testing.TB, a, b verdict) {
	t.Helper()
	type key struct{ doc, hash string }
	of := map[key]changed{}
	for _, e := range a.first {
		of[key{e.Data.Document, e.Data.Hash}] = e
	}
	for _, e := range b.first {
		if o, ok := of[key{e.Data.Document, e.Data.Hash}]; ok && (o.ID != e.ID || o.Data.Seq != e.Data.Seq || o.Data.Position != e.Data.Position) {
			t.Errorf("change %s: one sink has id %s seq %d position %d, another id %s seq %d position %d",
				e.Data.Hash, o.ID, o.Data.Seq, o.Data.Position, e.ID, e.Data.Seq, e.Data.Position)
		}
	}
}

// TestCheck shows that the checker sees what it is there to see: a judge that
// never says no proves nothing.
func TestCheck(t *testing.T) {
	r := report{Documents: map[string]reportDocument{"doc": {Changes: []reportChange{
		{Hash: "h1", Deps: []string{}, Actor: "a", Seq: 1, StartOp: 1, Raw: "AAA="},
		{Hash: "h2", Deps: []string{"h1"}, Actor: "a", Seq: 2, StartOp: 2, Raw: "AAB="},
		{Hash: "h3", Deps: []string{"h1"}, Actor: "b", Seq: 1, StartOp: 2, Raw: "AAC="},
	}}}}
	event := func(n int, edit func(m, data map[string]any)) delivery {
		c := r.Documents["doc"].Changes[n-1]
		data := map[string]any{
			"org_id": "o", "app_id": "f", "document_id": "doc", "change_hash": c.Hash, "deps": c.Deps,
			"actor_id": c.Actor, "actor_seq": c.Seq, "start_op": c.StartOp, "seq": n, "position": n,
			"prev": nil, "concurrent": n == 3, "patches": []any{}, "change": c.Raw, "received_at_ms": 1000, "origin": "sync",
		}
		if n > 1 {
			data["prev"] = fmt.Sprintf("h%d", n-1)
		}
		m := map[string]any{
			"specversion": "1.0", "id": "id" + c.Hash, "type": changedType, "source": "/orgs/o/formations/f",
			"subject": "doc", "time": "1970-01-01T00:00:01Z", "datacontenttype": "application/json",
			"partitionkey": "o/f/doc", "sequence": fmt.Sprintf("%020d", n), "peatorg": "o", "peatapp": "f", "data": data,
		}
		if edit != nil {
			edit(m, data)
		}
		body, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return delivery{body: body}
	}
	set := func(name string, v any) func(m, data map[string]any) {
		return func(_, data map[string]any) { data[name] = v }
	}
	one, two, three := event(1, nil), event(2, nil), event(3, nil)
	for name, tc := range map[string]struct {
		got  []delivery
		says string // "" for nothing
	}{
		"all in order":              {[]delivery{one, two, three}, ""},
		"one comes twice":           {[]delivery{one, two, one, two, three}, ""},
		"one is missing":            {[]delivery{one, two}, "never came"},
		"the middle one is missing": {[]delivery{one, three}, "seq 3 where 2"},
		"two change places":         {[]delivery{one, three, two}, "seq 3 where 2"},
		"a cause comes late":        {[]delivery{two, one, three}, "before its dependency"},
		"twice with other content":  {[]delivery{one, two, event(2, set("position", 9)), three}, "other content"},
		"twice with another id": {[]delivery{one, two, three,
			event(3, func(m, _ map[string]any) { m["id"] = "new" })}, "under id"},
		"one that nobody made":    {[]delivery{one, two, three, event(3, func(m, d map[string]any) { m["id"] = "x"; d["change_hash"] = "h9" })}, "no change h9"},
		"prev points elsewhere":   {[]delivery{one, two, event(3, set("prev", "h1"))}, "prev does not"},
		"concurrent is wrong":     {[]delivery{one, two, event(3, set("concurrent", false))}, "concurrent"},
		"a position is taken":     {[]delivery{one, two, event(3, set("position", 2))}, "position 2 is also"},
		"a position is left out":  {[]delivery{one, two, event(3, set("position", 4))}, "position 3 is missing"},
		"the bytes differ":        {[]delivery{one, two, event(3, set("change", "AAD="))}, "bytes differ"},
		"patches are missing":     {[]delivery{one, two, event(3, set("patches", nil))}, "no list of patches"},
		"another organization's":  {[]delivery{one, two, event(3, set("org_id", "p"))}, "org_id"},
		"the sequence is not seq": {[]delivery{one, two, event(3, func(m, _ map[string]any) { m["sequence"] = "3" })}, "sequence"},
		"the author differs":      {[]delivery{one, two, event(3, set("actor_seq", 7))}, "author"},
	} {
		t.Run(name, func(t *testing.T) {
			v := check(r, "o", "f", tc.got)
			if tc.says == "" && len(v.problems) > 0 {
				t.Errorf("%q", v.problems)
			}
			if tc.says != "" && !strings.Contains(strings.Join(v.problems, "\n"), tc.says) {
				t.Errorf("%q does not say %q", v.problems, tc.says)
			}
		})
	}
}
