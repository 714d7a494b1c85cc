package automerge

// object is a map, list or text of a document.
type object struct {
	id     opID
	typ    objectType
	parent *object
	key    string // place in the parent, if that is a map
	elem   opID   // or in a sequence
	keys   map[string]*slot
	seq    *sequence
}

func newObject(id opID, typ objectType) *object {
	o := &object{id: id, typ: typ}
	if typ.sequence() {
		o.seq = newSequence(typ == typeText)
	} else {
		o.keys = map[string]*slot{}
	}
	return o
}

// shown reports whether the object is what its parent shows in its place, and
// that place's index if it is in a sequence.
func (o *object) shown() (index int, ok bool) {
	if !o.parent.typ.sequence() {
		s := o.parent.keys[o.key]
		return 0, s != nil && s.winner() != nil && s.winner().id == o.id
	}
	b, i, ok := o.parent.seq.find(o.elem)
	if !ok || b.els[i].slot == nil {
		return 0, false
	}
	w := b.els[i].slot.winner()
	if w == nil || w.id != o.id {
		return 0, false
	}
	return o.parent.seq.index(b, i), true
}
