// Package file is the sinks that write lines: to a file, and to the process's own
// output.
package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// fileConfig is what a file sink shows.
type fileConfig struct {
	Path string `json:"path"` // within the operator's folder for sinks
}

// Parse checks the configuration of a file sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var c fileConfig
	if err := driver.DecodeConfig(in, &c); err != nil {
		return driver.Config{}, err
	}
	switch {
	case s.SinkDir == "":
		return driver.Config{}, driver.Invalid("kind", "file is not offered here: the operator has set no folder for it")
	case c.Path == "":
		return driver.Config{}, driver.Invalid("config/path", "is missing")
	case len(c.Path) > 255 || strings.ContainsFunc(c.Path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return driver.Config{}, driver.Invalid("config/path", "is longer than 255 bytes or holds a character that it may not")
	case path.Clean(c.Path) != c.Path || !filepath.IsLocal(c.Path) || c.Path == ".":
		return driver.Config{}, driver.Invalid("config/path", "must be a plain relative path inside the folder for sinks")
	}
	// Some file systems take A and a for the same.
	return driver.Config{Public: c, Claims: strings.ToLower(c.Path)}, nil
}

// file appends events to a file, one line each.
type file struct {
	dir, name string
	mu        sync.Mutex
	root      *os.Root
	f         *os.File
}

// Open makes a driver of it.
func Open(o driver.Opening) (driver.Driver, error) {
	var c fileConfig
	if err := o.Read(&c, nil); err != nil {
		return nil, err
	}
	if o.SinkDir == "" {
		return nil, errors.New("the operator has set no folder for file sinks")
	}
	return &file{dir: o.SinkDir, name: c.Path}, nil
}

// Deliver writes the batch in one piece and returns when it is on the disk.
func (d *file) Deliver(_ context.Context, batch []driver.Event, _ time.Time) []driver.Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	return all(batch, d.append(lines(batch)))
}

// lines is the batch as NDJSON. A CloudEvent in structured mode is one line.
func lines(batch []driver.Event) []byte {
	size := 0
	for _, it := range batch {
		size += it.Size() + 16
	}
	out := make([]byte, 0, size)
	for _, it := range batch {
		out = append(it.AppendJSON(out), '\n')
	}
	return out
}

// all is the answer of a sink that takes a batch whole or not at all.
func all(batch []driver.Event, err error) []driver.Outcome {
	if err == nil {
		return driver.All(batch)
	}
	reason := err.Error()
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		reason = inPath.Op + ": " + inPath.Err.Error() // the operator's folder is not the organization's business
	}
	return driver.None(batch, reason)
}

func (d *file) append(text []byte) error {
	if err := d.open(); err != nil {
		return err
	}
	// Another replica may append to the same file for another formation.
	if err := syscall.Flock(int(d.f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	defer func() { _ = syscall.Flock(int(d.f.Fd()), syscall.LOCK_UN) }()
	size, err := d.cutTornLine()
	if err != nil {
		return err
	}
	if _, err = d.f.Write(text); err == nil {
		err = d.f.Sync()
	}
	if err != nil {
		// The batch is going to come again whole, so nothing of it may stay.
		return errors.Join(err, d.f.Truncate(size))
	}
	return nil
}

// open makes sure that d.f is the file of that name: it may have been rotated away.
func (d *file) open() error {
	if d.f != nil {
		have, err := d.f.Stat()
		if err == nil {
			var named fs.FileInfo
			if named, err = d.root.Stat(d.name); err == nil && os.SameFile(have, named) {
				return nil
			}
		}
		d.close()
	}
	if err := os.MkdirAll(d.dir, 0o750); err != nil {
		return err
	}
	// A Root follows no link out of its folder, whatever the path says.
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return err
	}
	if err = root.MkdirAll(path.Dir(d.name), 0o750); err == nil {
		// Not blocking: whoever can make a pipe of that name must not stop us.
		d.f, err = root.OpenFile(d.name, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o640)
	}
	if err == nil {
		var info fs.FileInfo
		if info, err = d.f.Stat(); err == nil && !info.Mode().IsRegular() {
			err = errors.New("the path is not a file")
		}
	}
	d.root = root
	if err != nil {
		d.close()
	}
	return err
}

// cutTornLine removes what a crash left after the last whole line and returns
// the size of what remains. The events on it were never recorded as delivered.
func (d *file) cutTornLine() (int64, error) {
	info, err := d.f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	for end := size; end > 0; {
		chunk := make([]byte, min(end, 64<<10))
		if _, err := d.f.ReadAt(chunk, end-int64(len(chunk))); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(chunk, '\n'); i >= 0 {
			end += int64(i+1) - int64(len(chunk))
			if end == size {
				return size, nil
			}
			return end, d.f.Truncate(end)
		}
		end -= int64(len(chunk))
	}
	if size == 0 {
		return 0, nil
	}
	return 0, d.f.Truncate(0)
}

func (d *file) close() {
	if d.f != nil {
		_ = d.f.Close()
	}
	if d.root != nil {
		_ = d.root.Close()
	}
	d.f, d.root = nil, nil
}

func (d *file) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.close()
	return nil
}

// ParseStdout checks the configuration of a stdout sink, which has none.
func ParseStdout(in json.RawMessage, prior []byte, _ driver.Settings) (driver.Config, error) {
	var c struct{}
	return driver.Config{Public: c}, driver.DecodeConfig(in, &c)
}

// stdout writes events to the process's own output, one line each.
type stdout struct{ out io.Writer }

// OpenStdout makes a driver of it.
func OpenStdout(o driver.Opening) (driver.Driver, error) { return stdout{o.Stdout}, nil }

// Deliver writes the batch in one piece: other sinks may write there too.
func (d stdout) Deliver(_ context.Context, batch []driver.Event, _ time.Time) []driver.Outcome {
	_, err := d.out.Write(lines(batch))
	return all(batch, err)
}

func (stdout) Close() error { return nil }
