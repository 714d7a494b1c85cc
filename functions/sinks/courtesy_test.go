package sinks

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestCourtesy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &courtesy{fresh: map[tenant.OrgID]time.Time{}}
		rested := func() time.Duration {
			begin := time.Now()
			c.rest(t.Context(), "behind", 20*time.Millisecond)
			return time.Since(begin)
		}
		for _, step := range []struct {
			name string
			do   func()
			want time.Duration
		}{
			{"alone", func() {}, 0},
			{"its own sinks do not count", func() { c.note("behind", time.Now()) }, 0},
			{"another organization is fresh", func() { c.note("fresh", time.Now()) }, 60 * time.Millisecond},
			{"and was, a while ago", func() { time.Sleep(freshFor) }, 0},
		} {
			step.do()
			if got := rested(); got != step.want {
				t.Errorf("%s: rested %s, want %s", step.name, got, step.want)
			}
		}
		c.note("fresh", time.Now())
		begin := time.Now()
		if c.rest(t.Context(), "behind", time.Hour); time.Since(begin) != longestRest {
			t.Errorf("rested %s", time.Since(begin))
		}
		for i := range 1000 {
			c.note(tenant.OrgID(string(rune('a'+i%26))), time.Now())
			time.Sleep(time.Second)
		}
		if len(c.fresh) > 3 {
			t.Errorf("remembers %d organizations", len(c.fresh))
		}
	})
}

// TestSmallPieces: whoever is behind goes in small pieces while others want to go first.
func TestSmallPieces(t *testing.T) {
	for name, tc := range map[string]struct {
		fresh tenant.OrgID
		want  int
	}{
		"alone":                {key.Org, 100},
		"another one is fresh": {"fresh", courteousEvents},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sqlite(t))
			w.write(slices.Repeat([]string{"a", "b", "c", "d"}, 25)...)
			w.d.courtesy.note(tc.fresh, time.Now())
			w.deliver()
			if got := slices.Max(w.driver.sizes); got != tc.want || len(w.driver.got) != 100 {
				t.Errorf("pieces of %v, %d in all", w.driver.sizes, len(w.driver.got))
			}
		})
	}
}
