package file

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Full files are called after the file, with a number that grows: names in order
// are events in order, and what is renamed is never renamed again.

// isFull reports whether so many more bytes belong into a new file.
func (d *file) isFull(more int) bool {
	return d.config.Rotate != nil && d.left > 0 && d.left+int64(more) > d.config.Rotate.MaxBytes
}

// rotate gives the file a name of its own and goes on in a new one, which it
// leaves locked. A crash between the two costs nothing: whoever comes next finds no
// file and makes it.
func (d *file) rotate() error {
	full, err := d.fullFiles()
	if err != nil {
		return err
	}
	next := uint64(1)
	if n := len(full); n > 0 {
		next = full[n-1] + 1
	}
	if err := d.root.Rename(d.config.Path, fullName(d.config.Path, next)); err != nil {
		return err
	}
	d.letGo()
	size, err := d.lock()
	if err != nil {
		return err
	}
	if err := d.cutTornLine(size); err != nil { // somebody else may have begun it already
		return err
	}
	return d.prune(append(full, next))
}

func fullName(name string, n uint64) string { return fmt.Sprintf("%s.%09d", name, n) }

// fullFiles are the numbers of the full files, in order.
func (d *file) fullFiles() ([]uint64, error) {
	dir, err := d.root.Open(path.Dir(d.config.Path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, path.Base(d.config.Path)+".")
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && fullName("", n) == "."+digits {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// prune deletes the oldest full files, if the sink is to keep only some. One that
// cannot be deleted is tried again at the next rotation; events are not kept back
// for it.
func (d *file) prune(full []uint64) error {
	if keep := d.config.Rotate.Keep; keep > 0 && len(full) > keep {
		for _, n := range full[:len(full)-keep] {
			_ = d.root.Remove(fullName(d.config.Path, n))
		}
	}
	return d.syncNames()
}
