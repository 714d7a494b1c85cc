package automergetest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
)

// encode writes the change as a chunk.
func (w *writer) encode(time int64, message string) []byte {
	actors := w.actors()
	body := binary.AppendUvarint(nil, uint64(len(w.doc.Heads())))
	for _, h := range w.doc.Heads() {
		body = append(body, h[:]...)
	}
	body = appendActor(body, w.actor)
	body = binary.AppendUvarint(body, w.seq)
	body = binary.AppendUvarint(body, w.start)
	body = appendSigned(body, time)
	body = binary.AppendUvarint(body, uint64(len(message)))
	body = append(body, message...)
	body = binary.AppendUvarint(body, uint64(len(actors)-1))
	for _, a := range actors[1:] {
		body = appendActor(body, a)
	}
	specs, cols := w.columns(actors)
	body = binary.AppendUvarint(body, uint64(len(specs)))
	for i, s := range specs {
		body = binary.AppendUvarint(body, s)
		body = binary.AppendUvarint(body, uint64(len(cols[i])))
	}
	for _, c := range cols {
		body = append(body, c...)
	}
	return Chunk(1, body)
}

// Chunk wraps the body of a chunk, with a checksum that fits.
func Chunk(typ byte, body []byte) []byte {
	hashed := binary.AppendUvarint([]byte{typ}, uint64(len(body)))
	hashed = append(hashed, body...)
	sum := sha256.Sum256(hashed)
	return slices.Concat([]byte{0x85, 0x6f, 0x4a, 0x83}, sum[:4], hashed)
}

func appendActor(b []byte, actor string) []byte {
	raw, err := hex.DecodeString(actor)
	if err != nil {
		panic(err)
	}
	b = binary.AppendUvarint(b, uint64(len(raw)))
	return append(b, raw...)
}

// actors lists the actors that operations mention, the author first and the
// others in order.
func (w *writer) actors() []string {
	seen := map[string]bool{w.actor: true}
	var others []string
	note := func(id automerge.OpID) {
		if id.Counter != 0 && !seen[id.Actor] {
			seen[id.Actor] = true
			others = append(others, id.Actor)
		}
	}
	for _, o := range w.ops {
		note(o.obj)
		note(o.elem)
		for _, p := range o.preds {
			note(p)
		}
	}
	slices.Sort(others)
	return append([]string{w.actor}, others...)
}

func (w *writer) columns(actors []string) (specs []uint64, cols [][]byte) {
	index := map[string]uint64{}
	for i, a := range actors {
		index[a] = uint64(i)
	}
	var objActor, objCtr, keyActor, keyCtr, keyName, act, meta, predNum, predActor, predCtr column
	var insert bools
	var raw []byte
	var lastKey, lastPred int64
	for _, o := range w.ops {
		if o.obj.Counter == 0 {
			objActor.null()
			objCtr.null()
		} else {
			objActor.uint(index[o.obj.Actor])
			objCtr.uint(uint64(o.obj.Counter))
		}
		switch {
		case !o.seq:
			keyActor.null()
			keyCtr.null()
			keyName.text(o.key)
		default:
			keyName.null()
			if o.elem.Counter == 0 {
				keyActor.null()
			} else {
				keyActor.uint(index[o.elem.Actor])
			}
			keyCtr.int(int64(o.elem.Counter) - lastKey)
			lastKey = int64(o.elem.Counter)
		}
		insert.add(o.insert)
		act.uint(o.action)
		kind, b := scalar(o)
		meta.uint(uint64(len(b))<<4 | kind)
		raw = append(raw, b...)
		predNum.uint(uint64(len(o.preds)))
		for _, p := range o.preds {
			predActor.uint(index[p.Actor])
			predCtr.int(int64(p.Counter) - lastPred)
			lastPred = int64(p.Counter)
		}
	}
	for _, c := range []struct {
		spec uint64
		b    []byte
	}{
		{0x01, objActor.bytes()}, {0x02, objCtr.bytes()}, {0x11, keyActor.bytes()}, {0x13, keyCtr.bytes()},
		{0x15, keyName.bytes()}, {0x34, insert.bytes()}, {0x42, act.bytes()}, {0x56, meta.bytes()},
		{0x57, raw}, {0x70, predNum.bytes()}, {0x71, predActor.bytes()}, {0x73, predCtr.bytes()},
	} {
		if len(c.b) > 0 {
			specs, cols = append(specs, c.spec), append(cols, c.b)
		}
	}
	return specs, cols
}

// scalar returns the type and bytes of an operation's value.
func scalar(o operation) (kind uint64, b []byte) {
	switch v := o.val.(type) {
	case nil:
		return 0, nil
	case bool:
		if v {
			return 2, nil
		}
		return 1, nil
	case uint64:
		return 3, binary.AppendUvarint(nil, v)
	case int:
		return 4, appendSigned(nil, int64(v))
	case int64:
		return 4, appendSigned(nil, v)
	case float64:
		return 5, binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))
	case string:
		return 6, []byte(v)
	case []byte:
		return 7, v
	case Counter:
		return 8, appendSigned(nil, int64(v))
	case Timestamp:
		return 9, appendSigned(nil, int64(v))
	default:
		panic(fmt.Sprintf("automergetest: value of type %T", v))
	}
}

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// column run-length encodes values that are given encoded; nil is null.
type column struct{ vals [][]byte }

func (c *column) null()         { c.vals = append(c.vals, nil) }
func (c *column) uint(v uint64) { c.vals = append(c.vals, binary.AppendUvarint(nil, v)) }
func (c *column) int(v int64)   { c.vals = append(c.vals, appendSigned(nil, v)) }
func (c *column) text(s string) {
	c.vals = append(c.vals, append(binary.AppendUvarint(nil, uint64(len(s))), s...))
}

func (c *column) bytes() []byte {
	if !slices.ContainsFunc(c.vals, func(v []byte) bool { return v != nil }) {
		return nil
	}
	var b []byte
	var alone [][]byte
	flush := func() {
		if len(alone) > 0 {
			b = appendSigned(b, -int64(len(alone)))
			b = append(b, slices.Concat(alone...)...)
			alone = nil
		}
	}
	for i := 0; i < len(c.vals); {
		n := 1
		for i+n < len(c.vals) && slices.Equal(c.vals[i+n], c.vals[i]) && (c.vals[i+n] == nil) == (c.vals[i] == nil) {
			n++
		}
		switch {
		case c.vals[i] == nil:
			flush()
			b = append(b, 0)
			b = binary.AppendUvarint(b, uint64(n))
		case n == 1:
			alone = append(alone, c.vals[i])
		default:
			flush()
			b = appendSigned(b, int64(n))
			b = append(b, c.vals[i]...)
		}
		i += n
	}
	flush()
	return b
}

// bools encodes lengths of alternating runs, false first.
type bools struct {
	b     []byte
	value bool
	n     uint64
}

func (c *bools) add(v bool) {
	if v != c.value {
		c.b = binary.AppendUvarint(c.b, c.n)
		c.value, c.n = v, 0
	}
	c.n++
}

func (c *bools) bytes() []byte {
	if c.n == 0 {
		return nil
	}
	return binary.AppendUvarint(c.b, c.n)
}
