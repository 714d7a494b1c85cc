package pace_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/pace"
)

func ExamplePace() {
	p := pace.New()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p.Pay("a", 3000, 1000, now)
	fmt.Println(p.Until("a").Sub(now), p.Until("b").IsZero())
	// Output: 3s true
}

// Whoever waits as told sends its bytes per second and no more, whatever the sizes.
func TestTheAverageHolds(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		p, begin := pace.New(), time.Unix(1_000_000, 0)
		now, sent := begin, 0
		const perSecond = 10_000
		for range 500 {
			if next := p.Until("a"); next.After(now) {
				now = next
			}
			bytes := rng.IntN(50_000)
			p.Pay("a", bytes, perSecond, now)
			sent += bytes
		}
		took := p.Until("a").Sub(begin).Seconds()
		if rate := float64(sent) / took; rate > perSecond*1.001 || rate < perSecond*0.999 {
			t.Errorf("seed %d: %.0f bytes per second", seed, rate)
		}
	}
}

func TestNoLimit(t *testing.T) {
	p, now := pace.New(), time.Unix(1, 0)
	p.Pay("a", 1000, 1, now)
	p.Pay("a", 1000, 0, now)
	if !p.Until("a").IsZero() {
		t.Error("a limit that was lifted still holds")
	}
}
