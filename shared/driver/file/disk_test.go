package file

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// limitFiles has the system write no file beyond a size until the test ends, as a
// full disk would.
func limitFiles(t *testing.T, bytes uint64) (lift func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Skip(err)
	}
	lift = sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(lift)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
		t.Skip(err)
	}
	return lift
}

func TestFileOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	// The limit is for the test's own files too, so it is far beyond those.
	before := bytes.Repeat([]byte(strings.Repeat("x", 1023)+"\n"), 8<<10)
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	d := openByConfig(t, dir, `{"path":"x"}`, drivertest.Options{})
	want := func(names ...string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, appendLines(bytes.Clone(before), drivertest.Events(names...))) {
			t.Errorf("%v, %d bytes that end in %s", err, len(got), got[len(before):])
		}
	}
	drivertest.DeliverAll(t, d, "a/1", "b/1")
	lift := limitFiles(t, uint64(len(before))+1000)
	batch := drivertest.Events("a/2", "a/3", "a/4", "a/5", "b/2", "b/3")
	for range 2 {
		outs := d.Deliver(t.Context(), batch, drivertest.Soon())
		if drivertest.Verdicts(outs) != "ruuuru" || !outs[0].Unreachable || !strings.HasPrefix(outs[0].Reason, "write: ") || strings.Contains(outs[0].Reason, dir) {
			t.Errorf("%+v", outs[0])
		}
		want("a/1", "b/1") // and nothing torn
	}
	lift()
	drivertest.WantDelivered(t, d.Deliver(t.Context(), batch, drivertest.Soon()))
	want("a/1", "b/1", "a/2", "a/3", "a/4", "a/5", "b/2", "b/3")
}

func TestStdoutOnAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = full.Close() }()
	d, err := OpenStdout(driver.Opening{Settings: driver.Settings{Stdout: full}})
	if err != nil {
		t.Fatal(err)
	}
	outs := d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon())
	if drivertest.Verdicts(outs) != "ru" || !outs[0].Unreachable || outs[0].Reason != "write: no space left on device" {
		t.Errorf("%+v", outs)
	}
}

// A line that was torn does not spoil the one after it, whichever sink writes that.
func TestStdoutThatTears(t *testing.T) {
	out := &pipe{room: 100}
	shared := NewOutput(out)
	open := func() driver.Driver {
		d, err := OpenStdout(driver.Opening{Settings: driver.Settings{Stdout: shared}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if outs := open().Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon()); drivertest.Verdicts(outs) != "r" {
		t.Errorf("%+v", outs)
	}
	out.fits(-1)
	drivertest.DeliverAll(t, open(), "b/1")
	if want := line("a/1")[:100] + "\n" + line("b/1"); string(out.take()) != want {
		t.Errorf("%s", out.take())
	}
}

// What counts by the policy "interval" is synced a while after, or when the sink
// is closed.
func TestFileSyncsLater(t *testing.T) {
	for name, end := range map[string]func(d *file){
		"a while after": func(d *file) {},
		"when closed":   func(d *file) { d.config.FsyncIntervalMS = maxIntervalMS },
	} {
		t.Run(name, func(t *testing.T) {
			d := openByConfig(t, t.TempDir(), `{"path":"x","fsync":"interval","fsync_interval_ms":1}`, drivertest.Options{}).(*file)
			end(d)
			d.mu.Lock() // nothing is synced behind our back
			err := d.append([]byte(line("a/1")))
			waiting := d.waiting
			d.mu.Unlock()
			if err != nil || !waiting {
				t.Fatal("nothing waits", err)
			}
			if name == "when closed" {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
			for range 1000 {
				d.mu.Lock()
				waiting, running := d.waiting, d.later
				d.mu.Unlock()
				if !waiting && running == nil {
					return
				}
				time.Sleep(5 * time.Millisecond) // nothing tells
			}
			t.Error("is never synced")
		})
	}
}

func TestFileAssesses(t *testing.T) {
	for config, want := range map[string]driver.Grade{
		`{"path":"x"}`:                                              "B",
		`{"path":"x","fsync":"interval"}`:                           "C",
		`{"path":"x","fsync":"never"}`:                              "D",
		`{"path":"x","rotate":{"max_bytes":65536}}`:                 "B",
		`{"path":"x","rotate":{"max_bytes":65536,"keep":1}}`:        "C",
		`{"path":"x","fsync":"never","rotate":{"max_bytes":65536}}`: "D",
	} {
		g, err := openByConfig(t, t.TempDir(), config, drivertest.Options{}).(driver.Assessor).Assess(t.Context())
		if err != nil || g.Grade != want || len(g.Reasons) == 0 {
			t.Errorf("%s: %+v %v", config, g, err)
		}
	}
	if g, err := (stdout{}).Assess(context.Background()); err != nil || g.Grade != "E" {
		t.Errorf("%+v %v", g, err)
	}
}
