package automerge

import (
	"fmt"
	"math"
)

// Columns of a change that hold its operations: four bits of type below the
// column's number, with bit 3 of the type set if the column is compressed.
const (
	colObjActor  = 0x01
	colObjCtr    = 0x02
	colKeyActor  = 0x11
	colKeyCtr    = 0x13
	colKeyName   = 0x15
	colInsert    = 0x34
	colAction    = 0x42
	colValueMeta = 0x56
	colValue     = 0x57
	colPredCount = 0x70
	colPredActor = 0x71
	colPredCtr   = 0x73
	colExpand    = 0x94
	colMarkName  = 0xa5

	columnDeflated = 8
)

type columns struct {
	objActor, objCtr   uintColumn
	keyActor           uintColumn
	keyCtr             deltaColumn
	keyName            stringColumn
	insert             boolColumn
	action             uintColumn
	values             valueColumn
	predNum, predActor uintColumn
	predCtr            deltaColumn
	expand             boolColumn
	markName           stringColumn
}

// columns reads the table of columns and hands each its bytes. Columns it does
// not know are stepped over.
func (r *reader) columns() (*columns, error) {
	// No writer has more than some twenty, known or not.
	const maxColumns = 256
	n, err := r.count("columns", 2, maxColumns)
	if err != nil {
		return nil, err
	}
	type column struct {
		spec uint64
		size uint64
	}
	table := make([]column, n)
	last := int64(-1)
	for i := range table {
		if table[i].spec, err = r.canonical(); err != nil {
			return nil, err
		}
		if table[i].size, err = r.canonical(); err != nil {
			return nil, err
		}
		spec := table[i].spec
		if spec > math.MaxUint32 || int64(spec) <= last || spec&columnDeflated != 0 {
			return nil, fmt.Errorf("%w: column %#x", ErrMalformed, spec)
		}
		last = int64(spec)
	}
	c := &columns{}
	for _, col := range table {
		b, err := r.take(col.size)
		if err != nil {
			return nil, err
		}
		c.set(col.spec, reader{b})
	}
	return c, nil
}

func (c *columns) set(spec uint64, r reader) {
	switch spec {
	case colObjActor:
		c.objActor.r = r
	case colObjCtr:
		c.objCtr.r = r
	case colKeyActor:
		c.keyActor.r = r
	case colKeyCtr:
		c.keyCtr.r = r
	case colKeyName:
		c.keyName.r = r
	case colInsert:
		c.insert.r = r
	case colAction:
		c.action.r = r
	case colValueMeta:
		c.values.meta.r = r
	case colValue:
		c.values.raw = r
	case colPredCount:
		c.predNum.r = r
	case colPredActor:
		c.predActor.r = r
	case colPredCtr:
		c.predCtr.r = r
	case colExpand:
		c.expand.r = r
	case colMarkName:
		c.markName.r = r
	}
}

func (c *Change) decodeOps(cols *columns, lim Limits) error {
	for !cols.action.done() {
		if len(c.ops) >= lim.MaxOps {
			return fmt.Errorf("%w: over %d operations", ErrLimit, lim.MaxOps)
		}
		if err := c.decodeOp(cols, lim); err != nil {
			return fmt.Errorf("operation %d: %w", len(c.ops), err)
		}
	}
	c.NumOps = len(c.ops)
	if c.StartOp+uint64(c.NumOps) > math.MaxUint32 {
		return fmt.Errorf("%w: operation counters end at %d", ErrMalformed, c.StartOp+uint64(c.NumOps))
	}
	return nil
}

func (c *Change) decodeOp(cols *columns, lim Limits) error {
	var o op
	act, ok, err := cols.action.next()
	if err != nil {
		return err
	}
	if !ok || act > uint64(actMark) {
		return fmt.Errorf("%w: action %d", ErrMalformed, act)
	}
	o.action = action(act)
	if o.obj, ok, err = c.id(&cols.objActor, &cols.objCtr); err != nil {
		return fmt.Errorf("object: %w", err)
	}
	if ok && o.obj.zero() {
		return fmt.Errorf("%w: object with counter 0", ErrMalformed)
	}
	if err := c.decodeKey(cols, &o); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if o.insert, err = cols.insert.next(); err != nil {
		return err
	}
	if o.val, err = cols.values.next(); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	if o.action == actIncrement && o.val.kind != kindInt && o.val.kind != kindUint {
		return fmt.Errorf("%w: increment by something else than a number", ErrMalformed)
	}
	if o.expand, err = cols.expand.next(); err != nil {
		return err
	}
	if o.mark, o.begins, err = cols.markName.next(); err != nil {
		return err
	}
	if err := c.decodePreds(cols, &o, lim); err != nil {
		return fmt.Errorf("predecessors: %w", err)
	}
	c.ops = append(c.ops, o)
	return nil
}

func (c *Change) decodeKey(cols *columns, o *op) error {
	name, named, err := cols.keyName.next()
	if err != nil {
		return err
	}
	// The head of a sequence is counter 0 without an actor.
	actor, hasActor, err := cols.keyActor.next()
	if err != nil {
		return err
	}
	ctr, hasCtr, err := cols.keyCtr.next()
	if err != nil {
		return err
	}
	switch {
	case named && !hasActor && !hasCtr:
		o.key, o.named = name, true
	case !named && !hasActor && hasCtr && ctr == 0:
	case !named && hasActor && hasCtr && ctr != 0:
		o.elem, err = c.opID(actor, ctr)
	default:
		err = fmt.Errorf("%w: neither name nor element", ErrMalformed)
	}
	return err
}

func (c *Change) decodePreds(cols *columns, o *op, lim Limits) error {
	n, _, err := cols.predNum.next()
	if err != nil {
		return err
	}
	if n > uint64(max(lim.MaxPreds-len(c.preds), 0)) {
		return fmt.Errorf("%w: over %d", ErrLimit, lim.MaxPreds)
	}
	o.predsAt, o.numPreds = uint32(len(c.preds)), uint32(n)
	for range n {
		actor, hasActor, err := cols.predActor.next()
		if err != nil {
			return err
		}
		ctr, hasCtr, err := cols.predCtr.next()
		if err != nil {
			return err
		}
		if !hasActor || !hasCtr {
			return fmt.Errorf("%w: missing", ErrMalformed)
		}
		id, err := c.opID(actor, ctr)
		if err != nil {
			return err
		}
		c.preds = append(c.preds, id)
	}
	return nil
}

// id reads an id that may be absent.
func (c *Change) id(actors, ctrs *uintColumn) (opID, bool, error) {
	actor, hasActor, err := actors.next()
	if err != nil {
		return opID{}, false, err
	}
	ctr, hasCtr, err := ctrs.next()
	if err != nil {
		return opID{}, false, err
	}
	if hasActor != hasCtr {
		return opID{}, false, fmt.Errorf("%w: half an id", ErrMalformed)
	}
	if !hasActor {
		return opID{}, false, nil
	}
	id, err := c.opID(actor, ctr)
	return id, true, err
}

func (c *Change) opID(actor, ctr uint64) (opID, error) {
	if actor >= uint64(len(c.actors)) {
		return opID{}, fmt.Errorf("%w: actor %d of %d", ErrMalformed, actor, len(c.actors))
	}
	n, err := toUint32("counter", ctr)
	return opID{ctr: n, actor: uint32(actor)}, err
}

func (c *Change) predsOf(o *op) []opID { return c.preds[o.predsAt : o.predsAt+o.numPreds] }
