package filter_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/filter"
)

// FuzzCompile: whatever the expression, compiling it and judging an event ends,
// without a panic, in a time that a request may take.
func FuzzCompile(f *testing.F) {
	for _, where := range []string{
		`event.seq > 2 && event.app_id in ["a", "b"]`,
		`patches.exists(p, p.path[0] == "vehicles" && p.value == "moving")`,
		`time + duration("1h") < timestamp("2026-11-24T10:00:00Z")`,
		`event.message.matches("^(a|b){3,5}$") ? has(event.deps) : false`,
		`[[1]].all(a, a.exists_one(b, b == 1u || b == 1.5))`,
		`{"a": patches}["a"].filter(p, p.conflict).size() > 0`,
		strings.Repeat("!", 999) + "true",
		strings.Repeat("-", 1000) + "1 > 0",
		strings.Repeat("(", 49) + "true" + strings.Repeat(")", 49),
		"true" + strings.Repeat("?true:true", 400),
		"true" + strings.Repeat("&&[].all(x,1>0)", 60),
		"event" + strings.Repeat(".seq", 1000),
		`"` + strings.Repeat(`\x`, 2000),
		`"a".matches("((a{100}){100}){100}")`,
		"\x00`\u2028'''",
	} {
		f.Add(where)
	}
	c := moved()
	f.Fuzz(func(t *testing.T, where string) {
		// Far beyond what either takes: this finds the exponential, not the slow.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			compiled, err := filter.Compile(filter.Spec{Where: where})
			if err == nil {
				_, _ = compiled.Match(key, c)
			}
		}()
		select {
		case <-done:
		case <-ctx.Done():
			t.Fatalf("%.200q takes more than 20 seconds", where)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for name, spec := range map[string]filter.Spec{
		"globs":   {Documents: []string{"vehicles:*", "!vehicles:test-*"}},
		"where":   {Where: `event.app_id == "logistics" && event.seq > 2`},
		"regex":   {Where: `event.message.matches("^cobalt (moves|halts)$")`},
		"patches": {Where: `patches.exists(p, p.path[0] == "vehicles" && p.value == "moving")`},
		"all":     {Where: `patches.all(p, p.action != "splice")`},
	} {
		f, err := filter.Compile(spec)
		if err != nil {
			b.Fatal(err)
		}
		c := moved()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := f.Match(key, c); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for name, where := range map[string]string{
		"short":   `event.app_id == "logistics" && event.seq > 2`,
		"refused": "true" + strings.Repeat("&&[].all(x,1>0)", 270),
		"nots":    strings.Repeat("!", 999) + "true",
		"ternary": "true" + strings.Repeat("?true:true", 400),
		"parens":  strings.Repeat(strings.Repeat("(", 48)+"true"+strings.Repeat(")", 48)+"&&", 35) + "true",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = filter.Compile(filter.Spec{Where: where})
			}
		})
	}
}
