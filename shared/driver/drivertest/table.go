package drivertest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Declarations reads what all kinds of sinks have declared, below the repository's
// folder.
func Declarations(t testing.TB, root string) []Declaration {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "shared", "driver", "*", "testdata", "promises_*.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no declarations below %s: %v", root, err)
	}
	var out []Declaration
	for _, name := range names {
		text, err := os.ReadFile(name)
		var d Declaration
		if err == nil {
			err = json.Unmarshal(text, &d)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Declaration) int { return strings.Compare(a.Kind, b.Kind) })
	return out
}

// Table is the promises of all kinds in Markdown: kept, or not promised with a
// number, under which the reason follows.
func Table(all []Declaration) string {
	var out strings.Builder
	out.WriteString("| promise |")
	for _, d := range all {
		fmt.Fprintf(&out, " %s |", d.Kind)
	}
	out.WriteString("\n| --- |" + strings.Repeat(" --- |", len(all)) + "\n")
	var reasons []string
	for _, p := range promises {
		fmt.Fprintf(&out, "| **%s.** %s |", strings.ToUpper(string(p.name[:1]))+string(p.name[1:]), p.sentence)
		for _, d := range all {
			reason, declared := d.Cannot[p.name]
			if !declared {
				out.WriteString(" ✓ |")
				continue
			}
			n := slices.Index(reasons, reason)
			if n < 0 {
				n, reasons = len(reasons), append(reasons, reason)
			}
			fmt.Fprintf(&out, " – (%d) |", n+1)
		}
		out.WriteString("\n")
	}
	out.WriteString("\nNot promised, because:\n\n")
	for i, reason := range reasons {
		fmt.Fprintf(&out, "%d. %s\n", i+1, reason)
	}
	return out.String()
}
