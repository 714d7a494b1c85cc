// Package meshwire is the messages in which nodes of peat-mesh exchange documents
// among themselves: frames, batches of frames and tombstones. Integers are
// big-endian here, other than in everything that is signed.
//
// peat-mesh makes room for as much as a message announces, up to 4 GiB. Here
// everything has a limit, and nothing is made room for that is not there. Bytes
// that follow a message are refused.
package meshwire

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// The classes of errors that peat-mesh has no name for.
const (
	TooShort         refusal.Class = "TOO_SHORT"
	InvalidUTF8      refusal.Class = "INVALID_UTF8"
	InvalidDirection refusal.Class = "INVALID_DIRECTION"
	InvalidType      refusal.Class = "INVALID_TYPE"
	TooLarge         refusal.Class = "TOO_LARGE"
	Trailing         refusal.Class = "TRAILING_BYTES"
)

const (
	// MaxPayload is the most bytes of one frame's payload.
	MaxPayload = 16 << 20
	// MaxEntries is the most frames of a batch, and tombstones of one.
	MaxEntries = 4096

	// BatchKey is the key of a frame that holds a batch.
	BatchKey = "batch"
	// TombstoneBatchKey is the key of a frame that holds a batch of tombstones.
	TombstoneBatchKey = "tombstones:batch"
)

// Type is what a frame's payload is.
type Type uint8

// The types. Some are defined there and taken from nobody.
const (
	Delta          Type = 0x00 // a sync message of Automerge
	Snapshot       Type = 0x01 // a whole document
	Window         Type = 0x02 // refused by peat-mesh
	TombstoneOne   Type = 0x04
	TombstoneMany  Type = 0x05
	TombstoneAck   Type = 0x06 // ignored by peat-mesh
	BatchOfFrames  Type = 0x07
	NegentropyInit Type = 0x08
	NegentropyNext Type = 0x09
	NegentropyAsk  Type = 0x0a // refused by peat-mesh
)

// Valid tells whether there is such a type.
func (t Type) Valid() bool { return t <= NegentropyAsk && t != 0x03 }

// InBatch tells whether a frame of this type counts within a batch. peat-mesh
// skips the others, except for those of negentropy, for which it gives up.
func (t Type) InBatch() bool { return t == Delta || t == Snapshot || t == TombstoneOne }

// Frame is one message about one document.
type Frame struct {
	Key     string // collection and id, or one of the keys above
	Type    Type
	Payload []byte
}

// Append appends f's bytes: key after its 16-bit length, type, payload after its
// 32-bit length.
func (f Frame) Append(out []byte) ([]byte, error) {
	switch {
	case !f.Type.Valid():
		return nil, InvalidType.New("no frame has type %#02x", uint8(f.Type))
	case len(f.Payload) > MaxPayload:
		return nil, TooLarge.New("payload of %d bytes is longer than %d", len(f.Payload), MaxPayload)
	}
	out, err := appendString(out, "document key", f.Key)
	if err != nil {
		return nil, err
	}
	out = append(out, byte(f.Type))
	out = binary.BigEndian.AppendUint32(out, uint32(len(f.Payload)))
	return append(out, f.Payload...), nil
}

// DecodeFrame reads what Append wrote. The payload is b's own memory.
func DecodeFrame(b []byte) (Frame, error) {
	f, rest, err := nextFrame(b)
	if err != nil {
		return Frame{}, err
	}
	if err := nothingAfter("frame", rest); err != nil {
		return Frame{}, err
	}
	return f, nil
}

// ReadFrame reads the next frame of a stream, whose payload may have limit bytes.
// It makes room as they come, not as they are announced.
func ReadFrame(r io.Reader, limit int) (Frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, fmt.Errorf("read frame: %w", err)
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	rest := make([]byte, n+5)
	if _, err := io.ReadFull(r, rest); err != nil {
		return Frame{}, fmt.Errorf("read frame: %w", err)
	}
	size := binary.BigEndian.Uint32(rest[n+1:])
	if int64(size) > int64(min(limit, MaxPayload)) {
		return Frame{}, TooLarge.New("payload of %d bytes is longer than %d", size, min(limit, MaxPayload))
	}
	payload, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return Frame{}, fmt.Errorf("read frame: %w", err)
	}
	if len(payload) < int(size) {
		return Frame{}, fmt.Errorf("read frame: %w", io.ErrUnexpectedEOF)
	}
	f := Frame{Key: string(rest[:n]), Type: Type(rest[n]), Payload: payload}
	switch {
	case !utf8.ValidString(f.Key):
		return Frame{}, InvalidUTF8.New("document key: not UTF-8")
	case !f.Type.Valid():
		return Frame{}, InvalidType.New("no frame has type %#02x", rest[n])
	}
	return f, nil
}

func nextFrame(b []byte) (f Frame, rest []byte, err error) {
	if f.Key, rest, err = nextString("document key", b); err != nil {
		return Frame{}, nil, err
	}
	if len(rest) < 5 {
		return Frame{}, nil, TooShort.New("frame ends before its payload")
	}
	if f.Type = Type(rest[0]); !f.Type.Valid() {
		return Frame{}, nil, InvalidType.New("no frame has type %#02x", rest[0])
	}
	n := binary.BigEndian.Uint32(rest[1:])
	rest = rest[5:]
	switch {
	case n > MaxPayload:
		return Frame{}, nil, TooLarge.New("payload of %d bytes is longer than %d", n, MaxPayload)
	case uint64(len(rest)) < uint64(n):
		return Frame{}, nil, TooShort.New("payload of %d bytes, and %d are there", n, len(rest))
	}
	f.Payload = rest[:n:n]
	return f, rest[n:], nil
}

// appendString appends a text after its 16-bit length.
func appendString(out []byte, what, s string) ([]byte, error) {
	switch {
	case len(s) > math.MaxUint16:
		return nil, TooLarge.New("%s of %d bytes is longer than %d", what, len(s), math.MaxUint16)
	case !utf8.ValidString(s):
		return nil, InvalidUTF8.New("%s: not UTF-8", what)
	}
	out = binary.BigEndian.AppendUint16(out, uint16(len(s)))
	return append(out, s...), nil
}

func nextString(what string, b []byte) (s string, rest []byte, err error) {
	if len(b) < 2 {
		return "", nil, TooShort.New("message ends before its %s", what)
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return "", nil, TooShort.New("message ends within its %s", what)
	}
	if !utf8.Valid(b[:n]) {
		return "", nil, InvalidUTF8.New("%s: not UTF-8", what)
	}
	return string(b[:n]), b[n:], nil
}

func nothingAfter(what string, rest []byte) error {
	if len(rest) > 0 {
		return Trailing.New("%s followed by %d bytes that are not of it", what, len(rest))
	}
	return nil
}
