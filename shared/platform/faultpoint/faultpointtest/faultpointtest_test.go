package faultpointtest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint/faultpointtest"
)

// TestDiesAtTheStep writes a line before each of three steps: the lines that are
// there tell where the process died.
func TestDiesAtTheStep(t *testing.T) {
	if faultpointtest.Child() {
		for _, step := range []string{"a", "b", "b", "c"} {
			if err := os.WriteFile(filepath.Join(os.Getenv("WHERE"), step), []byte(step), 0o600); err != nil {
				t.Fatal(err)
			}
			faultpoint.Hit(step)
			if err := os.WriteFile(filepath.Join(os.Getenv("WHERE"), step+"-done"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	for name, tc := range map[string]struct {
		step string
		nth  int
		want []string
	}{
		"the first":            {"a", 1, []string{"a"}},
		"the last":             {"c", 1, []string{"a", "a-done", "b", "b-done", "c"}},
		"a step's second time": {"b", 2, []string{"a", "a-done", "b", "b-done"}},
	} {
		t.Run(name, func(t *testing.T) {
			where := t.TempDir()
			faultpointtest.Kill(t, tc.step, tc.nth, "WHERE="+where)
			entries, err := os.ReadDir(where)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, e.Name())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStepsAreReadFromTheSource(t *testing.T) {
	dir := t.TempDir()
	source := `package x
func f() { faultpoint.Hit("x/b"); if true { faultpoint.Hit("x/a") }; faultpoint.Hit("y/a"); faultpoint.Hit("x/b"); other.Hit("x/c") }`
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x_test.go"), []byte(`package x; func g() { faultpoint.Hit("x/d") }`), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"x/a", "x/b"}, faultpointtest.Complete(t, dir, "x/")); diff != "" {
		t.Error(diff)
	}
}
