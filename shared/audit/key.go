package audit

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/platform/keyfile"
)

// maxKeys bounds how many keys there may be.
const maxKeys = 8

// Key is what heads are signed with. It may hold those that were used before, too:
// what they signed is the gateway's own still. It does not print.
type Key struct {
	// All seeds, one after the other. A pointer to a string: fmt follows one to a
	// slice where it does not ask for Format.
	seeds *string
}

var list = keyfile.List{One: "an audit key", Many: "audit keys", Zeros: "proves nothing", Size: ed25519.SeedSize, Max: maxKeys}

// ParseKey reads an Ed25519 seed of 64 hexadecimal characters, or several with
// commas or line ends between them, the newest first. Its errors quote nothing.
func ParseKey(s string) (Key, error) { return keyOf(list.Parse(s)) }

// LoadOrCreateKey reads the key in a file, or makes one there if there is none.
func LoadOrCreateKey(path string) (Key, error) { return keyOf(list.LoadOrCreate(path)) }

func keyOf(keys []byte, err error) (Key, error) {
	if err != nil {
		return Key{}, err
	}
	all := string(keys)
	return Key{&all}, nil
}

// Public is the key that checks what this one signs.
func (k Key) Public() PublicKey { return publicOf(k.private()) }

func publicOf(private ed25519.PrivateKey) PublicKey {
	return PublicKey(private.Public().(ed25519.PublicKey))
}

// Owns reports whether what the public key checks was signed by this key or by one
// that it replaced.
func (k Key) Owns(public PublicKey) bool {
	for seed := range slices.Chunk([]byte(*k.seeds), ed25519.SeedSize) {
		if publicOf(ed25519.NewKeyFromSeed(seed)) == public {
			return true
		}
	}
	return false
}

func (k Key) private() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte((*k.seeds)[:ed25519.SeedSize]))
}

// Format hides the key from every verb of fmt.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "[secret]") }

// MarshalText hides the key from encoders.
func (Key) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// LogValue hides the key from slog.
func (Key) LogValue() slog.Value { return slog.StringValue("[secret]") }

// PublicKey checks signatures.
type PublicKey [ed25519.PublicKeySize]byte

// ParsePublicKey reads 64 hexadecimal characters.
func ParsePublicKey(s string) (PublicKey, error) {
	var k PublicKey
	err := k.UnmarshalText([]byte(s))
	return k, err
}

func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// MarshalText writes the key in hexadecimal.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (k *PublicKey) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(k) {
		return errors.New("a public key is 64 hexadecimal characters")
	}
	*k = PublicKey(b)
	return nil
}

// Signature is one of Ed25519.
type Signature [ed25519.SignatureSize]byte

// MarshalText writes the signature in hexadecimal.
func (s Signature) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText is the reverse of MarshalText.
func (s *Signature) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(s) {
		return errors.New("a signature is 128 hexadecimal characters")
	}
	*s = Signature(b)
	return nil
}

func (k Key) sign(message []byte) Signature { return Signature(ed25519.Sign(k.private(), message)) }

func (k PublicKey) verifies(message []byte, s Signature) bool {
	return ed25519.Verify(k[:], message, s[:])
}
