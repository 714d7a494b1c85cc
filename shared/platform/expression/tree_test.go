package expression_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
)

func language(t testing.TB) *expression.Language {
	t.Helper()
	l, err := expression.New(expression.Setup{
		Variables: []expression.Variable{{Name: "who", Type: cel.MapType(cel.StringType, cel.DynType)}, {Name: "n", Type: cel.IntType}},
		Says:      "this looks and builds nothing",
		Ordinary:  "somebody ordinary",
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func input(t testing.TB) cel.Activation {
	t.Helper()
	in, err := cel.NewActivation(map[string]any{
		"who": map[string]any{"name": "ann", "groups": []any{"a", "b"}, "level": int64(3), "admin": true, "deep": map[string]any{"x": "y"}},
		"n":   int64(7),
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

var results = map[expression.Result]string{expression.Skipped: "-", expression.True: "T", expression.False: "F", expression.Failed: "!"}

// shape writes an outcome as one line: its parts in brackets.
func shape(o expression.Outcome) string {
	out := results[o.Result]
	if len(o.Of) > 0 {
		var parts []string
		for _, p := range o.Of {
			parts = append(parts, shape(p))
		}
		out += "(" + o.Operator + " " + strings.Join(parts, " ") + ")"
	}
	return out
}

func ExampleTree() {
	l, err := expression.New(expression.Setup{Variables: []expression.Variable{{Name: "n", Type: cel.IntType}}, Says: "this builds nothing"})
	if err != nil {
		panic(err)
	}
	tree, err := l.Divide(`n > 2 && (n < 5 || n == 7) && n != 9`)
	if err != nil {
		panic(err)
	}
	in, err := cel.NewActivation(map[string]any{"n": int64(6)})
	if err != nil {
		panic(err)
	}
	out := tree.Judge(in, &expression.Budget{Left: 1000})
	fmt.Println(out.Why())
	// Output: none of n < 5 || n == 7 is true
}

func TestTree(t *testing.T) {
	for text, tc := range map[string]struct{ shape, all, why string }{
		`n > 2`:                                   {"T", "T", ""},
		`n > 2 && n < 5`:                          {"F(&& T F)", "F(&& T F)", "n < 5 is false"},
		`n < 5 && n > 2`:                          {"F(&& F -)", "F(&& F T)", "n < 5 is false"},
		`n > 2 && n > 3 && n > 9 && n > 1`:        {"F(&& T T F -)", "F(&& T T F T)", "n > 9 is false"},
		`n < 5 || n > 9`:                          {"F(|| F F)", "F(|| F F)", "none of n < 5 || n > 9 is true"},
		`n < 5 || n == 7 || n > 9`:                {"T(|| F T -)", "T(|| F T F)", ""},
		`n > 2 && (n < 5 || n > 9)`:               {"F(&& T F(|| F F))", "F(&& T F(|| F F))", "none of n < 5 || n > 9 is true"},
		`who.rank == 1 && n > 2`:                  {"!(&& ! T)", "!(&& ! T)", "who.rank == 1 cannot be evaluated"},
		`who.rank == 1 && n < 2`:                  {"F(&& ! F)", "F(&& ! F)", "n < 2 is false"},
		`who.rank == 1 || n > 2`:                  {"T(|| ! T)", "T(|| ! T)", ""},
		`who.rank == 1 || n < 2`:                  {"!(|| ! F)", "!(|| ! F)", "who.rank == 1 cannot be evaluated"},
		`who.admin && n > 2`:                      {"T(&& T T)", "T(&& T T)", ""},
		`who.name && n > 2`:                       {"!(&& ! T)", "!(&& ! T)", "who.name cannot be evaluated"},
		`who.groups.exists(g, g == "a" && n > 9)`: {"F", "F", `who.groups.exists(g, g == "a" && n > 9) is false`},
		`!(n > 2 && n < 5)`:                       {"T", "T", ""},
		`(n > 2 ? n > 3 : n > 4) && has(who.x)`:   {"F(&& T F)", "F(&& T F)", "has(who.x) is false"},
		`n > 2 && "` + strings.Repeat("é", 200) + `" == who.name`: {"F(&& T F)", "F(&& T F)", `"` + strings.Repeat("é", 99) + "… is false"},
	} {
		tree, err := language(t).Divide(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := tree.Judge(input(t), &expression.Budget{Left: 1000})
		if shape(got) != tc.shape || got.Why() != tc.why {
			t.Errorf("%s: %s, %q; want %s, %q", text, shape(got), got.Why(), tc.shape, tc.why)
		}
		if all := tree.Explain(input(t), &expression.Budget{Left: 1000}); shape(all) != tc.all || all.Why() != tc.why {
			t.Errorf("%s: explained, %s, %q; want %s", text, shape(all), all.Why(), tc.all)
		}
	}
}

func TestExplainShowsWhatWasSeen(t *testing.T) {
	for text, want := range map[string][]expression.Seen{
		`who.name == "ann"`:                       {{"who.name", `"ann"`}},
		`"a" in who.groups`:                       {{"who.groups", `["a","b"]`}},
		`who["level"] > n`:                        {{`who["level"]`, "3"}, {"n", "7"}},
		`who.deep.x == who.name`:                  {{"who.deep.x", `"y"`}, {"who.name", `"ann"`}},
		`who.rank == 1`:                           nil,
		`has(who.rank)`:                           nil,
		`who.groups.exists(g, g == "b" && n > 1)`: {{"who.groups", `["a","b"]`}, {"n", "7"}},
	} {
		tree, err := language(t).Divide(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, tree.Explain(input(t), &expression.Budget{Left: 1000}).Saw); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestDivideRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`who.name`:                      "must be true or false, and is dyn",
		`n >`:                           "Syntax error",
		`who.name + "a" == "b" && true`: "+ is for numbers and times here: this looks and builds nothing",
		"n == 0" + strings.Repeat(" || n == 1", 100): "more than 100 parts",
	} {
		if _, err := language(t).Divide(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

func TestBudget(t *testing.T) {
	tree, err := language(t).Divide(`n > 1 && n > 2 && n > 3`)
	if err != nil {
		t.Fatal(err)
	}
	b := &expression.Budget{Left: 1000}
	if o := tree.Judge(input(t), b); o.Result != expression.True || b.Left >= 1000 {
		t.Errorf("%s, %d left", shape(o), b.Left)
	}
	b = &expression.Budget{Left: 2}
	if o := tree.Judge(input(t), b); o.Result != expression.Failed || !errors.Is(o.Err, expression.ErrCost) || !strings.HasSuffix(o.Why(), "costs too much") {
		t.Errorf("%s %v", shape(o), o.Err)
	}
}

// FuzzTree: an expression in parts comes to what it comes to as a whole.
func FuzzTree(f *testing.F) {
	for _, text := range []string{
		`n > 2 && n < 5`, `who.rank == 1 || n > 2 && !(n < 3)`, `who.groups.exists(g, g == "a") && has(who.x)`,
		`(n > 2 ? n > 3 : n > 4) || who.name.startsWith("a")`, `[1, 2].all(x, x > 0 && x < n) && {"a": 1}["a"] == 1`,
		`who.admin && who.name`, `timestamp("2026-01-01T00:00:00Z") < timestamp("2026-01-02T00:00:00Z") && duration("1h") > duration("1s")`,
		`-1 < n && - -1 < n && 1u < 2u && 1.5e3 > 1.0 && b"\x00\xff" == b'' || "\"\n\\" == r"\n"`,
	} {
		f.Add(text)
	}
	l := language(f)
	in := input(f)
	f.Fuzz(func(t *testing.T, text string) {
		whole, err := l.Compile(text)
		tree, errTree := l.Divide(text)
		if err != nil {
			if errTree == nil {
				t.Fatalf("%q is refused as a whole: %v", text, err)
			}
			return
		}
		if errTree != nil {
			if !strings.Contains(errTree.Error(), "more than 100 parts") {
				t.Fatalf("%q is refused in parts: %v", text, errTree)
			}
			return
		}
		const much = 1 << 40
		for _, all := range []bool{false, true} {
			b := &expression.Budget{Left: much}
			judge := tree.Judge
			if all {
				judge = tree.Explain
			}
			got := judge(in, b)
			verdict, err := whole.Judge(in)
			if errors.Is(err, expression.ErrCost) || errors.Is(got.Err, expression.ErrCost) {
				return // the limit is for each part, and for the whole
			}
			want := expression.False
			if err != nil {
				want = expression.Failed
			} else if verdict {
				want = expression.True
			}
			if got.Result != want {
				t.Fatalf("%q: %s in parts, %v %v as a whole", text, shape(got), verdict, err)
			}
		}
	})
}
