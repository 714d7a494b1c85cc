package filter_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/filter"
)

func TestDocument(t *testing.T) {
	for text, tc := range map[string]struct {
		globs string // separated by spaces
		yes   string
		no    string
	}{
		"a whole id":           {"vehicles:cobalt", "vehicles:cobalt", "vehicles:cobalt2 avehicles:cobalt vehicles"},
		"a collection":         {"vehicles:*", "vehicles: vehicles:cobalt", "vehicles:a:b vehicles:a/b vehicle:a"},
		"a collection's depth": {"vehicles:**", "vehicles: vehicles:a:b/c", "vehicle:a"},
		"an end":               {"*:cobalt", "vehicles:cobalt :cobalt", "a:b:cobalt cobalt vehicles:cobalt/x"},
		"an end at any depth":  {"**:cobalt", "a:b:cobalt :cobalt", "cobalt a:b:cobalt:"},
		"ids without a colon":  {"*", "3j77K4UvRnRySqGyakSuH9hepTvk", "a:b a/b"},
		"everything":           {"**", "a a:b a/b:c", ""},
		"one character":        {"v?:?", "v1:2 vé:ü v::/", "v:1 v12:3"},
		"three stars":          {"a***b", "ab a:/b", "a b"},
		"two ways to read it":  {"*?*b", "a:b aab :b", "a:c:b b"},
		"one of several":       {"a:* b:*", "a:1 b:1", "c:1"},
		"some not":             {"a:* !a:test-*", "a:1 a:test", "a:test-1"},
		"only some not":        {"!a:* !b", "b:1 c", "a:1 b"},
		"order does not count": {"!a:x a:*", "a:1", "a:x"},
		"! within":             {"a!b", "a!b", "ab"},
		"no classes":           {"a.+(b)^$|", "a.+(b)^$|", "aab"},
	} {
		t.Run(text, func(t *testing.T) {
			f, err := filter.Compile(filter.Spec{Documents: strings.Fields(tc.globs)})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range strings.Fields(tc.yes) {
				if !f.Document(id) {
					t.Errorf("%s does not take %q", tc.globs, id)
				}
			}
			for _, id := range strings.Fields(tc.no) {
				c := moved()
				c.Document = id
				if ok, err := f.Match(key, c); f.Document(id) || ok || err != nil {
					t.Errorf("%s takes %q", tc.globs, id)
				}
			}
		})
	}
}

// naive is what a glob means, without a thought for time.
func naive(pattern, id string) bool {
	if pattern == "" {
		return id == ""
	}
	p, size := utf8.DecodeRuneInString(pattern)
	c, width := utf8.DecodeRuneInString(id)
	switch {
	case strings.HasPrefix(pattern, "**"):
		return naive(pattern[2:], id) || id != "" && naive(pattern, id[width:])
	case p == '*':
		return naive(pattern[1:], id) || id != "" && c != ':' && c != '/' && naive(pattern, id[width:])
	case id == "":
		return false
	case p == '?':
		return naive(pattern[1:], id[width:])
	}
	return p == c && naive(pattern[size:], id[width:])
}

func TestGlobMeansWhatItSays(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("PEAT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("PEAT_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	text := func(letters string, most int) string {
		b := make([]byte, rng.IntN(most+1))
		for i := range b {
			b[i] = letters[rng.IntN(len(letters))]
		}
		return string(b)
	}
	matched := 0
	for range 50_000 {
		pattern, id := text("ab:/**??", 7), text("aab:/", 9)
		f, err := filter.Compile(filter.Spec{Documents: []string{pattern}})
		if pattern == "" {
			continue
		}
		if err != nil {
			t.Fatalf("%q: %v", pattern, err)
		}
		want := naive(pattern, id)
		if want {
			matched++
		}
		if got := f.Document(id); got != want {
			t.Fatalf("%q on %q: %v", pattern, id, got)
		}
	}
	if matched < 1000 {
		t.Errorf("only %d of 50000 matched, which shows little", matched)
	}
}

func FuzzGlob(f *testing.F) {
	for _, g := range []string{"a:*", "!**", "?*?", "[", strings.Repeat("*a", 100), strings.Repeat("**", 128)} {
		f.Add(g, strings.Repeat("a", 100))
	}
	f.Fuzz(func(t *testing.T, pattern, id string) {
		flt, err := filter.Compile(filter.Spec{Documents: []string{pattern}})
		if err != nil {
			return
		}
		got := flt.Document(id)
		body, exclude := strings.CutPrefix(pattern, "!")
		// The naive matcher needs ages for many stars.
		if strings.Count(body, "*") <= 6 && len(id) <= 24 {
			if want := naive(body, id) != exclude; got != want {
				t.Errorf("%q on %q: %v", pattern, id, got)
			}
		}
	})
}

func BenchmarkDocument(b *testing.B) {
	for name, globs := range map[string][]string{
		"collection": {"vehicles:*"},
		"stars":      {"*e*:*o*t"},
		"fifty":      append(strings.Fields(strings.Repeat("a:* ", 49)), "**t"),
		"worst":      {strings.Repeat("*a", 127)},
	} {
		f, err := filter.Compile(filter.Spec{Documents: globs})
		if err != nil {
			b.Fatal(err)
		}
		id := "vehicles:cobalt"
		if name == "worst" {
			id = strings.Repeat("a", 100) + "b"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Document(id)
			}
		})
	}
}
