package sinks

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// auditor is a world whose sink is for the audit trail.
type auditor struct{ *world }

func newAuditor(t testing.TB, url string, from delivery.Start) *auditor {
	t.Helper()
	w := &auditor{newWorld(t, url)}
	w.act(3)
	id := newID(time.Now())
	w.tx(func(tx *store.Tx) error {
		return tx.CreateSink(t.Context(), delivery.Sink{ID: id, Org: key.Org, Kind: delivery.Webhook, Source: delivery.AuditTrail,
			Formations: []string{}, Config: []byte(`{}`), Start: from, State: delivery.Active, CreatedAt: start})
	})
	w.pair = trailOf(delivery.Sink{Org: key.Org, ID: id})
	return w
}

// act does so many administrative acts, and links them.
func (w *auditor) act(n int) {
	w.t.Helper()
	for range n {
		w.clock.advance(time.Millisecond)
		w.tx(func(tx *store.Tx) error {
			return tx.AppendAudit(context.Background(), store.Audit{Org: key.Org, At: w.clock.now(), Actor: "tester", Action: "test.act", Target: "x", Detail: map[string]any{"n": n}})
		})
	}
	for {
		n, err := w.store.LinkAudit(context.Background(), key.Org, time.Time{})
		if err != nil {
			w.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

func (w *auditor) send() progress {
	w.t.Helper()
	for range 1000 {
		p, err := w.d.passTrail(context.Background(), w.pair, time.Now().Add(time.Minute))
		if err != nil {
			w.t.Fatal(err)
		}
		if !p.more {
			return p
		}
	}
	w.t.Fatal("there is always more to do")
	return progress{}
}

// seqs takes what was delivered, and checks that each is the entry that the trail has.
func (w *auditor) seqs() []uint64 {
	w.t.Helper()
	var out []uint64
	for _, it := range w.driver.got {
		var e audit.Entry
		if err := json.Unmarshal(it.Data, &e); err != nil {
			w.t.Fatal(err)
		}
		kept, err := w.store.ChainEntries(context.Background(), key.Org, e.Seq-1, 1)
		if err != nil || len(kept) != 1 {
			w.t.Fatal(err)
		}
		if !e.Intact() || e.Hash != kept[0].Hash || e.Prev != kept[0].Prev {
			w.t.Errorf("entry %d arrived altered: %s", e.Seq, it.Data)
		}
		if it.Attribute("type") != event.AuditRecordedType || it.Document != driver.AuditDocument || it.ID != it.Attribute("id") {
			w.t.Errorf("%+v", it.Attributes)
		}
		out = append(out, e.Seq)
	}
	w.driver.got = nil
	return out
}

func TestTrailBegins(t *testing.T) {
	two := uint64(2)
	for name, tc := range map[string]struct {
		from delivery.Start
		want []uint64
	}{
		"now":              {delivery.Start{}, []uint64{4, 5}},
		"at the beginning": {delivery.Start{Beginning: true}, []uint64{1, 2, 3, 4, 5}},
		"after an entry":   {delivery.Start{Position: &two}, []uint64{3, 4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAuditor(t, sqlite(t), tc.from)
			w.act(2)
			w.send()
			if got := w.seqs(); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// What an organization of the same name did before is not this one's to send.
func TestTrailBeginsWithItsOrganization(t *testing.T) {
	w := newAuditor(t, sqlite(t), delivery.Start{})
	w.tx(func(tx *store.Tx) error {
		return tx.AppendAudit(t.Context(), store.Audit{Org: key.Org, At: w.clock.now().Add(time.Second), Actor: "tester", Action: audit.OrgCreate, Target: "acme", Detail: map[string]any{}})
	})
	w.act(0)
	one := uint64(1)
	for name, from := range map[string]delivery.Start{"the beginning": {Beginning: true}, "an entry before it": {Position: &one}} {
		id := newID(time.Now())
		w.tx(func(tx *store.Tx) error {
			return tx.CreateSink(t.Context(), delivery.Sink{ID: id, Org: key.Org, Kind: delivery.Webhook, Source: delivery.AuditTrail,
				Formations: []string{}, Config: []byte(`{}`), Start: from, State: delivery.Active, CreatedAt: start})
		})
		w.pair = trailOf(delivery.Sink{Org: key.Org, ID: id})
		w.send()
		if got := w.seqs(); !slices.Equal(got, []uint64{4}) {
			t.Errorf("from %s: got %v", name, got)
		}
	}
}

// An entry that is refused holds up the trail, however often, and is never left out.
func TestTrailLeavesNothingOut(t *testing.T) {
	w := newAuditor(t, sqlite(t), delivery.Start{Beginning: true})
	refuses := true
	w.driver.answer = func(it driver.Event) driver.Outcome {
		if refuses && strings.Contains(string(it.Data), `"seq":2,`) {
			return driver.Outcome{Verdict: driver.Refused, Reason: "no"}
		}
		return driver.Outcome{Verdict: driver.Delivered}
	}
	for range 20 {
		p := w.send()
		if p.next.IsZero() {
			t.Fatal("nobody comes back")
		}
		w.clock.advance(p.next.Sub(w.clock.now()))
	}
	if got := w.seqs(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("got %v", got)
	}
	sink, err := w.store.Sink(t.Context(), key.Org, w.pair.sink)
	if err != nil || sink.State != delivery.Failing || sink.Reason != "no" {
		t.Errorf("%s %q %v", sink.State, sink.Reason, err)
	}
	lag, err := w.store.TrailLag(t.Context(), key.Org, w.pair.sink, w.clock.now())
	if err != nil || lag.Events != 2 || lag.Seconds == 0 {
		t.Errorf("lag %+v %v", lag, err)
	}
	refuses = false
	w.send()
	if got := w.seqs(); !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("got %v", got)
	}
	if sink, err = w.store.Sink(t.Context(), key.Org, w.pair.sink); err != nil || sink.State != delivery.Active {
		t.Errorf("%s %v", sink.State, err)
	}
}

// Whatever fails, and wherever a process ends: each entry arrives, in its order, and
// what arrives again is what was on its way when a process ended.
func TestTrailComesThroughAnything(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return sqlite(t) },
		"postgres": func(t *testing.T) string { return testenv.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			dice := rand.New(rand.NewPCG(seed, 1))
			w := newAuditor(t, url(t), delivery.Start{Beginning: true})
			w.d.batch = 4
			crashes := 0
			w.driver.answer = func(driver.Event) driver.Outcome {
				switch dice.IntN(6) {
				case 0:
					return driver.Outcome{Verdict: driver.Refused, Reason: "refused"}
				case 1:
					return driver.Outcome{Verdict: driver.Retry, Unreachable: dice.IntN(2) == 0, Reason: "later"}
				case 2:
					return driver.Outcome{}
				}
				return driver.Outcome{Verdict: driver.Delivered}
			}
			end := func([]driver.Event) {
				if dice.IntN(10) == 0 {
					crashes++
					panic("the process ends")
				}
			}
			w.driver.before, w.driver.after = end, end
			pass := func() (p progress) {
				defer func() {
					if recover() != nil {
						w.restart()
						w.d.batch = 4
						p = progress{more: true}
					}
				}()
				p, err := w.d.passTrail(t.Context(), w.pair, time.Now().Add(time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			total := uint64(3)
			for range 40 {
				n := dice.IntN(5)
				total += uint64(n)
				w.act(n)
				for range dice.IntN(6) {
					pass()
					w.clock.advance(time.Hour)
				}
			}
			w.driver.answer, w.driver.before, w.driver.after = nil, nil, nil
			w.clock.advance(time.Hour)
			w.send()
			reached, again := uint64(0), 0
			for _, seq := range w.seqs() {
				switch {
				case seq == reached+1:
					reached = seq
				case seq <= reached && reached-seq < 4:
					again++
				default:
					t.Fatalf("entry %d after %d", seq, reached)
				}
			}
			if reached != total {
				t.Errorf("%d of %d entries arrived", reached, total)
			}
			if again > 4*crashes {
				t.Errorf("%d arrived again after %d crashes", again, crashes)
			}
		})
	}
}

func TestTrailThatIsPausedOrDeleted(t *testing.T) {
	w := newAuditor(t, sqlite(t), delivery.Start{Beginning: true})
	w.tx(func(tx *store.Tx) error {
		return tx.SetSinkState(t.Context(), key.Org, w.pair.sink, delivery.Paused, "")
	})
	w.send()
	if got := w.seqs(); len(got) != 0 {
		t.Errorf("paused: got %v", got)
	}
	w.tx(func(tx *store.Tx) error { return tx.DeleteSink(t.Context(), key.Org, w.pair.sink) })
	w.send()
	if got := w.seqs(); len(got) != 0 {
		t.Errorf("deleted: got %v", got)
	}
}

func TestTrailGoneReceiverDisables(t *testing.T) {
	w := newAuditor(t, sqlite(t), delivery.Start{Beginning: true})
	w.driver.answer = func(driver.Event) driver.Outcome {
		return driver.Outcome{Verdict: driver.Retry, Gone: true, Reason: "410"}
	}
	w.send()
	if sink, err := w.store.Sink(t.Context(), key.Org, w.pair.sink); err != nil || sink.State != delivery.Disabled || sink.Reason != "410" {
		t.Errorf("%s %q %v", sink.State, sink.Reason, err)
	}
}

// Linking rings for the trail's sinks, and only if there are any; so does the sweep
// for those that are behind.
func TestTrailRings(t *testing.T) {
	o := newOffice(t)
	w := &auditor{o.world}
	count := func() (n int) {
		for _, eventType := range o.outbox() {
			if eventType == event.AuditLinkedType {
				n++
			}
		}
		return n
	}
	w.act(1)
	if n := count(); n != 0 {
		t.Errorf("%d rings for nobody", n)
	}
	o.call("POST", ofOrg, `{"kind":"webhook","source":"audit","config":{"url":"http://127.0.0.1:1"}}`, http.StatusCreated, nil)
	w.act(1)
	if n := count(); n != 1 {
		t.Errorf("%d rings, want 1", n)
	}
	a := New(Deps{Store: o.store, Keys: testKeys(t), Bus: o.bus, Now: o.clock.now})
	o.bus.rings = nil
	if err := a.onPing(t.Context(), event.Ping(o.clock.now())); err != nil {
		t.Fatal(err)
	}
	if len(o.bus.rings) != 1 || o.bus.rings[0].Type() != event.AuditLinkedType {
		t.Errorf("%v", o.bus.rings)
	}
}

func TestTrailSinkByTheAPI(t *testing.T) {
	o := newOffice(t)
	var made struct {
		ID         string   `json:"sink_id"`
		Source     string   `json:"source"`
		Formations []string `json:"formations"`
	}
	o.call("POST", ofOrg, `{"kind":"file","source":"audit","config":{"path":"audit.ndjson"}}`, http.StatusCreated, &made)
	if made.Source != "audit" || made.Formations == nil || len(made.Formations) != 0 {
		t.Errorf("%+v", made)
	}
	w := &auditor{o.world}
	w.act(2)
	var got struct {
		Lag struct {
			Events uint64 `json:"events"`
		} `json:"lag"`
	}
	o.call("GET", ofOrg+"/"+made.ID, "", http.StatusOK, &got)
	if got.Lag.Events != 3 { // the sink's own making is the first
		t.Errorf("lag %d", got.Lag.Events)
	}
	for name, tc := range map[string]struct{ method, path, body, says string }{
		"in a formation":  {"POST", ofFormation, `{"kind":"file","source":"audit","config":{"path":"a"}}`, "/source"},
		"with formations": {"POST", ofOrg, `{"kind":"file","source":"audit","formations":["*"],"config":{"path":"a"}}`, "/formations"},
		"with a filter":   {"POST", ofOrg, `{"kind":"file","source":"audit","filter":{"where":"true"},"config":{"path":"a"}}`, "/filter"},
		"with a format":   {"POST", ofOrg, `{"kind":"file","source":"audit","format":"raw","config":{"path":"a"}}`, "/format"},
		"from a time":     {"POST", ofOrg, `{"kind":"file","source":"audit","start":{"time":"2026-01-02T15:04:05Z"},"config":{"path":"a"}}`, "/start"},
		"of nothing":      {"POST", ofOrg, `{"kind":"file","source":"weather","config":{"path":"a"}}`, "/source"},
		"a filter, later": {"PATCH", ofOrg + "/" + made.ID, `{"filter":{"where":"true"}}`, "/filter"},
		"behind its end":  {"POST", ofOrg, `{"kind":"file","source":"audit","start":{"position":99},"config":{"path":"a"}}`, "ends at entry"},
		"no formations":   {"POST", ofOrg, `{"kind":"file","config":{"path":"a"}}`, "/formations"},
		"a replay of it":  {"POST", ofOrg + "/" + made.ID + "/replays", `{"app_id":"logistics"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer o.as(t)()
			said := o.call(tc.method, tc.path, tc.body, http.StatusUnprocessableEntity, nil)
			if !strings.Contains(said, tc.says) {
				t.Errorf("%s", said)
			}
		})
	}
	// Two that write to one place would make one trail with every entry twice.
	o.call("POST", ofOrg, `{"kind":"nats","source":"audit","config":{"url":"nats://127.0.0.1:1","subject_prefix":"a"}}`, http.StatusCreated, nil)
	o.call("POST", ofOrg, `{"kind":"nats","source":"audit","config":{"url":"nats://127.0.0.1:1","subject_prefix":"a"}}`, http.StatusConflict, nil)
}
