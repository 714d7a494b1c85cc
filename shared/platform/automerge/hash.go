package automerge

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
)

// Hash names a change: the SHA-256 of its uncompressed chunk.
type Hash [32]byte

// ParseHash reads the form that String writes.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return Hash{}, fmt.Errorf("automerge: a hash has %d hex digits, not %d", 2*len(h), len(s))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("automerge: hash: %w", err)
	}
	return h, nil
}

// String returns the hash in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Compare orders hashes by their bytes, as heads are ordered on the wire.
func (h Hash) Compare(o Hash) int { return bytes.Compare(h[:], o[:]) }

// MarshalText writes what String returns.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(b []byte) error {
	p, err := ParseHash(string(b))
	if err != nil {
		return err
	}
	*h = p
	return nil
}

func sortHashes(hs []Hash) []Hash {
	slices.SortFunc(hs, Hash.Compare)
	return slices.Compact(hs)
}
