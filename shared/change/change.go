// Package change describes one settled change of a document and how changes get
// settled: held back until their causes are in the log, then numbered. It does
// not decode Automerge (platform/automerge does) and does not store anything
// (shared/store does).
package change

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Hash is the SHA-256 by which Automerge names a change.
type Hash [32]byte

// String returns the hash as 64 lower-case hexadecimal characters.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText makes JSON show the hash as text.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	*h = parsed
	return err
}

// ParseHash reads 64 hexadecimal characters.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return Hash{}, fmt.Errorf("a change hash has 64 hexadecimal characters, not %d", len(s))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("change hash: %w", err)
	}
	return h, nil
}

// Change is what its author made, with the patches it means for the document as
// the gateway had settled it just before.
type Change struct {
	Hash     Hash
	Deps     []Hash
	Actor    string // hex
	ActorSeq uint64
	StartOp  uint64
	Time     int64 // as the author wrote it; see TimestampMS
	Message  string
	Raw      []byte // the change chunk, uncompressed
	Patches  []byte // a JSON list
}

// secondsBelow separates the two units that authors use: JavaScript writes
// seconds, Go writes milliseconds. As seconds this bound is the year 5138, as
// milliseconds it is March 1973.
const secondsBelow = 100_000_000_000

// TimestampMS is the author's clock in milliseconds since the Unix epoch, with
// its unit guessed from its size. It may be wrong: it is what the author wrote.
func (c Change) TimestampMS() int64 {
	if -secondsBelow < c.Time && c.Time < secondsBelow {
		return c.Time * 1000
	}
	return c.Time
}

// Origin says how the gateway came to know of a change.
type Origin string

// Sync is a change that a peer's sync session brought.
const Sync Origin = "sync"

// Settled is a change with its place in the document and in the formation's log.
type Settled struct {
	Change
	Document   string
	Seq        uint64 // 1, 2, 3 … within the document
	Position   uint64 // 1, 2, 3 … within the formation
	Prev       *Hash  // the change with Seq-1; nil for the first
	Concurrent bool   // does not descend from Prev
	ReceivedAt time.Time
	Origin     Origin
	Trace      string // traceparent of the message that brought it; may be empty
}

// Follow returns c as the change that comes after prev in its document.
//
// prev was settled last, so nothing settled depends on it yet: c descends from it
// only by naming it.
func Follow(c Change, document string, seq uint64, prev *Hash) Settled {
	return Settled{
		Change:     c,
		Document:   document,
		Seq:        seq,
		Prev:       prev,
		Concurrent: prev != nil && !slices.Contains(c.Deps, *prev),
	}
}
