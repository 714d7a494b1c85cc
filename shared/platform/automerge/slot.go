package automerge

import "slices"

// entry is an operation that gave a key or an element a value.
type entry struct {
	id   opID
	kind uint8
	dead bool
	num  uint64
	str  string
}

func newEntry(id opID, v value) entry { return entry{id: id, kind: v.kind, num: v.num, str: v.str} }

func (e *entry) value() value { return value{kind: e.kind, num: e.num, str: e.str} }

// slot holds the values that a key or an element has at once: one as a rule,
// more after concurrent writes, when the last wins. Overwritten values are
// forgotten, since nothing brings them back.
//
// Entries are in order of id. Removed ones stay as dead until they are half, so
// that a hostile pile of conflicts costs little to take down; the last entry is
// never dead.
type slot struct {
	ops  []entry
	dead int
}

func (s *slot) live() int { return len(s.ops) - s.dead }

func (s *slot) winner() *entry {
	if len(s.ops) == 0 {
		return nil
	}
	return &s.ops[len(s.ops)-1]
}

// search returns where id is or would be.
func (s *slot) search(g *graph, id opID) (int, bool) {
	// New operations mostly come after all there are.
	if n := len(s.ops); n == 0 || g.less(s.ops[n-1].id, id) {
		return n, false
	}
	return slices.BinarySearchFunc(s.ops, id, func(e entry, id opID) int { return g.compare(e.id, id) })
}

func (s *slot) find(g *graph, id opID) *entry {
	if i, ok := s.search(g, id); ok && !s.ops[i].dead {
		return &s.ops[i]
	}
	return nil
}

func (s *slot) insert(g *graph, e entry) {
	i, _ := s.search(g, e.id)
	s.ops = slices.Insert(s.ops, i, e)
}

func (s *slot) remove(e *entry) {
	e.dead, e.str = true, ""
	s.dead++
	for n := len(s.ops); n > 0 && s.ops[n-1].dead; n-- {
		s.ops = s.ops[:n-1]
		s.dead--
	}
	switch {
	case len(s.ops) == 0:
		s.ops = nil
	case 2*s.dead > len(s.ops):
		s.compact()
	}
}

func (s *slot) compact() {
	if s.dead > 0 {
		s.ops = slices.DeleteFunc(s.ops, func(e entry) bool { return e.dead })
		s.dead = 0
	}
}
