package documents

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

func TestAStreamIsTheLogAndGoesOn(t *testing.T) {
	w := newWorld(t, Settings{Look: time.Hour})
	srv := w.serve()
	w.write(slices.Repeat([]string{"a", "b"}, 150)...) // more than is read at once
	s := connect(t, srv, cdc+"/stream?format=both", "")
	var got []string
	for range 300 {
		got = append(got, s.next())
	}
	for range 3 {
		w.write("c")
		w.ring()
		got = append(got, s.next())
	}
	if diff := cmp.Diff(w.log(delivery.Both), got); diff != "" {
		t.Error(diff)
	}
}

// Wherever a stream breaks, the id of the last event leads to the next one: none
// is missing and none comes twice.
func TestAStreamResumes(t *testing.T) {
	w := newWorld(t, Settings{Look: time.Millisecond})
	srv := w.serve()
	w.write(slices.Repeat([]string{"a", "b", "c"}, 10)...)
	w.call("PUT", consumers+"/billing", `{"start":"beginning"}`, 201, nil)
	for name, path := range map[string]string{
		"with a cursor of its own": cdc + "/stream?cursor=now", // the id wins over it
		"of a consumer":            consumers + "/billing/stream",
	} {
		t.Run(name, func(t *testing.T) {
			w := w.with(t)
			var got []string
			f, err := w.store.Formation(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			id := cursor{fingerprintOf(f), 0}.String()
			for take := 0; len(got) < 30; take = (take + 1) % 4 { // also a stream that breaks before its first event
				s := connect(t, srv, path, id)
				for range min(take, 30-len(got)) {
					got = append(got, s.next())
				}
				id = s.id
				_ = s.resp.Body.Close()
			}
			if diff := cmp.Diff(w.log(delivery.Patches), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A client that began at "now" and lost its connection before the first event may
// not begin at a later now.
func TestAStreamFromNowKeepsItsNow(t *testing.T) {
	w := newWorld(t, Settings{Look: time.Millisecond})
	srv := w.serve()
	w.write("a")
	s := connect(t, srv, cdc+"/stream?cursor=now", "")
	_ = s.resp.Body.Close()
	w.write("b")
	if got := connect(t, srv, cdc+"/stream?cursor=now", s.id).next(); got != w.log(delivery.Patches)[1] {
		t.Errorf("the first event is %s", got)
	}
}

func TestAStreamThatCannotBeResumed(t *testing.T) {
	w := newWorld(t, Settings{})
	w.write("a")
	old := w.page(events).Next
	w.remake()
	w.call("PUT", consumers+"/billing", "", 201, nil)
	for name, tc := range map[string]struct {
		id     string
		status int
	}{
		"an id that is none":      {"17", 400},
		"of a formation that was": {old, 409},
	} {
		for _, path := range []string{cdc + "/stream", consumers + "/billing/stream"} {
			out := httptest.NewRecorder()
			r := request("GET", path, "")
			r.Header.Set("Last-Event-ID", tc.id)
			w.watched().ServeHTTP(out, r)
			if out.Code != tc.status || !strings.Contains(out.Body.String(), "/Last-Event-ID") {
				t.Errorf("%s: %d %s", name, out.Code, out.Body)
			}
		}
	}
}

func TestAStreamEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		end func(w *world, s *stream)
		eof bool // cleanly
	}{
		"when the process stops": {func(w *world, _ *stream) { w.f.Drain() }, true},
		"when the formation is deleted": {func(w *world, _ *stream) {
			w.tx(func(tx *store.Tx) error { return tx.DestroyFormation(context.Background(), key) })
		}, true},
		"when the formation is made new": {func(w *world, _ *stream) { w.remake(); w.write("z") }, true},
		"when the client goes away":      {func(_ *world, s *stream) { _ = s.resp.Body.Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Settings{Look: time.Millisecond})
			srv := w.serve()
			w.write("a", "b")
			s := connect(t, srv, cdc+"/stream?cursor=now", "")
			tc.end(w, s)
			f, err := readFrame(s.in)
			if err == nil || errors.Is(err, io.EOF) != tc.eof || f.data != "" {
				t.Errorf("%+v %v", f, err)
			}
			w.f.seats.close()
			w.f.seats.wait() // the handler has left
		})
	}
}

// noted is a client within the process that notes when what came.
type noted struct {
	*httptest.ResponseRecorder
	begin time.Time
	at    []string
}

func (w *noted) Write(b []byte) (int, error) {
	kind := "event"
	switch {
	case strings.HasPrefix(string(b), "retry:"):
		kind = "hello"
	case string(b) == ":\n\n":
		kind = "heartbeat"
	}
	w.at = append(w.at, fmt.Sprint(kind, " ", time.Since(w.begin)))
	return w.ResponseRecorder.Write(b)
}

func TestAStreamsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{Lifetime: time.Minute, Heartbeat: 25 * time.Second})
		client := &noted{ResponseRecorder: httptest.NewRecorder(), begin: time.Now()}
		time.AfterFunc(30*time.Second+time.Millisecond, func() { w.write("a") })
		w.api.ServeHTTP(client, request("GET", cdc+"/stream", ""))
		client.at = append(client.at, fmt.Sprint("end ", time.Since(client.begin)))
		// The log is looked at every half second.
		if diff := cmp.Diff([]string{"hello 0s", "heartbeat 25s", "event 30.5s", "heartbeat 50s", "end 1m0s"}, client.at); diff != "" {
			t.Error(diff)
		}
		if client.Code != http.StatusOK {
			t.Errorf("%d", client.Code)
		}
	})
}

// stuck is a client that takes the first piece and then no more, until its time
// limit passes.
type stuck struct {
	http.ResponseWriter
	wrote   int
	limits  int
	refuses bool
}

func (s *stuck) SetWriteDeadline(time.Time) error { s.limits++; return nil }
func (s *stuck) Flush()                           {}
func (s *stuck) Write(b []byte) (int, error) {
	if s.refuses {
		return 0, errors.New("i/o timeout")
	}
	s.refuses = true
	s.wrote += len(b)
	return len(b), nil
}

// A reader that stops reading costs one piece of the log, for as long as it may
// take for one piece.
func TestAReaderThatStopsReading(t *testing.T) {
	for name, path := range map[string]string{"a stream": cdc + "/stream", "a page": events + "?limit=1000"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Settings{})
			w.writeSized(pieceBytes/4, slices.Repeat([]string{"a"}, 20)...)
			client := &stuck{ResponseWriter: httptest.NewRecorder()}
			w.api.ServeHTTP(client, request("GET", path, "")) // returns
			if client.wrote > 2*pieceBytes {
				t.Errorf("%d bytes were held for it", client.wrote)
			}
			if client.limits < 2 {
				t.Errorf("%d limits on writing, want one for each piece", client.limits)
			}
			if err := w.f.Close(); err != nil { // waits for whoever still holds a seat
				t.Error(err)
			}
		})
	}
}

func TestAskingForTheHeadOfAStreamDoesNotWait(t *testing.T) {
	w := newWorld(t, Settings{})
	out := httptest.NewRecorder()
	w.api.ServeHTTP(out, request("HEAD", cdc+"/stream", ""))
	if out.Code != 200 || out.Header().Get("Content-Type") != "text/event-stream" || out.Body.Len() > 0 {
		t.Errorf("%d %v %q", out.Code, out.Header(), out.Body)
	}
}

func TestAnEventIsOneLine(t *testing.T) {
	w := newWorld(t, Settings{Lifetime: time.Millisecond})
	w.write("a") // its message and its patches have line breaks
	f, err := w.f.open(withPath(request("GET", "/", "")))
	if err != nil {
		t.Fatal(err)
	}
	out := httptest.NewRecorder()
	p, err := f.after(t.Context(), 0, 10)
	if err == nil {
		err = pour(newOutput(out), f, p)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.Body.String(), "\n"); n != 4 {
		t.Errorf("%d lines, want id, event, data and an empty one:\n%s", n, out.Body)
	}
	got, err := readFrame(bufio.NewReader(out.Body))
	if err != nil || canonical(t, []byte(got.data)) != w.log(delivery.Patches)[0] {
		t.Errorf("%+v %v", got, err)
	}
}

func withPath(r *http.Request) *http.Request {
	r.SetPathValue("org", string(key.Org))
	r.SetPathValue("app", string(key.App))
	return r
}
