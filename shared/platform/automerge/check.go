package automerge

import (
	"fmt"
	"math"
)

// integration is the applying of one change.
type integration struct {
	*Doc
	c      *Change
	deps   []uint32
	author uint32
	maxOp  uint32
	actors []uint32 // the document's number of each actor of the change
	trace  *trace   // nil when nobody wants patches
}

// unknownActor is the number of an actor the document has nothing of. A change
// may list such actors, but not refer to their operations.
const unknownActor = math.MaxUint32

func (d *Doc) prepare(c *Change) (*integration, error) {
	if d.Has(c.Hash) {
		return nil, ErrDuplicate
	}
	in := &integration{Doc: d, c: c}
	seen := make(map[uint32]bool, len(c.Deps))
	for _, h := range c.Deps {
		n, ok := d.byHash[h]
		if !ok {
			return nil, fmt.Errorf("%w: %s", ErrMissingDeps, h)
		}
		if !seen[n] {
			seen[n] = true
			in.deps = append(in.deps, n)
			in.maxOp = max(in.maxOp, d.nodes[n].maxOp)
		}
	}
	in.actors = make([]uint32, len(c.actors))
	for i, name := range c.actors {
		n, ok := d.byName[name]
		switch {
		case ok:
			in.actors[i] = n
		case name == c.actors[0]:
			in.actors[i] = uint32(len(d.graph.actors))
		default:
			in.actors[i] = unknownActor
		}
	}
	in.author = in.actors[0]
	if err := in.checkOrder(); err != nil {
		return nil, err
	}
	for i := range c.ops {
		if err := in.check(i); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
	}
	if n := len(c.ops); n > 0 {
		in.maxOp = max(in.maxOp, uint32(c.StartOp)+uint32(n)-1)
	}
	return in, nil
}

// checkOrder sees to it that ids of operations are unique and above the ids of
// all that the change builds on; the order of elements rests on that.
func (in *integration) checkOrder() error {
	var have, own uint32
	if int(in.author) < len(in.graph.actors) {
		r := &in.graph.actors[in.author]
		have, own = uint32(len(r.nodes)), r.maxOp
	}
	if in.c.Seq != uint64(have)+1 {
		return fmt.Errorf("%w: change %d of actor %s after %d", ErrSequence, in.c.Seq, in.c.Actor, have)
	}
	if len(in.c.ops) == 0 {
		return nil
	}
	if in.c.StartOp <= uint64(max(in.maxOp, own)) {
		return fmt.Errorf("%w: operations from %d after %d", ErrSequence, in.c.StartOp, max(in.maxOp, own))
	}
	return nil
}

// id turns an id of the change into one of the document.
func (in *integration) id(id opID) opID {
	if id.zero() {
		return opID{}
	}
	return opID{ctr: id.ctr, actor: in.actors[id.actor]}
}

// own returns the number within the change of an operation of the document.
func (in *integration) own(id opID) (int, bool) {
	if id.actor != in.author || uint64(id.ctr) < in.c.StartOp {
		return 0, false
	}
	i := int(uint64(id.ctr) - in.c.StartOp)
	return i, i < len(in.c.ops)
}

func (in *integration) opID(i int) opID {
	return opID{ctr: uint32(in.c.StartOp) + uint32(i), actor: in.author}
}

// check makes sure that operation i can be applied after those before it.
func (in *integration) check(i int) error {
	o := &in.c.ops[i]
	obj := in.id(o.obj)
	typ, err := in.typeOf(obj, i)
	if err != nil {
		return err
	}
	if typ.sequence() {
		if err := in.checkElement(o, obj, i); err != nil {
			return err
		}
	} else if !o.named || o.insert || o.action == actMark {
		return fmt.Errorf("%w: not for a map", ErrBadOp)
	}
	if o.insert && (o.action == actDelete || o.action == actIncrement) {
		return fmt.Errorf("%w: insert of nothing", ErrBadOp)
	}
	if o.insert && o.numPreds > 0 {
		return fmt.Errorf("%w: insert with predecessors", ErrBadOp)
	}
	for _, p := range in.c.predsOf(o) {
		p = in.id(p)
		if p.zero() {
			return fmt.Errorf("%w: predecessor with counter 0", ErrBadOp)
		}
		if j, ok := in.own(p); ok && j < i {
			continue
		}
		if uint64(p.ctr) >= in.c.StartOp+uint64(i) || !in.hasOp(p) {
			return fmt.Errorf("%w: predecessor %d not there", ErrBadOp, p.ctr)
		}
	}
	return nil
}

func (in *integration) typeOf(obj opID, i int) (objectType, error) {
	if obj.zero() {
		return typeMap, nil
	}
	if j, ok := in.own(obj); ok && j < i {
		if t, ok := in.c.ops[j].action.makes(); ok {
			return t, nil
		}
	} else if o := in.objects[obj]; o != nil {
		return o.typ, nil
	}
	return 0, fmt.Errorf("%w: object %d not there", ErrBadOp, obj.ctr)
}

func (in *integration) checkElement(o *op, obj opID, i int) error {
	if o.named {
		return fmt.Errorf("%w: key %q in a sequence", ErrBadOp, o.key)
	}
	elem := in.id(o.elem)
	if elem.zero() {
		if !o.insert {
			return fmt.Errorf("%w: no element at the head", ErrBadOp)
		}
		return nil
	}
	if j, ok := in.own(elem); ok && j < i {
		if e := &in.c.ops[j]; e.insert && in.id(e.obj) == obj {
			return nil
		}
	} else if have := in.objects[obj]; have != nil {
		if _, _, ok := have.seq.find(elem); ok {
			return nil
		}
	}
	return fmt.Errorf("%w: element %d not there", ErrBadOp, elem.ctr)
}
