package sinks

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func openTestFile(t testing.TB, dir, name string) driver {
	t.Helper()
	config, _ := json.Marshal(fileConfig{Path: name})
	d, err := openFile(opening{sink: delivery.Sink{Config: config}, settings: Settings{SinkDir: dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func deliverAll(t testing.TB, d driver, names ...string) {
	t.Helper()
	for i, o := range d.Deliver(t.Context(), items(names...), soon()) {
		if o.verdict != delivered {
			t.Fatalf("%s: %+v", names[i], o)
		}
	}
}

func wantFile(t *testing.T, path string, names ...string) {
	t.Helper()
	var want []string
	for _, it := range items(names...) {
		want = append(want, string(it.body)+"\n")
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != strings.Join(want, "") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestFileAppendsLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when needed")
	path := filepath.Join(dir, "acme", "events.ndjson")
	d := openTestFile(t, dir, "acme/events.ndjson")
	deliverAll(t, d, "a/1", "b/1")
	deliverAll(t, d, "a/2")
	wantFile(t, path, "a/1", "b/1", "a/2")
	// Rotated away: the next batch goes to a new file of the name.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	deliverAll(t, d, "a/3")
	wantFile(t, path, "a/3")
	wantFile(t, path+".1", "a/1", "b/1", "a/2")
}

func TestFileCutsATornLine(t *testing.T) {
	for name, tc := range map[string]struct {
		before string
		keep   []string
	}{
		"in the middle":    {`{"name":"a/1"}` + "\n" + `{"name":"b`, []string{"a/1", "b/1"}},
		"the first line":   {`{"name":"a`, []string{"b/1"}},
		"longer than read": {`{"name":"a/1"}` + "\n" + strings.Repeat("x", 200_000), []string{"a/1", "b/1"}},
		"not torn":         {`{"name":"a/1"}` + "\n", []string{"a/1", "b/1"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			if err := os.WriteFile(path, []byte(tc.before), 0o600); err != nil {
				t.Fatal(err)
			}
			deliverAll(t, openTestFile(t, dir, "x"), "b/1")
			wantFile(t, path, tc.keep...)
		})
	}
}

func TestFileCannotLeaveItsFolder(t *testing.T) {
	for _, path := range []string{"", ".", "..", "../x", "/etc/passwd", "a/../../x", "a/..", "./x", "a//b", "a/", `a\b`, "a\x00b", "a\nb", strings.Repeat("x", 256)} {
		in, _ := json.Marshal(fileConfig{Path: path})
		if _, err := parseFile(in, Settings{SinkDir: "/sinks"}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := parseFile(json.RawMessage(`{"path":"x"}`), Settings{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("without a folder: %v", err)
	}
	outside, dir := t.TempDir(), t.TempDir()
	links := map[string]string{"file": filepath.Join(outside, "x"), "folder": outside, "up": "../" + filepath.Base(outside) + "/x"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "folder/x", "up"} {
		out := openTestFile(t, dir, name).Deliver(t.Context(), items("a/1"), soon())[0]
		if out.verdict != retry || !out.unreachable || strings.Contains(out.reason, outside) {
			t.Errorf("%s: %+v", name, out)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := openTestFile(t, dir, "pipe").Deliver(t.Context(), items("a/1"), soon())[0]; out.verdict != retry {
		t.Errorf("a pipe: %+v", out)
	}
}

func TestStdout(t *testing.T) {
	var out bytes.Buffer
	d, err := openStdout(opening{settings: Settings{Stdout: &out}})
	if err != nil {
		t.Fatal(err)
	}
	deliverAll(t, d, "a/1", "a/2")
	if out.String() != "{\"name\":\"a/1\"}\n{\"name\":\"a/2\"}\n" {
		t.Error(out.String())
	}
}
