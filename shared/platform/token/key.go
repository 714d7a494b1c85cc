package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/platform/keyfile"
)

const keySize = 32

// maxKeys bounds how many keys are tried for one token.
const maxKeys = 4

// Key is under which tokens are hashed before they are kept. Whoever can only read
// the database cannot try texts against it, and whoever can only write it cannot
// add a token of their own. It may hold older keys too: tokens hashed under these
// are recognized still. It does not print.
type Key struct {
	// All keys, one after the other. Where fmt does not ask for Format (unexported
	// fields of other structs) it shows an address of a pointer to a string; one to
	// a slice it follows.
	keys *string
}

var list = keyfile.List{One: "a token key", Many: "token keys", Zeros: "protects nothing", Size: keySize, Max: maxKeys}

// ParseKey reads a key of 64 hexadecimal characters, or several with commas or
// line ends between them, the newest first. Its errors quote nothing.
func ParseKey(s string) (Key, error) { return keyOf(list.Parse(s)) }

// LoadOrCreateKey reads the keys in a file, or makes one there if there is none.
func LoadOrCreateKey(path string) (Key, error) { return keyOf(list.LoadOrCreate(path)) }

func keyOf(keys []byte, err error) (Key, error) {
	if err != nil {
		return Key{}, err
	}
	all := string(keys)
	return Key{&all}, nil
}

// IsSet tells whether there is a key.
func (k Key) IsSet() bool { return k.keys != nil }

// Hash is how a new token is kept. The zero Key has none to give and panics: a
// token hashed under no key would look like one that is.
func (k Key) Hash(text string) []byte { return k.Hashes(text)[0] }

// Hashes are the ways in which a token may have been kept, the newest first.
func (k Key) Hashes(text string) [][]byte {
	var out [][]byte
	for key := range slices.Chunk([]byte(*k.keys), keySize) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		out = append(out, mac.Sum(nil))
	}
	return out
}

const redacted = "[secret]"

// Format hides the key from every verb of fmt.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText hides the key from encoders.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the key from slog.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }
