package automerge

import (
	"cmp"
	"maps"
	"slices"
)

const (
	// maxTracedMarks is the number of begins and ends of marks in one text beyond
	// which its patches leave marks out: following them means going through all.
	maxTracedMarks = 10_000
	// maxMarkWork bounds the marks gathered for the patches of one change. Many
	// marks at once, changing often, would else be told quadratically.
	maxMarkWork = 1 << 20
)

// markEdge is where a mark begins or ends. Edges are elements of a text without
// width; the end of a mark has the id after its beginning.
type markEdge struct {
	begins bool
	name   string
	val    value
}

// markSet is the marks on a stretch of text, by name.
type markSet []mark

func (m markSet) equal(o markSet) bool {
	return slices.EqualFunc(m, o, func(a, b mark) bool { return a.name == b.name && a.val == b.val })
}

func (m markSet) withoutNull() markSet {
	return slices.DeleteFunc(slices.Clone(m), func(x mark) bool { return x.val.kind == kindNull })
}

func (m markSet) appendJSON(b []byte) []byte {
	if len(m) == 0 {
		return b
	}
	b = append(b, `,"marks":{`...)
	for i, x := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, x.name)
		b = append(b, ':')
		b = appendValue(b, x.val)
	}
	return append(b, '}')
}

// markRuns are stretches of text and their marks, by name.
type markRuns map[string][]mark

func (r markRuns) add(start, end int, set markSet) {
	for _, m := range set {
		own := r[m.name]
		if n := len(own); n > 0 && own[n-1].end == start && own[n-1].val == m.val {
			own[n-1].end = end
			continue
		}
		r[m.name] = append(own, mark{name: m.name, val: m.val, start: start, end: end})
	}
}

func (r markRuns) list() []mark {
	var out []mark
	for _, name := range slices.Sorted(maps.Keys(r)) {
		out = append(out, r[name]...)
	}
	return out
}

// activeMark is one of the marks of a name that cover a place. The highest id wins.
type activeMark struct {
	id  opID
	val value
	old bool // from before the change
}

// markWalk follows marks through a text from left to right, as they were before
// a change and as they are after it.
type markWalk struct {
	in     *integration
	seq    *sequence
	active map[string][]activeMark
	// differ has the names for which before and after are not the same.
	differ map[string]value
	work   int

	now   markSet // after, gathered when asked for
	valid bool
}

func newMarkWalk(in *integration, s *sequence) *markWalk {
	return &markWalk{in: in, seq: s, active: map[string][]activeMark{}, differ: map[string]value{}, work: maxMarkWork}
}

// pass goes over an edge.
func (w *markWalk) pass(id opID, e markEdge) {
	_, own := w.in.own(id)
	name := e.name
	search := func(id opID) (int, bool) {
		return slices.BinarySearchFunc(w.active[name], id, func(a activeMark, id opID) int { return w.in.compare(a.id, id) })
	}
	if e.begins {
		i, _ := search(id)
		w.active[name] = slices.Insert(w.active[name], i, activeMark{id: id, val: e.val, old: !own})
	} else {
		begin := opID{ctr: id.ctr - 1, actor: id.actor}
		b, ok := w.seq.marks[begin]
		if !ok {
			return
		}
		name = b.name
		i, ok := search(begin)
		if !ok {
			return // it ends before it begins
		}
		w.active[name] = slices.Delete(w.active[name], i, i+1)
	}
	w.valid = false
	w.compare(name)
}

// compare notes whether a name is marked otherwise than before. To take a mark
// away is to mark with null.
func (w *markWalk) compare(name string) {
	null := value{}
	before, after := null, null
	all := w.active[name]
	if len(all) == 0 {
		delete(w.active, name)
	} else {
		after = all[len(all)-1].val
	}
	for _, m := range slices.Backward(all) {
		if m.old {
			before = m.val
			break
		}
	}
	if before == after {
		delete(w.differ, name)
	} else {
		w.differ[name] = after
	}
}

// changes returns what is marked otherwise than before.
func (w *markWalk) changes() markSet {
	var out markSet
	if w.work -= len(w.differ); w.work < 0 {
		return nil
	}
	for name, v := range w.differ {
		out = append(out, mark{name: name, val: v})
	}
	return out
}

// after returns what is marked now, ordered by name.
func (w *markWalk) after() markSet {
	if w.valid {
		return w.now
	}
	w.now, w.valid = nil, true
	if w.work -= len(w.active); w.work < 0 {
		return nil
	}
	for name, all := range w.active {
		w.now = append(w.now, mark{name: name, val: all[len(all)-1].val})
	}
	slices.SortFunc(w.now, func(a, b mark) int { return cmp.Compare(a.name, b.name) })
	return w.now
}
