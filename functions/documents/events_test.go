package documents

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestPagesTogetherAreTheLog(t *testing.T) {
	w := newWorld(t, Settings{})
	for i := range 450 { // more than a page holds by default, and than is read at once
		w.write(fmt.Sprint("d", i%7))
	}
	for name, tc := range map[string]struct {
		query  string
		format delivery.Format
		pages  int // the last one is empty
	}{
		"one by one":     {"limit=1", delivery.Patches, 451},
		"by default":     {"", delivery.Patches, 6},
		"raw, two pages": {"limit=225&format=raw", delivery.Raw, 3},
		"all at once":    {"limit=1000&format=both", delivery.Both, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.with(t)
			var got []string
			pages, cursor := 0, "beginning"
			for {
				p := w.page(events + "?" + tc.query + "&cursor=" + cursor)
				pages++
				got = append(got, w.texts(p)...)
				if len(p.Items) == 0 {
					if p.Next != cursor {
						t.Errorf("an empty page moves the cursor from %s to %s", cursor, p.Next)
					}
					break
				}
				cursor = p.Next
			}
			if diff := cmp.Diff(w.log(tc.format), got); diff != "" {
				t.Error(diff)
			}
			if pages != tc.pages {
				t.Errorf("%d pages, want %d", pages, tc.pages)
			}
		})
	}
}

func TestAPageIsAsDescribed(t *testing.T) {
	w := newWorld(t, Settings{})
	w.write("a", "b")
	var p page
	answer := w.call("GET", events+"?format=both&limit=1", "", 200, &p)
	if len(p.Items) != 1 || answer.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d items, %v", len(p.Items), answer.Header())
	}
	w.call("GET", events+"?cursor=now", "", 200, &p)
	if len(p.Items) != 0 {
		t.Errorf("%d items after now", len(p.Items))
	}
	w.write("a")
	if p = w.page(events + "?cursor=" + p.Next); len(p.Items) != 1 {
		t.Errorf("%d items after what was now, want the one written since", len(p.Items))
	}
}

// A page of long events ends where the next one would make it too long, but never
// before its first event.
func TestAPageIsBoundedInBytes(t *testing.T) {
	w := newWorld(t, Settings{})
	const mb = 1 << 20
	w.writeSized(mb, slices.Repeat([]string{"long"}, 9)...)
	w.writeSized(maxPageBytes+mb, "longer")
	w.write("short")
	var sizes []int
	var got []string
	for cursor := "beginning"; ; {
		p := w.page(events + "?limit=1000&cursor=" + cursor)
		if len(p.Items) == 0 {
			break
		}
		size := 0
		for _, b := range p.Items {
			size += len(b)
		}
		if size > maxPageBytes && len(p.Items) > 1 {
			t.Errorf("%d events of %d bytes in one page", len(p.Items), size)
		}
		sizes, got, cursor = append(sizes, len(p.Items)), append(got, w.texts(p)...), p.Next
	}
	if diff := cmp.Diff([]int{7, 2, 1, 1}, sizes); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(w.log(delivery.Patches), got) {
		t.Error("the pages are not the log")
	}
}

func TestWhatCannotBeAsked(t *testing.T) {
	w := newWorld(t, Settings{})
	w.write("a")
	other := tenant.Key{Org: "acme", App: "medical"}
	foreign := tenant.Key{Org: "rival", App: "logistics"}
	w.addFormation(other)
	w.addFormation(foreign)
	cursorOf := func(k tenant.Key, position uint64) string {
		f, err := w.store.Formation(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		return cursor{fingerprintOf(f), position}.String()
	}
	good := cursorOf(key, 1)
	for name, tc := range map[string]struct {
		path    string
		status  int
		pointer string
	}{
		"a cursor that is none":             {events + "?cursor=x", 400, "/cursor"},
		"a cursor with something behind":    {events + "?cursor=" + good + "AA", 400, "/cursor"},
		"a cursor with a line break":        {events + "?cursor=" + good[:10] + "%0A" + good[10:], 400, "/cursor"},
		"a position no database has":        {events + "?cursor=" + cursorOf(key, 1<<63), 400, "/cursor"},
		"a cursor of another formation":     {events + "?cursor=" + cursorOf(other, 0), 409, "/cursor"},
		"a cursor of another organization":  {events + "?cursor=" + cursorOf(foreign, 0), 409, "/cursor"},
		"a cursor from the future":          {events + "?cursor=" + cursorOf(key, 2), 409, "/cursor"},
		"no event":                          {events + "?limit=0", 400, "/limit"},
		"too many events":                   {events + "?limit=1001", 400, "/limit"},
		"a limit that is no number":         {events + "?limit=ten", 400, "/limit"},
		"too long a wait":                   {events + "?wait=26s", 400, "/wait"},
		"a wait without a unit":             {events + "?wait=5", 400, "/wait"},
		"a wait back in time":               {events + "?wait=-1s", 400, "/wait"},
		"an unknown format":                 {events + "?format=xml", 400, "/format"},
		"no such formation":                 {"/orgs/acme/formations/none/cdc/events", 404, ""},
		"another organization's":            {"/orgs/rival/formations/medical/cdc/events", 404, ""},
		"no such organization":              {"/orgs/none/formations/logistics/cdc/events", 404, ""},
		"no possible name":                  {"/orgs/acme/formations/a.b/cdc/events", 404, ""},
		"a stream of a cursor that is none": {cdc + "/stream?cursor=x", 400, "/cursor"},
		"a stream of no formation":          {"/orgs/acme/formations/none/cdc/stream", 404, ""},
		"a stream of an unknown format":     {cdc + "/stream?format=xml", 400, "/format"},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.with(t)
			var p problem
			w.call("GET", tc.path, "", tc.status, &p)
			if p.pointer() != tc.pointer {
				t.Errorf("the problem is at %q, want %q: %+v", p.pointer(), tc.pointer, p)
			}
		})
	}
	w.call("GET", events+"?cursor="+good, "", 200, nil)
}

type problem struct {
	Detail string
	Errors []struct{ Pointer string }
}

func (p problem) pointer() string {
	if len(p.Errors) == 0 {
		return ""
	}
	return p.Errors[0].Pointer
}

// A formation made anew has another log. An old cursor may not silently mean a
// place in it.
func TestACursorDoesNotOutliveItsFormation(t *testing.T) {
	w := newWorld(t, Settings{})
	w.write("a", "b")
	old := w.page(events).Next
	w.remake()
	w.write("c", "d", "e")
	var p problem
	w.call("GET", events+"?cursor="+old, "", 409, &p)
	if !strings.Contains(p.Detail, "deleted since") {
		t.Errorf("%+v", p)
	}
	if got := w.page(events); len(got.Items) != 3 || got.Next == old {
		t.Errorf("%d events of the new one", len(got.Items))
	}
}

// poll asks in the background, and returns once somebody waits.
func (w *world) poll(ctx context.Context, path string) <-chan *httptest.ResponseRecorder {
	w.t.Helper()
	done := make(chan *httptest.ResponseRecorder, 1)
	before := w.waiting()
	go func() {
		out := httptest.NewRecorder()
		w.api.ServeHTTP(out, request("GET", path, "").WithContext(ctx))
		done <- out
	}()
	for w.waiting() == before {
		time.Sleep(time.Millisecond)
	}
	return done
}

// waiting is how many wait for the formation.
func (w *world) waiting() int {
	w.f.bells.mu.Lock()
	defer w.f.bells.mu.Unlock()
	if l := w.f.bells.byKey[key]; l != nil {
		return l.waiting
	}
	return 0
}

func TestAWaitIsEndedByAChange(t *testing.T) {
	for name, tc := range map[string]struct {
		look time.Duration
		ring bool
	}{
		"which the doorbell tells of": {time.Hour, true},
		"which nobody tells of":       {time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Settings{Look: tc.look})
			w.write("a")
			answer := w.poll(t.Context(), events+"?cursor=now&wait=25s")
			w.ring() // for nothing: it waits on
			w.write("b")
			if tc.ring {
				w.ring()
			}
			var p page
			if err := json.Unmarshal((<-answer).Body.Bytes(), &p); err != nil || len(p.Items) != 1 || p.Items[0] == nil || w.texts(p)[0] != w.log(delivery.Patches)[1] {
				t.Errorf("%v %s", err, w.texts(p))
			}
			if n := w.waiting(); n != 0 {
				t.Errorf("%d still wait", n)
			}
		})
	}
}

func TestAWaitEndsWithoutAChange(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(w *world, cancel func())
		status int
	}{
		"when the process stops": {func(w *world, _ func()) { _ = w.f.Close() }, 200},
		"when the formation is deleted": {func(w *world, _ func()) {
			w.tx(func(tx *store.Tx) error { return tx.DestroyFormation(context.Background(), key) })
		}, 404},
		"when the formation is made new": {func(w *world, _ func()) { w.remake() }, 409},
		"when the client goes away":      {func(_ *world, cancel func()) { cancel() }, 500},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Settings{Look: time.Millisecond})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.write("a")
			answer := w.poll(ctx, events+"?cursor=now&wait=25s")
			tc.end(w, cancel)
			if got := <-answer; got.Code != tc.status {
				t.Errorf("%d, want %d: %s", got.Code, tc.status, got.Body)
			}
			if n := w.waiting(); n != 0 {
				t.Errorf("%d still wait", n)
			}
		})
	}
}

func TestAWaitEndsAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{})
		begin := time.Now()
		if p := w.page(events + "?wait=25s"); len(p.Items) != 0 || p.Next == "" {
			t.Errorf("%+v", p)
		}
		if took := time.Since(begin); took != 25*time.Second {
			t.Errorf("after %s", took)
		}
		// A new formation whose log is as long as the old one's rings no bell.
		time.AfterFunc(time.Second, w.remake)
		w.call("GET", events+"?wait=10s", "", 409, nil)
	})
}

func TestNobodyWaitsWhereThereIsNoRoom(t *testing.T) {
	w := newWorld(t, Settings{MaxWaiting: 1})
	ctx, cancel := context.WithCancel(t.Context())
	answer := w.poll(ctx, events+"?wait=25s")
	for _, path := range []string{events + "?wait=25s", cdc + "/stream"} {
		if got := w.call("GET", path, "", 429, nil); got.Header().Get("Retry-After") != "5" {
			t.Errorf("%s: %v", path, got.Header())
		}
	}
	w.page(events) // who does not wait needs no room
	cancel()
	<-answer
	leave, err := w.f.seats.take("acme")
	if err != nil {
		t.Fatalf("the seat is not free again: %v", err)
	}
	leave()
}

func TestReadersWhileOthersWrite(t *testing.T) {
	w := newWorld(t, Settings{Look: time.Millisecond})
	const n, readers = 200, 4
	var wg sync.WaitGroup
	got := make([][]string, readers)
	for i := range readers {
		wg.Go(func() {
			for cursor := "beginning"; len(got[i]) < n; {
				out := httptest.NewRecorder()
				w.api.ServeHTTP(out, request("GET", fmt.Sprintf("%s?wait=25s&limit=%d&cursor=%s", events, 1+i*10, cursor), ""))
				var p page
				if err := json.Unmarshal(out.Body.Bytes(), &p); err != nil || out.Code != 200 {
					t.Errorf("%d %s", out.Code, out.Body)
					return
				}
				got[i], cursor = append(got[i], w.texts(p)...), p.Next
			}
		})
	}
	for i := range n {
		w.write(fmt.Sprint("d", i%3))
	}
	wg.Wait()
	want := w.log(delivery.Patches)
	for i := range got {
		if diff := cmp.Diff(want, got[i]); diff != "" {
			t.Errorf("reader %d: %s", i, diff)
		}
	}
}
