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
		switch {
		case o.typ == typeText:
			events = in.textEvents(events, o, groups[o])
		case o.typ == typeList:
			events = in.listEvents(events, b, o, groups[o])
		default:
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
