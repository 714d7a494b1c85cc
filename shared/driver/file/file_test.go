package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func openTestFile(t testing.TB, dir, name string) driver.Driver {
	t.Helper()
	config, _ := json.Marshal(fileConfig{Path: name})
	d, err := Open(driver.Opening{Config: config, Settings: driver.Settings{SinkDir: dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func wantFile(t *testing.T, path string, names ...string) {
	t.Helper()
	var want []string
	for _, it := range drivertest.Events(names...) {
		want = append(want, string(it.Structured())+"\n")
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
	drivertest.DeliverAll(t, d, "a/1", "b/1")
	drivertest.DeliverAll(t, d, "a/2")
	wantFile(t, path, "a/1", "b/1", "a/2")
	// Rotated away: the next batch goes to a new file of the name.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	drivertest.DeliverAll(t, d, "a/3")
	wantFile(t, path, "a/3")
	wantFile(t, path+".1", "a/1", "b/1", "a/2")
}

func line(name string) string { return string(drivertest.Events(name)[0].Structured()) + "\n" }

func TestFileCutsATornLine(t *testing.T) {
	for name, tc := range map[string]struct {
		before string
		keep   []string
	}{
		"in the middle":    {line("a/1") + `{"name":"b`, []string{"a/1", "b/1"}},
		"the first line":   {`{"name":"a`, []string{"b/1"}},
		"longer than read": {line("a/1") + strings.Repeat("x", 200_000), []string{"a/1", "b/1"}},
		"not torn":         {line("a/1"), []string{"a/1", "b/1"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			if err := os.WriteFile(path, []byte(tc.before), 0o600); err != nil {
				t.Fatal(err)
			}
			drivertest.DeliverAll(t, openTestFile(t, dir, "x"), "b/1")
			wantFile(t, path, tc.keep...)
		})
	}
}

func TestFileCannotLeaveItsFolder(t *testing.T) {
	for _, path := range []string{"", ".", "..", "../x", "/etc/passwd", "a/../../x", "a/..", "./x", "a//b", "a/", `a\b`, "a\x00b", "a\nb", strings.Repeat("x", 256)} {
		in, _ := json.Marshal(fileConfig{Path: path})
		if _, err := Parse(in, nil, driver.Settings{SinkDir: "/sinks"}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := Parse(json.RawMessage(`{"path":"x"}`), nil, driver.Settings{}); !errors.Is(err, fault.Invalid) {
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
		out := openTestFile(t, dir, name).Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]
		if out.Verdict != driver.Retry || !out.Unreachable || strings.Contains(out.Reason, outside) {
			t.Errorf("%s: %+v", name, out)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := openTestFile(t, dir, "pipe").Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]; out.Verdict != driver.Retry {
		t.Errorf("a pipe: %+v", out)
	}
}

func TestStdout(t *testing.T) {
	var out bytes.Buffer
	d, err := OpenStdout(driver.Opening{Settings: driver.Settings{Stdout: &out}})
	if err != nil {
		t.Fatal(err)
	}
	drivertest.DeliverAll(t, d, "a/1", "a/2")
	if out.String() != line("a/1")+line("a/2") {
		t.Error(out.String())
	}
}
