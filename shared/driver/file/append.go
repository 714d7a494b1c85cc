package file

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"syscall"
	"time"
)

func (d *file) append(text []byte) error {
	if err := d.failed; err != nil {
		// Those events have counted and cannot come again: at least somebody hears of it.
		d.failed = nil
		d.letGo()
		return err
	}
	size, err := d.lock()
	if err != nil {
		return err
	}
	defer d.unlock()
	if err := d.cutTornLine(size); err != nil {
		return err
	}
	if d.isFull(len(text)) {
		if err := d.rotate(); err != nil {
			return err
		}
	}
	size = d.left
	_, err = d.f.Write(text)
	if err == nil {
		err = d.settle()
	}
	if err != nil {
		// The batch is going to come again whole, so nothing of it may stay.
		d.left = -1
		return errors.Join(err, d.f.Truncate(size))
	}
	d.left = size + int64(len(text))
	return nil
}

// lock makes sure that d.f is the file of that name, and that nobody else writes to
// it until unlock: another replica may, for another formation. While we waited for
// that one the file may have been rotated away. It returns how long the file is.
func (d *file) lock() (size int64, err error) {
	for {
		if d.f == nil {
			if err := d.open(); err != nil {
				return 0, err
			}
		}
		if err := syscall.Flock(int(d.f.Fd()), syscall.LOCK_EX); err != nil {
			return 0, err
		}
		// One look tells both: the file of that name is ours, and so is its length.
		if named, err := d.root.Stat(d.config.Path); err == nil && os.SameFile(d.opened, named) {
			return named.Size(), nil
		}
		d.letGo() // and unlocks it
	}
}

// unlock need not be told that it fails: closing the file unlocks it too.
func (d *file) unlock() {
	if d.f != nil {
		_ = syscall.Flock(int(d.f.Fd()), syscall.LOCK_UN)
	}
}

func (d *file) open() error {
	if err := os.MkdirAll(d.dir, 0o750); err != nil {
		return err
	}
	// A Root follows no link out of its folder, whatever the path says.
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return err
	}
	d.root, d.left = root, -1
	if err = root.MkdirAll(path.Dir(d.config.Path), 0o750); err == nil {
		err = d.create()
	}
	if err != nil {
		d.letGo()
	}
	return err
}

// create opens the file, which it makes if it is not there.
func (d *file) create() error {
	// Not blocking: whoever can make a pipe of that name must not stop us.
	f, err := d.root.OpenFile(d.config.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return err
	}
	d.f = f
	info, err := f.Stat()
	d.opened = info
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("the path is not a file")
	case info.Size() > 0:
		return nil
	}
	return d.syncNames() // a file is lost if its name is
}

// syncNames has the folder's entries on the disk, if events are to be.
func (d *file) syncNames() error {
	if d.config.Fsync != fsyncAlways {
		return nil
	}
	dir, err := d.root.Open(path.Dir(d.config.Path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// settle brings what was written to the disk, now or later.
func (d *file) settle() error {
	switch d.config.Fsync {
	case fsyncAlways:
		return d.f.Sync()
	case fsyncInterval:
		d.waiting = true
		if d.later == nil {
			d.later = time.AfterFunc(time.Duration(d.config.FsyncIntervalMS)*time.Millisecond, d.syncLater)
		}
	}
	return nil
}

// syncLater runs by itself, a while after the first event that waits for it. A
// file that was let go meanwhile was synced then.
func (d *file) syncLater() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.later = nil
	d.syncWaiting()
}

// syncWaiting syncs what waits for it.
func (d *file) syncWaiting() {
	if d.waiting {
		d.waiting = false
		d.failed = errors.Join(d.failed, d.f.Sync())
	}
}

// cutTornLine removes what a crash left after the last whole line; d.left is the
// size of what remains. The events on it were never recorded as delivered.
func (d *file) cutTornLine(size int64) error {
	if size == d.left {
		return nil // as we left it
	}
	end, err := d.endOfLines(size)
	if err == nil && end < size {
		err = d.f.Truncate(end)
	}
	if err == nil {
		d.left = end
	}
	return err
}

// endOfLines is where the last whole line ends.
func (d *file) endOfLines(size int64) (int64, error) {
	for end := size; end > 0; {
		chunk := make([]byte, min(end, 64<<10))
		if _, err := d.f.ReadAt(chunk, end-int64(len(chunk))); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		end -= int64(len(chunk))
		if i := bytes.LastIndexByte(chunk, '\n'); i >= 0 {
			return end + int64(i+1), nil
		}
	}
	return 0, nil
}

// letGo closes what is open. What waits for a sync gets it first.
func (d *file) letGo() {
	if d.later != nil {
		d.later.Stop()
		d.later = nil
	}
	if d.f != nil {
		d.syncWaiting()
		_ = d.f.Close()
	}
	if d.root != nil {
		_ = d.root.Close()
	}
	d.f, d.opened, d.root, d.left = nil, nil, nil, -1
}
