package rate_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/rate"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func ExampleLimit() {
	l := rate.New(2)
	for _, at := range []time.Duration{0, 0, 0, 29 * time.Second, 30 * time.Second} {
		fmt.Println(at, l.Take("ann", start.Add(at)))
	}
	fmt.Println(l.Take("bob", start))
	// Output:
	// 0s 0s
	// 0s 0s
	// 0s 30s
	// 29s 1s
	// 30s 0s
	// 0s
}

func TestNoLimit(t *testing.T) {
	for _, n := range []int{0, -1} {
		l := rate.New(n)
		for range 1000 {
			if wait := l.Take("ann", start); wait != 0 {
				t.Fatalf("%d a minute: wait %s", n, wait)
			}
		}
	}
}

// TestNeverTooMany: whatever a party does, no more than twice the limit is done in a
// minute, the limit on average, and it can always do something again.
func TestNeverTooMany(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		n := 1 + rng.IntN(100)
		l, now, done := rate.New(n), start, 0
		for now.Sub(start) < 10*time.Minute {
			if wait := l.Take("ann", now); wait == 0 {
				done++
			} else if again := l.Take("ann", now.Add(wait)); again != 0 {
				t.Fatalf("%d a minute: told to wait %s, and then %s", n, wait, again)
			} else {
				now, done = now.Add(wait), done+1
			}
			now = now.Add(time.Duration(rng.Int64N(int64(3 * time.Minute / time.Duration(n)))))
		}
		if most := n * (1 + int(now.Sub(start)/time.Minute) + 1); done > most {
			t.Errorf("%d a minute: %d in %s", n, done, now.Sub(start))
		}
	}
}

// TestMemoryIsBounded: of more parties than can be told apart, the others share one
// party's share, those that are known keep theirs, and room is made in time.
func TestMemoryIsBounded(t *testing.T) {
	l := rate.New(2)
	for i := range rate.MaxParties {
		if wait := l.Take(fmt.Sprint("party ", i), start); wait != 0 {
			t.Fatalf("%d waits %s", i, wait)
		}
	}
	in := 0
	for i := range 100 {
		if l.Take(fmt.Sprint("stranger ", i), start) == 0 {
			in++
		}
	}
	if in != 2 {
		t.Errorf("%d strangers", in)
	}
	if wait := l.Take("party 7", start); wait != 0 {
		t.Errorf("one that is known waits %s", wait)
	}
	for i := range 100 {
		if wait := l.Take(fmt.Sprint("later ", i), start.Add(time.Minute)); wait != 0 {
			t.Fatalf("%d waits %s", i, wait)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	l := rate.New(10)
	var in atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if l.Take("ann", start) == 0 {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 10 {
		t.Errorf("%d", in.Load())
	}
}
