//go:build cgo

package automerge_test

import (
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	binding "github.com/automerge/automerge-go"
	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
)

// The 2023 core behind the Go binding is an implementation apart from ours and
// from today's JavaScript library. Only what is known to be safe in it is used:
// LoadIncremental, reads and sync.

// bound is what the binding shows of a value, in the spelling of Doc.JSON.
func bound(t *testing.T, v *binding.Value) any {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	switch v.Kind() {
	case binding.KindMap:
		out := map[string]any{}
		values, err := v.Map().Values()
		fail(err)
		for k, x := range values {
			out[k] = bound(t, x)
		}
		return out
	case binding.KindList:
		out := []any{}
		values, err := v.List().Values()
		fail(err)
		for _, x := range values {
			out = append(out, bound(t, x))
		}
		return out
	case binding.KindText:
		s, err := v.Text().Get()
		fail(err)
		return s
	case binding.KindCounter:
		n, err := v.Counter().Get()
		fail(err)
		return json.Number(strconv.FormatInt(n, 10))
	case binding.KindStr:
		return v.Str()
	case binding.KindBytes:
		return map[string]any{"bytes": base64.StdEncoding.EncodeToString(v.Bytes())}
	case binding.KindBool:
		return v.Bool()
	case binding.KindNull:
		return nil
	case binding.KindInt64:
		return json.Number(strconv.FormatInt(v.Int64(), 10))
	case binding.KindUint64:
		return json.Number(strconv.FormatUint(v.Uint64(), 10))
	case binding.KindFloat64:
		return json.Number(strconv.FormatFloat(v.Float64(), 'f', -1, 64))
	case binding.KindTime:
		return map[string]any{"timestamp": json.Number(strconv.FormatInt(v.Time().UnixMilli(), 10))}
	default:
		t.Fatalf("value of kind %v", v.Kind())
		return nil
	}
}

func boundHeads(d *binding.Doc) []automerge.Hash {
	out := []automerge.Hash{}
	for _, h := range d.Heads() {
		out = append(out, automerge.Hash(h))
	}
	slices.SortFunc(out, automerge.Hash.Compare)
	return out
}

func TestHistoriesLikeBinding(t *testing.T) {
	rng := seeded(t)
	for range 40 {
		h := randomHistory(rng, 3, 30)
		ours, theirs := automerge.NewDoc(), binding.New()
		for _, chunk := range h.shuffled(rng) {
			apply(t, ours, chunk)
			if err := theirs.LoadIncremental(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(boundHeads(theirs), ours.Heads()); diff != "" {
			t.Fatalf("heads (-theirs +ours):\n%s", diff)
		}
		if diff := cmp.Diff(bound(t, theirs.Root()), ours.JSON()); diff != "" {
			t.Fatalf("contents (-theirs +ours):\n%s", diff)
		}
	}
}

func TestSyncWithBinding(t *testing.T) {
	rng := seeded(t)
	for name, small := range map[string]bool{"whole messages": false, "small messages": true} {
		t.Run(name, func(t *testing.T) {
			for range 15 {
				h := randomHistory(rng, 3, 60)
				ours, theirs := automerge.NewDoc(), binding.New()
				all := h.shuffled(rng)
				// Prefixes of one causal order: each side lacks some of the other's.
				own := len(all) / 3 * rng.IntN(3)
				for i, chunk := range all {
					if i < own {
						apply(t, ours, chunk)
					}
				}
				for _, chunk := range h.closure(rng, all) {
					if err := theirs.LoadIncremental(chunk); err != nil {
						t.Fatal(err)
					}
				}
				syncWithBinding(t, rng, ours, theirs, small)
				if diff := cmp.Diff(boundHeads(theirs), ours.Heads()); diff != "" {
					t.Fatalf("heads (-theirs +ours):\n%s", diff)
				}
				if diff := cmp.Diff(bound(t, theirs.Root()), ours.JSON()); diff != "" {
					t.Fatalf("contents (-theirs +ours):\n%s", diff)
				}
			}
		})
	}
}

func syncWithBinding(t *testing.T, rng *rand.Rand, ours *automerge.Doc, theirs *binding.Doc, small bool) {
	t.Helper()
	state, peer := automerge.NewSyncState(), binding.NewSyncState(theirs)
	if small {
		state.MaxSendBytes = 300
	}
	var held [][]byte
	for round := 0; ; round++ {
		if round > 500 {
			t.Fatal("no end to it")
		}
		said := false
		if m := ours.GenerateSync(state, nil); m != nil {
			said = true
			if _, err := peer.ReceiveMessage(m.Encode()); err != nil {
				t.Fatal(err)
			}
		}
		if m, ok := peer.GenerateMessage(); ok {
			said = true
			got, err := automerge.DecodeSyncMessage(m.Bytes(), automerge.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			held = holdback(t, ours, append(held, got.Changes...))
			ours.ReceiveSync(state, got)
		}
		if !said {
			return
		}
	}
}
