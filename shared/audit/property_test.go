package audit_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
)

// seed is PEAT_SEED, or a new one.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("PEAT_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	t.Logf("PEAT_SEED=%d", s)
	return s
}

// TestNothingCanBeTouched tries a third of the bytes, other ones each time, every
// line, and places to cut: checking signatures takes its time.
func TestNothingCanBeTouched(t *testing.T) {
	dice := rand.New(rand.NewPCG(seed(t), 0))
	key := testKey(t, 7)
	whole := export(t, key, chain(t, "acme", 4))
	terms := audit.Terms{Keys: []audit.PublicKey{key.Public()}}
	if got := kinds(t, whole, terms); got != "" {
		t.Fatalf("the export itself: %s", got)
	}
	found := func(what string, n int, data []byte) {
		t.Helper()
		if kinds(t, data, terms) == "" {
			t.Errorf("%s %d was not found", what, n)
		}
	}
	for i := range whole {
		if dice.IntN(3) > 0 {
			continue
		}
		changed := bytes.Clone(whole)
		changed[i] ^= byte(1 + dice.IntN(255))
		found("a change of byte", i, changed)
		if dice.IntN(4) > 0 {
			continue
		}
		found("the loss of byte", i, slices.Delete(bytes.Clone(whole), i, i+1))
		found("one more byte at", i, slices.Insert(bytes.Clone(whole), i, byte(dice.IntN(256))))
		found("an end at byte", i, whole[:i])
		if i > 0 {
			found("a beginning at byte", i, whole[i:])
		}
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	for i := range lines {
		found("the loss of line", i, bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil))
		for j := range lines {
			found("a repeat of line", i, bytes.Join(slices.Insert(slices.Clone(lines), j, lines[i]), nil))
			if i != j {
				swapped := slices.Clone(lines)
				swapped[i], swapped[j] = swapped[j], swapped[i]
				found("a swap of line", i, bytes.Join(swapped, nil))
			}
		}
	}
}

// FuzzVerify reads anything as an export.
func FuzzVerify(f *testing.F) {
	key := testKey(f, 7)
	whole := export(f, key, chain(f, "acme", 4))
	f.Add(whole)
	f.Add([]byte(`{"type":"export"}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := audit.Verify(bytes.NewReader(data), audit.Terms{Keys: []audit.PublicKey{key.Public()}, MaxFindings: 10})
		if err != nil {
			t.Fatal(err)
		}
		// Nobody but the key's holder can make another that passes.
		if r.OK() && !bytes.Equal(data, whole) {
			t.Errorf("passes: %q", data)
		}
		if len(r.Findings) > 10 {
			t.Errorf("%d findings described", len(r.Findings))
		}
	})
}
