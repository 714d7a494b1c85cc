// Package automergetest writes Automerge changes for tests and benchmarks, so
// that they can make histories without another implementation at hand.
//
// An [Author] is one replica. It writes against a document that the test keeps
// as that replica's copy; two copies that diverge give concurrent changes. What
// it cannot write panics, since only a wrong test asks for it.
package automergetest

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
)

// Author writes changes under one actor id.
type Author struct {
	// Time and Message go into every change as they are.
	Time    int64
	Message string

	actor string
}

// NewAuthor returns an author with an actor id of any even number of hex digits.
func NewAuthor(actor string) *Author {
	if _, err := hex.DecodeString(actor); err != nil || actor == "" {
		panic(fmt.Sprintf("automergetest: actor %q", actor))
	}
	return &Author{actor: actor}
}

// Counter is a value that concurrent increments add up in.
type Counter int64

// Text is a value that is edited by character. A plain string is replaced whole.
type Text string

// Timestamp is milliseconds since 1970.
type Timestamp int64

// Edit is one edit of a change.
type Edit func(*writer)

// Put sets a key, or an element that is there. Values are nil, bool, int, int64,
// uint64, float64, string, []byte, Counter, Timestamp, Text, []any and
// map[string]any; the last three become objects.
func Put(v any, path ...any) Edit {
	return func(w *writer) {
		p := w.locate(path)
		w.value(v, w.at(p, path), false, p.Values)
	}
}

// Insert puts a value into a list before the index that ends the path.
func Insert(v any, path ...any) Edit {
	return func(w *writer) {
		obj, before := w.gap(path)
		w.value(v, target{obj: obj, elem: before, seq: true}, true, nil)
	}
}

// Splice removes from a text, from the index that ends the path, as many
// characters as cut says, and puts text there.
func Splice(cut int, text string, path ...any) Edit {
	return func(w *writer) {
		obj, before := w.gap(path)
		up, i := path[:len(path)-1], path[len(path)-1].(int)
		for range cut {
			p := w.locate(append(slices.Clone(up), i))
			w.op(operation{target: target{obj: p.Object, elem: p.Element, seq: true}, action: actionDelete, preds: p.Values})
			i += p.Width
		}
		for _, r := range text {
			before = w.op(operation{target: target{obj: obj, elem: before, seq: true}, insert: true, action: actionPut, val: string(r)})
		}
	}
}

// Delete removes a key or an element.
func Delete(path ...any) Edit {
	return func(w *writer) {
		p := w.locate(path)
		w.op(operation{target: w.at(p, path), action: actionDelete, preds: p.Values})
	}
}

// Increment adds to a counter.
func Increment(by int64, path ...any) Edit {
	return func(w *writer) {
		p := w.locate(path)
		w.op(operation{target: w.at(p, path), action: actionIncrement, val: by, preds: p.Values})
	}
}

// Change writes a change to doc, which it leaves alone, and returns its chunk.
// Edits see the document as it was before the change: one change must not touch
// the same place twice.
func (a *Author) Change(doc *automerge.Doc, edits ...Edit) []byte {
	w := &writer{doc: doc, actor: a.actor}
	w.seq, w.start = doc.Next(a.actor)
	for _, e := range edits {
		e(w)
	}
	return w.encode(a.Time, a.Message)
}

// Commit writes a change, applies it to doc and returns its chunk.
func (a *Author) Commit(doc *automerge.Doc, edits ...Edit) []byte {
	chunk := a.Change(doc, edits...)
	Replay(doc, chunk)
	return chunk
}

// Replay applies chunks to doc.
func Replay(doc *automerge.Doc, chunks ...[]byte) {
	for _, chunk := range chunks {
		c, err := automerge.DecodeChange(chunk, automerge.DefaultLimits())
		if err == nil {
			err = doc.Replay(c)
		}
		if err != nil {
			panic(fmt.Sprintf("automergetest: %v", err))
		}
	}
}

const (
	actionMakeMap   = 0
	actionPut       = 1
	actionMakeList  = 2
	actionDelete    = 3
	actionMakeText  = 4
	actionIncrement = 5
)

// target is where an operation goes.
type target struct {
	obj  automerge.OpID
	key  string
	elem automerge.OpID
	seq  bool
}

type operation struct {
	target
	insert bool
	action uint64
	val    any
	preds  []automerge.OpID
}

type writer struct {
	doc        *automerge.Doc
	actor      string
	seq, start uint64
	ops        []operation
}

func (w *writer) op(o operation) automerge.OpID {
	id := automerge.OpID{Counter: uint32(w.start) + uint32(len(w.ops)), Actor: w.actor}
	w.ops = append(w.ops, o)
	return id
}

func (w *writer) locate(path []any) automerge.Place {
	p, ok := w.doc.Locate(path...)
	if !ok {
		panic(fmt.Sprintf("automergetest: nothing at %v", path))
	}
	return p
}

func (w *writer) at(p automerge.Place, path []any) target {
	if p.Sequence {
		return target{obj: p.Object, elem: p.Element, seq: true}
	}
	return target{obj: p.Object, key: path[len(path)-1].(string)}
}

// gap returns the sequence a path ends in and the element before its index.
func (w *writer) gap(path []any) (obj, before automerge.OpID) {
	up, i := path[:len(path)-1], path[len(path)-1].(int)
	if i > 0 {
		p := w.locate(append(slices.Clone(up), i-1))
		return p.Object, p.Element
	}
	p := w.locate(up)
	if len(p.Values) == 0 {
		panic(fmt.Sprintf("automergetest: nothing at %v", up))
	}
	return p.Values[len(p.Values)-1], automerge.OpID{}
}

// value writes v, and what is in it if it is an object.
func (w *writer) value(v any, at target, insert bool, preds []automerge.OpID) automerge.OpID {
	o := operation{target: at, insert: insert, preds: preds}
	switch v := v.(type) {
	case map[string]any:
		o.action = actionMakeMap
		id := w.op(o)
		for _, k := range slices.Sorted(maps.Keys(v)) {
			w.value(v[k], target{obj: id, key: k}, false, nil)
		}
		return id
	case []any:
		o.action = actionMakeList
		id := w.op(o)
		before := automerge.OpID{}
		for _, e := range v {
			before = w.value(e, target{obj: id, elem: before, seq: true}, true, nil)
		}
		return id
	case Text:
		o.action = actionMakeText
		id := w.op(o)
		before := automerge.OpID{}
		for _, r := range string(v) {
			before = w.value(string(r), target{obj: id, elem: before, seq: true}, true, nil)
		}
		return id
	case string:
		if !utf8.ValidString(v) {
			panic("automergetest: string is not UTF-8")
		}
	}
	o.action, o.val = actionPut, v
	return w.op(o)
}
