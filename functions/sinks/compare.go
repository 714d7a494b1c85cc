package sinks

import (
	"context"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// acknowledged is what the store knew of a pair at one moment. The log up to its
// cursor does not change any more, and is read afterwards.
type acknowledged struct {
	key       tenant.Key
	cursor    delivery.Cursor
	filter    *filter.Filter
	receipts  []completeness.Receipt
	omissions []completeness.Omission
	held      []delivery.Held
}

// Bounds of what a comparison reads of the log at once.
const (
	pageEvents = 500
	pageBytes  = 4 << 20
)

// errUnfinished: time was up before the whole log was read.
var errUnfinished = errors.New("the comparison did not finish in time")

// compare compares what a sink acknowledged of a formation, or of one of its
// documents, with the log. If time is up first it returns errUnfinished and only
// Through, the position it had come to.
func (d Deps) compare(ctx context.Context, p pair, document string, until time.Time) (completeness.Result, error) {
	var a acknowledged
	if err := d.Store.InSnapshot(ctx, func(s *store.Snapshot) (err error) {
		a, err = acknowledgedOf(ctx, s, p, document)
		return err
	}); err != nil {
		return completeness.Result{}, err
	}
	if document != "" {
		return d.compareDocument(ctx, a, document, until)
	}
	c := completeness.NewComparison(a.cursor.StartPosition, a.cursor.Position, a.wanted)
	a.tell(c)
	position := a.cursor.StartPosition
	for position < a.cursor.Position {
		if !time.Now().Before(until) {
			return completeness.Result{Through: position}, errUnfinished
		}
		log, err := d.Store.ChangesAfter(ctx, a.key, position, pageEvents, pageBytes)
		if err != nil {
			return completeness.Result{}, err
		}
		if len(log) == 0 {
			break // the comparison says that the log ends before the cursor
		}
		for _, s := range log {
			c.Add(s)
		}
		position = log[len(log)-1].Position
	}
	return c.Result(), nil
}

// compareDocument looks at one document. The comparison wants a log without gaps,
// so the document's changes are numbered for it.
func (d Deps) compareDocument(ctx context.Context, a acknowledged, document string, until time.Time) (completeness.Result, error) {
	var log []change.Settled
	var wanted []bool
	for seq := uint64(1); ; {
		if !time.Now().Before(until) {
			return completeness.Result{}, errUnfinished
		}
		page, err := d.Store.DocumentChanges(ctx, a.key, document, seq, a.cursor.Position, pageEvents, pageBytes)
		if err != nil {
			return completeness.Result{}, err
		}
		if len(page) == 0 {
			break
		}
		for _, s := range page {
			if seq = s.Seq + 1; s.Position > a.cursor.StartPosition {
				wanted = append(wanted, a.wanted(s))
				numbered := change.Settled{Document: document, Seq: s.Seq, Position: uint64(len(log)) + 1}
				numbered.Hash = s.Hash
				log = append(log, numbered)
			}
		}
	}
	c := completeness.NewComparison(0, uint64(len(log)), func(s change.Settled) bool { return wanted[s.Position-1] })
	a.tell(c)
	for _, s := range log {
		c.Add(s)
	}
	out := c.Result()
	out.Through = a.cursor.Position
	return out, nil
}

// wanted is what delivery does with the filter: what it cannot judge is sent.
func (a acknowledged) wanted(s change.Settled) bool {
	wanted, err := a.filter.Match(a.key, s)
	return wanted || err != nil
}

// tell says what the sink has.
func (a acknowledged) tell(c *completeness.Comparison) {
	for _, r := range a.receipts {
		c.Receipt(r)
	}
	for _, o := range a.omissions {
		c.Omit(o)
	}
	for _, h := range a.held {
		c.Hold(h.Document, h.FromSeq)
	}
}

func acknowledgedOf(ctx context.Context, s *store.Snapshot, p pair, document string) (a acknowledged, err error) {
	a.key = p.key
	sink, err := s.Sink(ctx, p.key.Org, p.sink)
	if err != nil {
		return a, err
	}
	if a.filter, err = filter.Compile(sink.Filter); err != nil {
		return a, err
	}
	if a.cursor, err = s.Cursor(ctx, p.key, p.sink); err != nil {
		return a, err
	}
	// What the sink has acknowledged is known up to here; the rest is about to be written.
	a.cursor.Position -= a.cursor.Unreceipted
	held, err := s.Held(ctx, p.key, p.sink)
	if err != nil {
		return a, err
	}
	omissions, err := s.Omissions(ctx, p.key, p.sink)
	if err != nil {
		return a, err
	}
	for _, h := range held {
		if document == "" || document == h.Document {
			a.held = append(a.held, h)
		}
	}
	for _, o := range omissions {
		if document == "" || document == o.Document {
			a.omissions = append(a.omissions, o)
		}
	}
	if document != "" {
		one, err := s.Receipts(ctx, p.key, p.sink, []string{document})
		if r, ok := one[document]; ok {
			a.receipts = append(a.receipts, r)
		}
		return a, err
	}
	return a, s.EachReceipt(ctx, p.key, p.sink, func(r completeness.Receipt) error {
		a.receipts = append(a.receipts, r)
		return nil
	})
}
