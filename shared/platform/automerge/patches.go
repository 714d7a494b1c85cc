package automerge

import (
	"cmp"
	"slices"
)

// patches says what the change did, after it was applied.
//
// The order is that of the JavaScript library: objects by id, keys by name,
// sequences from left to right. As elements are told left to right, an index
// counts what is in view afterwards, and is right at its turn in a replay too.
func (in *integration) patches() []Patch {
	b := &builder{in: in, paths: map[*object]*path{}, hidden: map[*object]bool{}}
	b.exposed = exposed{g: &in.graph, there: map[opID]bool{}}
	groups := map[*object][]*touch{}
	var objects []*object
	for _, x := range in.trace.touches {
		if groups[x.obj] == nil {
			objects = append(objects, x.obj)
		}
		groups[x.obj] = append(groups[x.obj], x)
	}
	slices.SortFunc(objects, func(a, b *object) int { return in.compare(a.id, b.id) })
	var events []event
	for _, o := range objects {
		if o.typ.sequence() {
			events = in.sequenceEvents(events, b, o, groups[o])
		} else {
			events = in.mapEvents(events, b, o, groups[o])
		}
	}
	b.run(events)
	for i := range b.patches {
		b.patches[i].obj = nil // or a kept patch would keep the document
	}
	return b.patches
}

func (in *integration) mapEvents(events []event, b *builder, o *object, xs []*touch) []event {
	slices.SortFunc(xs, func(a, b *touch) int { return cmp.Compare(a.key, b.key) })
	for _, x := range xs {
		s := o.keys[x.key]
		if s == nil {
			s = &slot{}
		}
		s.compact()
		e := event{obj: o, prop: prop{key: x.key, named: true}}
		was, now := x.before(in, s), x.after(in, s)
		switch {
		case now == nil && was == nil:
			continue
		case now == nil:
			if !e.undo(b, was) {
				continue
			}
		case was == nil:
			e.put(now, now.conflict)
		case now.id == was.id:
			if !e.count(was, now) {
				continue
			}
		case was.gone || in.less(was.id, now.id):
			e.put(now, now.conflict && !was.conflict || !was.gone)
		case was.conflict:
			continue
		default:
			e.kind = evConflict
		}
		events = append(events, e)
	}
	return events
}

func (e *event) put(v *version, conflict bool) {
	e.kind, e.val, e.id, e.conflict = evPut, v.val, v.id, conflict
}

// undo fills in what it means that values are gone and none has come.
func (e *event) undo(b *builder, was *version) bool {
	switch {
	case was.exposed:
		e.put(was, was.conflict)
		if _, ok := was.val.object(); ok {
			b.expose(was.id)
		}
	case was.gone:
		e.kind, e.length = evDelete, 1
	default:
		return false
	}
	return true
}

// count fills in an increment. If the counter was not in view before, whoever
// follows the patches has no number yet to add to and gets it whole; the
// JavaScript library reports an increment here, and so a wrong sum.
func (e *event) count(was, now *version) bool {
	switch {
	case was.above:
		e.put(was, was.conflict)
	case now.inc != 0:
		e.kind, e.inc = evInc, now.inc
	case was.exposed:
		e.put(was, was.conflict)
	default:
		return false
	}
	return true
}

// spot is a touched element and where it is.
type spot struct {
	*touch
	b  *block
	at int
}

func (in *integration) sequenceEvents(events []event, b *builder, o *object, xs []*touch) []event {
	spots := make([]spot, 0, len(xs))
	for _, x := range xs {
		if blk, at, ok := o.seq.find(x.elem); ok {
			spots = append(spots, spot{x, blk, at})
		}
	}
	slices.SortFunc(spots, func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.b.number, b.b.number), cmp.Compare(a.at, b.at))
	})
	var walk indexWalk
	for _, x := range spots {
		e := event{obj: o, prop: prop{index: walk.index(o.seq, x.b, x.at)}}
		s := x.b.values(x.at)
		if x.made {
			if w := s.winner(); w != nil {
				events = append(events, e.insert(w.value(), w.id, s.live() > 1))
			}
			continue
		}
		s.compact()
		was, now := x.before(in, s), x.after(in, s)
		if o.typ == typeText {
			events = in.textEvents(events, e, was, now)
			continue
		}
		if in.listEvent(&e, b, was, now) {
			events = append(events, e)
		}
	}
	return events
}

func (e event) insert(v value, id opID, conflict bool) event {
	e.kind, e.val, e.id, e.conflict = evInsert, v, id, conflict
	if _, isObject := v.object(); e.obj.typ == typeText && !isObject {
		e.kind = evSplice
	}
	return e
}

func (in *integration) listEvent(e *event, b *builder, was, now *version) bool {
	switch {
	case now == nil && was == nil:
		return false
	case now == nil:
		return e.undo(b, was)
	case was == nil:
		*e = e.insert(now.val, now.id, now.conflict)
	case now.id == was.id:
		return e.count(was, now)
	case !was.gone && in.less(now.id, was.id):
		e.kind = evConflict
	default:
		e.put(now, !was.gone || now.conflict)
	}
	return true
}

// textEvents is about elements of a text that were there before. Values in a text
// differ in width, so a new one is told as a removal and an insertion.
func (in *integration) textEvents(events []event, e event, was, now *version) []event {
	remove := func(v value) {
		d := e
		d.kind, d.length = evDelete, utf16Width(v.text())
		if d.length > 0 {
			events = append(events, d)
		}
	}
	switch {
	case now == nil && was == nil:
	case was == nil:
		events = append(events, e.insert(now.val, now.id, now.conflict))
	case now == nil && was.above:
		remove(was.replaced)
		events = append(events, e.insert(was.val, was.id, was.conflict))
	case now == nil && was.gone:
		remove(was.val)
	case now == nil || now.id == was.id:
	case was.gone || in.less(was.id, now.id):
		remove(was.val)
		events = append(events, e.insert(now.val, now.id, !was.gone || now.conflict))
	case !was.conflict:
		e.kind = evConflict
		events = append(events, e)
	}
	return events
}

// indexWalk finds the indices of elements asked for from left to right, going on
// from the last one where that is in the same block.
type indexWalk struct {
	b       *block
	at, sum int
}

func (w *indexWalk) index(s *sequence, b *block, at int) int {
	if w.b != b || w.at > at {
		w.b, w.at, w.sum = b, 0, s.index(b, 0)
	}
	for ; w.at < at; w.at++ {
		w.sum += s.width(b.els[w.at])
	}
	return w.sum
}
