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
