package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	for name, tc := range map[string]struct {
		in, line, says string
	}{
		"a pass, a skip with its reason": {
			in: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:3: SKIPPED without node\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			line: "1 passed, 0 failed, 1 skipped",
			says: "SKIP  b_test.go:3: SKIPPED without node\n      p TestB\n",
		},
		"a failure shows its output": {
			in: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			line: "0 passed, 1 failed, 0 skipped",
			says: "got 1, want 2",
		},
		"a package that does not build is a failure": {
			in: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:1: undefined: x\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			line: "0 passed, 1 failed, 0 skipped",
			says: "undefined: x",
		},
		"a test that the process died in is a failure": {
			in: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}`,
			line: "0 passed, 1 failed, 0 skipped",
			says: "panic: oh",
		},
		"input that stops in a test is a failure": {
			in:   `{"Action":"run","Package":"p","Test":"TestA"}`,
			line: "0 passed, 1 failed, 0 skipped",
			says: "never ended",
		},
		"a package without tests counts as nothing": {
			in:   `{"Action":"skip","Package":"p"}`,
			line: "0 passed, 0 failed, 0 skipped",
		},
		"what is not JSON is passed on": {
			in:   "go: cannot find main module",
			line: "0 passed, 0 failed, 0 skipped",
			says: "cannot find main module",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := newSummary(&out)
			if err := s.read(strings.NewReader(tc.in)); err != nil {
				t.Fatal(err)
			}
			s.close()
			if got := s.line(); got != tc.line {
				t.Errorf("%q, want %q", got, tc.line)
			}
			if !strings.Contains(out.String(), tc.says) {
				t.Errorf("%q is not in\n%s", tc.says, out.String())
			}
		})
	}
}
