package kafka

import (
	"encoding/binary"
	"errors"
)

var errAnswer = errors.New("the broker's answer is not Kafka's")

// answer is what of a broker's answer is still to be read. It reads zeros after
// its end and keeps the error.
type answer struct {
	rest []byte
	err  error
}

func (a *answer) bytes(n int) []byte {
	if n < 0 || n > len(a.rest) {
		a.rest, a.err = nil, errAnswer
		return nil
	}
	out := a.rest[:n]
	a.rest = a.rest[n:]
	return out
}

func (a *answer) int16() int16 {
	if b := a.bytes(2); b != nil {
		return int16(binary.BigEndian.Uint16(b)) //nolint:gosec // as it is on the wire
	}
	return 0
}

func (a *answer) int32() int32 {
	if b := a.bytes(4); b != nil {
		return int32(binary.BigEndian.Uint32(b)) //nolint:gosec // as it is on the wire
	}
	return 0
}

func (a *answer) int64() int64 {
	if b := a.bytes(8); b != nil {
		return int64(binary.BigEndian.Uint64(b)) //nolint:gosec // as it is on the wire
	}
	return 0
}

// string reads a string; null is empty.
func (a *answer) string() string {
	return string(a.bytes(max(0, int(a.int16()))))
}

// count reads the length of a list, which has at least a byte for each element.
func (a *answer) count() int {
	n := max(0, int(a.int32()))
	if n > len(a.rest) {
		a.rest, a.err = nil, errAnswer
		return 0
	}
	return n
}
