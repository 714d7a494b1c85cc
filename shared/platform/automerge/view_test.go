package automerge_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

// view is what someone has who knows nothing of a document but its patches.
type view struct{ root any }

// text is a text in UTF-16 units, as indices count.
type text []uint16

func newView() *view { return &view{root: map[string]any{}} }

func (v *view) value() any { return plainView(v.root) }

func plainView(x any) any {
	switch x := x.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range x {
			out[k] = plainView(e)
		}
		return out
	case *[]any:
		out := []any{}
		for _, e := range *x {
			out = append(out, plainView(e))
		}
		return out
	case *text:
		return string(utf16.Decode(*x))
	default:
		return x
	}
}

// grown makes a value from a patch fit to be changed by later ones.
func grown(x any) any {
	switch y := x.(type) {
	case []any:
		y = slices.Clone(y)
		return &y
	case map[string]any:
		return maps.Clone(y)
	case string:
		t := text(utf16.Encode([]rune(y)))
		return &t
	default:
		return x
	}
}

func (v *view) apply(t *testing.T, patches []any) {
	t.Helper()
	for _, p := range patches {
		m := p.(map[string]any)
		path := m["path"].([]any)
		if m["action"] == "mark" || m["action"] == "conflict" {
			continue
		}
		at := v.root
		for _, s := range path[:len(path)-1] {
			if obj, ok := at.(map[string]any); ok {
				at = obj[s.(string)]
			} else if list, ok := at.(*[]any); ok {
				at = (*list)[integer(t, s)]
			} else {
				return // inside a block of a text, which the view does not keep
			}
		}
		last := path[len(path)-1]
		switch at := at.(type) {
		case map[string]any:
			applyMap(t, at, last.(string), m)
		case *[]any:
			applyList(t, at, integer(t, last), m)
		case *text:
			applyText(t, at, integer(t, last), m)
		default:
			t.Fatalf("patch %v leads to %T", m, at)
		}
	}
}

func applyMap(t *testing.T, at map[string]any, key string, m map[string]any) {
	switch m["action"] {
	case "put":
		at[key] = grown(m["value"])
	case "del":
		delete(at, key)
	case "inc":
		at[key] = sum(t, at[key], m["value"])
	default:
		t.Fatalf("%v in a map", m)
	}
}

func applyList(t *testing.T, at *[]any, i int, m map[string]any) {
	switch m["action"] {
	case "put":
		(*at)[i] = grown(m["value"])
	case "insert":
		for j, x := range m["values"].([]any) {
			*at = slices.Insert(*at, i+j, grown(x))
		}
	case "del":
		*at = slices.Delete(*at, i, i+length(t, m))
	case "inc":
		(*at)[i] = sum(t, (*at)[i], m["value"])
	default:
		t.Fatalf("%v in a list", m)
	}
}

func applyText(t *testing.T, at *text, i int, m map[string]any) {
	switch m["action"] {
	case "splice":
		*at = slices.Insert(*at, i, utf16.Encode([]rune(m["value"].(string)))...)
	case "insert":
		for j := range m["values"].([]any) {
			*at = slices.Insert(*at, i+j, 0xfffc)
		}
	case "del":
		*at = slices.Delete(*at, i, i+length(t, m))
	default:
		t.Fatalf("%v in a text", m)
	}
}

func integer(t *testing.T, x any) int {
	t.Helper()
	n, err := x.(json.Number).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func length(t *testing.T, m map[string]any) int {
	if m["length"] == nil {
		return 1
	}
	return integer(t, m["length"])
}

func sum(t *testing.T, a, b any) any {
	t.Helper()
	return json.Number(json.Number(itoa(integer(t, a) + integer(t, b))))
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// counterFault reports whether want differs from got by no more than the fault of
// @automerge/automerge 3.5.0 with counters that come back into view: it tells
// the value the counter began with, or only what was added, where the document
// (and the library itself, once it has loaded it again) has the sum. In a list it
// also forgets the counter that it has just added to, and counts one element less
// for what comes right after it.
func counterFault(want, got []any) bool {
	if len(want) != len(got) {
		return false
	}
	found := false
	for i := range want {
		w, g := want[i].(map[string]any), got[i].(map[string]any)
		if cmp.Equal(w, g) {
			continue
		}
		if i > 0 && forgotten(want[i-1].(map[string]any), w, g) {
			found = true
			continue
		}
		_, number := g["value"].(json.Number)
		_, was := w["value"].(json.Number)
		if g["action"] != "put" || !number || !was || !cmp.Equal(w["path"], g["path"]) || !cmp.Equal(w["conflict"], g["conflict"]) {
			return false
		}
		if w["action"] != "put" && w["action"] != "inc" {
			return false
		}
		found = true
	}
	return found
}

// forgotten reports whether two patches put the same at places that differ by the
// element before, which is the one that was added to.
func forgotten(before, want, got map[string]any) bool {
	at, ok1 := want["path"].([]any)
	is, ok2 := got["path"].([]any)
	if !ok1 || !ok2 || before["action"] != "inc" || !cmp.Equal(before["path"], want["path"]) || len(at) != len(is) || len(at) == 0 {
		return false
	}
	w, ok1 := at[len(at)-1].(json.Number)
	g, ok2 := is[len(is)-1].(json.Number)
	if !ok1 || !ok2 || !cmp.Equal(at[:len(at)-1], is[:len(is)-1]) || want["action"] != "insert" || got["action"] != "insert" {
		return false
	}
	n, errW := w.Int64()
	m, errG := g.Int64()
	return errW == nil && errG == nil && m == n+1 && cmp.Equal(want["values"], got["values"])
}
