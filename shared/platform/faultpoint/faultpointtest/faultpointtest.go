// Package faultpointtest kills processes at the steps of package faultpoint.
//
// A test of that kind is its own victim: it starts itself once more for each step,
// and looks at what the killed process left behind.
//
//	func TestKilledAnywhere(t *testing.T) {
//		if faultpointtest.Child() {
//			work(os.Getenv("WHERE")) // dies on the way
//			return
//		}
//		for _, step := range faultpointtest.Complete(t, ".", "rewrap/") {
//			t.Run(step, func(t *testing.T) {
//				where := t.TempDir()
//				faultpointtest.Kill(t, step, 1, "WHERE="+where)
//				whole(t, where)
//			})
//		}
//	}
package faultpointtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
)

const variable = "PEAT_TEST_FAULTPOINT" // "n step"

// Child tells whether Kill started this process. If so, the process dies when it
// comes to the step that Kill named.
func Child() bool {
	count, step, found := strings.Cut(os.Getenv(variable), " ")
	if !found {
		return false
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		panic(err)
	}
	var hits atomic.Int64
	faultpoint.Arm(func(at string) {
		if at != step || hits.Add(1) != n {
			return
		}
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill() // no deferred call runs, and no buffer is written
		}
		select {} // until it comes
	})
	return true
}

// Kill runs the test that calls it (the top one, if it is in a subtest) in a
// process of its own, and fails unless that dies at the nth hit of the step. The
// environment is that of this process and env.
func Kill(t *testing.T, step string, nth int, env ...string) {
	t.Helper()
	top, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+regexp.QuoteMeta(top)+"$", "-test.count=1", "-test.v")
	cmd.Env = append(append(os.Environ(), env...), fmt.Sprintf("%s=%d %s", variable, nth, step))
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process ended by itself (%v) and not at %q, hit %d:\n%s", err, step, nth, out)
	}
}

// Complete returns every step, in the source of the package in dir, whose name
// begins with the prefix. It fails if there is none, or one that it cannot read.
func Complete(t *testing.T, dir, prefix string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !isHit(call.Fun) || len(call.Args) != 1 {
				return true
			}
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: a step that is not a literal", name)
				return true
			}
			step, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if strings.HasPrefix(step, prefix) {
				steps = append(steps, step)
			}
			return true
		})
	}
	slices.Sort(steps)
	if steps = slices.Compact(steps); len(steps) == 0 {
		t.Fatalf("no step %q in %s", prefix, dir)
	}
	return steps
}

func isHit(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Hit" {
		return false
	}
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == "faultpoint"
}
