package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// hook is a receiver over HTTP, of all organizations by path. It does with the next
// requests what it is told, and takes the others.
type hook struct {
	mu    sync.Mutex
	takes map[string]func(arrival) // by organization
	next  []fate
	wait  time.Duration // of the fates that wait
	lies  int           // events taken and not acknowledged
}

// slow takes an event and is in no hurry to say so.
const slow fate = "slow"

// will says what becomes of the next requests.
func (h *hook) will(fates []fate, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next, h.wait = append(h.next, fates...), wait
}

// left is how many requests' fates are still to come.
func (h *hook) left() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.next)
}

// forgive forgets what was to become of requests, and returns how many events were
// lied about.
func (h *hook) forgive() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	lies := h.lies
	h.next, h.lies = nil, 0
	return lies
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut in the middle: nothing was taken
	}
	f, wait := h.decide(strings.Trim(r.URL.Path, "/"), unpack(r.Header, body))
	switch f {
	case slow, stall:
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		if f == stall {
			panic(http.ErrAbortHandler)
		}
	case hang:
		<-r.Context().Done() // the sender gives up
		panic(http.ErrAbortHandler)
	case reset, takeReset:
		panic(http.ErrAbortHandler)
	case fail500:
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	case fail429:
		http.Error(w, "too many", http.StatusTooManyRequests)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// decide takes the events of a request, or not. Arrivals are judged in the order of
// their taking, hence under the lock.
func (h *hook) decide(org string, events []arrival) (fate, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := take
	if len(h.next) > 0 {
		f, h.next = h.next[0], h.next[1:]
	}
	switch f {
	case takeReset, hang:
		h.lies += len(events)
	case take, slow:
	default:
		return f, h.wait
	}
	for _, e := range events {
		h.takes[org](e)
	}
	return f, h.wait
}

// unpack reads the events of a request: one or several, structured, or one in the
// binary mode of CloudEvents.
func unpack(h http.Header, body []byte) []arrival {
	if id := h.Get("Ce-Id"); id != "" {
		e := map[string]any{"data": json.RawMessage(body)}
		for name := range h {
			if attribute, is := strings.CutPrefix(name, "Ce-"); is {
				e[strings.ToLower(attribute)] = h.Get(name)
			}
		}
		return []arrival{{body: together(e, body), id: id}}
	}
	if !strings.HasPrefix(h.Get("Content-Type"), "application/cloudevents-batch+json") {
		return []arrival{{body: body, id: h.Get("Webhook-Id")}}
	}
	var several []json.RawMessage
	if json.Unmarshal(body, &several) != nil {
		return []arrival{{body: body}} // the judge will say that it is no event
	}
	var out []arrival
	for _, e := range several {
		out = append(out, arrival{body: slices.Clone(e)})
	}
	return out
}

// together is an event of which the attributes came beside the data.
func together(e map[string]any, data []byte) []byte {
	body, err := json.Marshal(e)
	if err != nil {
		return data // the judge will say that it is no event
	}
	return body
}

// httpTarget is a receiver over HTTP. flight is how many events a request holds.
func httpTarget(t testing.TB, name, kind string, flight int, more map[string]any) *target {
	h := &hook{takes: map[string]func(arrival){}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	p := drivertest.NewProxy(t, l.Addr().String())
	return &target{name: name, kind: kind, proxy: p, hook: h, flight: flight,
		config: func(org string) map[string]any {
			c := map[string]any{"url": fmt.Sprintf("http://%s/%s", p.Addr(), org)}
			for name, value := range more {
				c[name] = value
			}
			return c
		},
		read: func(_ context.Context, org string, take func(arrival)) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.takes[org] = take
		},
	}
}

// What is posted to such receivers, and by which kind of sink.
func webhookTarget(t testing.TB) *target { return httpTarget(t, "webhook", "webhook", 1, nil) }

func batchTarget(t testing.TB) *target {
	const most = 20
	return httpTarget(t, "webhook in batches", "webhook", most, map[string]any{"batch": map[string]any{"max_events": most}})
}

func cloudEventsTarget(t testing.TB) *target {
	return httpTarget(t, "cloudevents", "cloudevents", 1, map[string]any{"mode": "binary"})
}
