package automerge

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Types of scalars, as on the wire. Types above are kept as bytes, so that
// documents of newer writers can still be followed.
const (
	kindNull uint8 = iota
	kindFalse
	kindTrue
	kindUint
	kindInt
	kindFloat
	kindString
	kindBytes
	kindCounter
	kindTimestamp
	// kindObject and up are ours: the value is the object that the op made.
	kindObject uint8 = 0x40
)

// objectType is the kind of a composite value.
type objectType uint8

const (
	typeMap objectType = iota
	typeList
	typeText
	typeTable
)

func (t objectType) sequence() bool { return t == typeList || t == typeText }

// value is a scalar or the type of an object. Numbers, in whatever encoding, are
// in num; strings and bytes in str.
type value struct {
	kind uint8
	num  uint64
	str  string
}

func objectValue(t objectType) value { return value{kind: kindObject + uint8(t)} }

func (v value) object() (objectType, bool) {
	return objectType(v.kind - kindObject), v.kind >= kindObject
}

// blockText stands in text for anything that is not a string.
const blockText = "\ufffc"

// text is how the value reads inside a text.
func (v value) text() string {
	if v.kind == kindString {
		return v.str
	}
	return blockText
}

// utf16Width is the length of s as JavaScript counts it, which is what indices
// into text mean.
func utf16Width(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

func toText(b []byte) (string, error) {
	// Strings of one byte cost no memory of their own, and typed text is made of them.
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%w: text is not UTF-8", ErrMalformed)
	}
	return string(b), nil
}

// valueColumn pairs a column of types and lengths with the bytes themselves.
type valueColumn struct {
	meta uintColumn
	raw  reader
}

func (c *valueColumn) next() (value, error) {
	meta, ok, err := c.meta.next()
	if err != nil || !ok {
		return value{}, err
	}
	b, err := c.raw.take(meta >> 4)
	if err != nil {
		return value{}, err
	}
	v := value{kind: uint8(meta & 15)}
	r := reader{b}
	switch v.kind {
	case kindNull, kindFalse, kindTrue:
	case kindUint:
		v.num, err = r.uleb()
	case kindInt, kindCounter, kindTimestamp:
		var n int64
		n, err = r.sleb()
		v.num = uint64(n)
	case kindFloat:
		if len(b) != 8 {
			return value{}, fmt.Errorf("%w: float of %d bytes", ErrMalformed, len(b))
		}
		for i, x := range b {
			v.num |= uint64(x) << (8 * i)
		}
		return v, nil
	case kindString:
		v.str, err = toText(b)
		return v, err
	default:
		v.str = string(b)
		return v, nil
	}
	if err != nil {
		return value{}, err
	}
	if !r.empty() {
		return value{}, fmt.Errorf("%w: %d bytes too many in a value", ErrMalformed, len(r.b))
	}
	return v, nil
}

func (v value) float() float64 { return math.Float64frombits(v.num) }
