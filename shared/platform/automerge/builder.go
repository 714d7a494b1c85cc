package automerge

import (
	"container/heap"
	"slices"
)

// event is what a change did at one place, before neighbours are joined.
type event struct {
	obj      *object
	kind     eventKind
	prop     prop
	val      value
	id       opID // the operation that set val
	conflict bool
	length   int
	inc      int64
	marked   markSet
	runs     markRuns
}

type eventKind uint8

const (
	evPut eventKind = iota
	evInsert
	evSplice
	evDelete
	evInc
	evConflict
	evMark
)

// builder turns events into patches.
type builder struct {
	in      *integration
	patches []Patch
	paths   map[*object]*path
	hidden  map[*object]bool
	exposed exposed
}

// exposed is a queue of objects to be told in full, the lowest id first.
type exposed struct {
	g     *graph
	ids   []opID
	there map[opID]bool
}

func (e *exposed) Len() int           { return len(e.ids) }
func (e *exposed) Less(i, j int) bool { return e.g.less(e.ids[i], e.ids[j]) }
func (e *exposed) Swap(i, j int)      { e.ids[i], e.ids[j] = e.ids[j], e.ids[i] }
func (e *exposed) Push(x any)         { e.ids = append(e.ids, x.(opID)) }
func (e *exposed) Pop() any {
	x := e.ids[len(e.ids)-1]
	e.ids = e.ids[:len(e.ids)-1]
	return x
}

func (b *builder) expose(id opID) {
	if !b.exposed.there[id] {
		b.exposed.there[id] = true
		heap.Push(&b.exposed, id)
	}
}

// run tells events, which are ordered by object. An object that came back into
// view is told in full, in the place of what happened to it.
func (b *builder) run(events []event) {
	for _, e := range events {
		for b.exposed.Len() > 0 && b.in.less(b.exposed.ids[0], e.obj.id) {
			b.tell()
		}
		if b.exposed.Len() > 0 && b.exposed.ids[0] == e.obj.id {
			continue
		}
		b.log(e)
	}
	for b.exposed.Len() > 0 {
		b.tell()
	}
}

// tell tells the first exposed object as it is now.
func (b *builder) tell() {
	o := b.in.object(heap.Pop(&b.exposed).(opID))
	if _, ok := b.path(o); !ok {
		return
	}
	each := func(e event) {
		if _, ok := e.val.object(); ok {
			b.expose(e.id)
		}
		b.log(e)
	}
	switch {
	case o.typ == typeText:
		b.tellText(o, each)
	case o.typ == typeList:
		i := 0
		o.seq.each(func(_ opID, s *slot) {
			w := s.winner()
			each(event{obj: o, kind: evInsert, prop: prop{index: i}, val: w.value(), id: w.id, conflict: s.live() > 1})
			i++
		})
	default:
		for _, k := range o.sortedKeys() {
			s := o.keys[k]
			w := s.winner()
			each(event{obj: o, kind: evPut, prop: prop{key: k, named: true}, val: w.value(), id: w.id, conflict: s.live() > 1})
		}
	}
}

// tellText tells a text that came back into view. Unlike a splice into a text in
// view, here marks with null, which are marks taken away, go without saying.
func (b *builder) tellText(o *object, each func(event)) {
	var marks *markWalk
	if n := len(o.seq.marks); n > 0 && n <= maxTracedMarks {
		marks = newMarkWalk(b.in, o.seq)
	}
	var marked markSet
	at := 0
	for _, blk := range o.seq.blocks {
		for i, id := range blk.ids {
			if edge, ok := o.seq.marks[id]; ok && marks != nil {
				marks.pass(id, edge)
				marked = marks.after().withoutNull()
				continue
			}
			s := blk.values(i)
			w := s.winner()
			if w == nil || o.seq.width(blk.els[i]) == 0 {
				continue
			}
			e := event{obj: o, prop: prop{index: at}, marked: marked}
			each(e.insert(w.value(), w.id, s.live() > 1))
			at += o.seq.width(blk.els[i])
		}
	}
}

// log appends an event to the last patch if it continues it, else as a patch of
// its own. What happens in objects that are not in view is left out.
func (b *builder) log(e event) {
	var last *Patch
	if n := len(b.patches); n > 0 && b.patches[n-1].obj == e.obj {
		last = &b.patches[n-1]
	}
	if last != nil && last.join(e) {
		return
	}
	at, ok := b.path(e.obj)
	if !ok {
		return
	}
	p := Patch{obj: e.obj, at: at, prop: e.prop}
	switch e.kind {
	case evPut:
		p.Action, p.values, p.conflict = "put", []value{e.val}, e.conflict
	case evInsert:
		p.Action, p.values, p.conflicts = "insert", []value{e.val}, []bool{e.conflict}
	case evSplice:
		p.Action, p.text, p.marked = "splice", []byte(e.val.text()), e.marked
		p.width = utf16Width(e.val.text())
	case evDelete:
		p.Action, p.length = "del", e.length
	case evInc:
		p.Action, p.inc = "inc", e.inc
	case evConflict:
		p.Action = "conflict"
	case evMark:
		p.Action, p.marks = "mark", e.runs.list()
	}
	b.patches = append(b.patches, p)
}

// join adds an event that follows on the patch. Events come left to right, so
// only the end of a patch is a place to continue.
func (p *Patch) join(e event) bool {
	switch {
	case e.kind == evInsert && p.Action == "insert" && e.prop.index == p.prop.index+len(p.values):
		p.values = append(p.values, e.val)
		p.conflicts = append(p.conflicts, e.conflict)
	case e.kind == evSplice && p.Action == "splice" && e.prop.index == p.prop.index+p.width && p.marked.equal(e.marked):
		p.text = append(p.text, e.val.text()...)
		p.width += utf16Width(e.val.text())
	case e.kind == evDelete && p.Action == "del" && e.prop == p.prop && !e.prop.named:
		p.length += e.length
	case e.kind == evMark && p.Action == "mark":
		p.marks = append(p.marks, e.runs.list()...)
	case e.kind == evConflict && p.Action == "put" && e.prop == p.prop:
		p.conflict = true
	default:
		return false
	}
	return true
}

// path returns where an object is, or false if it is not in view: removed, or
// shadowed by another value.
func (b *builder) path(o *object) (*path, bool) {
	var chain []*object
	for o != b.in.root && b.paths[o] == nil && !b.hidden[o] {
		chain = append(chain, o)
		o = o.parent
	}
	at, gone := b.paths[o], b.hidden[o]
	for _, c := range slices.Backward(chain) {
		index, ok := 0, !gone
		if ok {
			index, ok = c.shown()
		}
		if !ok {
			gone, at = true, nil
			b.hidden[c] = true
			continue
		}
		at = &path{up: at, prop: prop{key: c.key, index: index, named: !c.parent.typ.sequence()}}
		b.paths[c] = at
	}
	return at, !gone
}
