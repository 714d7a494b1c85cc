package automerge

// commit applies what prepare has checked; it cannot fail.
func (in *integration) commit() {
	in.add(in.c, in.deps, in.author, in.maxOp)
	for i := range in.c.ops {
		in.apply(i)
	}
}

func (in *integration) object(id opID) *object {
	if id.zero() {
		return in.root
	}
	return in.objects[id]
}

func (in *integration) apply(i int) {
	o := &in.c.ops[i]
	id := in.opID(i)
	obj := in.object(in.id(o.obj))
	v := o.val
	if t, ok := o.action.makes(); ok {
		v = objectValue(t)
		child := newObject(id, t)
		child.parent, child.key, child.elem = obj, o.key, in.id(o.elem)
		if o.insert {
			child.elem = id
		}
		if in.objects == nil {
			in.objects = map[opID]*object{}
		}
		in.objects[id] = child
	}
	switch {
	case o.insert:
		e := element{char: -1}
		if o.action != actMark {
			e = newElement(id, v)
		} else if obj.typ == typeText {
			if obj.seq.marks == nil {
				obj.seq.marks = map[opID]markEdge{}
			}
			obj.seq.marks[id] = markEdge{begins: o.begins, name: o.mark, val: o.val}
		}
		obj.seq.insert(&in.graph, in.id(o.elem), id, e)
		in.trace.inserted(obj, i)
	case o.action == actMark:
		// A mark is a pair of elements; without one it says nothing.
	case o.named:
		s := obj.keys[o.key]
		if s == nil {
			s = &slot{}
			obj.keys[o.key] = s
		}
		in.set(s, o, newEntry(id, v), in.trace.key(obj, i))
		if len(s.ops) == 0 {
			delete(obj.keys, o.key)
		}
	default:
		elem := in.id(o.elem)
		b, at, _ := obj.seq.find(elem)
		before := obj.seq.width(b.els[at])
		in.set(b.open(at), o, newEntry(id, v), in.trace.element(obj, elem, i))
		if s := b.els[at].slot; len(s.ops) == 0 {
			b.els[at] = element{char: -1}
		}
		obj.seq.grow(b, obj.seq.width(b.els[at])-before)
	}
}

// set applies an operation to the values it is about.
func (in *integration) set(s *slot, o *op, e entry, t *touch) {
	for _, p := range in.c.predsOf(o) {
		// A predecessor that another change has overwritten meanwhile is gone.
		old := s.find(&in.graph, in.id(p))
		if old == nil {
			continue
		}
		if o.action == actIncrement && old.kind == kindCounter {
			old.num += o.val.num
			continue
		}
		t.removed(in, *old)
		s.remove(old)
	}
	if o.action != actDelete && o.action != actIncrement {
		s.insert(&in.graph, e)
	}
}
