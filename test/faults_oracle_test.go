package test

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// arrival is one event as a target of the campaign got it.
type arrival struct {
	body     []byte // the whole event, structured
	id       string // what the transport says, as far as it says anything
	document string
}

// offence is a kind of broken promise.
type offence string

const (
	lost     offence = "lost"     // acknowledged to the peer and never arrived
	disorder offence = "disorder" // not in its turn within its document
	foreign  offence = "foreign"  // another organization's
	altered  offence = "altered"  // not what was written, or not what came before under that id
	repeated offence = "repeated" // more often than a crash explains
)

// ledger judges what one sink of one organization receives, as it arrives. It
// knows what the peers have in hand, and nothing of how the gateway delivers.
type ledger struct {
	org, app, sink string
	chains         map[string]history // by document, all that this organization may ever see
	meter          *meter             // of the run's arrivals; may be nil

	mu       sync.Mutex
	next     map[string]int      // by document: how many have arrived
	seen     map[string][32]byte // by event id: a digest of its content
	highest  uint64              // position
	repeats  int
	offences map[offence]int
	problems []string
	firsts   meter
}

func newLedger(org, app, sink string, chains map[string]history) *ledger {
	return &ledger{org: org, app: app, sink: sink, chains: chains,
		next: map[string]int{}, seen: map[string][32]byte{}, offences: map[offence]int{}}
}

// campaignEvent is what the ledger reads of an event.
type campaignEvent struct {
	ID           string          `json:"id"`
	Type         string          `json:"type"`
	Source       string          `json:"source"`
	Subject      string          `json:"subject"`
	Time         string          `json:"time"`
	PartitionKey string          `json:"partitionkey"`
	Sequence     string          `json:"sequence"`
	Org          string          `json:"peatorg"`
	App          string          `json:"peatapp"`
	Data         json.RawMessage `json:"data"`
}

type campaignData struct {
	Org      string  `json:"org_id"`
	App      string  `json:"app_id"`
	Document string  `json:"document_id"`
	Hash     string  `json:"change_hash"`
	Seq      uint64  `json:"seq"`
	Prev     *string `json:"prev"`
	Position uint64  `json:"position"`
	Change   string  `json:"change"`
}

// take judges an arrival against everything that arrived before it.
func (l *ledger) take(a arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var e campaignEvent
	var d campaignData
	if err := cmp.Or(json.Unmarshal(a.body, &e), json.Unmarshal(e.Data, &d)); err != nil || e.Type != changedType {
		l.offend(altered, "what arrived is no event of a change (%v): %.200s", err, a.body)
		return
	}
	at := fmt.Sprintf("%s seq %d, id %s", d.Document, d.Seq, e.ID)
	chain, ours := l.chains[d.Document]
	partition := l.org + "/" + l.app + "/" + d.Document
	if !ours || e.Org != l.org || d.Org != l.org || e.Source != "/orgs/"+l.org+"/formations/"+l.app || e.PartitionKey != partition {
		l.offend(foreign, "%s: of %q (%s), in the data %q", at, e.Org, e.Source, d.Org)
		return
	}
	if a.id != "" && a.id != e.ID || a.document != "" && a.document != d.Document || e.Subject != d.Document ||
		e.App != l.app || d.App != l.app || e.Sequence != fmt.Sprintf("%020d", d.Seq) {
		l.offend(altered, "%s: the attributes or the transport (%s, %s) say otherwise", at, a.id, a.document)
	}
	// Not the trace, which may be another one each time.
	digest := sha256.Sum256(slices.Concat([]byte(strings.Join([]string{e.Subject, e.Time, e.Sequence, ""}, "\n")), e.Data))
	if before, again := l.seen[e.ID]; again {
		l.repeats++
		l.meter.add()
		if before != digest {
			l.offend(altered, "%s: came again with other content", at)
		}
		return
	}
	l.seen[e.ID] = digest
	l.judgeFirst(at, d, chain)
	l.highest = max(l.highest, d.Position)
	l.firsts.add()
	l.meter.add()
}

// judgeFirst judges the first arrival of an event: it must be the one whose turn
// it is in its document, and be what the peer wrote.
func (l *ledger) judgeFirst(at string, d campaignData, chain history) {
	due := l.next[d.Document]
	l.next[d.Document]++
	hash := func(n int) string { return hex.EncodeToString(chain.hashes[n][:]) }
	switch {
	case due >= len(chain.hashes) || d.Hash != hash(due):
		l.offend(disorder, "%s: change %d of its document was due", at, due+1)
		return
	case d.Seq != uint64(due)+1:
		l.offend(disorder, "%s: is the document's change %d", at, due+1)
	case due == 0 && d.Prev != nil, due > 0 && (d.Prev == nil || *d.Prev != hash(due-1)):
		l.offend(disorder, "%s: prev does not name the event before", at)
	}
	if d.Change != base64.StdEncoding.EncodeToString(chain.chunks[due]) {
		l.offend(altered, "%s: not the bytes that the peer wrote", at)
	}
}

func (l *ledger) offend(o offence, format string, args ...any) {
	if l.offences[o]++; len(l.problems) < 10 {
		l.problems = append(l.problems, fmt.Sprintf("%s: %s", o, fmt.Sprintf(format, args...)))
	}
}

// judge compares with what was acknowledged to the peers: in these documents so
// many changes each, and total in all. It returns how many events have come again
// since the last time; more than allowed are an offence.
func (l *ledger) judge(documents map[string]int, total, allowed int) (repeats int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, doc := range slices.Sorted(maps.Keys(documents)) {
		if missing := documents[doc] - l.next[doc]; missing > 0 {
			l.offend(lost, "%s: %d of %d changes never came", doc, missing, documents[doc])
		}
	}
	// The log is numbered through, and this sink is owed all of it.
	if len(l.seen) != total || l.highest != uint64(total) {
		l.offend(lost, "%d events and positions up to %d, where the log has %d", len(l.seen), l.highest, total)
	}
	repeats, l.repeats = l.repeats, 0
	if repeats > allowed {
		l.offend(repeated, "%d events came again, at most %d may", repeats, allowed)
	}
	return repeats
}

// verdict is what is wrong so far.
func (l *ledger) verdict() (offences map[offence]int, problems []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.offences), slices.Clone(l.problems)
}

// meter counts, and tells when it has counted so far.
type meter struct {
	mu    sync.Mutex
	n     int
	waits []milestone
}

type milestone struct {
	at      int
	reached chan struct{}
}

func (m *meter) add() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	m.waits = slices.DeleteFunc(m.waits, func(w milestone) bool {
		if m.n < w.at {
			return false
		}
		close(w.reached)
		return true
	})
}

func (m *meter) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

// reach returns what is closed when so many have been counted.
func (m *meter) reach(n int) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := milestone{n, make(chan struct{})}
	if m.n >= n {
		close(w.reached)
	} else {
		m.waits = append(m.waits, w)
	}
	return w.reached
}

// TestLedger shows that the campaign's judge says no where it must.
func TestLedger(t *testing.T) {
	made := histories(2, 3)
	doc, other := made[0], made[1]
	chains := map[string]history{doc.id: doc}
	event := func(h history, n int, edit func(m, data map[string]any)) arrival {
		data := map[string]any{
			"org_id": "acme", "app_id": "app", "document_id": h.id, "change_hash": hex.EncodeToString(h.hashes[n-1][:]),
			"seq": n, "prev": nil, "position": n, "change": h.chunks[n-1],
		}
		if n > 1 {
			data["prev"] = hex.EncodeToString(h.hashes[n-2][:])
		}
		m := map[string]any{
			"id": fmt.Sprintf("%s-%d", h.id, n), "type": changedType, "source": "/orgs/acme/formations/app", "subject": h.id, "data": data,
			"time": "2026-01-01T00:00:00Z", "partitionkey": "acme/app/" + h.id, "sequence": fmt.Sprintf("%020d", n), "peatorg": "acme", "peatapp": "app",
		}
		if edit != nil {
			edit(m, data)
		}
		body, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return arrival{body: body, id: m["id"].(string)}
	}
	at := func(name string, v any) func(m, data map[string]any) {
		return func(m, _ map[string]any) { m[name] = v }
	}
	in := func(name string, v any) func(m, data map[string]any) {
		return func(_, data map[string]any) { data[name] = v }
	}
	one, two, three := event(doc, 1, nil), event(doc, 2, nil), event(doc, 3, nil)
	for name, tc := range map[string]struct {
		got     []arrival
		allowed int
		want    offence // "" for none
	}{
		"all in order":                       {got: []arrival{one, two, three}},
		"some come again":                    {got: []arrival{one, two, one, two, three}, allowed: 2},
		"again under another trace":          {got: []arrival{one, event(doc, 1, at("traceparent", "00-1")), two, three}, allowed: 1},
		"more come again than a crash costs": {[]arrival{one, two, one, two, three}, 1, repeated},
		"the last is dropped":                {[]arrival{one, two}, 0, lost},
		"one in the middle is dropped":       {[]arrival{one, three}, 0, disorder},
		"two are swapped":                    {[]arrival{one, three, two}, 0, disorder},
		"again with another body":            {[]arrival{one, two, event(doc, 2, in("position", 9)), three}, 1, altered},
		"again at another time":              {[]arrival{one, two, event(doc, 2, at("time", "2026-01-01T00:00:01Z")), three}, 1, altered},
		"again under another id":             {[]arrival{one, two, event(doc, 2, at("id", "x")), three}, 0, disorder},
		"another organization's document":    {[]arrival{one, two, three, event(other, 1, nil)}, 0, foreign},
		"another organization's event":       {[]arrival{one, two, event(doc, 3, in("org_id", "globex"))}, 0, foreign},
		"from another organization":          {[]arrival{one, two, event(doc, 3, at("source", "/orgs/globex/formations/app"))}, 0, foreign},
		"other bytes of the change":          {[]arrival{one, two, event(doc, 3, in("change", "AAAA"))}, 0, altered},
		"prev points elsewhere":              {[]arrival{one, two, event(doc, 3, in("prev", "00"))}, 0, disorder},
		"seq leaves one out":                 {[]arrival{one, two, event(doc, 3, func(m, d map[string]any) { d["seq"], m["sequence"] = 4, "00000000000000000004" })}, 0, disorder},
		"a position is left out":             {[]arrival{one, two, event(doc, 3, in("position", 4))}, 0, lost},
		"the transport's id is another":      {[]arrival{one, two, {body: three.body, id: "x"}}, 0, altered},
		"the transport's document is":        {[]arrival{one, two, {body: three.body, document: "x"}}, 0, altered},
		"half an event":                      {[]arrival{one, two, three, {body: three.body[:50]}}, 0, altered},
		"an event of another type":           {[]arrival{one, two, three, event(doc, 3, at("type", "x"))}, 0, altered},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger("acme", "app", "file", chains)
			for _, a := range tc.got {
				l.take(a)
			}
			l.judge(map[string]int{doc.id: 3}, 3, tc.allowed)
			offences, problems := l.verdict()
			if tc.want == "" && len(offences) > 0 || tc.want != "" && offences[tc.want] == 0 {
				t.Errorf("%v, want %q: %q", offences, tc.want, problems)
			}
		})
	}
}
