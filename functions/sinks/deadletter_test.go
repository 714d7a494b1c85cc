package sinks

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestDeadLetters(t *testing.T) {
	o := newOffice(t)
	o.addFormation(tenant.Key{Org: "acme", App: "medical"})
	o.driver.answer = failing(bad, "a/2", "b/1")
	o.write("a", "a", "a", "b")
	o.deliver()
	letters := ofFormation + "/" + o.pair.sink + "/dead-letters"
	var list web.List[deadLetterWire]
	o.call("GET", letters, "", 200, &list)
	if len(list.Items) != 2 {
		t.Fatalf("%+v", list)
	}
	var a, b deadLetterWire
	for _, l := range list.Items {
		if l.Document == "a" {
			a = l
		} else {
			b = l
		}
	}
	if a.Seq != 2 || a.Waiting != 1 || a.Attempts != 1 || a.LastError != "400" || a.Excerpt != "no" || a.Hash != hashOf("a", 2) {
		t.Errorf("%+v", a)
	}
	elsewhere := "/orgs/acme/formations/medical/cdc/sinks/" + o.pair.sink + "/dead-letters"
	if o.call("GET", elsewhere, "", 200, &list); len(list.Items) != 0 {
		t.Errorf("%+v", list)
	}
	o.call("POST", elsewhere+"/"+a.ID+"/redrive", "", 404, nil)
	o.call("POST", letters+"/"+a.ID+"/redrive", "", 202, nil)
	o.call("POST", letters+"/"+a.ID+"/redrive", "", 409, nil)
	o.call("POST", letters+"/"+b.ID+"/skip", "", 202, nil)
	o.driver.answer = nil
	o.deliver()
	if diff := cmp.Diff(map[string]int{"a/1": 1, "a/2": 1, "a/3": 1, "b/1!": 1}, count(o.driver.take())); diff != "" {
		t.Error(diff)
	}
	if o.call("GET", letters, "", 200, &list); len(list.Items) != 0 {
		t.Errorf("%+v", list)
	}
}

// letters returns the ids of what is held, by document.
func (o *office) letters() map[string]string {
	out := map[string]string{}
	for document, h := range o.held() {
		out[document] = h.ID
	}
	return out
}

func TestDeadLettersAreSearchedThrough(t *testing.T) {
	o := newOffice(t)
	o.driver.answer = func(it driver.Event) driver.Outcome {
		if it.Document == "slow" {
			return busy
		}
		return driver.Outcome{Verdict: driver.Refused, Reason: "400: no " + it.Document}
	}
	o.write("a", "b", "slow")
	o.deliver()
	path := ofOrg + "/" + o.pair.sink + "/dead-letters"
	for query, want := range map[string][]string{
		"":                                 {"a", "b"},
		"?state=parked":                    {"a", "b"},
		"?state=redriving":                 {},
		"?state=retrying":                  {"slow"},
		"?document=b":                      {"b"},
		"?error=NO+A":                      {"a"},
		"?formation=logistics&document=a":  {"a"},
		"?formation=elsewhere":             {},
		"?state=parked&error=no&limit=200": {"a", "b"},
	} {
		var list web.List[deadLetterWire]
		o.call("GET", path+query, "", 200, &list)
		got := []string{}
		for _, l := range list.Items {
			got = append(got, l.Document)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	o.call("GET", path+"?state=lost", "", 400, nil)
	o.call("GET", path+"?formation=A/B", "", 422, nil)
	o.call("GET", ofFormation+"/"+o.pair.sink+"/dead-letters?formation=other", "", 422, nil)
	// Pages do not lose their place when what is on them goes.
	var page web.List[deadLetterWire]
	o.call("GET", path+"?limit=1", "", 200, &page)
	o.call("POST", path+"/"+page.Items[0].ID+"/redrive", "", 202, nil)
	first := page.Items[0].Document
	o.call("GET", path+"?limit=1&state=parked&cursor="+*page.Next, "", 200, &page)
	if len(page.Items) != 1 || page.Items[0].Document == first || page.Next != nil {
		t.Errorf("%+v", page)
	}
}

func TestInspect(t *testing.T) {
	o := newOffice(t)
	o.driver.answer = failing(driver.Outcome{Verdict: driver.Retry, Reason: "busy", Status: "503", Excerpt: "later"}, "a/2")
	o.write("a", "a", "a")
	o.deliver()
	o.driver.answer = failing(driver.Outcome{Verdict: driver.Refused, Reason: "no", Status: "400", Excerpt: "never"}, "a/2")
	o.clock.advance(time.Minute)
	o.deliver()
	path := ofFormation + "/" + o.pair.sink + "/dead-letters/" + o.letters()["a"]
	var got inspectedWire
	o.call("GET", path, "", 200, &got)
	for i := range got.History {
		got.History[i].At = time.Time{}
	}
	want := []attemptWire{{Seq: 2, Status: "503", Error: "busy", Excerpt: "later"}, {Seq: 2, Status: "400", Error: "no", Excerpt: "never"}}
	if diff := cmp.Diff(want, got.History); diff != "" || got.Waiting != 1 || got.Attempts != 2 {
		t.Errorf("%+v\n%s", got, diff)
	}
	// It is what the sink gets when it takes it.
	o.call("POST", path+"/redrive", "", 202, nil)
	o.driver.answer, o.driver.got = nil, nil
	o.deliver()
	if diff := cmp.Diff(string(o.driver.got[0].Structured()), string(got.Event)); diff != "" {
		t.Error(diff)
	}
	o.call("GET", path, "", 404, nil)
	o.addFormation(tenant.Key{Org: "acme", App: "medical"})
	o.driver.answer = failing(bad, "b/1")
	o.write("b")
	o.deliver()
	end := "/" + o.pair.sink + "/dead-letters/" + o.letters()["b"]
	o.call("GET", "/orgs/acme/formations/medical/cdc/sinks"+end, "", 404, nil)
	o.call("POST", "/orgs/acme/formations/medical/cdc/sinks"+end+"/purge", "", 404, nil)
	o.call("POST", ofFormation+end+"/skip", "", 202, nil)
	if o.call("GET", ofFormation+end, "", 200, &got); !strings.Contains(string(got.Event), event.ChangeSkippedType) {
		t.Errorf("%s", got.Event)
	}
}

func TestInspectNamesTheLastEventThatTheSinkGot(t *testing.T) {
	o := newOffice(t)
	o.driver.answer = failing(bad, "a/3")
	o.setFilter(filter.Spec{Where: "event.seq != 2"})
	o.write("a", "a", "a")
	o.deliver()
	var got inspectedWire
	o.call("GET", ofOrg+"/"+o.pair.sink+"/dead-letters/"+o.letters()["a"], "", 200, &got)
	var e struct{ Data event.DocumentData }
	if err := json.Unmarshal(got.Event, &e); err != nil || e.Data.Prev == nil || *e.Data.Prev != hashOf("a", 1) {
		t.Errorf("%s %v", got.Event, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	for decision, want := range map[delivery.Decision]string{
		delivery.Redrive: "a/1 a/2 b/1 b/2 c/1 c/2",
		delivery.Skip:    "a/1! a/2 b/1! b/2 c/1! c/2",
		delivery.Purge:   "",
	} {
		t.Run(string(decision), func(t *testing.T) {
			o := newOffice(t)
			o.driver.answer = failing(bad, "a/1", "b/1", "c/1", "slow/1")
			o.write("a", "b", "a", "c", "slow", "c", "b")
			o.deliver()
			o.redrive("slow", false) // not parked, so not meant
			path := ofFormation + "/" + o.pair.sink + "/dead-letters/" + string(decision)
			before, trail := len(o.outbox()), o.trail()
			lost := o.lost
			var got bulkWire
			some, err := json.Marshal([]string{o.letters()["a"], o.letters()["slow"], "01ARZ3NDEKTSV4RRFFQ69G5FAV"})
			if err != nil {
				t.Fatal(err)
			}
			if o.call("POST", path, `{"ids":`+string(some)+`}`, 202, &got); got.Affected != 1 {
				t.Errorf("by ids: %d", got.Affected)
			}
			if o.call("POST", path, `{"all":true,"formation":"logistics","document":"b"}`, 202, &got); got.Affected != 1 {
				t.Errorf("by document: %d", got.Affected)
			}
			if o.call("POST", path, `{"all":true,"error":"400"}`, 202, &got); got.Affected != 1 {
				t.Errorf("all: %d", got.Affected)
			}
			if o.call("POST", path, `{"all":true}`, 202, &got); got.Affected != 0 {
				t.Errorf("once more: %d", got.Affected)
			}
			if rings := o.outbox()[before:]; len(rings) != 3 || rings[0] != event.LogAppendedType || o.lost != lost+3 {
				t.Errorf("rings %v, notified %d times", rings, o.lost-lost)
			}
			if now := o.trail()[len(trail):]; len(now) != 3 || now[0] != "deadletter."+string(decision) {
				t.Errorf("audit %v", now)
			}
			o.driver.answer = failing(bad, "slow/1")
			o.deliver()
			delivered := o.driver.take()
			slices.Sort(delivered)
			if diff := cmp.Diff(strings.Fields(want), delivered); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func (o *office) trail() []string {
	o.t.Helper()
	trail, err := o.store.AuditTrail(o.t.Context(), "acme", 100)
	if err != nil {
		o.t.Fatal(err)
	}
	var out []string
	for _, a := range trail {
		out = append(out, a.Action)
	}
	return out
}

func TestMoreThanOneTransactionTakes(t *testing.T) {
	o := newOffice(t)
	var documents []string
	for i := range bulkRows + 5 {
		documents = append(documents, fmt.Sprintf("d%03d", i))
	}
	o.driver.answer = func(driver.Event) driver.Outcome { return bad }
	o.write(documents...)
	o.deliver()
	var got bulkWire
	if o.call("POST", ofOrg+"/"+o.pair.sink+"/dead-letters/redrive", `{"all":true}`, 202, &got); got.Affected != len(documents) {
		t.Errorf("%d", got.Affected)
	}
	o.driver.answer = nil
	o.deliver()
	if got := o.driver.take(); len(got) != len(documents) || len(o.held()) != 0 {
		t.Errorf("%d delivered, %d held", len(got), len(o.held()))
	}
}

func TestManyAtOnceRefuses(t *testing.T) {
	o := newOffice(t)
	path := ofFormation + "/" + o.pair.sink + "/dead-letters/purge"
	many, err := json.Marshal(slices.Repeat([]string{"01ARZ3NDEKTSV4RRFFQ69G5FAV"}, maxBulkIDs+1))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"nothing said":        `{}`,
		"both":                `{"ids":[],"all":true}`,
		"not all, but some":   `{"ids":["01ARZ3NDEKTSV4RRFFQ69G5FAV"],"document":"a"}`,
		"not an id":           `{"ids":["x"]}`,
		"too many":            `{"ids":` + string(many) + `}`,
		"another formation":   `{"all":true,"formation":"medical"}`,
		"not a name":          `{"all":true,"formation":"/"}`,
		"a field of no sense": `{"all":true,"state":"retrying"}`,
	} {
		t.Run(name, func(t *testing.T) {
			defer o.as(t)()
			o.call("POST", path, body, 422, nil)
		})
	}
}

func (w *world) omissions() []completeness.Omission {
	w.t.Helper()
	out, err := w.store.Omissions(w.t.Context(), w.pair.key, w.pair.sink)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range out {
		out[i].At = time.Time{}
	}
	return out
}

func TestPurge(t *testing.T) {
	purged := func(document string, from, to uint64) completeness.Omission {
		return completeness.Omission{Document: document, From: from, To: to, Kind: completeness.Purge}
	}
	for name, tc := range map[string]struct {
		batch  int
		before []string // written before, and delivered but for a/2
		unseen []string // written since the cursor moved
		after  []string // written after the purge
		answer func(driver.Event) driver.Outcome
		want   string
		gone   []completeness.Omission
	}{
		"what waits goes, what comes later flows": {before: []string{"a", "a", "b", "a"}, after: []string{"a", "b", "a"},
			want: "a/4 b/2 a/5", gone: []completeness.Omission{purged("a", 2, 3)}},
		"nothing comes later": {before: []string{"a", "a", "a"}, gone: []completeness.Omission{purged("a", 2, 3)}},
		"what the cursor has not reached goes too": {before: []string{"a", "a"}, unseen: []string{"a", "b", "a"}, after: []string{"a", "b"},
			want: "b/1 b/2 a/5", gone: []completeness.Omission{purged("a", 2, 4)}},
		"one at a time": {batch: 1, before: []string{"a", "a"}, unseen: []string{"a", "b", "a"}, after: []string{"a", "b"},
			want: "b/1 b/2 a/5", gone: []completeness.Omission{purged("a", 2, 4)}},
		"the next one is refused": {before: []string{"a", "a", "a"}, after: []string{"a", "a"}, answer: failing(bad, "a/4"),
			gone: []completeness.Omission{purged("a", 2, 3)}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sqlite(t))
			if tc.batch > 0 {
				w.d.batch = tc.batch
			}
			w.driver.answer = failing(bad, "a/2")
			w.write(tc.before...)
			w.deliver()
			w.driver.take()
			if tc.unseen != nil {
				w.write(tc.unseen...)
			}
			w.decide("a", delivery.Purge)
			if tc.after != nil {
				w.write(tc.after...)
			}
			w.driver.answer = tc.answer
			w.deliver()
			wantGot(t, w, tc.want)
			if diff := cmp.Diff(tc.gone, w.omissions()); diff != "" {
				t.Error(diff)
			}
			if tc.answer != nil {
				if h := w.held()["a"]; h.FromSeq != 4 || h.State != delivery.Parked || h.Attempts != 1 || h.PurgeTo != 0 {
					t.Errorf("%+v", h)
				}
				w.driver.answer = nil
				w.redrive("a", false)
				w.deliver()
				wantGot(t, w, "a/4 a/5")
			}
			if len(w.held()) != 0 {
				t.Errorf("held: %+v", w.held())
			}
		})
	}
}

// A crash after what follows the purge was sent, and before it was written down,
// sends that again and nothing of what is given up.
func TestACrashDuringAPurgeCostsARepeat(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.driver.answer = failing(bad, "a/2")
	w.write("a", "a", "a")
	w.deliver()
	w.driver.take()
	w.decide("a", delivery.Purge)
	w.write("a")
	w.driver.answer = nil
	// The next change is before the cursor when the crash comes.
	w.tx(func(tx *store.Tx) error {
		c, err := tx.Cursor(t.Context(), w.pair.key, w.pair.sink)
		c.Position = 4
		return errors.Join(err, tx.SaveCursor(t.Context(), c))
	})
	w.driver.after = func([]driver.Event) { panic(crash{}) }
	func() {
		defer func() { _ = recover() }()
		w.deliver()
	}()
	w.driver.after = nil
	if len(w.omissions()) != 0 || w.held()["a"].PurgeTo != 3 {
		t.Errorf("half-done: %v %+v", w.omissions(), w.held()["a"])
	}
	w.restart()
	w.deliver()
	wantGot(t, w, "a/4 a/4")
	if len(w.omissions()) != 1 || len(w.held()) != 0 {
		t.Errorf("%v %v", w.omissions(), w.held())
	}
}
