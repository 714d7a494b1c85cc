package automerge

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Patch is one step of what a change did to a document. Its JSON is described in
// PATCHES.md.
type Patch struct {
	// Action is put, insert, splice, del, inc, conflict or mark.
	Action string

	obj  *object // what it is about, to join patches while they are made
	at   *path
	prop prop

	values    []value // put (one) and insert
	conflicts []bool  // of insert, one for each value
	conflict  bool    // of put
	text      []byte  // splice
	width     int     // of text
	length    int     // del
	inc       int64
	marks     []mark
	marked    markSet // splice
}

// prop is the last step of a path: a key, or else an index.
type prop struct {
	key   string
	index int
	named bool
}

// path is where an object is. Paths share their beginnings, so that a change
// deep in a document cannot make much of little.
type path struct {
	up *path
	prop
}

type mark struct {
	name       string
	val        value
	start, end int
}

// Path returns the keys (string) and indices (int) that lead to the place.
func (p Patch) Path() []any {
	var out []any
	for _, s := range p.steps() {
		if s.named {
			out = append(out, s.key)
		} else {
			out = append(out, s.index)
		}
	}
	return out
}

func (p Patch) steps() []prop {
	var out []prop
	if p.Action != "mark" {
		out = append(out, p.prop)
	}
	for at := p.at; at != nil; at = at.up {
		out = append(out, at.prop)
	}
	slices.Reverse(out)
	return out
}

// MarshalJSON writes the patch as the JavaScript library shows it.
func (p Patch) MarshalJSON() ([]byte, error) { return p.AppendJSON(nil), nil }

// PatchesJSON writes patches as an array of at most limit bytes, or fails with
// ErrTooLong. A path is written out for each patch and may hold long keys, so a
// small change can have patches far longer than itself.
func PatchesJSON(ps []Patch, limit int) ([]byte, error) {
	b := []byte{'['}
	for i, p := range ps {
		if i > 0 {
			b = append(b, ',')
		}
		if len(b)+p.pathBytes() > limit {
			return nil, fmt.Errorf("%w: over %d bytes", ErrTooLong, limit)
		}
		b = p.AppendJSON(b)
		if len(b) >= limit {
			return nil, fmt.Errorf("%w: over %d bytes", ErrTooLong, limit)
		}
	}
	return append(b, ']'), nil
}

func (p Patch) pathBytes() int {
	n := 0
	for at := p.at; at != nil; at = at.up {
		n += len(at.key) + 2
	}
	return n
}

// AppendJSON appends what MarshalJSON returns.
func (p Patch) AppendJSON(b []byte) []byte {
	b = append(b, `{"action":"`...)
	b = append(b, p.Action...)
	b = append(b, `","path":[`...)
	for i, s := range p.steps() {
		if i > 0 {
			b = append(b, ',')
		}
		if s.named {
			b = appendString(b, s.key)
		} else {
			b = strconv.AppendInt(b, int64(s.index), 10)
		}
	}
	b = append(b, ']')
	switch p.Action {
	case "put":
		b = append(b, `,"value":`...)
		b = appendValue(b, p.values[0])
		if p.conflict {
			b = append(b, `,"conflict":true`...)
		}
	case "insert":
		b = p.appendInsert(b)
	case "splice":
		b = append(b, `,"value":`...)
		b = appendString(b, string(p.text))
		b = p.marked.appendJSON(b)
	case "del":
		if p.length > 1 {
			b = append(b, `,"length":`...)
			b = strconv.AppendInt(b, int64(p.length), 10)
		}
	case "inc":
		b = append(b, `,"value":`...)
		b = strconv.AppendInt(b, p.inc, 10)
	case "mark":
		b = p.appendMarks(b)
	}
	return append(b, '}')
}

func (p Patch) appendInsert(b []byte) []byte {
	b = append(b, `,"values":[`...)
	for i, v := range p.values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendValue(b, v)
	}
	b = append(b, ']')
	if !slices.Contains(p.conflicts, true) {
		return b
	}
	b = append(b, `,"conflicts":[`...)
	for i, c := range p.conflicts {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendBool(b, c)
	}
	return append(b, ']')
}

func (p Patch) appendMarks(b []byte) []byte {
	b = append(b, `,"marks":[`...)
	for i, m := range p.marks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = appendString(b, m.name)
		b = append(b, `,"value":`...)
		b = appendValue(b, m.val)
		b = append(b, `,"start":`...)
		b = strconv.AppendInt(b, int64(m.start), 10)
		b = append(b, `,"end":`...)
		b = strconv.AppendInt(b, int64(m.end), 10)
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendValue(b []byte, v value) []byte {
	if t, ok := v.object(); ok {
		return append(b, [...]string{typeMap: "{}", typeList: "[]", typeText: `""`, typeTable: "{}"}[t]...)
	}
	switch v.kind {
	case kindNull:
		return append(b, "null"...)
	case kindFalse:
		return append(b, "false"...)
	case kindTrue:
		return append(b, "true"...)
	case kindUint:
		return strconv.AppendUint(b, v.num, 10)
	case kindInt, kindCounter:
		return strconv.AppendInt(b, int64(v.num), 10)
	case kindFloat:
		return appendFloat(b, v.float())
	case kindString:
		return appendString(b, v.str)
	case kindTimestamp:
		b = append(b, `{"timestamp":`...)
		b = strconv.AppendInt(b, int64(v.num), 10)
		return append(b, '}')
	default:
		b = append(b, `{"bytes":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(v.str))
		return append(b, `"}`...)
	}
}

// appendFloat writes numbers as JavaScript does.
func appendFloat(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, `{"float":"NaN"}`...)
	case math.IsInf(f, 1):
		return append(b, `{"float":"Infinity"}`...)
	case math.IsInf(f, -1):
		return append(b, `{"float":"-Infinity"}`...)
	case f == 0:
		return append(b, '0') // minus zero as well
	}
	format := byte('f')
	if a := math.Abs(f); a < 1e-6 || a >= 1e21 {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, 64)
	// Go writes an exponent in two digits at least.
	if n := len(b); format == 'e' && n >= 4 && b[n-4] == 'e' && b[n-2] == '0' {
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}

// appendString writes s as JavaScript does: nothing escaped that need not be.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ':
			b = utf8.AppendRune(b, r)
		default:
			if i := "\b\t\n\f\r"; slices.Contains([]byte(i), byte(r)) {
				b = append(b, '\\', "btn fr"[r-'\b'])
			} else {
				b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
			}
		}
	}
	return append(b, '"')
}
