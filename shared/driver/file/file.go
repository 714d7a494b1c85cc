// Package file is the sinks that write lines: to a file, and to the process's own
// output.
package file

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// fileConfig is what a file sink shows.
type fileConfig struct {
	Path            string          `json:"path"` // within the operator's folder for sinks
	Rotate          *rotationConfig `json:"rotate,omitempty"`
	Fsync           fsyncPolicy     `json:"fsync"`
	FsyncIntervalMS int             `json:"fsync_interval_ms,omitempty"`
}

type rotationConfig struct {
	MaxBytes int64 `json:"max_bytes"`      // a file holds at most so much, or one batch
	Keep     int   `json:"keep,omitempty"` // how many full files stay; 0: all of them
}

// fsyncPolicy is when what was written goes to the disk.
type fsyncPolicy string

// The policies.
const (
	fsyncAlways   fsyncPolicy = "always"   // before an event counts as delivered
	fsyncInterval fsyncPolicy = "interval" // at most so long after
	fsyncNever    fsyncPolicy = "never"    // when the system likes
)

// Bounds of a configuration.
const (
	minRotation       = 64 << 10
	maxKeep           = 100_000
	defaultIntervalMS = 1000
	maxIntervalMS     = 60_000
	maxPath           = 255 - len(".000000001") // so that a full file has a name too
	keptBuffer        = 1 << 20
)

// looksFull is how the names of full files end.
var looksFull = regexp.MustCompile(`\.[0-9]{9,}$`)

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
	case len(c.Path) > maxPath || strings.ContainsFunc(c.Path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return driver.Config{}, driver.Invalid("config/path", "is longer than 245 bytes or holds a character that it may not")
	case path.Clean(c.Path) != c.Path || !filepath.IsLocal(c.Path) || c.Path == ".":
		return driver.Config{}, driver.Invalid("config/path", "must be a plain relative path inside the folder for sinks")
	case looksFull.MatchString(c.Path):
		return driver.Config{}, driver.Invalid("config/path", "ends in a dot and nine digits, as rotated files do")
	}
	if err := c.settle(); err != nil {
		return driver.Config{}, err
	}
	// Some file systems take A and a for the same.
	return driver.Config{Public: c, Claims: strings.ToLower(c.Path)}, nil
}

// settle checks how the file is kept and puts in what is left out.
func (c *fileConfig) settle() error {
	if r := c.Rotate; r != nil {
		if r.MaxBytes < minRotation {
			return driver.Invalid("config/rotate/max_bytes", "must be at least 65536")
		}
		if r.Keep < 0 || r.Keep > maxKeep {
			return driver.Invalid("config/rotate/keep", "must be 0, for all, to 100000")
		}
	}
	switch c.Fsync {
	case "":
		c.Fsync = fsyncAlways
	case fsyncAlways, fsyncInterval, fsyncNever:
	default:
		return driver.Invalid("config/fsync", "must be always, interval or never")
	}
	if c.Fsync == fsyncInterval && c.FsyncIntervalMS == 0 {
		c.FsyncIntervalMS = defaultIntervalMS
	}
	if c.FsyncIntervalMS < 0 || c.FsyncIntervalMS > maxIntervalMS || c.Fsync != fsyncInterval && c.FsyncIntervalMS != 0 {
		return driver.Invalid("config/fsync_interval_ms", "must be 1 to 60000, and goes with fsync: interval")
	}
	return nil
}

// file appends events to a file, one line each.
type file struct {
	dir    string
	config fileConfig

	mu     sync.Mutex
	closed bool
	root   *os.Root
	f      *os.File
	opened os.FileInfo // of f, when it was opened: which file it is
	left   int64       // how long we left f, ending in a whole line; -1 if that is not known
	text   []byte
	failed error // of a sync whose events have counted already

	waiting bool        // something was written and not synced, by the policy "interval"
	later   *time.Timer // is going to sync
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
	// A sink of an earlier version may leave out what Parse puts in now.
	if err := c.settle(); err != nil {
		return nil, err
	}
	return &file{dir: o.SinkDir, config: c}, nil
}

// Deliver writes the batch in one piece and returns when it is as safe as it is
// going to be.
func (d *file) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(batch) == 0 || isOver(ctx, until) {
		return make([]driver.Outcome, len(batch))
	}
	if d.closed {
		return driver.None(batch, "the sink was changed")
	}
	d.text = appendLines(d.text[:0], batch)
	err := d.append(d.text)
	if cap(d.text) > keptBuffer {
		d.text = nil
	}
	return all(batch, err)
}

// isOver reports whether nothing may begin any more.
func isOver(ctx context.Context, until time.Time) bool {
	return ctx.Err() != nil || !time.Now().Before(until)
}

// appendLines appends the batch as NDJSON. A CloudEvent in structured mode is one
// line.
func appendLines(out []byte, batch []driver.Event) []byte {
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
	var inLink *os.LinkError
	switch { // the operator's folder is not the organization's business
	case errors.As(err, &inPath):
		reason = inPath.Op + ": " + inPath.Err.Error()
	case errors.As(err, &inLink):
		reason = inLink.Op + ": " + inLink.Err.Error()
	}
	return driver.None(batch, reason)
}

// Close returns when what waits for it is on the disk.
func (d *file) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.letGo()
	err := d.failed
	d.failed = nil
	return err
}

// Assess grades the policy; the disk's own promises cannot be learned.
func (d *file) Assess(context.Context) (driver.Durability, error) {
	if _, err := os.Stat(d.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return driver.Durability{}, errors.New("the folder for sinks cannot be looked at")
	}
	var g driver.Durability
	g.Worst("B", "the file is on one disk: what loses the disk loses the events")
	switch d.config.Fsync {
	case fsyncInterval:
		g.Worst("C", "a crash of the machine loses acknowledged events that were written in the last moments (fsync: interval)")
	case fsyncNever:
		g.Worst("D", "a crash of the machine loses acknowledged events that the system had not written yet, as a rule those of half a minute (fsync: never)")
	}
	if r := d.config.Rotate; r != nil && r.Keep > 0 {
		g.Worst("C", "the oldest files are deleted, read or not (rotate.keep)")
	}
	return g, nil
}
