package turn_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/turn"
)

func ExampleQueue() {
	q := turn.New(1)
	if err := q.Take(context.Background(), "acme"); err != nil {
		fmt.Println(err)
	}
	defer q.Leave()
	fmt.Println("one at a time")
	// Output: one at a time
}

// A party with a hundred requests does not make one with a single request wait
// for all of them.
func TestPartiesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := turn.New(1)
		_ = q.Take(t.Context(), "first")
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		ask := func(party string) {
			wg.Go(func() {
				if err := q.Take(t.Context(), party); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, party)
				mu.Unlock()
				q.Leave()
			})
			synctest.Wait() // it is in the queue
		}
		for range 100 {
			ask("busy")
		}
		ask("small")
		q.Leave()
		wg.Wait()
		if order[1] != "small" {
			t.Errorf("the small party came after %v", order[:3])
		}
		if len(order) != 101 {
			t.Errorf("%d turns", len(order))
		}
	})
}

func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := turn.New(1)
		_ = q.Take(t.Context(), "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.Take(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		q.Leave()
		if err := q.Take(t.Context(), "b"); err != nil { // nothing of the first request is left
			t.Error(err)
		}
	})
}

// Whatever happens at once, no more than the places are in use and none is lost.
func TestPlacesAreKept(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const places = 3
	q := turn.New(places)
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for i := range 200 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(2000))*time.Microsecond)
				if q.Take(ctx, fmt.Sprint("party", i%7)) == nil {
					if n := inside.Add(1); n > most.Load() {
						most.Store(n)
					}
					time.Sleep(time.Duration(rng.IntN(50)) * time.Microsecond)
					inside.Add(-1)
					q.Leave()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if most.Load() > places {
		t.Errorf("%d at once in %d places", most.Load(), places)
	}
	for range places {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := q.Take(ctx, "last"); err != nil {
			t.Fatal("a place was lost")
		}
		cancel()
	}
}
