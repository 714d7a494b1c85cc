package audit

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// TestBasic: what does not go through JSON comes out as if it had.
func TestBasic(t *testing.T) {
	type id string
	for name, tc := range map[string]struct {
		v    any
		want bool
	}{
		"what a certificate tells": {map[string]any{"node_id": "n<1>", "app_id": id("app"), "expires_at": time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 3600)), "permissions": []string{"a", "b"}}, true},
		"numbers":                  {map[string]any{"a": 1, "b": int64(math.MinInt64), "c": uint64(math.MaxUint64)}, true},
		"nested":                   {map[string]any{"before": map[string]any{"x": nil, "y": true}, "after": map[string]any(nil), "none": []string(nil)}, true},
		"a float":                  {1.5, false},
		"a struct":                 {struct{ Token string }{"x"}, false},
		"writes itself":            {json.RawMessage(`{"a":1}`), false},
		"bad text":                 {map[string]any{"a": "\xff"}, false},
		"a bad name":               {map[string]any{"\xff": "a"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := basic(tc.v)
			if ok != tc.want {
				t.Fatal(ok)
			}
			if !ok {
				return
			}
			through, err := throughJSON(tc.v)
			if err != nil {
				t.Fatal(err)
			}
			a, errA := json.Marshal(got)
			b, errB := json.Marshal(through)
			if errA != nil || errB != nil || string(a) != string(b) {
				t.Errorf("%s, want %s (%v, %v)", a, b, errA, errB)
			}
		})
	}
}

// FuzzNamesSecret: the words say what the expression says.
func FuzzNamesSecret(f *testing.F) {
	for _, word := range secretWords {
		f.Add(word)
		f.Add("my-" + word)
		f.Add("A." + word + "x")
	}
	f.Add("Api_Keys")
	f.Add("mytoken")
	f.Add("to\u212Aen")
	f.Fuzz(func(t *testing.T, name string) {
		if got, want := NamesSecret(name), secretNames.MatchString(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	})
}
