package sinks

import (
	"cmp"
	"context"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
)

// receiptChunks is how many chunks in a row may be delivered before their receipts
// are written: a document that is in each of them costs one row then and not eight.
const receiptChunks = 8

// postpone keeps receipts back, if more is about to follow that changes them again.
// Only a stretch of which everything was delivered may wait: of that, the log itself
// tells what the receipts will say, should nobody live to write them.
func (r *run) postpone(s *settlement, more bool) {
	if r.unwritten == nil {
		r.unwritten = map[string]completeness.Receipt{}
	}
	for _, receipt := range s.receipts {
		r.unwritten[receipt.Document] = receipt
	}
	r.waiting++
	if more && r.waiting < receiptChunks && r.filter == nil && len(r.held) == 0 {
		s.cursor.Unreceipted += s.cursor.Position - r.cursor.Position
		s.receipts = nil
		return
	}
	s.cursor.Unreceipted, r.waiting = 0, 0
	s.receipts = s.receipts[:0]
	for _, receipt := range r.unwritten {
		s.receipts = append(s.receipts, receipt)
	}
	// The same order every time, so that two transactions never wait for each other.
	slices.SortFunc(s.receipts, func(a, b completeness.Receipt) int { return cmp.Compare(a.Document, b.Document) })
	clear(r.unwritten)
}

// writeReceipts writes what was kept back.
func (r *run) writeReceipts(ctx context.Context) error {
	if r.cursor.Unreceipted == 0 {
		return nil
	}
	s := settlement{cursor: r.cursor}
	r.postpone(&s, false)
	return r.save(ctx, s)
}

// recoverReceipts makes the receipts that a pass before this one kept back and did not live
// to write. All that the log has there was delivered, but for what was never owed.
func (r *run) recoverReceipts(ctx context.Context) error {
	if r.cursor.Unreceipted == 0 {
		return nil
	}
	r.forget(r.pair) // it may know of them already, and would count twice
	r.memory = r.recall(r.pair, r.lease, r.sink.Revision)
	end := r.cursor.Position
	for position := end - r.cursor.Unreceipted; position < end; {
		log, err := r.Store.ChangesAfter(ctx, r.key, position, int(min(end-position, batchEvents)), batchBytes)
		if err != nil {
			return err
		}
		if len(log) == 0 {
			break // the log was lost; a comparison says so
		}
		if err := r.memory.learn(ctx, r.Store, r.pair, log); err != nil {
			return err
		}
		position = log[len(log)-1].Position
		s := settlement{cursor: r.cursor}
		s.cursor.Unreceipted = end - position
		s.receipts = r.memory.acknowledge(slices.DeleteFunc(log, func(c change.Settled) bool { return c.Seq <= r.memory.floor(c.Document) }))
		if err := r.save(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
