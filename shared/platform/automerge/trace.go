package automerge

// trace remembers, while a change is applied, which places it touched and what
// it removed there. Together with the state afterwards that is all patches need,
// so nothing is copied beforehand.
type trace struct {
	in      *integration
	touches []*touch
	byKey   map[place]*touch
	byOp    map[int]*touch // of elements that the change itself inserts
}

// place is a key of a map or an element of a sequence.
type place struct {
	obj  *object
	key  string
	elem opID
}

type touch struct {
	place
	made bool    // the element was inserted by this change
	gone []entry // values from before the change that it removed
	ops  []int   // operations of the change at this place
}

func newTrace(in *integration) *trace {
	return &trace{in: in, byKey: map[place]*touch{}, byOp: map[int]*touch{}}
}

func (t *trace) add(p place) *touch {
	x := &touch{place: p}
	t.touches = append(t.touches, x)
	return x
}

func (t *trace) inserted(obj *object, i int) {
	if t == nil {
		return
	}
	x := t.add(place{obj: obj, elem: t.in.opID(i)})
	x.made = true
	t.byOp[i] = x
}

func (t *trace) key(obj *object, i int) *touch {
	if t == nil {
		return nil
	}
	return t.at(place{obj: obj, key: t.in.c.ops[i].key}, i)
}

func (t *trace) element(obj *object, elem opID, i int) *touch {
	if t == nil {
		return nil
	}
	if j, ok := t.in.own(elem); ok {
		return t.byOp[j]
	}
	return t.at(place{obj: obj, elem: elem}, i)
}

func (t *trace) at(p place, i int) *touch {
	x := t.byKey[p]
	if x == nil {
		x = t.add(p)
		t.byKey[p] = x
	}
	x.ops = append(x.ops, i)
	return x
}

func (x *touch) removed(in *integration, e entry) {
	if x == nil {
		return
	}
	if _, own := in.own(e.id); !own {
		x.gone = append(x.gone, e)
	}
}

// version is a value that a place had before the change (some of which may be
// gone), or was given by it.
type version struct {
	id       opID
	val      value
	gone     bool // removed by the change
	conflict bool // shadows another
	exposed  bool // shown because others are gone
	above    bool // and one of those was the value shown before
	replaced value
	inc      int64 // what the change added to a counter from before
}

// before sums up the values a place had: what is left shown of them, or what was
// shown last if nothing is left.
func (x *touch) before(in *integration, s *slot) *version {
	var top *entry
	conflict := false
	for i := len(s.ops) - 1; i >= 0 && !conflict; i-- {
		if _, own := in.own(s.ops[i].id); own {
			continue
		}
		if top == nil {
			top = &s.ops[i]
		} else {
			conflict = true
		}
	}
	last := in.highest(x.gone)
	switch {
	case top == nil && last == nil:
		return nil
	case top == nil:
		return &version{id: last.id, val: last.value(), gone: true}
	}
	v := &version{id: top.id, val: top.value(), conflict: conflict}
	if last == nil {
		return v
	}
	if in.less(top.id, last.id) {
		v.exposed, v.above, v.replaced = true, true, last.value()
	} else if !conflict {
		v.exposed = true
	}
	return v
}

func (in *integration) highest(es []entry) *entry {
	var top *entry
	for i := range es {
		if top == nil || in.less(top.id, es[i].id) {
			top = &es[i]
		}
	}
	return top
}

// after follows the operations of the change at a place to the value they leave
// there, if any.
func (x *touch) after(in *integration, s *slot) *version {
	var now *version
	for _, i := range x.ops {
		o := &in.c.ops[i]
		switch o.action {
		case actDelete, actMark:
		case actIncrement:
			if now == nil {
				now = x.counter(in, s, o, in.opID(i))
			}
			if now != nil && now.val.kind == kindCounter && in.precedes(now.id, o) {
				now.inc += int64(o.val.num)
			}
		default:
			if e := s.find(&in.graph, in.opID(i)); e != nil {
				now = &version{id: e.id, val: e.value(), conflict: now != nil}
			}
		}
	}
	return now
}

// counter returns the value from before that an increment adds to, if that is
// the one the increment's author saw on top.
func (x *touch) counter(in *integration, s *slot, o *op, id opID) *version {
	i, _ := s.search(&in.graph, id)
	for i--; i >= 0; i-- {
		e := &s.ops[i]
		if _, own := in.own(e.id); own {
			continue
		}
		if in.precedes(e.id, o) {
			return &version{id: e.id, val: e.value()}
		}
		break
	}
	return nil
}

func (in *integration) precedes(id opID, o *op) bool {
	for _, p := range in.c.predsOf(o) {
		if in.id(p) == id {
			return true
		}
	}
	return false
}
