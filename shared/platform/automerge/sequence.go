package automerge

import "slices"

// blockSize is the number of elements after which a block is split. Finding an
// element looks through one block and down one tree over the blocks.
const blockSize = 256

// element is one place in a list or text, visible or not. Typed text has one
// per character, so the plain case (a single value of one character, set by the
// operation that made the element) fits into char; else the values are in slot.
type element struct {
	char rune // -1 for none
	slot *slot
}

// sequence keeps the elements of a list or text in order, removed ones too,
// since concurrent changes may refer to them.
type sequence struct {
	text   bool
	blocks []*block
	// where tells the block of an element; nil while there is one block only.
	where map[opID]*block
	// widths is a Fenwick tree over the widths of blocks.
	widths []int
	marks  map[opID]markEdge
	// Edits cluster, so the last place found is tried first.
	lastBlock *block
	lastAt    int
}

type block struct {
	number int
	width  int
	lowest opID // the lowest id in here
	ids    []opID
	els    []element
}

func newSequence(text bool) *sequence {
	return &sequence{text: text, blocks: []*block{{}}, widths: make([]int, 2)}
}

// find returns where an element is.
func (s *sequence) find(id opID) (*block, int, bool) {
	if b := s.lastBlock; b != nil && s.lastAt < len(b.ids) && b.ids[s.lastAt] == id {
		return b, s.lastAt, true
	}
	b := s.blocks[0]
	if s.where != nil {
		if b = s.where[id]; b == nil {
			return nil, 0, false
		}
	}
	for i := len(b.ids) - 1; i >= 0; i-- {
		if b.ids[i] == id {
			s.lastBlock, s.lastAt = b, i
			return b, i, true
		}
	}
	return nil, 0, false
}

// insert puts a new element behind after, or at the head if after is zero. Of
// elements inserted at the same place the latest comes first, and each is
// followed by what was inserted behind it; all of that has higher ids.
func (s *sequence) insert(g *graph, after, id opID, e element) {
	b, i := s.blocks[0], 0
	if !after.zero() {
		var ok bool
		if b, i, ok = s.find(after); !ok {
			return // Doc.check has seen it
		}
		i++
	}
	for {
		if i == 0 && len(b.ids) > 0 && g.less(id, b.lowest) {
			i = len(b.ids)
		}
		for i < len(b.ids) && g.less(id, b.ids[i]) {
			i++
		}
		if i < len(b.ids) || b.number+1 == len(s.blocks) {
			break
		}
		next := s.blocks[b.number+1]
		if g.less(next.ids[0], id) {
			break
		}
		b, i = next, 0
	}
	if len(b.ids) >= blockSize {
		b, i = s.split(g, b, i)
	}
	if len(b.ids) == 0 || g.less(id, b.lowest) {
		b.lowest = id
	}
	b.ids = slices.Insert(b.ids, i, id)
	b.els = slices.Insert(b.els, i, e)
	if s.where != nil {
		s.where[id] = b
	}
	s.lastBlock, s.lastAt = b, i
	s.grow(b, s.width(e))
}

// split makes room in b and returns the place that i has become. Text is mostly
// typed forward, so at the end of a block a new one is begun rather than the old
// one halved.
func (s *sequence) split(g *graph, b *block, i int) (*block, int) {
	at := len(b.ids) / 2
	if i == len(b.ids) {
		at = i
	}
	nb := &block{}
	nb.ids = append(make([]opID, 0, blockSize), b.ids[at:]...)
	nb.els = append(make([]element, 0, blockSize), b.els[at:]...)
	clear(b.els[at:])
	b.ids, b.els = b.ids[:at], b.els[:at]
	if s.where == nil {
		s.where = make(map[opID]*block, 2*blockSize)
		for _, id := range b.ids {
			s.where[id] = b
		}
	}
	for _, id := range nb.ids {
		s.where[id] = nb
	}
	b.measure(g, s)
	nb.measure(g, s)
	s.blocks = slices.Insert(s.blocks, b.number+1, nb)
	s.renumber(b.number + 1)
	if i >= at {
		return nb, i - at
	}
	return b, i
}

func (b *block) measure(g *graph, s *sequence) {
	b.width, b.lowest = 0, opID{}
	for i, id := range b.ids {
		b.width += s.width(b.els[i])
		if i == 0 || g.less(id, b.lowest) {
			b.lowest = id
		}
	}
}

// renumber is linear in the blocks, and comes once in blockSize/2 inserts.
func (s *sequence) renumber(from int) {
	for n := from; n < len(s.blocks); n++ {
		s.blocks[n].number = n
	}
	s.widths = slices.Grow(s.widths[:0], len(s.blocks)+1)[:len(s.blocks)+1]
	clear(s.widths)
	for n, b := range s.blocks {
		s.widths[n+1] += b.width
		if up := n + 1 + (n+1)&-(n+1); up < len(s.widths) {
			s.widths[up] += s.widths[n+1]
		}
	}
}

func (s *sequence) grow(b *block, by int) {
	if by == 0 {
		return
	}
	b.width += by
	for n := b.number + 1; n < len(s.widths); n += n & -n {
		s.widths[n] += by
	}
}

// width is the room an element takes in indices.
func (s *sequence) width(e element) int {
	switch {
	case e.slot != nil:
		if w := e.slot.winner(); w != nil {
			return s.valueWidth(w.value())
		}
		return 0
	case e.char < 0:
		return 0
	case e.char > 0xffff && s.text:
		return 2
	default:
		return 1
	}
}

func (s *sequence) valueWidth(v value) int {
	if !s.text {
		return 1
	}
	return utf16Width(v.text())
}

// index is the room taken by everything before an element.
func (s *sequence) index(b *block, i int) int {
	sum := 0
	for n := b.number; n > 0; n -= n & -n {
		sum += s.widths[n]
	}
	for _, e := range b.els[:i] {
		sum += s.width(e)
	}
	return sum
}

// total is the room everything takes.
func (s *sequence) total() int {
	sum := 0
	for n := len(s.widths) - 1; n > 0; n -= n & -n {
		sum += s.widths[n]
	}
	return sum
}

// at returns the visible element that covers an index.
func (s *sequence) at(index int) (*block, int, bool) {
	if index < 0 {
		return nil, 0, false
	}
	n, step := 0, 1
	for step*2 < len(s.widths) {
		step *= 2
	}
	for ; step > 0; step /= 2 {
		if n+step < len(s.widths) && s.widths[n+step] <= index {
			n += step
			index -= s.widths[n]
		}
	}
	if n >= len(s.blocks) {
		return nil, 0, false
	}
	b := s.blocks[n]
	for i, e := range b.els {
		w := s.width(e)
		if index < w {
			return b, i, true
		}
		index -= w
	}
	return nil, 0, false
}

// open returns the values of an element for change.
func (b *block) open(i int) *slot {
	e := &b.els[i]
	if e.slot == nil {
		e.slot = &slot{}
		if e.char >= 0 {
			e.slot.ops = []entry{b.plain(i)}
		}
		e.char = -1
	}
	return e.slot
}

// plain is the one value that an element without a slot has.
func (b *block) plain(i int) entry {
	return entry{id: b.ids[i], kind: kindString, str: string(b.els[i].char)}
}

// newElement packs a value if it can.
func newElement(id opID, v value) element {
	if v.kind == kindString {
		if r := []rune(v.str); len(r) == 1 {
			return element{char: r[0]}
		}
	}
	return element{char: -1, slot: &slot{ops: []entry{newEntry(id, v)}}}
}
