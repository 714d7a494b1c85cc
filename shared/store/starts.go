package store

import (
	"context"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// startAll gives a sink for all formations a cursor in each that there is now.
func (tx *Tx) startAll(ctx context.Context, s delivery.Sink) error {
	rows, err := tx.of(s.Org).QueryContext(ctx, `SELECT app_id FROM formations WHERE org_id = $1 AND state <> 'destroyed' ORDER BY app_id`, s.Org)
	apps, err := collect(rows, err, func(r row) (app tenant.AppID, err error) { return app, r.Scan(&app) })
	if err != nil {
		return err
	}
	for _, app := range apps {
		key := tenant.Key{Org: s.Org, App: app}
		position, err := tx.startOf(ctx, key, s.Start)
		if err == nil {
			err = tx.startAt(ctx, key, s.ID, position)
		}
		if err == nil {
			err = tx.owe(ctx, key, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startOf is the position after which a start begins in a formation's log.
func (tx *Tx) startOf(ctx context.Context, key tenant.Key, s delivery.Start) (uint64, error) {
	end, err := tx.Position(ctx, key)
	switch {
	case err != nil:
		return 0, err
	case s.Beginning || s.Heads != nil:
		return 0, nil
	case s.Position != nil && *s.Position > end:
		return 0, fault.Invalid.New("the log of formation %q ends at position %d", key.App, end)
	case s.Position != nil:
		return *s.Position, nil
	case s.Time != nil:
		return tx.positionAt(ctx, key, micros(*s.Time), end)
	}
	return end, nil
}

// PositionAt is the last position of a formation's log that was received before a time.
func (s queries) PositionAt(ctx context.Context, key tenant.Key, at time.Time) (uint64, error) {
	end, err := s.Position(ctx, key)
	if err != nil {
		return 0, err
	}
	return s.positionAt(ctx, key, micros(at), end)
}

// positionAt finds the last position that was received before a time. Times grow
// with positions, but for clocks that were set back.
func (s queries) positionAt(ctx context.Context, key tenant.Key, at int64, end uint64) (uint64, error) {
	low, high := uint64(0), end // all up to low are before; what follows high is not
	for low < high {
		middle := low + (high-low+1)/2
		var received int64
		err := s.of(key.Org).QueryRowContext(ctx, `SELECT received_at FROM changes WHERE org_id = $1 AND app_id = $2 AND position = $3`,
			key.Org, key.App, middle).Scan(&received)
		if err != nil {
			return 0, one(err, "no change at position %d", middle)
		}
		if received < at {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low, nil
}

// startAt gives a sink its cursor in a formation.
func (tx *Tx) startAt(ctx context.Context, key tenant.Key, sink string, position uint64) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `INSERT INTO cursors (`+cursorColumns+`) VALUES ($1, $2, $3, $4, 0, 0, '', $4, 0)`,
		key.Org, sink, key.App, position)
	return err
}

// owe notes for the documents whose heads the receiver has already how much of
// them it is not owed: everything up to the first change that it lacks. Of what
// follows it may have some, and gets it again.
func (tx *Tx) owe(ctx context.Context, key tenant.Key, s delivery.Sink) error {
	var receipts []completeness.Receipt
	for document, heads := range s.Start.Heads {
		floor, err := tx.known(ctx, key, document, heads)
		if err != nil {
			return err
		}
		if floor > 0 {
			receipts = append(receipts, completeness.Receipt{Document: document, Floor: floor})
		}
	}
	return tx.SaveReceipts(ctx, key, s.ID, receipts)
}

// known is how many of a document's changes, from the first on, are among those
// that lead to the given heads. Heads that the log lacks lead to nothing.
func (tx *Tx) known(ctx context.Context, key tenant.Key, document string, heads []change.Hash) (uint64, error) {
	rows, err := tx.of(key.Org).QueryContext(ctx, `SELECT hash, deps FROM changes
		WHERE org_id = $1 AND app_id = $2 AND document_id = $3 ORDER BY seq`, key.Org, key.App, document)
	type node struct {
		hash change.Hash
		deps []byte
	}
	nodes, err := collect(rows, err, func(r row) (node, error) {
		var n node
		var hash []byte
		if err := r.Scan(&hash, &n.deps); err != nil {
			return n, err
		}
		if len(hash) != len(n.hash) || len(n.deps)%len(n.hash) != 0 {
			return n, fmt.Errorf("the log holds a hash of a wrong length in document %q", document)
		}
		n.hash = change.Hash(hash)
		return n, nil
	})
	if err != nil {
		return 0, err
	}
	has := make(map[change.Hash]bool, len(heads))
	for _, h := range heads {
		has[h] = true
	}
	// Causes come before effects in the log, so one way back finds all of them.
	for i := len(nodes) - 1; i >= 0; i-- {
		if n := nodes[i]; has[n.hash] {
			for d := n.deps; len(d) > 0; d = d[len(n.hash):] {
				has[change.Hash(d[:len(n.hash)])] = true
			}
		}
	}
	var floor uint64
	for _, n := range nodes {
		if !has[n.hash] {
			break
		}
		floor++
	}
	return floor, nil
}

// OweAnew makes everything that a sink was sent up to now count as settled: its
// filter is another one from here on, and what the old one left out is not owed.
func (tx *Tx) OweAnew(ctx context.Context, org tenant.OrgID, sink string) error {
	_, err := tx.of(org).ExecContext(ctx, `INSERT INTO receipts (org_id, sink_id, app_id, `+receiptColumns+`)
		SELECT c.org_id, c.sink_id, c.app_id, d.document_id,
			COALESCE(h.from_seq - 1, (SELECT max(x.seq) FROM changes x WHERE x.org_id = d.org_id AND x.app_id = d.app_id
				AND x.document_id = d.document_id AND x.position <= c.position), 0),
			COALESCE(r.seq, 0), COALESCE(r.hash, $3), 0, $3
		FROM cursors c JOIN documents d ON d.org_id = c.org_id AND d.app_id = c.app_id
		LEFT JOIN held h ON h.org_id = c.org_id AND h.sink_id = c.sink_id AND h.app_id = c.app_id AND h.document_id = d.document_id
		LEFT JOIN receipts r ON r.org_id = c.org_id AND r.sink_id = c.sink_id AND r.app_id = c.app_id AND r.document_id = d.document_id
		WHERE c.org_id = $1 AND c.sink_id = $2
		ON CONFLICT (org_id, sink_id, app_id, document_id) DO UPDATE SET floor = excluded.floor, count = 0, digest = excluded.digest`,
		org, sink, make([]byte, len(change.Hash{})))
	return err
}
