package automerge

import (
	"cmp"
	"slices"
)

// spot is an element to stop at when going through a sequence, and where it is.
type spot struct {
	*touch // nil for an edge of a mark from before the change
	id     opID
	b      *block
	at     int
}

// spots puts touched elements and edges of marks in the order of the sequence.
func (s *sequence) spots(in *integration, xs []*touch, edges map[opID]markEdge) []spot {
	out := make([]spot, 0, len(xs)+len(edges))
	for _, x := range xs {
		if b, at, ok := s.find(x.elem); ok {
			out = append(out, spot{x, x.elem, b, at})
		}
	}
	for id := range edges {
		if _, own := in.own(id); own {
			continue // touched, by being inserted
		}
		if b, at, ok := s.find(id); ok {
			out = append(out, spot{nil, id, b, at})
		}
	}
	slices.SortFunc(out, func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.b.number, b.b.number), cmp.Compare(a.at, b.at))
	})
	return out
}

func (in *integration) listEvents(events []event, b *builder, o *object, xs []*touch) []event {
	var walk indexWalk
	for _, x := range o.seq.spots(in, xs, nil) {
		e := event{obj: o, prop: prop{index: walk.index(o.seq, x.b, x.at)}}
		s := x.b.values(x.at)
		if x.made {
			if w := s.winner(); w != nil {
				events = append(events, e.insert(w.value(), w.id, s.live() > 1))
			}
			continue
		}
		s.compact()
		if in.listEvent(&e, b, x.before(in, s), x.after(in, s)) {
			events = append(events, e)
		}
	}
	return events
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

// insert fills in a value that comes into a sequence.
func (e event) insert(v value, id opID, conflict bool) event {
	e.kind, e.val, e.id, e.conflict = evInsert, v, id, conflict
	if _, isObject := v.object(); e.obj.typ == typeText && !isObject {
		e.kind = evSplice
	}
	return e
}

func (in *integration) textEvents(events []event, o *object, xs []*touch) []event {
	s := o.seq
	var marks *markWalk
	edges := s.marks
	if len(edges) > maxTracedMarks {
		edges = nil
	}
	if len(edges) > 0 {
		marks = newMarkWalk(in, s)
	}
	var walk indexWalk
	told := 0 // up to here, text was told of, or need not be
	for _, x := range s.spots(in, xs, edges) {
		at := walk.index(s, x.b, x.at)
		e := event{obj: o, prop: prop{index: at}}
		if marks != nil {
			events = marks.between(events, o, told, at)
			if edge, ok := edges[x.id]; ok {
				marks.pass(x.id, edge)
				told = at
				continue
			}
			e.marked = marks.after()
		}
		told = at
		n := len(events)
		vals := x.b.values(x.at)
		if x.made {
			if w := vals.winner(); w != nil {
				events = append(events, e.insert(w.value(), w.id, vals.live() > 1))
			}
		} else {
			vals.compact()
			events = in.textEvent(events, e, x.before(in, vals), x.after(in, vals))
		}
		if len(events) > n {
			told = at + s.width(x.b.els[x.at])
		}
	}
	if marks != nil {
		events = marks.between(events, o, told, s.total())
	}
	return events
}

// between tells how a stretch of text is marked otherwise than before.
func (w *markWalk) between(events []event, o *object, start, end int) []event {
	if start >= end || len(w.differ) == 0 {
		return events
	}
	n := len(events)
	if n == 0 || events[n-1].kind != evMark || events[n-1].obj != o {
		events = append(events, event{obj: o, kind: evMark, runs: markRuns{}})
		n++
	}
	events[n-1].runs.add(start, end, w.changes())
	return events
}

// textEvent is about an element of a text that was there before. Values in a text
// differ in width, so a new one is told as a removal and an insertion.
func (in *integration) textEvent(events []event, e event, was, now *version) []event {
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
