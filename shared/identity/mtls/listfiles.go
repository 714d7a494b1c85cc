package mtls

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxListFile = 64 << 20         // bytes; lists of whole services have many
	lookEvery   = 10 * time.Second // at the files, at most
)

var listName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// listFiles are lists of revocations that the operator keeps in a folder, where
// something brings new ones. An organization names those that are for its authorities;
// it cannot see what else is there, and a list that none of its authorities has signed
// has no effect.
type listFiles struct {
	dir    string
	names  []string
	bundle []*x509.Certificate
	fixed  lists // of the configuration
	now    func() time.Time

	mu     sync.Mutex
	looked time.Time
	files  map[string]*listFile
	all    lists // newest first
}

// listFile is what was last read of a file.
type listFile struct {
	modified time.Time
	size     int64
	lists    lists
	err      error
}

// lists returns all lists, those in files as they are by now.
func (f *listFiles) lists() lists {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if d := now.Sub(f.looked); !f.looked.IsZero() && d >= 0 && d < lookEvery {
		return f.all
	}
	f.looked = now
	if f.files == nil {
		f.files = map[string]*listFile{}
	}
	changed := f.all == nil
	for _, name := range f.names {
		changed = f.look(name) || changed
	}
	if changed {
		all := slices.Clone(f.fixed)
		for _, name := range f.names {
			all = append(all, f.files[name].lists...)
		}
		slices.SortStableFunc(all, func(a, b crl) int { return b.thisUpdate.Compare(a.thisUpdate) })
		f.all = all
	}
	return f.all
}

// look reads a file if it has changed. What cannot be read leaves what was read before,
// which ends by itself.
func (f *listFiles) look(name string) (changed bool) {
	was := f.files[name]
	if was == nil {
		was = &listFile{}
		f.files[name] = was
	}
	file, info, err := f.open(name)
	if err != nil {
		was.err = err
		return false
	}
	defer file.Close()
	if was.err == nil && info.ModTime().Equal(was.modified) && info.Size() == was.size {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(file, maxListFile+1))
	if err != nil || len(text) > maxListFile {
		was.err = errors.New("it cannot be read, or is longer than 64 MiB")
		return false
	}
	read, err := f.parse(text)
	if err != nil {
		was.err = err
		return false
	}
	*was = listFile{modified: info.ModTime(), size: info.Size(), lists: read}
	return true
}

func (f *listFiles) open(name string) (*os.File, os.FileInfo, error) {
	// Not through a link to the outside, whoever made it.
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return nil, nil, errors.New("the folder of lists cannot be opened")
	}
	defer root.Close()
	file, err := root.Open(name)
	if err != nil {
		return nil, nil, errors.New("it is not there, or cannot be opened")
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = file.Close()
		return nil, nil, errors.New("it is not a file")
	}
	return file, info, nil
}

// parse reads a file: lists in PEM, or one in DER.
func (f *listFiles) parse(text []byte) (lists, error) {
	ders := [][]byte{text}
	if strings.HasPrefix(strings.TrimSpace(string(text[:min(len(text), 200)])), "-----BEGIN") {
		var err error
		if ders, err = listsIn("it", string(text)); err != nil {
			return nil, err
		}
	}
	var out lists
	for _, der := range ders {
		l, err := openList("it", der, f.bundle)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// report says of each file what is wrong with it.
func (f *listFiles) report(find find) {
	f.lists()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range f.names {
		if err := f.files[name].err; err != nil {
			find("crl file", false, "%s", fmt.Sprintf("%s: %s", name, err))
		}
	}
}
