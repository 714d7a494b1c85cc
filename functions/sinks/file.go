package sinks

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
)

// fileConfig is what a file sink shows.
type fileConfig struct {
	Path string `json:"path"` // within the operator's folder for sinks
}

func parseFile(in json.RawMessage, s Settings) (config, error) {
	var c fileConfig
	if err := decodeConfig(in, &c); err != nil {
		return config{}, err
	}
	switch {
	case s.SinkDir == "":
		return config{}, invalid("kind", "file is not offered here: the operator has set no folder for it")
	case c.Path == "":
		return config{}, invalid("config/path", "is missing")
	case len(c.Path) > 255 || strings.ContainsFunc(c.Path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return config{}, invalid("config/path", "is longer than 255 bytes or holds a character that it may not")
	case path.Clean(c.Path) != c.Path || !filepath.IsLocal(c.Path) || c.Path == ".":
		return config{}, invalid("config/path", "must be a plain relative path inside the folder for sinks")
	}
	// Some file systems take A and a for the same.
	return config{public: c, claims: strings.ToLower(c.Path)}, nil
}

// file appends events to a file, one line each.
type file struct {
	dir, name string
	mu        sync.Mutex
	root      *os.Root
	f         *os.File
}

func openFile(o opening) (driver, error) {
	var c fileConfig
	if err := json.Unmarshal(o.sink.Config, &c); err != nil {
		return nil, errors.New("the configuration cannot be read")
	}
	if o.settings.SinkDir == "" {
		return nil, errors.New("the operator has set no folder for file sinks")
	}
	return &file{dir: o.settings.SinkDir, name: c.Path}, nil
}

// Deliver writes the batch in one piece and returns when it is on the disk.
func (d *file) Deliver(_ context.Context, batch []item, _ time.Time) []outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	return all(batch, d.append(lines(batch)))
}

// lines is the batch as NDJSON. A CloudEvent in structured mode is one line.
func lines(batch []item) []byte {
	var out bytes.Buffer
	for _, it := range batch {
		out.Write(it.body)
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// all is the answer of a sink that takes a batch whole or not at all.
func all(batch []item, err error) []outcome {
	outs := make([]outcome, len(batch))
	if err == nil {
		for i := range outs {
			outs[i].verdict = delivered
		}
		return outs
	}
	reason := err.Error()
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		reason = inPath.Op + ": " + inPath.Err.Error() // the operator's folder is not the organization's business
	}
	for i := range outs {
		outs[i] = outcome{verdict: retry, unreachable: true, reason: reason}
	}
	return firstOfEach(batch, outs)
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

func parseStdout(in json.RawMessage, _ Settings) (config, error) {
	var c struct{}
	return config{public: c}, decodeConfig(in, &c)
}

// stdout writes events to the process's own output, one line each.
type stdout struct{ out io.Writer }

func openStdout(o opening) (driver, error) { return stdout{o.settings.Stdout}, nil }

// Deliver writes the batch in one piece: other sinks may write there too.
func (d stdout) Deliver(_ context.Context, batch []item, _ time.Time) []outcome {
	_, err := d.out.Write(lines(batch))
	return all(batch, err)
}

func (stdout) Close() error { return nil }
