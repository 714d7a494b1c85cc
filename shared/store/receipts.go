package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const receiptColumns = `document_id, floor, seq, hash, count, digest`

func scanReceipt(r row) (completeness.Receipt, error) {
	var c completeness.Receipt
	var hash, digest []byte
	if err := r.Scan(&c.Document, &c.Floor, &c.Seq, &hash, &c.Count, &digest); err != nil {
		return completeness.Receipt{}, err
	}
	if len(hash) != len(c.Hash) || len(digest) != len(c.Digest) {
		return completeness.Receipt{}, fault.Invalid.New("the receipt of %q holds a hash of a wrong length", c.Document)
	}
	copy(c.Hash[:], hash)
	copy(c.Digest[:], digest)
	return c, nil
}

// Receipts returns what a sink has acknowledged of the given documents, or of all
// in the formation if documents is nil. What has no receipt is not in the map.
func (s queries) Receipts(ctx context.Context, key tenant.Key, sink string, documents []string) (map[string]completeness.Receipt, error) {
	out := make(map[string]completeness.Receipt, len(documents))
	add := func(c completeness.Receipt) error {
		out[c.Document] = c
		return nil
	}
	if documents == nil {
		return out, s.EachReceipt(ctx, key, sink, add)
	}
	err := inRowSizes(documents, func(some []string) error {
		args := make([]any, 0, len(some))
		var in strings.Builder
		for i, d := range some {
			if i > 0 {
				in.WriteByte(',')
			}
			fmt.Fprintf(&in, "$%d", i+4)
			args = append(args, d)
		}
		return s.readReceipts(ctx, key, sink, `AND document_id IN (`+in.String()+`)`, args, add)
	})
	return out, err
}

// EachReceipt calls each with every receipt of a sink in a formation, in the order
// of the documents' ids, without holding them all. The query is open meanwhile.
func (s queries) EachReceipt(ctx context.Context, key tenant.Key, sink string, each func(completeness.Receipt) error) error {
	return s.readReceipts(ctx, key, sink, `ORDER BY document_id`, nil, each)
}

func (s queries) readReceipts(ctx context.Context, key tenant.Key, sink, rest string, args []any, each func(completeness.Receipt) error) error {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+receiptColumns+` FROM receipts
		WHERE org_id = $1 AND sink_id = $2 AND app_id = $3 `+rest, append([]any{key.Org, sink, key.App}, args...)...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		c, err := scanReceipt(rows)
		if err != nil {
			return fmt.Errorf("scan receipt: %w", err)
		}
		if err := each(c); err != nil {
			return err
		}
	}
	return rows.Err()
}

// SaveReceipts records what a sink has acknowledged, one receipt for a document.
// It belongs in the transaction that moves the cursor, which must exist.
func (tx *Tx) SaveReceipts(ctx context.Context, key tenant.Key, sink string, receipts []completeness.Receipt) error {
	return inRowSizes(receipts, func(some []completeness.Receipt) error {
		const columns = 6
		var sql strings.Builder
		sql.WriteString(`INSERT INTO receipts (org_id, sink_id, app_id, ` + receiptColumns + `) VALUES `)
		args := make([]any, 0, 3+columns*len(some))
		args = append(args, key.Org, sink, key.App)
		for i, r := range some {
			if i > 0 {
				sql.WriteByte(',')
			}
			sql.WriteString("($1,$2,$3")
			for j := range columns {
				fmt.Fprintf(&sql, ",$%d", 3+i*columns+j+1)
			}
			sql.WriteByte(')')
			args = append(args, r.Document, r.Floor, r.Seq, r.Hash[:], r.Count, r.Digest[:])
		}
		sql.WriteString(` ON CONFLICT (org_id, sink_id, app_id, document_id) DO UPDATE SET floor = excluded.floor,
			seq = excluded.seq, hash = excluded.hash, count = excluded.count, digest = excluded.digest`)
		if _, err := tx.of(key.Org).ExecContext(ctx, sql.String(), args...); err != nil {
			return fmt.Errorf("save receipts: %w", err)
		}
		return nil
	})
}

// Omissions returns what an operator gave up at a sink in a formation, by document
// and seq.
func (s queries) Omissions(ctx context.Context, key tenant.Key, sink string) ([]completeness.Omission, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT document_id, from_seq, to_seq, kind, at FROM omissions
		WHERE org_id = $1 AND sink_id = $2 AND app_id = $3 ORDER BY document_id, from_seq`, key.Org, sink, key.App)
	return collect(rows, err, func(r row) (completeness.Omission, error) {
		var o completeness.Omission
		var at int64
		err := r.Scan(&o.Document, &o.From, &o.To, &o.Kind, &at)
		o.At = fromMicros(at)
		return o, err
	})
}

// AddOmission records what an operator gave up. One that begins at the same change
// replaces the one before. The cursor of the sink and formation must exist.
func (tx *Tx) AddOmission(ctx context.Context, key tenant.Key, sink string, o completeness.Omission) error {
	_, err := tx.of(key.Org).ExecContext(ctx, `INSERT INTO omissions (org_id, sink_id, app_id, document_id, from_seq, to_seq, kind, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (org_id, sink_id, app_id, document_id, from_seq) DO UPDATE SET
			to_seq = excluded.to_seq, kind = excluded.kind, at = excluded.at`,
		key.Org, sink, key.App, o.Document, o.From, o.To, string(o.Kind), micros(o.At))
	return err
}

// inRowSizes calls do with all, piece by piece, each of a length in rowSizes.
func inRowSizes[T any](all []T, do func([]T) error) error {
	for len(all) > 0 {
		n := 1
		for _, size := range rowSizes {
			if size <= len(all) {
				n = size
				break
			}
		}
		if err := do(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}
