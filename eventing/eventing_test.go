package eventing

import (
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

func TestTriggersAreReadWhole(t *testing.T) {
	triggers, err := Triggers()
	if err != nil || len(triggers) == 0 {
		t.Fatalf("%d triggers, %v", len(triggers), err)
	}
	for _, tr := range triggers {
		if tr.Exact["type"] == "" || tr.Timeout != 25*time.Second || tr.Backoff != time.Second || tr.Retry != 5 {
			t.Errorf("%+v", tr)
		}
	}
}

func TestMatches(t *testing.T) {
	e := cloudevents.NewEvent()
	e.SetType("a")
	e.SetSource("/s")
	e.SetSubject("x")
	e.SetExtension("peatsink", "nats")
	for name, tc := range map[string]struct {
		exact map[string]string
		want  bool
	}{
		"nothing asked":         {nil, true},
		"the type":              {map[string]string{"type": "a"}, true},
		"another type":          {map[string]string{"type": "b"}, false},
		"all of them":           {map[string]string{"type": "a", "source": "/s", "subject": "x", "peatsink": "nats"}, true},
		"one that differs":      {map[string]string{"type": "a", "peatsink": "file"}, false},
		"one that is not there": {map[string]string{"peatorg": "acme"}, false},
	} {
		if got := (Trigger{Exact: tc.exact}).Matches(e); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"PT25S": 25 * time.Second, "PT0.2S": 200 * time.Millisecond} {
		if got, err := parseDuration(in); got != want || err != nil {
			t.Errorf("%s = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "25s", "PT1M", "PT-1S", "PT1S "} {
		if _, err := parseDuration(in); err == nil {
			t.Errorf("%q was read", in)
		}
	}
}
