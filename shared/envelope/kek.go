package envelope

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/defenseunicorns/peat-gateway/shared/platform/keyfile"
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

// LoadOrCreateKEK reads the key in the file at path, or makes one there if there is
// no file: see keyfile.LoadOrCreate.
func LoadOrCreateKEK(path string) (KEK, error) {
	text, err := keyfile.LoadOrCreate(path, keySize)
	return kekOf(path, text, err)
}

// LoadKEK reads the key in the file at path, which only its owner may read.
func LoadKEK(path string) (KEK, error) {
	text, err := keyfile.Load(path)
	return kekOf(path, text, err)
}

// kekOf reads the key that a file was found to hold.
func kekOf(path, text string, err error) (KEK, error) {
	if err != nil {
		return KEK{}, err
	}
	kek, err := ParseKEK(text)
	if err != nil {
		return KEK{}, fmt.Errorf("%s: %w", path, err)
	}
	return kek, nil
}
