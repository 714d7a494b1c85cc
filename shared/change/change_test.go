package change_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/change"
)

func name(s string) change.Hash {
	var h change.Hash
	copy(h[:], s)
	return h
}

func ExampleHoldback() {
	h := change.Holdback[string]{MaxChanges: 10, MaxBytes: 1000}
	log := map[change.Hash]bool{}
	settled := func(h change.Hash) bool { return log[h] }
	early, _ := h.Add(name("b"), []change.Hash{name("a")}, 1, "b", settled)
	fmt.Println(early)
	both, _ := h.Add(name("a"), nil, 1, "a", settled)
	fmt.Println(both)
	// Output:
	// []
	// [a b]
}

func TestTimestampGuessesTheUnit(t *testing.T) {
	for text, tc := range map[string]struct{ raw, want int64 }{
		"JavaScript's seconds": {1_700_000_000, 1_700_000_000_000},
		"Go's milliseconds":    {1_700_000_000_123, 1_700_000_000_123},
		"no time":              {0, 0},
		"before 1970":          {-5, -5000},
		"nonsense":             {-1 << 62, -1 << 62},
	} {
		if got := (change.Change{Time: tc.raw}).TimestampMS(); got != tc.want {
			t.Errorf("%s: TimestampMS(%d) = %d, want %d", text, tc.raw, got, tc.want)
		}
	}
}

func TestFollowTellsConcurrentFromNext(t *testing.T) {
	a, b := name("a"), name("b")
	for text, tc := range map[string]struct {
		deps []change.Hash
		prev *change.Hash
		want bool
	}{
		"first":         {nil, nil, false},
		"names prev":    {[]change.Hash{a, b}, &a, false},
		"beside prev":   {[]change.Hash{b}, &a, true},
		"a second root": {nil, &a, true},
	} {
		if got := change.Follow(change.Change{Deps: tc.deps}, "d", 2, tc.prev).Concurrent; got != tc.want {
			t.Errorf("%s: concurrent = %v", text, got)
		}
	}
}

func TestHoldbackIsBounded(t *testing.T) {
	h := change.Holdback[int]{MaxChanges: 2, MaxBytes: 10}
	none := func(change.Hash) bool { return false }
	add := func(id string, size int) error {
		_, err := h.Add(name(id), []change.Hash{name("missing")}, size, 0, none)
		return err
	}
	if err := add("x", 11); err != change.ErrHoldbackFull {
		t.Errorf("over MaxBytes: %v", err)
	}
	if err := add("a", 1); err != nil {
		t.Fatal(err)
	}
	if err := add("a", 1); err != nil || h.Len() != 1 {
		t.Errorf("the same change twice: %v, %d wait", err, h.Len())
	}
	if err := add("b", 1); err != nil {
		t.Fatal(err)
	}
	if err := add("c", 1); err != change.ErrHoldbackFull {
		t.Errorf("over MaxChanges: %v", err)
	}
	if got := h.Missing(); len(got) != 1 || got[0] != name("missing") {
		t.Errorf("Missing() = %v", got)
	}
}

// FuzzHoldback: whatever the history and however it arrives, every change comes
// out once and after its causes.
func FuzzHoldback(f *testing.F) {
	f.Add(uint64(1), uint8(20))
	f.Add(uint64(2), uint8(200))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		rng := rand.New(rand.NewPCG(seed, 0))
		deps := make([][]change.Hash, n)
		id := func(i int) change.Hash { return name(fmt.Sprint("change-", i)) }
		for i := range deps {
			for range rng.IntN(4) {
				if i > 0 {
					deps[i] = append(deps[i], id(rng.IntN(i)))
				}
			}
		}
		arrivals := append(rng.Perm(int(n)), rng.Perm(int(n))...) // everything twice
		h := change.Holdback[int]{MaxChanges: 1000, MaxBytes: 1 << 20}
		log := map[change.Hash]bool{}
		for _, i := range arrivals {
			out, err := h.Add(id(i), deps[i], 1, i, func(h change.Hash) bool { return log[h] })
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range out {
				if log[id(j)] {
					t.Fatalf("seed %d: change %d came out twice", seed, j)
				}
				for _, d := range deps[j] {
					if !log[d] {
						t.Fatalf("seed %d: change %d came out before a cause", seed, j)
					}
				}
				log[id(j)] = true
			}
		}
		if len(log) != int(n) || h.Len() != 0 || len(h.Missing()) != 0 {
			t.Fatalf("seed %d: %d of %d came out, %d wait", seed, len(log), n, h.Len())
		}
	})
}
