package automerge

import (
	"encoding/hex"
	"fmt"
	"math"
)

// Change is one decoded change, its checksum verified. It does not alter.
type Change struct {
	// Hash names the change.
	Hash Hash
	// Deps are the changes it builds on.
	Deps []Hash
	// Actor is the author's replica, in lower-case hex.
	Actor string
	// Seq numbers the actor's changes from 1.
	Seq uint64
	// StartOp is the counter of the first operation.
	StartOp uint64
	// Time is what the author wrote, unconverted: the JavaScript library writes
	// seconds since 1970, the Go binding milliseconds.
	Time int64
	// Message is the author's note, mostly empty.
	Message string
	// Raw is the chunk in its uncompressed form.
	Raw []byte
	// NumOps is the number of operations.
	NumOps int

	actors []string // raw bytes; the author first
	ops    []op
	preds  []opID
}

// opID names an operation. What actor indexes depends: inside a change the
// actors that change mentions, inside a document those of the document.
type opID struct{ ctr, actor uint32 }

// Root object and head of a sequence have an id that no operation can have.
func (id opID) zero() bool { return id.ctr == 0 }

type action uint8

const (
	actMakeMap action = iota
	actPut
	actMakeList
	actDelete
	actMakeText
	actIncrement
	actMakeTable
	actMark
)

func (a action) makes() (objectType, bool) {
	switch a {
	case actMakeMap:
		return typeMap, true
	case actMakeList:
		return typeList, true
	case actMakeText:
		return typeText, true
	case actMakeTable:
		return typeTable, true
	default:
		return 0, false
	}
}

type op struct {
	obj      opID
	elem     opID   // the element, when !named
	key      string // the key in a map, when named
	mark     string // name of a mark that begins
	val      value
	predsAt  uint32
	numPreds uint32
	action   action
	named    bool
	insert   bool
	expand   bool
	begins   bool // a mark that begins rather than ends
}

// DecodeChange reads exactly one change, plain or compressed. It keeps no part
// of chunk.
func DecodeChange(chunk []byte, lim Limits) (*Change, error) {
	hash, raw, body, err := openChunk(chunk, lim)
	if err != nil {
		return nil, fmt.Errorf("decode change: %w", err)
	}
	c := &Change{Hash: hash, Raw: raw}
	if err := c.decode(body, lim); err != nil {
		return nil, fmt.Errorf("decode change %s: %w", hash, err)
	}
	return c, nil
}

func (c *Change) decode(body []byte, lim Limits) error {
	r := &reader{body}
	var err error
	if c.Deps, err = r.hashes("dependencies", lim.MaxDeps); err != nil {
		return err
	}
	author, err := r.actor(lim)
	if err != nil {
		return err
	}
	c.Actor = hex.EncodeToString([]byte(author))
	if c.Seq, err = r.canonical(); err != nil {
		return err
	}
	if c.StartOp, err = r.canonical(); err != nil {
		return err
	}
	if c.Seq == 0 || c.Seq > math.MaxUint32 || c.StartOp == 0 || c.StartOp > math.MaxUint32 {
		return fmt.Errorf("%w: seq %d, first operation %d", ErrMalformed, c.Seq, c.StartOp)
	}
	if c.Time, err = r.sleb(); err != nil {
		return err
	}
	n, err := r.canonical()
	if err != nil {
		return err
	}
	message, err := r.take(n)
	if err != nil {
		return err
	}
	if c.Message, err = toText(message); err != nil {
		return err
	}
	others, err := r.count("actors", 1, lim.MaxActors)
	if err != nil {
		return err
	}
	c.actors = make([]string, 1, 1+others)
	c.actors[0] = author
	for range others {
		a, err := r.actor(lim)
		if err != nil {
			return err
		}
		c.actors = append(c.actors, a)
	}
	cols, err := r.columns()
	if err != nil {
		return err
	}
	// What follows the columns belongs to other versions of the format; it is
	// kept in Raw and covered by the hash.
	return c.decodeOps(cols, lim)
}

func (r *reader) actor(lim Limits) (string, error) {
	n, err := r.canonical()
	if err != nil {
		return "", err
	}
	if n > uint64(max(lim.MaxActorBytes, 0)) {
		return "", fmt.Errorf("%w: actor of %d bytes, %d allowed", ErrLimit, n, lim.MaxActorBytes)
	}
	b, err := r.take(n)
	return string(b), err
}
