package sinks

import (
	"context"
	"sync"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// memory is what the sink of a pair has acknowledged, as far as it was needed. It
// holds as long as the lease does: nobody else writes meanwhile. Two goroutines
// use it, one that reads ahead and one that settles.
type memory struct {
	epoch, revision uint64

	mu       sync.Mutex
	receipts map[string]completeness.Receipt
	last     map[string]change.Hash // sent in this pass, in the hope that it arrives
}

// maxReceipts is how many documents of a pair are remembered.
const maxReceipts = 20_000

// recall returns the memory of a pair, empty if what was remembered may be stale.
func (d *Delivery) recall(p pair, lease store.Lease, revision uint64) *memory {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.memories[p]
	if m == nil || m.epoch != lease.Epoch || m.revision != revision || len(m.receipts) > maxReceipts {
		m = &memory{epoch: lease.Epoch, revision: revision, receipts: map[string]completeness.Receipt{}}
		d.memories[p] = m
	}
	m.last = map[string]change.Hash{}
	return m
}

// forget drops what was remembered: it was not written down.
func (d *Delivery) forget(p pair) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.memories, p)
}

// learn makes sure that the receipts of the changes' documents are known.
func (m *memory) learn(ctx context.Context, s *store.Store, p pair, log []change.Settled) error {
	m.mu.Lock()
	var unknown []string
	asked := map[string]bool{}
	for _, c := range log {
		if _, ok := m.receipts[c.Document]; !ok && !asked[c.Document] {
			asked[c.Document] = true
			unknown = append(unknown, c.Document)
		}
	}
	m.mu.Unlock()
	if len(unknown) == 0 {
		return nil
	}
	found, err := s.Receipts(ctx, p.key, p.sink, unknown)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, document := range unknown {
		if r, ok := found[document]; ok {
			m.receipts[document] = r
		} else {
			m.receipts[document] = completeness.Receipt{Document: document}
		}
	}
	return nil
}

// floor is up to which seq nothing of a document is owed.
func (m *memory) floor(document string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.receipts[document].Floor
}

// prev is the last event of a document that this sink got, or will have got when
// the next one is sent.
func (m *memory) prev(document string) *change.Hash {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, ok := m.last[document]; ok {
		return &h
	}
	if r := m.receipts[document]; r.Seq > 0 {
		return &r.Hash
	}
	return nil
}

// sent notes what goes out.
func (m *memory) sent(c change.Settled) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last[c.Document] = c.Hash
}

// acknowledge folds what was delivered into the receipts and returns those that
// changed.
func (m *memory) acknowledge(log []change.Settled) []completeness.Receipt {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := map[string]bool{}
	for _, c := range log {
		r := m.receipts[c.Document]
		r.Document = c.Document
		r.Add(c.Seq, c.Hash)
		m.receipts[c.Document] = r
		changed[c.Document] = true
	}
	out := make([]completeness.Receipt, 0, len(changed))
	for _, c := range log {
		if changed[c.Document] {
			delete(changed, c.Document) // in the order of the log, the same every time
			out = append(out, m.receipts[c.Document])
		}
	}
	return out
}
