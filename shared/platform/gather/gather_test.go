package gather_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/gather"
)

type group = gather.Group[string, int, int]

// held is a group whose work waits to be let go, and tells what it was given.
func held(limit int) (g *group, batches chan []int, release chan struct{}) {
	batches, release = make(chan []int, 100), make(chan struct{})
	return &group{Max: limit, Work: func(_ context.Context, _ string, calls []*gather.Call[int, int]) {
		var got []int
		for _, c := range calls {
			got = append(got, c.In)
		}
		batches <- got
		<-release
		for _, c := range calls {
			if c.In%2 == 1 {
				c.Err = fmt.Errorf("%d is odd", c.In)
			}
			c.Out = -c.In
		}
	}}, batches, release
}

// TestThoseThatWaitAreGathered, up to the limit and in their order, and each has an
// answer of its own.
func TestThoseThatWaitAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, batches, release := held(3)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				out, err := g.Do(t.Context(), "a", i)
				if out != -i || (err != nil) != (i%2 == 1) {
					t.Errorf("%d: %d, %v", i, out, err)
				}
			})
			synctest.Wait()
		}
		close(release)
		wg.Wait()
		close(batches)
		var got [][]int
		for b := range batches {
			got = append(got, b)
		}
		if diff := cmp.Diff([][]int{{0}, {1, 2, 3}, {4, 5}}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestKeysDoNotWaitForEachOther: another key's work begins while the first is at it.
func TestKeysDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, batches, release := held(3)
		var wg sync.WaitGroup
		for i, key := range []string{"a", "b"} {
			wg.Go(func() { _, _ = g.Do(t.Context(), key, i) })
		}
		synctest.Wait()
		if len(batches) != 2 {
			t.Errorf("%d at work", len(batches))
		}
		close(release)
		wg.Wait()
	})
}

// TestWhoeverGoesAwayHoldsUpNobody: one that waits is taken out, and one that is
// worked on gets its answer.
func TestWhoeverGoesAwayHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, batches, release := held(10)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make([]error, 3)
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				use := ctx
				if i == 2 {
					use = t.Context()
				}
				_, errs[i] = g.Do(use, "a", 2*i)
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		if errs[0] != nil || !errors.Is(errs[1], context.Canceled) || errs[2] != nil {
			t.Error(errs)
		}
		if diff := cmp.Diff([][]int{{0}, {4}}, [][]int{<-batches, <-batches}); diff != "" {
			t.Error(diff)
		}
	})
}

// TestPanic: the others are told, and the next is served.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, panics := make(chan struct{}), true
		g := &group{Max: 10, Work: func(_ context.Context, _ string, calls []*gather.Call[int, int]) {
			<-release
			if len(calls) > 1 && panics {
				panics = false
				panic("broken")
			}
		}}
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			wg.Go(func() {
				defer func() {
					if v := recover(); v != nil {
						errs[i] = fmt.Errorf("%v", v)
					}
				}()
				_, errs[i] = g.Do(t.Context(), "a", i)
			})
			synctest.Wait()
		}
		close(release)
		wg.Wait()
		if errs[0] != nil || errs[1] == nil || errs[1].Error() != "broken" || errs[2] == nil {
			t.Error(errs)
		}
		if _, err := g.Do(t.Context(), "a", 9); err != nil {
			t.Error(err)
		}
	})
}

// TestLinger: the first that comes back waits for those that were there before, for
// a moment; one that comes alone does not, nor does it twice.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, batches, release := held(10)
		g.Linger = time.Second
		close(release)
		var wg sync.WaitGroup
		begin := time.Now()
		do := func(in int, later time.Duration) {
			wg.Go(func() {
				time.Sleep(later)
				_, _ = g.Do(t.Context(), "a", in)
			})
		}
		check := func(took time.Duration, want ...[]int) {
			t.Helper()
			wg.Wait()
			var got [][]int
			for len(batches) > 0 {
				got = append(got, <-batches)
			}
			if diff := cmp.Diff(want, got); diff != "" || time.Since(begin) != took {
				t.Errorf("after %s, want %s: %s", time.Since(begin), took, diff)
			}
			begin = time.Now()
		}
		do(0, 0)
		check(0, []int{0})
		g.Seen("a", 3)
		do(0, 0)
		do(2, time.Second/4)
		do(4, time.Second/2)
		check(time.Second/2, []int{0, 2, 4})
		do(0, 0)
		do(2, time.Second/4)
		check(time.Second, []int{0, 2})
		do(0, 0)
		check(time.Second, []int{0})
		do(0, 0)
		check(0, []int{0})
	})
}
