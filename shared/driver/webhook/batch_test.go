package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// inbox is a receiver of batches.
type inbox struct {
	t      testing.TB
	answer func(names []string) int // 0 is 200

	mu       sync.Mutex
	requests []string // the names of each, with blanks between
	ids      []string
	under    map[string]bool // documents under way
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var events []struct {
		Subject string
		Data    struct{ Name string }
	}
	if err := json.Unmarshal(body, &events); err != nil || r.Header.Get("Content-Type") != "application/cloudevents-batch+json" {
		b.t.Errorf("%v %v", err, r.Header)
	}
	var names []string
	documents := map[string]bool{}
	for _, e := range events {
		names, documents[e.Subject] = append(names, e.Data.Name), true
	}
	b.mu.Lock()
	for d := range documents {
		if b.under[d] {
			b.t.Errorf("%s is under way twice", d)
		}
		b.under[d] = true
	}
	b.requests, b.ids = append(b.requests, strings.Join(names, " ")), append(b.ids, r.Header.Get("Webhook-Id"))
	status := 0
	if b.answer != nil {
		status = b.answer(names)
	}
	b.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
	}
	b.mu.Lock()
	for d := range documents {
		delete(b.under, d)
	}
	b.mu.Unlock()
}

func newInbox(t testing.TB, batch string, answer func(names []string) int) (*inbox, *webhook) {
	t.Helper()
	b := &inbox{t: t, answer: answer, under: map[string]bool{}}
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	return b, open(t, `{"url":"`+srv.URL+`","batch":`+batch+`}`, driver.Settings{})
}

// holding answers with a status if one of the events named is there.
func holding(status int, bad ...string) func([]string) int {
	return func(names []string) int {
		for _, n := range names {
			for _, b := range bad {
				if n == b {
					return status
				}
			}
		}
		return 0
	}
}

func TestBatches(t *testing.T) {
	always := func(status int) func([]string) int { return func([]string) int { return status } }
	for name, tc := range map[string]struct {
		batch    string
		answer   func([]string) int
		events   []string
		verdicts string
		requests []string // nil: not looked at
		most     int      // requests; 0: not looked at
	}{
		"all in one": {
			batch: `{}`, events: []string{"a/1", "b/1", "a/2"}, verdicts: "ddd", requests: []string{"a/1 b/1 a/2"},
		},
		"one document in two": {
			batch: `{"max_events":2}`, events: []string{"a/1", "a/2", "a/3"}, verdicts: "ddd", requests: []string{"a/1 a/2", "a/3"},
		},
		"poison": {
			batch: `{}`, answer: holding(400, "b/2"), events: []string{"a/1", "b/1", "c/1", "b/2", "a/2", "b/3", "c/2", "d/1"}, verdicts: "dddRdudd",
			requests: []string{"a/1 b/1 c/1 b/2 a/2 b/3 c/2 d/1", "a/1 b/1 c/1 b/2", "a/1 b/1", "c/1 b/2", "c/1", "b/2", "a/2 c/2 d/1"},
		},
		"poison that is last": {
			batch: `{}`, answer: holding(422, "c/1"), events: []string{"a/1", "b/1", "c/1"}, verdicts: "ddR",
			requests: []string{"a/1 b/1 c/1", "a/1", "b/1 c/1", "b/1", "c/1"},
		},
		"poison, and more of it in a later request": {
			batch: `{"max_events":2}`, answer: holding(400, "a/1"), events: []string{"a/1", "a/2", "a/3", "a/4"}, verdicts: "Ruuu",
			requests: []string{"a/1 a/2", "a/1"},
		},
		"poison that breaks its receiver": {
			batch: `{}`, answer: holding(500, "b/1"), events: []string{"a/1", "b/1", "c/1", "b/2"}, verdicts: "drdu",
			requests: []string{"a/1 b/1 c/1 b/2", "a/1 b/1", "a/1", "b/1", "c/1"},
		},
		"all refused": {
			batch: `{}`, answer: always(403), events: []string{"a/1", "b/1", "a/2"}, verdicts: "RRu", most: 4,
		},
		"too many": {
			batch: `{}`, answer: always(429), events: []string{"a/1", "b/1", "a/2"}, verdicts: "rru", requests: []string{"a/1 b/1 a/2"},
		},
		"unavailable": {
			batch: `{"max_events":2}`, answer: always(503), events: []string{"a/1", "a/2", "a/3"}, verdicts: "ruu", requests: []string{"a/1 a/2"},
		},
		"denied": {
			batch: `{}`, answer: always(401), events: []string{"a/1", "b/1"}, verdicts: "rr", requests: []string{"a/1 b/1"},
		},
		"gone": {
			batch: `{}`, answer: always(410), events: []string{"a/1", "b/1"}, verdicts: "rr", requests: []string{"a/1 b/1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, w := newInbox(t, tc.batch, tc.answer)
			outs := w.Deliver(t.Context(), drivertest.Events(tc.events...), drivertest.Soon())
			if got := drivertest.Verdicts(outs); got != tc.verdicts {
				t.Errorf("%s, want %s", got, tc.verdicts)
			}
			if diff := cmp.Diff(tc.requests, b.requests); tc.requests != nil && diff != "" {
				t.Error(diff)
			}
			if tc.most != 0 && len(b.requests) > tc.most {
				t.Errorf("%d requests: %q", len(b.requests), b.requests)
			}
		})
	}
}

// A receiver that answers 500 to everything is not asked about every event.
func TestABatchToAReceiverThatIsBroken(t *testing.T) {
	b, w := newInbox(t, `{}`, func([]string) int { return 500 })
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("d%d/1", i))
	}
	outs := w.Deliver(t.Context(), drivertest.Events(names...), drivertest.Soon())
	if got := drivertest.Verdicts(outs); strings.Count(got, "r") != failsAlone || strings.ContainsAny(got, "dR") {
		t.Errorf("%s", got)
	}
	if len(b.requests) > 12 {
		t.Errorf("%d requests", len(b.requests))
	}
}

func TestBatchesSideBySide(t *testing.T) {
	b, w := newInbox(t, `{"max_events":8}`, nil) // the inbox sees to it that no document is under way twice
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("d%d/%d", i%7, i))
	}
	for range 3 {
		drivertest.WantDelivered(t, w.Deliver(t.Context(), drivertest.Events(names...), drivertest.Soon()))
	}
	for _, r := range b.requests {
		if n := len(strings.Fields(r)); n > 8 {
			t.Errorf("%d events in one request", n)
		}
	}
}

func TestBatchesHaveTheSameIDAgain(t *testing.T) {
	b, w := newInbox(t, `{"max_events":2}`, nil)
	for _, names := range [][]string{{"a/1", "a/2"}, {"a/1", "a/2"}, {"a/2", "a/1"}, {"a/1"}} {
		drivertest.DeliverAll(t, w, names...)
	}
	if b.ids[0] != b.ids[1] || b.ids[0] == b.ids[2] || b.ids[0] == b.ids[3] || !strings.HasPrefix(b.ids[0], "batch_") {
		t.Errorf("%q", b.ids)
	}
}

func TestBatchesByBytes(t *testing.T) {
	b, w := newInbox(t, `{"max_bytes":4096}`, nil)
	events := drivertest.Events("a/1", "a/2", "a/3", "a/4", "a/5")
	for i, size := range []int{1000, 1000, 9000, 1000, 1000} {
		events[i] = drivertest.Swell(events[i], size)
	}
	drivertest.WantDelivered(t, w.Deliver(t.Context(), events, drivertest.Soon()))
	if len(b.requests) != 3 { // the large one goes alone
		t.Errorf("%d requests", len(b.requests))
	}
}
