package watcher

import (
	"context"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
)

// document is one document in memory: just what is needed to settle its next
// change and to answer its peers. It belongs to its formation's goroutine.
type document struct {
	id       automerge.DocumentID
	engine   *automerge.Doc
	seq      uint64
	prev     *change.Hash
	waiting  change.Holdback[*automerge.Change]
	bytes    int // of raw changes, a measure of its weight
	lastUsed time.Time
	sessions map[*session]*automerge.SyncState
	dirty    bool // holds changes that are not committed
	broken   bool // differs from what is being committed: to be loaded again
}

// Bounds on what may wait for its causes, per document.
const (
	maxWaitingChanges = 20_000
	maxWaitingBytes   = 32 << 20
)

// load reads a document from its own log. One that the log does not know is empty.
func (f *formation) load(ctx context.Context, id automerge.DocumentID) (*document, error) {
	d := &document{
		id: id, engine: automerge.NewDoc(), sessions: map[*session]*automerge.SyncState{},
		waiting: change.Holdback[*automerge.Change]{MaxChanges: maxWaitingChanges, MaxBytes: maxWaitingBytes},
	}
	err := f.Store.RawChanges(ctx, f.key, string(id), func(seq uint64, raw []byte) error {
		c, err := automerge.DecodeChange(raw, f.Settings.Limits)
		if err == nil {
			err = d.engine.Replay(c)
		}
		if err != nil {
			return fmt.Errorf("change %d of %s: %w", seq, id, err)
		}
		d.settled(c, seq)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load document: %w", err)
	}
	return d, nil
}

func (d *document) settled(c *automerge.Change, seq uint64) {
	h := change.Hash(c.Hash)
	d.seq, d.prev = seq, &h
	d.bytes += len(c.Raw)
}

func (d *document) has(h change.Hash) bool { return d.engine.Has(automerge.Hash(h)) }

// settle takes a change in and returns what can be appended to the log because
// of it: nothing, the change, or the change and those that waited for it. With an
// error, what came before the culprit is returned too.
func (d *document) settle(c *automerge.Change, now time.Time, maxPatches int) ([]change.Settled, error) {
	ready, err := d.waiting.Add(change.Hash(c.Hash), hashes(c.Deps), len(c.Raw), c, d.has)
	if err != nil {
		return nil, &refusedError{"waiting", err}
	}
	var out []change.Settled
	for _, c := range ready {
		patches, err := d.engine.Apply(c)
		if err != nil {
			return out, &refusedError{"change", err}
		}
		encoded, err := automerge.PatchesJSON(patches, maxPatches)
		if err != nil {
			// The change is in the engine and will not be in the log.
			d.broken = true
			return out, &refusedError{"patches", err}
		}
		s := change.Follow(change.Change{
			Hash: change.Hash(c.Hash), Deps: hashes(c.Deps), Actor: c.Actor, ActorSeq: c.Seq, StartOp: c.StartOp,
			Time: c.Time, Message: c.Message, Raw: c.Raw, Patches: encoded,
		}, string(d.id), d.seq+1, d.prev)
		s.ReceivedAt, s.Origin = now, change.Sync
		d.settled(c, s.Seq)
		out = append(out, s)
	}
	return out, nil
}

func hashes(in []automerge.Hash) []change.Hash {
	out := make([]change.Hash, len(in))
	for i, h := range in {
		out[i] = change.Hash(h)
	}
	return out
}

// missing is what to ask the peers for besides what their heads tell.
func (d *document) missing() []automerge.Hash {
	var out []automerge.Hash
	for _, h := range d.waiting.Missing() {
		out = append(out, automerge.Hash(h))
	}
	return out
}
