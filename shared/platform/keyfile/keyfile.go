// Package keyfile keeps a key in a file that only its owner may read, and makes it
// where there is none. What is in the key, and what it is for, is known to whoever
// asks.
package keyfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// maxBytes is more than any key of ours has.
const maxBytes = 4096

// LoadOrCreate returns the text in the file at path, without the end of its last
// line. If there is no file it makes one with size random bytes in hexadecimal.
// However many processes start at once, all get the same text, and a crash leaves
// either no file or a whole one.
func LoadOrCreate(path string, size int) (string, error) {
	text, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if err := create(path, size); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("create key file: %w", err)
	}
	// Also after our own file: what counts is what can be read back.
	return Load(path)
}

// Load returns the text in the file at path, without the end of its last line.
func Load(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	// The open file is asked, not the path, which may lead elsewhere by now.
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("%s can be read by others than its owner (mode %#o, want 0600 or less)", path, mode)
	}
	if info.Size() > maxBytes {
		return "", fmt.Errorf("%s is too long to be a key", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxBytes))
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// create writes a new key beside path and then links it there: the link fails if
// somebody was faster, and nobody ever sees half a key.
func create(path string, size int) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // exclusive, mode 0600
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		err = errors.Join(err, os.Remove(f.Name()))
	}()
	key := make([]byte, size)
	rand.Read(key)
	if _, err := f.WriteString(hex.EncodeToString(key) + "\n"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the name last, too: a key that is gone after a power cut takes
// everything with it that was done under it in between.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
