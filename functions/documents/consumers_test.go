package documents

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func (w *world) ack(name, cursor string) consumerWire {
	w.t.Helper()
	var c consumerWire
	w.call("POST", consumers+"/"+name+"/ack", `{"cursor":"`+cursor+`"}`, 200, &c)
	return c
}

func TestLifeOfAConsumer(t *testing.T) {
	w := newWorld(t, Settings{})
	w.write("a", "b", "c")
	const billing = consumers + "/billing"
	var made, got consumerWire
	w.call("PUT", billing, `{"start":"beginning","format":"raw"}`, 201, &made)
	if made.Position != 0 || made.Lag.Events != 3 || made.Format != delivery.Raw || made.SeenAt != nil {
		t.Errorf("%+v", made)
	}
	w.call("PUT", billing, `{"start":"beginning","format":"raw"}`, 200, &got)
	if diff := cmp.Diff(made, got); diff != "" {
		t.Error(diff)
	}

	// Fetching moves nothing; acknowledging does.
	var first, again page
	w.call("GET", billing+"/events?limit=2", "", 200, &first)
	w.call("GET", billing+"/events?limit=2", "", 200, &again)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(w.log(delivery.Raw)[:2], w.texts(first)); diff != "" {
		t.Error(diff)
	}
	if got = w.ack("billing", first.Next); got.Position != 2 || got.Lag.Events != 1 || got.Cursor != first.Next || got.SeenAt == nil {
		t.Errorf("%+v", got)
	}
	var rest page
	w.call("GET", billing+"/events", "", 200, &rest)
	if diff := cmp.Diff(w.log(delivery.Raw)[2:], w.texts(rest)); diff != "" {
		t.Error(diff)
	}

	// Back only on purpose, and a second PUT is no such purpose.
	w.call("PUT", billing, `{"start":"beginning","format":"both"}`, 200, &got)
	if got.Position != 2 || got.Format != delivery.Both {
		t.Errorf("%+v", got)
	}
	if w.call("PUT", billing, "", 200, &got); got.Position != 2 || got.Format != delivery.Both {
		t.Errorf("%+v", got)
	}
	if got = w.ack("billing", "beginning"); got.Position != 2 {
		t.Errorf("went back to %d", got.Position)
	}
	w.call("POST", billing+"/ack", `{"cursor":"beginning","rewind":true}`, 200, &got)
	if got.Position != 0 {
		t.Errorf("at %d after a rewind", got.Position)
	}
	if got = w.ack("billing", "now"); got.Position != 3 || got.Lag.Events != 0 {
		t.Errorf("%+v", got)
	}

	w.call("PUT", consumers+"/audit", `{"start":"`+first.Next+`"}`, 201, &got)
	if got.Position != 2 || got.Format != delivery.Patches {
		t.Errorf("%+v", got)
	}
	if w.call("PUT", consumers+"/copy", "", 201, &got); got.Position != 3 {
		t.Errorf("one that says nothing begins at %d, want now", got.Position)
	}
	var list web.List[consumerWire]
	if w.call("GET", consumers+"?limit=2", "", 200, &list); len(list.Items) != 2 || list.Items[0].Name != "audit" || list.Items[1].Lag.Events != 0 || list.Next == nil {
		t.Errorf("%+v", list)
	}
	w.call("GET", billing, "", 200, nil)
	w.call("DELETE", billing, "", 204, nil)
	for _, gone := range []struct{ method, path, body string }{
		{"GET", billing, ""}, {"DELETE", billing, ""}, {"GET", billing + "/events", ""}, {"GET", billing + "/stream", ""},
		{"POST", billing + "/ack", `{"cursor":"now"}`},
	} {
		w.call(gone.method, gone.path, gone.body, 404, nil)
	}
	trail, err := w.store.AuditTrail(t.Context(), "acme", 10)
	if err != nil {
		t.Fatal(err)
	}
	acts := map[string]int{}
	for _, a := range trail {
		acts[a.Action]++
	}
	if diff := cmp.Diff(map[string]int{"consumer.create": 3, "consumer.update": 1, "consumer.rewind": 1, "consumer.delete": 1}, acts); diff != "" {
		t.Error(diff)
	}
}

func TestWhatCannotBeSaidOfAConsumer(t *testing.T) {
	w := newWorld(t, Settings{})
	w.write("a")
	old := w.page(events).Next
	w.remake()
	w.call("PUT", consumers+"/billing", "", 201, nil)
	const ack = consumers + "/billing/ack"
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		pointer            string
	}{
		"a name that is none":         {"PUT", consumers + "/a.b", "", 422, "/name"},
		"a name that is too long":     {"PUT", consumers + "/" + strings.Repeat("a", 129), "", 422, "/name"},
		"a start that is none":        {"PUT", consumers + "/x", `{"start":"yesterday"}`, 400, "/start"},
		"a start in another log":      {"PUT", consumers + "/x", `{"start":"` + old + `"}`, 409, "/start"},
		"an unknown format":           {"PUT", consumers + "/x", `{"format":"xml"}`, 422, "/format"},
		"an unknown field":            {"PUT", consumers + "/x", `{"documents":["a*"]}`, 422, "/documents"},
		"a glob that is none":         {"PUT", consumers + "/x", `{"filter":{"documents":["a","!"]}}`, 422, "/filter/documents/1"},
		"no such formation":           {"PUT", "/orgs/acme/formations/none/cdc/consumers/x", "", 404, ""},
		"no cursor":                   {"POST", ack, `{}`, 400, "/cursor"},
		"a cursor that is none":       {"POST", ack, `{"cursor":"x"}`, 400, "/cursor"},
		"a cursor of another log":     {"POST", ack, `{"cursor":"` + old + `"}`, 409, "/cursor"},
		"nothing at all":              {"POST", ack, "", 415, ""},
		"a page of no possible limit": {"GET", consumers + "/billing/events?limit=x", "", 400, "/limit"},
		"a name that nothing has":     {"GET", consumers + "/a.b", "", 404, ""},
		"a list of no formation":      {"GET", "/orgs/acme/formations/none/cdc/consumers", "", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.with(t)
			var p problem
			w.call(tc.method, tc.path, tc.body, tc.status, &p)
			if p.pointer() != tc.pointer {
				t.Errorf("the problem is at %q, want %q: %+v", p.pointer(), tc.pointer, p)
			}
		})
	}
}

func TestConsumersOfOneFormationAreNotSeenFromAnother(t *testing.T) {
	w := newWorld(t, Settings{})
	w.addFormation(tenant.Key{Org: "acme", App: "medical"})
	w.addFormation(tenant.Key{Org: "rival", App: "logistics"})
	w.call("PUT", consumers+"/billing", "", 201, nil)
	for _, base := range []string{"/orgs/acme/formations/medical/cdc/consumers", "/orgs/rival/formations/logistics/cdc/consumers"} {
		w.call("GET", base+"/billing", "", 404, nil)
		w.call("GET", base+"/billing/events", "", 404, nil)
		w.call("GET", base+"/billing/stream", "", 404, nil)
		w.call("POST", base+"/billing/ack", `{"cursor":"now"}`, 404, nil)
		w.call("DELETE", base+"/billing", "", 404, nil)
		var list web.List[consumerWire]
		if w.call("GET", base, "", 200, &list); len(list.Items) != 0 {
			t.Errorf("%s: %+v", base, list)
		}
	}
	w.call("GET", consumers+"/billing", "", 200, nil)
}

func TestThereIsALastPlace(t *testing.T) {
	w := newWorld(t, Settings{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for i := range maxConsumers + 10 {
		wg.Go(func() {
			out := httptest.NewRecorder()
			w.api.ServeHTTP(out, request("PUT", fmt.Sprint(consumers, "/c", i), ""))
			mu.Lock()
			defer mu.Unlock()
			codes[out.Code]++
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[int]int{201: maxConsumers, 429: 10}, codes); diff != "" {
		t.Error(diff)
	}
}

// Acknowledgements that overtake each other leave the consumer at the furthest.
func TestAcknowledgementsAtOnce(t *testing.T) {
	w := newWorld(t, Settings{})
	w.write("a", "b", "a", "b", "a", "b", "a", "b", "a", "b")
	w.call("PUT", consumers+"/billing", `{"start":"beginning"}`, 201, nil)
	var wg sync.WaitGroup
	for cursor, n := "beginning", 0; n < 10; n++ {
		cursor = w.page(events + "?limit=1&cursor=" + cursor).Next
		wg.Go(func() {
			out := httptest.NewRecorder()
			w.api.ServeHTTP(out, request("POST", consumers+"/billing/ack", `{"cursor":"`+cursor+`"}`))
			if out.Code != 200 {
				t.Errorf("%d %s", out.Code, out.Body)
			}
		})
	}
	wg.Wait()
	var got consumerWire
	if w.call("GET", consumers+"/billing", "", 200, &got); got.Position != 10 {
		t.Errorf("at %d, want 10", got.Position)
	}
}

// TestAConsumerSeesEverything: somebody writes at random; a consumer fetches,
// processes a part of what it got, dies or not, and acknowledges a part of that.
// In the end it has processed every event, and no event before the one before it.
func TestAConsumerSeesEverything(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 0))
			w := newWorld(t, Settings{})
			w.api.ServeHTTP(httptest.NewRecorder(), request("PUT", consumers+"/billing", `{"start":"beginning"}`))
			var processed []string // by all lives of the consumer together
			written, crashes := 0, 0
			for step := 0; step < 60 || written > distinct(processed); step++ {
				if step < 60 && rng.IntN(2) == 0 {
					n := 1 + rng.IntN(5)
					for range n {
						w.write(fmt.Sprint("d", rng.IntN(3)))
					}
					written += n
					continue
				}
				p := w.page(fmt.Sprintf("%s/billing/events?limit=%d", consumers, 1+rng.IntN(6)))
				done := rng.IntN(len(p.Items) + 1)
				processed = append(processed, w.texts(p)[:done]...)
				if rng.IntN(3) == 0 {
					crashes++ // before the acknowledgement
					continue
				}
				if done == len(p.Items) {
					w.ackQuietly(p.Next)
				} else if done > 0 { // the cursor after the last one processed, as a smaller page gives it
					w.ackQuietly(w.page(fmt.Sprintf("%s/billing/events?limit=%d", consumers, done)).Next)
				}
				if step > 10_000 {
					t.Fatalf("%d of %d events after %d steps", distinct(processed), written, step)
				}
			}
			inOrder(t, w.log(delivery.Patches), processed)
			t.Logf("%d events, processed %d times, %d crashes", written, len(processed), crashes)
		})
	}
}

func (w *world) ackQuietly(cursor string) {
	w.t.Helper()
	out := httptest.NewRecorder()
	w.api.ServeHTTP(out, request("POST", consumers+"/billing/ack", `{"cursor":"`+cursor+`"}`).WithContext(context.Background()))
	var c consumerWire
	if err := json.Unmarshal(out.Body.Bytes(), &c); out.Code != 200 || err != nil {
		w.t.Fatalf("%d %s", out.Code, out.Body)
	}
}

func distinct(events []string) int {
	seen := map[string]bool{}
	for _, e := range events {
		seen[e] = true
	}
	return len(seen)
}

// inOrder: every event of the log comes, and each for the first time only after
// all before it.
func inOrder(t *testing.T, log, got []string) {
	t.Helper()
	place := map[string]int{}
	for i, e := range log {
		place[e] = i
	}
	next := 0
	for _, e := range got {
		i, ok := place[e]
		switch {
		case !ok:
			t.Fatalf("an event that is not in the log: %s", e)
		case i > next:
			t.Fatalf("event %d came before event %d", i, next)
		case i == next:
			next++
		}
	}
	if next != len(log) {
		t.Errorf("%d of %d events came", next, len(log))
	}
}
