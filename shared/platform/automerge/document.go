package automerge

import (
	"fmt"
	"math"
)

// Doc is one document: its history and what it holds now. The zero value is not
// ready; see NewDoc. A Doc belongs to one goroutine.
type Doc struct {
	graph
	objects map[opID]*object
	root    *object
}

// NewDoc returns an empty document.
func NewDoc() *Doc {
	return &Doc{graph: newGraph(), root: newObject(opID{}, typeMap)}
}

// Len returns the number of changes.
func (d *Doc) Len() int { return len(d.nodes) }

// Has reports whether the document has a change.
func (d *Doc) Has(h Hash) bool {
	_, ok := d.byHash[h]
	return ok
}

// Heads returns, in order, the changes that no other builds on.
func (d *Doc) Heads() []Hash {
	out := make([]Hash, 0, len(d.heads))
	for n := range d.heads {
		out = append(out, d.nodes[n].hash)
	}
	return sortHashes(out)
}

// Change returns a change the document has. It is decoded anew, as the document
// keeps the bytes only.
func (d *Doc) Change(h Hash) (*Change, bool) {
	raw, ok := d.Raw(h)
	if !ok {
		return nil, false
	}
	// It has passed the limits it was read with, which may have been others.
	const any = math.MaxInt32
	c, err := DecodeChange(raw, Limits{
		MaxChangeBytes: any, MaxInflatedBytes: any, MaxOps: any, MaxPreds: any,
		MaxActors: any, MaxActorBytes: any, MaxDeps: any,
	})
	return c, err == nil
}

// Raw returns the uncompressed chunk of a change, which must not be written to.
func (d *Doc) Raw(h Hash) ([]byte, bool) {
	n, ok := d.byHash[h]
	if !ok {
		return nil, false
	}
	return d.nodes[n].raw, true
}

// Apply adds a change and returns what it did, in the order the JavaScript
// library reports it. On an error the document is as it was.
func (d *Doc) Apply(c *Change) ([]Patch, error) {
	in, err := d.prepare(c)
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", c.Hash, err)
	}
	in.trace = newTrace(in)
	in.commit()
	return in.patches(), nil
}

// Replay adds a change as Apply does, without working out patches.
func (d *Doc) Replay(c *Change) error {
	in, err := d.prepare(c)
	if err != nil {
		return fmt.Errorf("replay %s: %w", c.Hash, err)
	}
	in.commit()
	return nil
}

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
