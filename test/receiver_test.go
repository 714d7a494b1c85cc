package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fate is what a webhook receiver does with a request.
type fate string

const (
	take      fate = "take"       // 204
	fail500   fate = "500"        // and forgets it
	fail429   fate = "429"        // with Retry-After
	refuse400 fate = "400"        // for good
	reset     fate = "reset"      // the connection breaks before it takes it
	takeReset fate = "take+reset" // it takes it, and the connection breaks before it says so
	stall     fate = "stall"      // no answer for a while, then a broken connection
	hang      fate = "hang"       // no answer until the test ends
)

// webhook is a receiver of webhooks. What it took, it took once its answer was
// decided; what it refused it has forgotten.
type webhook struct {
	*httptest.Server
	fateOf func(body []byte) fate // called one at a time

	mu       sync.Mutex
	secret   []byte
	taken    []delivery
	ids      map[string]bool
	problems []string
	fates    map[fate]int
	ended    chan struct{}
}

func newWebhook(t testing.TB, fateOf func(body []byte) fate) *webhook {
	t.Helper()
	w := &webhook{fateOf: fateOf, ids: map[string]bool{}, fates: map[fate]int{}, ended: make(chan struct{})}
	w.Server = httptest.NewServer(w)
	t.Cleanup(func() {
		close(w.ended)
		w.CloseClientConnections()
		w.Close()
	})
	return w
}

func always(f fate) func([]byte) fate { return func([]byte) fate { return f } }

// fickle fails a share of requests in every way that calls for another attempt.
func fickle(rng *rand.Rand, share float64) func([]byte) fate {
	ways := []fate{fail500, fail500, fail429, reset, takeReset, stall}
	return func([]byte) fate {
		if rng.Float64() >= share {
			return take
		}
		return ways[rng.IntN(len(ways))]
	}
}

// verify checks signatures with this secret ("whsec_…") from now on.
func (w *webhook) verify(t testing.TB, secret string) {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || !strings.HasPrefix(secret, "whsec_") || len(key) < 24 {
		t.Fatalf("the sink's secret is not whsec_ and 24 or more bytes of base64 (%d bytes, %v)", len(key), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secret = key
}

func (w *webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender died in the middle of it
	}
	w.mu.Lock()
	w.check(r, body)
	f := w.fateOf(body)
	w.fates[f]++
	if f == take || f == takeReset {
		w.ids[r.Header.Get("webhook-id")] = true
		w.taken = append(w.taken, delivery{body: body, id: r.Header.Get("webhook-id")})
	}
	w.mu.Unlock()

	switch f {
	case take:
		rw.WriteHeader(http.StatusNoContent)
	case fail500:
		http.Error(rw, "out of order", http.StatusInternalServerError)
	case fail429:
		rw.Header().Set("Retry-After", "1")
		http.Error(rw, "too many", http.StatusTooManyRequests)
	case refuse400:
		http.Error(rw, "not this one", http.StatusBadRequest)
	case reset, takeReset:
		panic(http.ErrAbortHandler)
	case stall:
		select {
		case <-time.After(1500 * time.Millisecond):
		case <-w.ended:
		}
		panic(http.ErrAbortHandler)
	case hang:
		<-w.ended
		panic(http.ErrAbortHandler)
	}
}

// check holds the request to the Standard Webhooks specification: the signature
// is HMAC-SHA256 over "id.timestamp.body". Written from the specification, so
// that it does not share a mistake with the sender.
func (w *webhook) check(r *http.Request, body []byte) {
	problem := func(format string, args ...any) {
		if len(w.problems) < 20 {
			w.problems = append(w.problems, fmt.Sprintf(format, args...))
		}
	}
	if r.Method != http.MethodPost {
		problem("method %s", r.Method)
	}
	if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/cloudevents+json") {
		problem("content type %q", ct)
	}
	id, stamp := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		problem("webhook-timestamp %q", stamp)
	}
	var envelope struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(body, &envelope) != nil || envelope.ID != id || id == "" {
		problem("webhook-id %q, event id %q", id, envelope.ID)
	}
	if w.secret == nil {
		return // the answer with the secret has not arrived yet
	}
	mac := hmac.New(sha256.New, w.secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, got := range strings.Fields(r.Header.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return
		}
	}
	problem("no valid signature in %q", r.Header.Get("webhook-signature"))
}

// count is how many different events it took.
func (w *webhook) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ids)
}

// deliveries returns what it took, in order, and fails the test for what was
// wrong with any request.
func (w *webhook) deliveries(t testing.TB) []delivery {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.problems {
		t.Errorf("webhook request: %s", p)
	}
	t.Logf("webhook receiver: %d requests by fate: %v", sum(w.fates), w.fates)
	return append([]delivery(nil), w.taken...)
}

func sum(m map[fate]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// fileDeliveries reads an NDJSON file. Only whole lines count: a process that is
// killed in the middle of a line has not delivered it.
func fileDeliveries(t testing.TB, path string) []delivery {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []delivery
	lines := bufio.NewReader(bytes.NewReader(content))
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if len(line) > 0 {
				t.Errorf("%s: line %d does not end: %.80s", path, n, line)
			}
			return out
		}
		if !json.Valid(line) {
			t.Errorf("%s: line %d is not JSON: %.80s", path, n, line)
			continue
		}
		out = append(out, delivery{body: bytes.TrimSpace(line)})
	}
}

func fileCount(path string) int {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	ids := map[string]bool{}
	for line := range bytes.Lines(content) {
		var e struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(line, &e) == nil && e.ID != "" {
			ids[e.ID] = true
		}
	}
	return len(ids)
}

// readEvents reads the whole lines of an NDJSON file that are events of changes.
func readEvents(path string) (events []changed) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(content) {
		var e changed
		if json.Unmarshal(line, &e) == nil && e.Type == changedType {
			events = append(events, e)
		}
	}
	return events
}

// natsCount is how many messages the stream holds.
func natsCount(url, stream string) (int, error) {
	nc, err := nats.Connect(url, nats.Timeout(5*time.Second))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	return int(s.CachedInfo().State.Msgs), nil
}

// natsDeliveries reads a stream from its beginning to its end.
func natsDeliveries(t testing.TB, url, stream string) []delivery {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatalf("nats: %v", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatalf("stream %s: %v", stream, err)
	}
	total := int(s.CachedInfo().State.Msgs)
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var out []delivery
	for len(out) < total {
		msg, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatalf("stream %s after %d of %d messages: %v", stream, len(out), total, err)
		}
		out = append(out, delivery{body: msg.Data(), id: msg.Headers().Get(nats.MsgIdHdr), subject: msg.Subject()})
		if ct := msg.Headers().Get("Content-Type"); !strings.HasPrefix(ct, "application/cloudevents+json") {
			t.Errorf("NATS message %d: content type %q", len(out), ct)
		}
	}
	return out
}
