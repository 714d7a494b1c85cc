package automerge

import (
	"container/heap"
	"slices"
	"sort"
)

// node is one change in the graph. Nodes are numbered in the order they were
// applied, so a node's number is above those of all it depends on.
type node struct {
	hash    Hash
	raw     []byte
	deps    []uint32
	startOp uint32
	numOps  uint32
	maxOp   uint32 // highest counter in the change and all before it
}

// replica is one actor and the nodes it wrote, in order.
type replica struct {
	name  string
	nodes []uint32
	maxOp uint32
}

// graph is the history of a document. Change graphs of the reference keep the
// operations; here the raw bytes are enough, to answer peers.
type graph struct {
	nodes  []node
	byHash map[Hash]uint32
	heads  map[uint32]struct{}
	actors []replica
	byName map[string]uint32
}

func newGraph() graph {
	return graph{byHash: map[Hash]uint32{}, byName: map[string]uint32{}, heads: map[uint32]struct{}{}}
}

// less orders operations as every replica does: by counter, then by actor.
func (g *graph) less(a, b opID) bool { return g.compare(a, b) < 0 }

func (g *graph) compare(a, b opID) int {
	switch {
	case a.ctr != b.ctr:
		if a.ctr < b.ctr {
			return -1
		}
		return 1
	case a.actor == b.actor:
		return 0
	case g.actors[a.actor].name < g.actors[b.actor].name:
		return -1
	default:
		return 1
	}
}

// hasOp reports whether some change in the graph has this operation.
func (g *graph) hasOp(id opID) bool {
	if int(id.actor) >= len(g.actors) {
		return false
	}
	own := g.actors[id.actor].nodes
	i := sort.Search(len(own), func(i int) bool { return g.nodes[own[i]].startOp > id.ctr }) - 1
	return i >= 0 && id.ctr-g.nodes[own[i]].startOp < g.nodes[own[i]].numOps
}

func (g *graph) add(c *Change, deps []uint32, actor uint32, maxOp uint32) {
	if int(actor) == len(g.actors) {
		name := c.actors[0]
		g.actors = append(g.actors, replica{name: name})
		g.byName[name] = actor
	}
	n := uint32(len(g.nodes))
	g.nodes = append(g.nodes, node{
		hash: c.Hash, raw: c.Raw, deps: deps,
		startOp: uint32(c.StartOp), numOps: uint32(c.NumOps), maxOp: maxOp,
	})
	g.byHash[c.Hash] = n
	own := &g.actors[actor]
	own.nodes = append(own.nodes, n)
	own.maxOp = max(own.maxOp, maxOp)
	for _, d := range deps {
		delete(g.heads, d)
	}
	g.heads[n] = struct{}{}
}

// index returns the nodes of those hashes that are in the graph.
func (g *graph) index(hashes []Hash) []uint32 {
	var out []uint32
	for _, h := range hashes {
		if n, ok := g.byHash[h]; ok {
			out = append(out, n)
		}
	}
	return out
}

// since returns, ascending, the nodes that are neither in known nor before it.
// It walks back from the heads, newest first, and stops once all that is left to
// visit is known: its cost is that of the answer, not of the history.
func (g *graph) since(known []uint32) []uint32 {
	const fresh, seen = 1, 2
	state := make(map[uint32]uint8)
	var queue newestFirst
	pending := 0
	push := func(n uint32, s uint8) {
		switch old := state[n]; {
		case old == 0:
			heap.Push(&queue, n)
			if s == fresh {
				pending++
			}
			state[n] = s
		case old == fresh && s == seen:
			pending--
			state[n] = seen
		}
	}
	for _, n := range known {
		push(n, seen)
	}
	for n := range g.heads {
		push(n, fresh)
	}
	var out []uint32
	for pending > 0 {
		n := heap.Pop(&queue).(uint32)
		s := state[n]
		delete(state, n)
		if s == fresh {
			pending--
			out = append(out, n)
		}
		for _, d := range g.nodes[n].deps {
			push(d, s)
		}
	}
	slices.Reverse(out)
	return out
}

// ancestors calls visit for from and all before it that are among the given
// nodes' numbers or above the lowest of them.
func (g *graph) ancestors(from []uint32, lowest uint32, visit func(uint32)) {
	seen := make(map[uint32]bool)
	stack := slices.Clone(from)
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n < lowest || seen[n] {
			continue
		}
		seen[n] = true
		visit(n)
		stack = append(stack, g.nodes[n].deps...)
	}
}

type newestFirst []uint32

func (q newestFirst) Len() int           { return len(q) }
func (q newestFirst) Less(i, j int) bool { return q[i] > q[j] }
func (q newestFirst) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *newestFirst) Push(x any)        { *q = append(*q, x.(uint32)) }
func (q *newestFirst) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
