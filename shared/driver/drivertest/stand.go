package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// stand is what a promise is tried on. It remembers what was made, sent and
// acknowledged, looks at every answer of the driver, and judges what the target
// has by nothing but that.
type stand struct {
	testing.TB            // what a broken promise fails
	harness    testing.TB // what a broken harness fails
	h          Harness
	rng        *rand.Rand

	mu        sync.Mutex
	made      map[string]driver.Event // by id
	order     map[string][]string     // document across formations → ids, as made
	delivered map[string]bool         // by id
	reasons   []string
}

func newStand(tb, harness testing.TB, h Harness, seed uint64) *stand {
	return &stand{
		TB: tb, harness: harness, h: h, rng: rand.New(rand.NewPCG(seed, 0)),
		made: map[string]driver.Event{}, order: map[string][]string{}, delivered: map[string]bool{},
	}
}

// limit is more than anything takes that ends at all.
func (s *stand) limit() time.Duration { return 30 * time.Second * time.Duration(1+s.h.Slow) }

// open makes a driver whose attempts have all the time they may need.
func (s *stand) open() driver.Driver { return s.openWith(Options{}) }

func (s *stand) openWith(o Options) driver.Driver {
	if o.AttemptTimeout == 0 {
		o.AttemptTimeout = s.limit()
	}
	return s.h.Open(s.harness, o)
}

// next makes the next event of a document.
func (s *stand) next(key tenant.Key, document string, data []byte) driver.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := driver.DocumentOf(driver.Event{Key: key, Document: document})
	n := len(s.order[name]) + 1
	id := fmt.Sprintf("%08x-%d", s.rng.Uint32(), len(s.made))
	if data == nil {
		data = fmt.Appendf(nil, `{"seq":%d,"patches":[]}`, n)
	}
	source := "/orgs/" + string(key.Org) + "/formations/" + string(key.App)
	e := driver.Event{ID: id, Key: key, Document: document, Encoded: event.Encoded{
		Attributes: []event.Attribute{
			{Name: "specversion", Value: "1.0"}, {Name: "id", Value: id}, {Name: "source", Value: source},
			{Name: "type", Value: event.DocumentChangedType}, {Name: "subject", Value: document},
			{Name: "datacontenttype", Value: "application/json"}, {Name: "time", Value: "2026-03-04T05:06:07.089Z"},
			{Name: "partitionkey", Value: name}, {Name: "sequence", Value: fmt.Sprintf("%020d", n)},
		},
		Data: data,
	}}
	s.made[id], s.order[name] = e, append(s.order[name], id)
	return e
}

// events makes the next event of each of the documents named, in that order.
func (s *stand) events(documents ...string) []driver.Event {
	var out []driver.Event
	for _, d := range documents {
		out = append(out, s.next(Key, d, nil))
	}
	return out
}

// mixed makes n events of the documents named, mixed by chance.
func (s *stand) mixed(n int, documents ...string) []driver.Event {
	var out []driver.Event
	for range n {
		out = append(out, s.next(Key, documents[s.rng.IntN(len(documents))], nil))
	}
	return out
}

// deliver hands a batch to a driver and looks at its answer.
func (s *stand) deliver(d driver.Driver, batch []driver.Event) []driver.Outcome {
	s.Helper()
	return s.deliverBy(s.harness.Context(), d, batch, Soon())
}

func (s *stand) deliverBy(ctx context.Context, d driver.Driver, batch []driver.Event, until time.Time) []driver.Outcome {
	s.Helper()
	outs := d.Deliver(ctx, batch, until)
	s.audit(batch, outs)
	return outs
}

// audit holds every answer to what the contract says of all of them.
func (s *stand) audit(batch []driver.Event, outs []driver.Outcome) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(outs) != len(batch) {
		s.Fatalf("%d answers for %d events", len(outs), len(batch))
	}
	stuck := map[string]bool{}
	for i, o := range outs {
		name := driver.DocumentOf(batch[i])
		if stuck[name] && o.Verdict != driver.Untried {
			s.Errorf("event %d of %s comes after one that failed and is not untried: %+v", i, name, o)
		}
		switch o.Verdict {
		case driver.Delivered:
			s.delivered[batch[i].ID] = true
		case driver.Retry, driver.Refused:
			stuck[name] = true
			s.reasons = append(s.reasons, o.Reason)
			s.auditFailure(o)
		default:
			stuck[name] = true
		}
		if o.Verdict != driver.Retry && (o.Unreachable || o.Gone) {
			s.Errorf("unreachable or gone, and not to be tried again: %+v", o)
		}
	}
}

func (s *stand) auditFailure(o driver.Outcome) {
	s.Helper()
	if o.Reason == "" || len(o.Reason) > 1000 {
		s.Errorf("a failure with a reason of %d bytes: %+v", len(o.Reason), o)
	}
	if len(o.Excerpt) > driver.MaxExcerpt {
		s.Errorf("an excerpt of %d bytes", len(o.Excerpt))
	}
	for _, secret := range s.h.Secrets {
		if strings.Contains(o.Reason, secret) {
			s.Errorf("a reason holds a secret: %q", o.Reason)
		}
	}
	if s.h.Proxy != nil && strings.Contains(o.Reason, s.h.Proxy.Addr()) {
		s.Errorf("a reason holds an address: %q", o.Reason)
	}
}

// want compares the verdicts with a letter for each: u, d, r or R.
func (s *stand) want(outs []driver.Outcome, verdicts string) {
	s.Helper()
	if got := Verdicts(outs); got != verdicts {
		s.Errorf("verdicts %s, want %s: %s", got, verdicts, explain(outs))
	}
}

// wantDelivered fails unless the driver delivers the batch at once.
func (s *stand) wantDelivered(d driver.Driver, batch []driver.Event) {
	s.Helper()
	if outs := s.deliver(d, batch); strings.Trim(Verdicts(outs), "d") != "" {
		s.Fatalf("not all was delivered: %s", explain(outs))
	}
}

// wantTrouble fails unless nothing was delivered nor refused, and something is to
// be tried again, as the sink's trouble if whole.
func (s *stand) wantTrouble(outs []driver.Outcome, whole bool) {
	s.Helper()
	verdicts := Verdicts(outs)
	if strings.ContainsAny(verdicts, "dR") || !strings.Contains(verdicts, "r") {
		s.Errorf("verdicts %s: %s", verdicts, explain(outs))
	}
	for _, o := range outs {
		if o.Verdict == driver.Retry && whole && !o.Unreachable {
			s.Errorf("taken for a document's trouble: %+v", o)
		}
	}
}

// explain is the first outcome of each verdict but delivered.
func explain(outs []driver.Outcome) string {
	var text []string
	seen := map[driver.Verdict]bool{driver.Delivered: true}
	for i, o := range outs {
		if !seen[o.Verdict] {
			seen[o.Verdict] = true
			text = append(text, fmt.Sprintf("%d: %+v", i, o))
		}
	}
	return strings.Join(text, "; ")
}

// finish delivers as the gateway does, without its patience: what failed of a
// document comes again with everything behind it, until nothing is left.
func (s *stand) finish(d driver.Driver, batch []driver.Event) {
	s.Helper()
	for end := time.Now().Add(s.limit()); len(batch) > 0; {
		outs := s.deliver(d, batch)
		rest := s.rest(batch, outs)
		if len(rest) > 0 && time.Now().After(end) {
			s.Fatalf("%d events are still not delivered: %s", len(rest), explain(outs))
		}
		if len(rest) == len(batch) {
			time.Sleep(20 * time.Millisecond) // nothing tells when a target is back
		}
		batch = rest
	}
}

// rest is what was not delivered of a batch, in its order.
func (s *stand) rest(batch []driver.Event, outs []driver.Outcome) []driver.Event {
	s.Helper()
	var rest []driver.Event
	for i, o := range outs {
		if o.Verdict == driver.Refused {
			s.Fatalf("refused what the target takes: %+v", o)
		}
		if o.Verdict != driver.Delivered {
			rest = append(rest, batch[i])
		}
	}
	return rest
}

// judge compares what the target has with what was made and acknowledged, and
// returns how often it has each event.
func (s *stand) judge() map[string]int {
	s.Helper()
	if s.h.Proxy != nil {
		s.h.Proxy.Heal()
	}
	times := map[string]int{}
	reached := map[string]int{} // document → how many of it have come
	for _, r := range s.h.Received(s.harness) {
		e, ok := s.made[r.ID]
		if !ok {
			s.Errorf("received an event that was never sent: %.300v", r)
			continue
		}
		s.compare(e, r)
		if times[r.ID]++; times[r.ID] > 1 {
			continue
		}
		name := driver.DocumentOf(e)
		if want := s.order[name][reached[name]]; want != r.ID {
			s.Errorf("of %s came %s where %s should have", name, e.Attribute("sequence"), s.made[want].Attribute("sequence"))
		}
		reached[name]++
	}
	for id := range s.delivered {
		if times[id] == 0 {
			s.Errorf("%s of %s was delivered and is not there", s.made[id].Attribute("sequence"), driver.DocumentOf(s.made[id]))
		}
	}
	return times
}

// judgeOnce is judge for a run in which nothing failed: nothing comes twice.
func (s *stand) judgeOnce() {
	s.Helper()
	for id, n := range s.judge() {
		if n != 1 {
			s.Errorf("%s came %d times", id, n)
		}
	}
}

func (s *stand) compare(e driver.Event, r Received) {
	s.Helper()
	if r.Document != e.Document {
		s.Errorf("an event of %q came as one of %q", e.Document, r.Document)
	}
	if r.Key != (tenant.Key{}) && r.Key != e.Key {
		s.Errorf("an event of %v came to %v", e.Key, r.Key)
	}
	if !bytes.Equal(e.Data, r.Data) {
		s.Errorf("of %q came other data: %.200q, not %.200q", e.Document, r.Data, e.Data)
	}
	if len(r.Attributes) != len(e.Attributes) {
		s.Errorf("attributes %v, want %v", r.Attributes, e.Attributes)
	}
	for _, a := range e.Attributes {
		if got, ok := r.Attributes[a.Name]; !ok || got != a.Value {
			s.Errorf("attribute %s is %q, want %q", a.Name, got, a.Value)
		}
	}
}

// answer is what a delivery in the background came to.
type answer struct{ outs []driver.Outcome }

// begin delivers in the background.
func (s *stand) begin(ctx context.Context, d driver.Driver, batch []driver.Event) <-chan answer {
	out := make(chan answer, 1)
	go func() { out <- answer{d.Deliver(ctx, batch, Soon())} }()
	return out
}

// end waits for what was begun. It must come in bounded time.
func (s *stand) end(out <-chan answer, batch []driver.Event) []driver.Outcome {
	s.Helper()
	select {
	case a := <-out:
		s.audit(batch, a.outs)
		return a.outs
	case <-time.After(s.limit()):
		s.Fatalf("the delivery does not end")
		return nil
	}
}

// held waits until the proxy holds something back.
func (s *stand) held() {
	s.Helper()
	select {
	case <-s.h.Proxy.Held():
	case <-time.After(s.limit()):
		s.Fatalf("nothing is sent")
	}
}
