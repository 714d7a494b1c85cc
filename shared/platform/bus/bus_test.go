package bus_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

var quiet = slog.New(slog.DiscardHandler)

func bell(id string) cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetID(id)
	e.SetType("bell")
	e.SetSource("/test")
	_ = e.SetData("application/json", map[string]int{"n": 1})
	return e
}

func all(cloudevents.Event) bool { return true }

func TestDoorAnswersWhatBrokersUnderstand(t *testing.T) {
	door := bus.Door([]bus.Subscription{{Type: "bell", Handle: func(_ context.Context, e cloudevents.Event) error {
		switch e.ID() {
		case "never":
			return fault.Invalid.New("this can never be handled")
		case "later":
			return errors.New("secret detail")
		}
		return nil
	}}}, quiet)
	structured := func(id, typ string) string {
		return `{"specversion":"1.0","id":"` + id + `","type":"` + typ + `","source":"/test"}`
	}
	const ce = "application/cloudevents+json"
	for name, tc := range map[string]struct {
		method, contentType, body string
		status                    int
		answer                    string
	}{
		"handled":             {"POST", ce, structured("1", "bell"), 202, ""},
		"of another type":     {"POST", ce, structured("1", "gong"), 202, ""},
		"can never be":        {"POST", ce, structured("never", "bell"), 422, "this can never be handled"},
		"not now":             {"POST", ce, structured("later", "bell"), 503, ""},
		"without a type":      {"POST", ce, structured("1", ""), 400, "not a CloudEvent"},
		"not an event":        {"POST", ce, "{", 400, "not a CloudEvent"},
		"a batch":             {"POST", "application/cloudevents-batch+json", "[]", 400, "not a CloudEvent"},
		"longer than allowed": {"POST", ce, structured(strings.Repeat("x", bus.MaxEventBytes), "bell"), 400, "not a CloudEvent"},
		"read":                {"GET", "", "", 405, ""},
		"asked for options":   {"OPTIONS", "", "", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, bus.EventsPath, strings.NewReader(tc.body))
			r.Header.Set("Content-Type", tc.contentType)
			w := httptest.NewRecorder()
			door.ServeHTTP(w, r)
			if w.Code != tc.status || w.Body.String() != tc.answer {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, tc.status, tc.answer)
			}
			if tc.status == 503 && w.Header().Get("Retry-After") == "" {
				t.Error("503 does not say when to try again")
			}
		})
	}
}

// A broker with a time limit is a client that goes away in the middle; the door
// must go on answering afterwards.
func TestDoorSurvivesClientsThatGoAway(t *testing.T) {
	server := httptest.NewServer(bus.Door([]bus.Subscription{{Type: "bell", Handle: func(ctx context.Context, _ cloudevents.Event) error {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
		}
		return ctx.Err()
	}}}, quiet))
	defer server.Close()
	publisher := bus.NewKnative(server.URL)
	for i := range 300 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%30)*100*time.Microsecond)
		_ = publisher.Publish(ctx, bell("early"))
		cancel()
	}
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := publisher.Publish(ctx, bell("late")); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

func TestKnativePublishesStructured(t *testing.T) {
	var got, contentType string
	status := http.StatusAccepted
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, contentType = string(body), r.Header.Get("Content-Type")
		w.WriteHeader(status)
	}))
	if err := bus.NewKnative(server.URL).Publish(t.Context(), bell("1")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, `"id":"1"`) || contentType != cloudevents.ApplicationCloudEventsJSON {
		t.Errorf("%s as %s", got, contentType)
	}
	status = http.StatusInternalServerError
	if err := bus.NewKnative(server.URL).Publish(t.Context(), bell("1")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a broker that answers 500: %v", err)
	}
	server.Close()
	if err := bus.NewKnative(server.URL).Publish(t.Context(), bell("1")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a broker that is gone: %v", err)
	}
}

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestTheTraceGoesAlong on every bus: from who publishes to who hears.
func TestTheTraceGoesAlong(t *testing.T) {
	heard := make(chan string, 1)
	hears := []bus.Subscription{{Type: "bell", Handle: func(ctx context.Context, _ cloudevents.Event) error {
		heard <- tracing.Of(ctx)
		return nil
	}}}
	server := httptest.NewServer(bus.Door(hears, quiet))
	defer server.Close()
	local := bus.NewLocal(quiet)
	defer local.Close()
	local.Connect([]bus.Route{{Name: "r", Match: all, Timeout: time.Minute, Deliver: func(ctx context.Context, e cloudevents.Event) error {
		return bus.Dispatch(ctx, hears, e)
	}}})
	own := bell("own")
	own.SetExtension(tracing.Extension, parent)
	other := parent[:3] + "1" + parent[4:]
	for name, tc := range map[string]struct {
		ctx  context.Context
		e    cloudevents.Event
		want string
	}{
		"none":            {t.Context(), bell("1"), ""},
		"the publisher's": {tracing.With(t.Context(), parent), bell("1"), parent},
		"the event's own": {tracing.With(t.Context(), other), own, parent},
	} {
		for kind, publisher := range map[string]bus.Publisher{"local": local, "knative": bus.NewKnative(server.URL)} {
			if err := publisher.Publish(tc.ctx, tc.e); err != nil {
				t.Fatal(err)
			}
			if got := <-heard; got != tc.want {
				t.Errorf("%s, %s: %q, want %q", kind, name, got, tc.want)
			}
		}
		if tc.e.ID() != "own" && len(tc.e.Extensions()) != 0 {
			t.Errorf("%s: the publisher's event was changed", name)
		}
	}
}

func TestLocalRetriesAndGivesUp(t *testing.T) {
	for name, tc := range map[string]struct{ fails, want int32 }{
		"works at once":      {0, 1},
		"works at the third": {2, 3},
		"never works":        {99, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int32
				l := bus.NewLocal(quiet)
				defer l.Close()
				l.Connect([]bus.Route{{Name: "r", Match: all, Timeout: time.Second, Retry: 2, Backoff: time.Second,
					Deliver: func(context.Context, cloudevents.Event) error {
						if calls.Add(1) <= tc.fails {
							return errors.New("down")
						}
						return nil
					}}})
				if err := l.Publish(t.Context(), bell("1")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if got := calls.Load(); got != tc.want {
					t.Errorf("%d attempts, want %d", got, tc.want)
				}
			})
		})
	}
}

func TestLocalDoesNotLetOneRouteWaitForAnother(t *testing.T) {
	l := bus.NewLocal(quiet)
	heard := make(chan string, 10)
	l.Connect([]bus.Route{
		{Name: "hangs", Match: all, Timeout: time.Hour, Deliver: func(ctx context.Context, _ cloudevents.Event) error {
			<-ctx.Done()
			return ctx.Err()
		}},
		{Name: "hears", Match: all, Timeout: time.Second, Deliver: func(_ context.Context, e cloudevents.Event) error {
			heard <- e.ID()
			return nil
		}},
		{Name: "not for it", Match: func(cloudevents.Event) bool { return false }},
	})
	for _, id := range []string{"1", "2"} {
		if err := l.Publish(t.Context(), bell(id)); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != id {
			t.Errorf("heard %s, want %s", got, id)
		}
	}
	l.Close() // ends the one that hangs
	if err := l.Publish(t.Context(), bell("3")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a closed bus: %v", err)
	}
}

func TestLocalRefusesRatherThanGrow(t *testing.T) {
	l := bus.NewLocal(quiet)
	defer l.Close()
	l.Connect([]bus.Route{{Name: "hangs", Match: all, Timeout: time.Hour, Deliver: func(ctx context.Context, _ cloudevents.Event) error {
		<-ctx.Done()
		return nil
	}}})
	var err error
	for range 1000 {
		err = errors.Join(err, l.Publish(t.Context(), bell("1")))
	}
	if !errors.Is(err, fault.Unavailable) {
		t.Errorf("a thousand events for a function that hangs: %v", err)
	}
	if err := l.Publish(t.Context(), cloudevents.NewEvent()); !errors.Is(err, fault.Invalid) {
		t.Errorf("an event without a type: %v", err)
	}
}
