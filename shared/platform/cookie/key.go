package cookie

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"

	"github.com/defenseunicorns/peat-gateway/shared/platform/keyfile"
)

const (
	keySize = 32
	maxKeys = 4

	nonceSize = 12
	overhead  = nonceSize + 16 // and GCM's tag
)

// Key seals values and makes codes. It may hold older keys too: what was sealed under
// these opens still. It does not print.
type Key struct {
	// All keys, one after the other. Where fmt does not ask for Format it shows an
	// address of a pointer to a string; one to a slice it follows.
	keys *string
}

// each goes over the keys, the newest first.
func (k Key) each(yield func(secret) bool) {
	for i := 0; k.keys != nil && i < len(*k.keys); i += keySize {
		if !yield(secret((*k.keys)[i : i+keySize])) {
			return
		}
	}
}

// newest is the key that new things are made with. The zero Key has none and panics:
// what it made would look as if it were sealed.
func (k Key) newest() secret { return secret((*k.keys)[:keySize]) }

// secret is one key, from which one for each purpose is made.
type secret string

var list = keyfile.List{One: "a key", Many: "keys", Zeros: "protects nothing", Size: keySize, Max: maxKeys}

// ParseKey reads a key of 64 hexadecimal characters, or several with commas or line
// ends between them, the newest first. Its errors quote nothing.
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

// of makes the key for a purpose. Two purposes share nothing.
func (s secret) of(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(s), nil, "peat-gateway cookie v1 "+purpose, keySize)
	if err != nil {
		panic(err) // only for keys longer than 8 KiB
	}
	return key
}

func (s secret) aead(purpose string) cipher.AEAD {
	block, err := aes.NewCipher(s.of("seal " + purpose))
	if err == nil {
		var gcm cipher.AEAD
		if gcm, err = cipher.NewGCM(block); err == nil {
			return gcm
		}
	}
	panic(err) // the key has the right length
}

var encoding = base64.RawURLEncoding.Strict()

// Seal encrypts a value for a purpose, under the newest key.
func (k Key) Seal(purpose string, value []byte) string {
	nonce := make([]byte, nonceSize, overhead+len(value))
	_, _ = rand.Read(nonce) // it cannot fail
	return encoding.EncodeToString(k.newest().aead(purpose).Seal(nonce, nonce, value, []byte(purpose)))
}

// Open returns a value that was sealed for the purpose, or ErrOpaque.
func (k Key) Open(purpose, text string) ([]byte, error) {
	b, err := encoding.DecodeString(text)
	if err != nil || len(b) < overhead {
		return nil, ErrOpaque
	}
	for s := range k.each {
		if value, err := s.aead(purpose).Open(nil, b[:nonceSize], b[nonceSize:], []byte(purpose)); err == nil {
			return value, nil
		}
	}
	return nil, ErrOpaque
}

// Code is a text that only who has the key can make of another, for a purpose.
func (k Key) Code(purpose, text string) string { return k.newest().code(purpose, text) }

func (s secret) code(purpose, text string) string {
	mac := hmac.New(sha256.New, s.of("code "+purpose))
	mac.Write([]byte(text))
	return encoding.EncodeToString(mac.Sum(nil))
}

// IsCode tells whether code is that of a text, under any of the keys.
func (k Key) IsCode(purpose, text, code string) bool {
	for s := range k.each {
		if hmac.Equal([]byte(s.code(purpose, text)), []byte(code)) {
			return true
		}
	}
	return false
}

const redacted = "[secret]"

// Format hides the key from every verb of fmt.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText hides the key from encoders.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the key from slog.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }
