package keyfile

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// List says what a list of keys is made of: the newest key first, older ones after it
// for what was made under them. One, Many and Zeros name the keys in errors, such as
// "a token key", "token keys" and "protects nothing".
type List struct {
	One, Many string
	Zeros     string // what a key of zeros does
	Size      int    // of a key, in bytes
	Max       int    // keys
}

// Parse reads one key in hexadecimal, or several with commas or line ends between
// them, and returns them one after the other. Its errors quote nothing.
func (l List) Parse(s string) ([]byte, error) {
	var keys []byte
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \r\n", r) }) {
		key, err := hex.DecodeString(part)
		if err != nil || len(key) != l.Size {
			// The decoder's error would name a character of the key.
			return nil, fmt.Errorf("%s is %d hexadecimal characters; this is something else, of %d bytes", l.One, 2*l.Size, len(part))
		}
		if isZero(key) {
			return nil, errors.New(l.One + " of zeros " + l.Zeros)
		}
		keys = append(keys, key...)
	}
	if n := len(keys) / l.Size; n == 0 || n > l.Max {
		return nil, fmt.Errorf("there must be 1 to %d %s, and there are %d", l.Max, l.Many, n)
	}
	return keys, nil
}

func isZero(key []byte) bool {
	for _, b := range key {
		if b != 0 {
			return false
		}
	}
	return true
}

// LoadOrCreate reads the keys in a file, or makes one there if there is none.
func (l List) LoadOrCreate(path string) ([]byte, error) {
	text, err := LoadOrCreate(path, l.Size)
	if err != nil {
		return nil, err
	}
	keys, err := l.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}
