package automerge

import "encoding/hex"

// OpID names an operation across documents. The zero OpID is the root object, or
// the head of a sequence.
type OpID struct {
	Counter uint32
	Actor   string // lower-case hex
}

// Place is what an author has to know of a key or element in order to write to it.
type Place struct {
	Object   OpID
	Sequence bool
	Text     bool
	Element  OpID   // in a sequence
	Values   []OpID // in view or shadowed, the one in view last
	Width    int    // in a text, in UTF-16 units
}

// Locate finds the place at the end of a path of keys (string) and indices
// (int). The last step may be a key that has no value yet. It is there for
// writers, of which this module has none but automergetest.
func (d *Doc) Locate(path ...any) (Place, bool) {
	o := d.root
	for i, step := range path {
		last := i == len(path)-1
		p := Place{Object: d.export(o.id), Sequence: o.typ.sequence(), Text: o.typ == typeText}
		s := &slot{}
		switch step := step.(type) {
		case string:
			if p.Sequence {
				return Place{}, false
			}
			if o.keys[step] != nil {
				s = o.keys[step]
			}
		case int:
			if !p.Sequence {
				return Place{}, false
			}
			b, at, ok := o.seq.at(step)
			if !ok {
				return Place{}, false
			}
			s = b.values(at)
			p.Element, p.Width = d.export(b.ids[at]), o.seq.width(b.els[at])
		}
		if last {
			for _, e := range s.ops {
				if !e.dead {
					p.Values = append(p.Values, d.export(e.id))
				}
			}
			return p, true
		}
		if w := s.winner(); w == nil || d.objects[w.id] == nil {
			return Place{}, false
		} else {
			o = d.objects[w.id]
		}
	}
	return Place{}, false
}

func (d *Doc) export(id opID) OpID {
	if id.zero() {
		return OpID{}
	}
	return OpID{Counter: id.ctr, Actor: hex.EncodeToString([]byte(d.actors[id.actor].name))}
}

// Next returns the number of the next change of an actor (in hex) and the counter
// of its first operation.
func (d *Doc) Next(actor string) (seq, startOp uint64) {
	seq, startOp = 1, 1
	for n := range d.heads {
		startOp = max(startOp, uint64(d.nodes[n].maxOp)+1)
	}
	if name, err := hex.DecodeString(actor); err == nil {
		if i, ok := d.byName[string(name)]; ok {
			seq += uint64(len(d.actors[i].nodes))
		}
	}
	return seq, startOp
}
