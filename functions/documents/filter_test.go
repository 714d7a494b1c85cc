package documents

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
)

// only are the events of the log whose positions are given.
func (w *world) only(positions ...int) []string {
	w.t.Helper()
	log := w.log(delivery.Patches)
	out := []string{}
	for _, p := range positions {
		out = append(out, log[p-1])
	}
	return out
}

func TestFilters(t *testing.T) {
	w := newWorld(t, Settings{})
	w.write("tracks:1", "notes:1", "tracks:2", "tracks:1", "notes:1")
	for name, tc := range map[string]struct {
		query  url.Values
		filter string // the same, of a consumer
		want   []int
	}{
		"a glob":                  {url.Values{"documents": {"tracks:*"}}, `{"documents":["tracks:*"]}`, []int{1, 3, 4}},
		"globs, one excludes":     {url.Values{"documents": {"*:*", "!*:2"}}, `{"documents":["*:*","!*:2"]}`, []int{1, 2, 4, 5}},
		"an expression":           {url.Values{"where": {"event.seq == 2"}}, `{"where":"event.seq == 2"}`, []int{4, 5}},
		"both":                    {url.Values{"documents": {"notes:*"}, "where": {"event.seq == 2"}}, `{"documents":["notes:*"],"where":"event.seq == 2"}`, []int{5}},
		"nothing passes":          {url.Values{"documents": {"none"}}, `{"documents":["none"]}`, []int{}},
		"what cannot be judged":   {url.Values{"where": {"event.deps[3] == ''"}}, `{"where":"event.deps[3] == ''"}`, []int{1, 2, 3, 4, 5}},
		"no filter, said so":      {url.Values{"where": {""}}, `{}`, []int{1, 2, 3, 4, 5}},
		"an expression on a time": {url.Values{"where": {"time > timestamp('2027-01-01T00:00:00Z')"}}, `{"where":"time > timestamp('2027-01-01T00:00:00Z')"}`, []int{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.with(t)
			consumer := consumers + "/c" + url.PathEscape(strings.Map(func(r rune) rune {
				if r < 'a' || r > 'z' {
					return '-'
				}
				return r
			}, name))
			w.call("PUT", consumer, `{"start":"beginning","filter":`+tc.filter+`}`, 201, nil)
			for _, limit := range []string{"1", "2", "100"} {
				for _, by := range []string{"query", "consumer"} {
					got := []string{}
					cursor, end := "beginning", w.page(events+"?limit=100").Next
					for cursor != end {
						q := url.Values{"limit": {limit}, "cursor": {cursor}}
						var p page
						if by == "query" {
							for k, v := range tc.query {
								q[k] = v
							}
							p = w.page(events + "?" + q.Encode())
						} else {
							p = w.page(consumer + "/events?limit=" + limit)
							w.call("POST", consumer+"/ack", `{"cursor":"`+p.Next+`"}`, 200, nil)
						}
						got, cursor = append(got, w.texts(p)...), p.Next
					}
					if diff := cmp.Diff(w.only(tc.want...), got); diff != "" {
						t.Errorf("%s at a time, by %s:\n%s", limit, by, diff)
					}
					w.call("POST", consumer+"/ack", `{"cursor":"beginning","rewind":true}`, 200, nil)
				}
			}
		})
	}
}

// A page that a filter leaves empty still has a next that is further on, also if
// there is more to read than one request reads.
func TestAFilterThatLetsLittlePass(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: writes thousands of changes")
	}
	w := newWorld(t, Settings{})
	const n = pieceEvents*maxPieces + 500
	w.write(append(slices.Repeat([]string{"dull"}, n), "bright")...)
	var got []string
	pages := 0
	for cursor := "beginning"; len(got) == 0; pages++ {
		if pages > 3 {
			t.Fatal("it is not found")
		}
		p := w.page(events + "?documents=bright&cursor=" + cursor)
		if p.Next == cursor {
			t.Fatal("the cursor stays")
		}
		got, cursor = append(got, w.texts(p)...), p.Next
	}
	if pages != 2 || got[0] != w.only(n + 1)[0] {
		t.Errorf("%d pages, %d events", pages, len(got))
	}
}

func TestAWaitIsNotEndedByWhatIsFilteredOut(t *testing.T) {
	w := newWorld(t, Settings{Look: time.Hour})
	answer := w.poll(t.Context(), events+"?documents=bright&wait=25s")
	for range 3 {
		w.write("dull")
		w.ring()
	}
	w.write("bright")
	w.ring()
	var p page
	if err := json.Unmarshal((<-answer).Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w.only(4), w.texts(p)); diff != "" {
		t.Error(diff)
	}
}

// The client of a silent stream learns how far it has come, so that it need not
// have all of that read again when it connects anew.
func TestASilentStreamTellsWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Settings{Lifetime: 35 * time.Second})
		w.write("dull", "dull")
		client := httptest.NewRecorder()
		time.AfterFunc(12*time.Second, func() { w.write("bright") })
		w.api.ServeHTTP(client, request("GET", cdc+"/stream?documents=bright", ""))
		var kinds []string
		for _, text := range strings.Split(strings.TrimSuffix(client.Body.String(), "\n\n"), "\n\n") {
			kind := ""
			for _, line := range strings.Split(text, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				if name == "id" {
					c, err := parseCursor(value)
					if err != nil {
						t.Fatal(err)
					}
					name += " " + string(rune('0'+c.position))
				}
				kind += name + " "
			}
			kinds = append(kinds, strings.TrimSpace(kind))
		}
		want := []string{"retry id 0", ": id 2", "id 3 event data", ":", ":"}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFiltersThatCannotBe(t *testing.T) {
	w := newWorld(t, Settings{})
	for query, pointer := range map[string]string{
		"documents=a&documents=!":      "/documents/1",
		"where=event.nothing+%3D%3D+1": "/where",
		"where=1":                      "/where",
	} {
		for _, path := range []string{events, cdc + "/stream"} {
			var p problem
			w.call("GET", path+"?"+query, "", 400, &p)
			if p.pointer() != pointer {
				t.Errorf("%s: the problem is at %q, want %q: %+v", query, p.pointer(), pointer, p)
			}
		}
	}
	var c consumerWire
	w.call("PUT", consumers+"/x", `{"filter":{"where":"event.seq > 1"}}`, 201, &c)
	if c.Filter == nil || c.Filter.Where != "event.seq > 1" {
		t.Errorf("%+v", c)
	}
	if w.call("PUT", consumers+"/x", `{"format":"raw"}`, 200, &c); c.Filter == nil || c.Format != delivery.Raw {
		t.Errorf("what is not said changes: %+v", c)
	}
	c = consumerWire{}
	if w.call("PUT", consumers+"/x", `{"filter":{}}`, 200, &c); c.Filter != nil {
		t.Errorf("an empty filter stays: %+v", c)
	}
}
