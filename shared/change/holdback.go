package change

import (
	"errors"
	"slices"
)

// ErrHoldbackFull is returned when more changes wait for their causes than the
// limits allow. Nothing is lost by it: what waits was never acknowledged.
var ErrHoldbackFull = errors.New("too many changes wait for changes they depend on")

// Holdback keeps changes back until everything they depend on has been settled.
// C is the change in whatever form the caller keeps it.
//
// The zero value holds nothing and has no room; set the limits.
type Holdback[C any] struct {
	MaxChanges int // how many may wait
	MaxBytes   int // how much they may weigh together

	waiting map[Hash]*held[C]
	blocked map[Hash][]Hash // a missing change → those that wait for it
	bytes   int
}

type held[C any] struct {
	change  C
	size    int
	missing int
}

// Add takes a change of the given size and returns every change that may be
// settled now, causes first: none if c has to wait, c and what waited for it
// otherwise. settled tells which changes are in the log; adding one of those, or
// one that waits already, returns nothing.
func (h *Holdback[C]) Add(hash Hash, deps []Hash, size int, c C, settled func(Hash) bool) ([]C, error) {
	if settled(hash) || h.waiting[hash] != nil {
		return nil, nil
	}
	var missing []Hash
	for _, d := range deps {
		if !settled(d) && !slices.Contains(missing, d) {
			missing = append(missing, d)
		}
	}
	if len(missing) == 0 {
		return h.release([]C{c}, hash), nil
	}
	if len(h.waiting) >= h.MaxChanges || h.bytes+size > h.MaxBytes {
		return nil, ErrHoldbackFull
	}
	if h.waiting == nil {
		h.waiting, h.blocked = map[Hash]*held[C]{}, map[Hash][]Hash{}
	}
	h.waiting[hash] = &held[C]{change: c, size: size, missing: len(missing)}
	h.bytes += size
	for _, d := range missing {
		h.blocked[d] = append(h.blocked[d], hash)
	}
	return nil, nil
}

// release appends to out all that waited for nothing but hash, and in turn for those.
func (h *Holdback[C]) release(out []C, hash Hash) []C {
	queue := []Hash{hash}
	for len(queue) > 0 {
		freed := h.blocked[queue[0]]
		delete(h.blocked, queue[0])
		queue = queue[1:]
		for _, id := range freed {
			w := h.waiting[id]
			if w.missing--; w.missing > 0 {
				continue
			}
			delete(h.waiting, id)
			h.bytes -= w.size
			out = append(out, w.change)
			queue = append(queue, id)
		}
	}
	return out
}

// Len is how many changes wait.
func (h *Holdback[C]) Len() int { return len(h.waiting) }

// Missing lists, in order, what the waiting changes wait for and is not itself
// waiting: what to ask the peers for.
func (h *Holdback[C]) Missing() []Hash {
	var out []Hash
	for d := range h.blocked {
		if h.waiting[d] == nil {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Hash) int { return slices.Compare(a[:], b[:]) })
	return out
}
