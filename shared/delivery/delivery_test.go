package delivery_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestDefaultLadder(t *testing.T) {
	l := delivery.DefaultLadder()
	now, climbed := begin, 0
	for attempt := 1; ; attempt++ {
		wait, ok := l.After(attempt, begin, now)
		if !ok {
			break
		}
		base := []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, time.Hour}[min(attempt, 5)-1]
		if wait < base*9/10 || wait > base*11/10 {
			t.Errorf("after failure %d: %s, want about %s", attempt, wait, base)
		}
		now, climbed = now.Add(base), attempt
	}
	if spent := now.Sub(begin); spent < 22*time.Hour || spent > 24*time.Hour || climbed < 20 {
		t.Errorf("the ladder is spent after %s and %d failures, want about 24 h", spent, climbed)
	}
	if _, ok := l.After(0, begin, begin); ok {
		t.Error("a wait after no failure")
	}
	if _, ok := (delivery.Ladder{}).After(1, begin, begin); ok {
		t.Error("a wait on a ladder without steps")
	}
}

func TestBreakerGoesOnForEver(t *testing.T) {
	l := delivery.DefaultLadder()
	last := time.Duration(0)
	for _, attempts := range []int{1, 2, 3, 4, 5, 100, 1_000_000_000} {
		wait := l.Breaker(attempts)
		if wait < 4*time.Second || wait > 66*time.Second || wait < last*8/10 {
			t.Errorf("after %d failures: %s (before: %s)", attempts, wait, last)
		}
		last = wait
	}
	if wait := (delivery.Ladder{Steps: []time.Duration{time.Hour}}).Breaker(1); wait < 50*time.Minute {
		t.Errorf("a ladder that begins at an hour: %s", wait)
	}
}

func TestParse(t *testing.T) {
	for name, err := range map[string]error{
		"format":        second(delivery.ParseFormat("xml")),
		"start":         second(delivery.ParseStart([]byte(`"yesterday"`))),
		"no formation":  second(delivery.ParseFormations(nil)),
		"all and one":   second(delivery.ParseFormations([]string{"*", "a"})),
		"not a name":    second(delivery.ParseFormations([]string{"a", "b/c"})),
		"an empty name": second(delivery.ParseFormations([]string{""})),
	} {
		if !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	names, err := delivery.ParseFormations([]string{"b", "a", "b"})
	if diff := cmp.Diff([]string{"a", "b"}, names); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for _, s := range []delivery.Sink{{Formations: []string{"*"}}, {Formations: []string{"x", "a"}}} {
		if !s.Covers("a") {
			t.Errorf("%v does not cover a", s.Formations)
		}
	}
	if (delivery.Sink{Formations: []string{"x"}}).Covers("a") {
		t.Error("a sink for x covers a")
	}
}

func second[T any](_ T, err error) error { return err }
