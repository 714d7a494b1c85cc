package nats

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// numbered makes events document/1, document/2 … of each document in turn.
func numbered(each int, documents ...string) []driver.Event {
	var names []string
	for n := range each {
		for _, doc := range documents {
			names = append(names, doc+"/"+strconv.Itoa(n+1))
		}
	}
	return drivertest.Events(names...)
}

// wantInOrder fails unless the first arrivals of each document are 1, 2, 3 … each.
func wantInOrder(t *testing.T, ids []string, each int, documents ...string) {
	t.Helper()
	last := map[string]int{}
	for _, id := range ids {
		doc, number, _ := strings.Cut(strings.TrimPrefix(id, "id-"), "/")
		n, err := strconv.Atoi(number)
		if err != nil {
			continue // somebody else's
		}
		if n > last[doc]+1 {
			t.Fatalf("%s after %d", id, last[doc])
		}
		last[doc] = max(n, last[doc])
	}
	for _, doc := range documents {
		if last[doc] != each {
			t.Errorf("%s ends with %d of %d", doc, last[doc], each)
		}
	}
}

// rest is what must be sent again; it fails if an answer passed an earlier one.
func rest(t *testing.T, batch []driver.Event, outs []driver.Outcome) []driver.Event {
	t.Helper()
	var left []driver.Event
	stuck := map[string]bool{}
	for i, o := range outs {
		if o.Verdict == driver.Delivered && !stuck[batch[i].Document] {
			continue
		}
		if stuck[batch[i].Document] && o.Verdict != driver.Untried {
			t.Fatalf("%s passed an earlier one: %+v", batch[i].ID, o)
		}
		stuck[batch[i].Document] = true
		left = append(left, batch[i])
	}
	return left
}

// Somebody else writes to the same stream all the time: chains break, nothing else.
func TestNATSOrderBesideAnotherWriter(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	js := client(t, s)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "shared", Subjects: []string{"acme.>"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	d := makeSink(t, with(nil, "url", s.ClientURL(), "stream", "shared"), driver.Settings{})
	done, ended := make(chan struct{}), make(chan int)
	go func() {
		written := 0
		defer func() { ended <- written }()
		for ; ; written++ {
			select {
			case <-done:
				return
			default:
				if _, err := js.Publish(t.Context(), "acme.other", nil, jetstream.WithMsgID("other")); err != nil {
					t.Error(err)
					return
				}
			}
			if _, err := js.Publish(t.Context(), "acme.other", nil); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	const each = 600
	var documents []string
	// On a busy machine the other may not get a word in, so again until it did.
	for round := 0; round < 20 && d.patience == 0; round++ {
		names := []string{fmt.Sprint("a", round), fmt.Sprint("b", round), fmt.Sprint("c", round)}
		documents = append(documents, names...)
		for batch := numbered(each, names...); len(batch) > 0; batch = batch[min(len(batch), windowEvents):] {
			drivertest.WantDelivered(t, d.Deliver(t.Context(), batch[:min(len(batch), windowEvents)], drivertest.Soon()))
		}
	}
	close(done)
	if n := <-ended; n == 0 || d.patience == 0 {
		t.Errorf("%d others' messages, patience %d: nothing was tried", n, d.patience)
	}
	ids := stored(t, js, "shared")
	wantInOrder(t, ids, each, documents...)
	seen := map[string]bool{}
	for _, id := range ids {
		if strings.HasPrefix(id, "id-") && seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
	}
	// Alone again, it goes back to chains.
	for range maxPatience + 1 {
		drivertest.WantDelivered(t, d.Deliver(t.Context(), drivertest.Events("z/1", "z/2"), drivertest.Soon()))
	}
	if d.others != 0 || d.patience != 0 {
		t.Errorf("others %d, patience %d", d.others, d.patience)
	}
}

// A stream that begins to refuse in the middle of a window takes nothing behind the
// first event it refused.
func TestNATSOrderWhenTheStreamFillsUp(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	js := client(t, s)
	config := jetstream.StreamConfig{Name: "full", Subjects: []string{"acme.cdc.>"}, MaxMsgs: 100, Discard: jetstream.DiscardNew}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	d := makeSink(t, with(nil, "url", s.ClientURL(), "stream", "full"), driver.Settings{})
	batch := numbered(50, "a", "b", "c", "d")
	outs := d.Deliver(t.Context(), batch, drivertest.Soon())
	left := rest(t, batch, outs)
	if o := outs[100]; len(left) != 100 || !o.Unreachable || o.Verdict != driver.Retry || !strings.Contains(o.Reason, "maximum messages exceeded") {
		t.Fatalf("%d left, %+v", len(left), o)
	}
	config.MaxMsgs = -1
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	drivertest.WantDelivered(t, d.Deliver(t.Context(), left, drivertest.Soon()))
	wantInOrder(t, stored(t, js, "full"), 50, "a", "b", "c", "d")
}

// The stream's limit became smaller after we looked at it: the server refuses an
// event in the middle of a chain, and what was sent behind it.
func TestNATSOrderWhenTheServerRefusesOne(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	js := client(t, s)
	config := jetstream.StreamConfig{Name: "x", Subjects: []string{"acme.cdc.>"}}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for _, told := range []bool{false, true} {
		d := makeSink(t, with(nil, "url", s.ClientURL(), "stream", "x"), driver.Settings{})
		if !told {
			drivertest.DeliverAll(t, d, "warm/1")
		}
		config.MaxMsgSize = 2000
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		batch := numbered(4, "a"+strconv.FormatBool(told), "b"+strconv.FormatBool(told))
		batch[2] = drivertest.Swell(batch[2], 5000)
		outs := d.Deliver(t.Context(), batch, drivertest.Soon())
		if got := drivertest.Verdicts(outs); got != "ddRdudud" {
			t.Errorf("told %t: %s %+v", told, got, outs[2])
		}
		config.MaxMsgSize = -1
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		// Made fit, it goes, and the rest behind it.
		batch[2] = drivertest.Events("a" + strconv.FormatBool(told) + "/2")[0]
		drivertest.WantDelivered(t, d.Deliver(t.Context(), rest(t, batch, outs), drivertest.Soon()))
	}
	ids := stored(t, js, "x")
	wantInOrder(t, ids, 4, "afalse", "bfalse", "atrue", "btrue")
	if len(ids) != 17 {
		t.Errorf("%d are stored", len(ids))
	}
}

// Repeats of any part of what is there, in any mixture, with and without the memory
// of the stream, change no order.
func TestNATSOrderOfRepeats(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	js := client(t, s)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, window := range []time.Duration{0, time.Minute} {
		name := "repeats" + strconv.Itoa(int(window.Seconds()))
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{"acme." + name + ".>"}, Storage: jetstream.MemoryStorage, Duplicates: max(window, 100*time.Millisecond)}); err != nil {
			t.Fatal(err)
		}
		d := makeSink(t, map[string]any{"url": s.ClientURL(), "subject_prefix": name, "stream": name}, driver.Settings{})
		batch := numbered(100, "a", "b", "c")
		for at := 0; at < len(batch); {
			from, to := max(0, at-rng.IntN(60)), min(len(batch), at+1+rng.IntN(90))
			drivertest.WantDelivered(t, d.Deliver(t.Context(), batch[from:to], drivertest.Soon()))
			at = to
		}
		wantInOrder(t, stored(t, js, name), 100, "a", "b", "c")
	}
}

// The server is killed again and again while a few documents with many changes are
// sent to it: what was answered is stored, and first arrivals are in order.
func TestNATSOrderOverKills(t *testing.T) {
	s := testenv.StartNATS(t, "")
	d := makeSink(t, with(nil, "url", s.URL(), "stream", "x", "duplicate_window", "1s"), driver.Settings{AttemptTimeout: 10 * time.Second})
	drivertest.DeliverAll(t, d, "warm/1")
	const each = 1500
	todo := numbered(each, "a", "b")
	answered := map[string]bool{}
	for kills := 0; len(todo) > 0; {
		if kills > 50 {
			t.Fatal("never completed")
		}
		var killed chan struct{}
		if kills < 5 {
			killed = make(chan struct{})
			go func() {
				defer close(killed)
				time.Sleep(time.Duration(20+10*kills) * time.Millisecond) // somewhere in the middle
				s.Kill()
			}()
		}
		batch := todo
		outs := d.Deliver(t.Context(), batch, drivertest.Soon())
		for i, o := range outs {
			if o.Verdict == driver.Delivered {
				answered[batch[i].ID] = true
			}
		}
		todo = rest(t, batch, outs)
		if killed != nil {
			<-killed
			s.Restart()
			kills++
		}
	}
	js := clientAt(t, s.URL())
	ids := stored(t, js, "x")
	there := map[string]bool{}
	for _, id := range ids {
		there[id] = true
	}
	for id := range answered {
		if !there[id] {
			t.Errorf("%s was acknowledged and is not there", id)
		}
	}
	wantInOrder(t, ids, each, "a", "b")
}

func TestReadAck(t *testing.T) {
	for text, want := range map[string]string{
		`{"stream":"x","seq":1}`:                                                            "false <nil>",
		`{"stream":"x", "seq":1,"duplicate": true}`:                                         "true <nil>",
		`{"stream":"x","domain":"hub","seq":17}`:                                            "false <nil>",
		`{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"x","seq":0}`: "false nats: API error: code=503 err_code=10077 description=full",
		`{"stream":"x"}`: "false the answer is not an acknowledgement",
		`{"seq":1}`:      "false the answer is not an acknowledgement",
		`+OK`:            "false the answer is not an acknowledgement",
		``:               "false the answer is not an acknowledgement",
	} {
		again, err := readAck([]byte(text))
		if got := fmt.Sprint(again, err); got != want && got != strings.Replace(want, "false ", "false", 1) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func FuzzReadAck(f *testing.F) {
	f.Add([]byte(`{"stream":"x","seq":1}`))
	f.Add([]byte(`{"error":{"code":400},"stream":"x","seq":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := readAck(data); err == nil && !strings.Contains(string(data), "seq") && !strings.Contains(strings.ToLower(string(data)), "seq") {
			t.Errorf("%q counts as an acknowledgement", data)
		}
	})
}
