package envelope

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// KEK is a key encryption key. It does not print, and without a key in it
// nothing can be sealed.
type KEK struct {
	// Where fmt does not ask for Format (%p, unexported fields of other structs)
	// it shows no more of this than an address. That holds for a pointer to a
	// string; to an array it does not: a wrong verb follows that one.
	key *string
}

// NewKEK returns key as a KEK. One of zeros is none.
func NewKEK(key [keySize]byte) KEK {
	if key == [keySize]byte{} {
		return KEK{}
	}
	text := string(key[:])
	return KEK{key: &text}
}

// IsSet tells whether there is a key.
func (k KEK) IsSet() bool { return k.key != nil }

const redacted = "[secret]"

// Format hides the key from every verb of fmt.
func (KEK) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText hides the key from encoders.
func (KEK) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the key from slog.
func (KEK) LogValue() slog.Value { return slog.StringValue(redacted) }

// ParseKEK reads a key of 64 hexadecimal characters. Its errors do not quote s.
func ParseKEK(s string) (KEK, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != keySize {
		// The decoder's error would name a character of the key.
		return KEK{}, fmt.Errorf("a key encryption key is %d hexadecimal characters; this is something else, of %d bytes", 2*keySize, len(s))
	}
	kek := NewKEK([keySize]byte(b))
	if !kek.IsSet() {
		return KEK{}, errors.New("a key encryption key of zeros protects nothing")
	}
	return kek, nil
}

// LoadOrCreateKEK reads the key in the file at path, or makes one there if
// there is no file. However many processes start at once, all get the same key,
// and a crash leaves either no file or a whole one.
func LoadOrCreateKEK(path string) (KEK, error) {
	kek, err := LoadKEK(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return kek, err
	}
	if err := createKEK(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return KEK{}, fmt.Errorf("create key encryption key: %w", err)
	}
	// Also after our own file: what counts is what can be read back.
	return LoadKEK(path)
}

// LoadKEK reads the key in the file at path, which only its owner may read.
func LoadKEK(path string) (KEK, error) {
	f, err := os.Open(path)
	if err != nil {
		return KEK{}, err
	}
	defer f.Close()
	// The open file is asked, not the path, which may lead elsewhere by now.
	info, err := f.Stat()
	if err != nil {
		return KEK{}, err
	}
	if !info.Mode().IsRegular() {
		return KEK{}, fmt.Errorf("%s is not a file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return KEK{}, fmt.Errorf("%s can be read by others than its owner (mode %#o, want 0600 or less)", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return KEK{}, err
	}
	kek, err := ParseKEK(strings.TrimRight(string(text), "\r\n"))
	if err != nil {
		return KEK{}, fmt.Errorf("%s: %w", path, err)
	}
	return kek, nil
}

// createKEK writes a new key beside path and then links it there: the link
// fails if somebody was faster, and nobody ever sees half a key.
func createKEK(path string) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".kek-*") // exclusive, mode 0600
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		err = errors.Join(err, os.Remove(f.Name()))
	}()
	var key [keySize]byte
	rand.Read(key[:])
	if _, err := f.WriteString(hex.EncodeToString(key[:]) + "\n"); err != nil {
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
// everything with it that was sealed in between.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
