package sqldb

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnname(t *testing.T) {
	args := []any{"a", "b", "c"}
	for in, want := range map[string]struct {
		query string
		args  []any
	}{
		"SELECT $1, $2, $3":             {"SELECT ?, ?, ?", []any{"a", "b", "c"}},
		"SELECT $3 WHERE $1 = $3":       {"SELECT ? WHERE ? = ?", []any{"c", "a", "c"}},
		"SELECT '$1', $2, '''$3', $1":   {"SELECT '$1', ?, '''$3', ?", []any{"b", "a"}},
		"SELECT $name, $, $1 || '' = $": {"SELECT $name, $, ? || '' = $", []any{"a", "b", "c"}},
		"SELECT $9":                     {"SELECT ?", []any{"a", "b", "c"}},
		"":                              {"", []any{"a", "b", "c"}},
	} {
		got := unname(in)
		if diff := cmp.Diff(want.args, got.place(args)); diff != "" || got.query != want.query {
			t.Errorf("%q: %q %s", in, got.query, diff)
		}
	}
}

func TestTextsAreFew(t *testing.T) {
	var seen texts
	for i := range 3 * maxTexts {
		if got := seen.of(fmt.Sprintf("SELECT $1, %d", i)); got.query != fmt.Sprintf("SELECT ?, %d", i) {
			t.Fatal(got)
		}
	}
	if len(seen.seen) > maxTexts {
		t.Errorf("%d texts", len(seen.seen))
	}
}
