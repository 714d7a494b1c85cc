package sqldb

import (
	"context"
	"database/sql"
	"strings"
	"sync"
)

// Querier is what *sql.DB and *sql.Tx have in common.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Dialect returns q, taking texts whose parameters are written $1, $2 … on either
// engine. SQLite takes these for names, and looks each up among all others: that
// made three quarters of the cost of a long INSERT. q is Reader or a transaction of
// InTx; for one of Snapshot there is SnapshotDialect.
func (db *DB) Dialect(q Querier) Querier {
	if db.Engine == Postgres {
		return q
	}
	tx, ok := q.(*sql.Tx)
	if !ok {
		return reading{db}
	}
	return within{tx, &db.texts, &db.writings}
}

// SnapshotDialect is Dialect for a transaction of Snapshot.
func (db *DB) SnapshotDialect(tx *sql.Tx) Querier {
	if db.Engine == Postgres {
		return tx
	}
	return within{tx, &db.texts, nil}
}

// reading runs single statements on SQLite, outside a transaction.
type reading struct{ db *DB }

func (r reading) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	t := r.db.texts.of(query)
	return r.db.read.ExecContext(ctx, t.query, t.place(args)...)
}

func (r reading) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	t := r.db.texts.of(query)
	if stmt := r.db.readings.of(ctx, t.query); stmt != nil {
		return stmt.QueryContext(ctx, t.place(args)...)
	}
	return r.db.read.QueryContext(ctx, t.query, t.place(args)...)
}

func (r reading) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	t := r.db.texts.of(query)
	if stmt := r.db.readings.of(ctx, t.query); stmt != nil {
		return stmt.QueryRowContext(ctx, t.place(args)...)
	}
	return r.db.read.QueryRowContext(ctx, t.query, t.place(args)...)
}

// within runs statements in a transaction on SQLite.
type within struct {
	tx    *sql.Tx
	texts *texts
	kept  *statements // nil: none
}

func (w within) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	t := w.texts.of(query)
	if stmt := w.kept.in(t.query); stmt != nil {
		return w.tx.StmtContext(ctx, stmt).ExecContext(ctx, t.place(args)...)
	}
	return w.tx.ExecContext(ctx, t.query, t.place(args)...)
}

// QueryContext prepares its statement anew: one that is kept can only run once at a
// time on a connection, and a caller may ask the same while it reads the answer.
func (w within) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	t := w.texts.of(query)
	return w.tx.QueryContext(ctx, t.query, t.place(args)...)
}

func (w within) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	t := w.texts.of(query)
	if stmt := w.kept.in(t.query); stmt != nil {
		return w.tx.StmtContext(ctx, stmt).QueryRowContext(ctx, t.place(args)...)
	}
	return w.tx.QueryRowContext(ctx, t.query, t.place(args)...)
}

// text is a statement whose parameters have lost their names.
type text struct {
	query  string
	places []int // which argument each place takes, from 1; nil if they are in order
}

func (t text) place(args []any) []any {
	if t.places == nil {
		return args
	}
	out := make([]any, 0, len(t.places))
	for _, n := range t.places {
		if n < 1 || n > len(args) {
			return args // the engine says what is wrong
		}
		out = append(out, args[n-1])
	}
	return out
}

// texts remembers what it has rewritten.
type texts struct {
	mu   sync.RWMutex
	seen map[string]text
}

// maxTexts is more than there are statements.
const maxTexts = 2000

func (t *texts) of(query string) text {
	t.mu.RLock()
	out, ok := t.seen[query]
	t.mu.RUnlock()
	if ok {
		return out
	}
	out = unname(query)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil || len(t.seen) >= maxTexts {
		t.seen = map[string]text{}
	}
	t.seen[query] = out
	return out
}

// unname replaces $1, $2 … by ?, but for what stands in quotes.
func unname(query string) text {
	var out strings.Builder
	out.Grow(len(query))
	var places []int
	quoted, ordered := false, true
	for i := 0; i < len(query); i++ {
		c := query[i]
		if c == '\'' {
			quoted = !quoted
		}
		n, end := 0, i+1
		for !quoted && c == '$' && end < len(query) && '0' <= query[end] && query[end] <= '9' {
			n, end = 10*n+int(query[end]-'0'), end+1
		}
		if end == i+1 {
			out.WriteByte(c)
			continue
		}
		out.WriteByte('?')
		places = append(places, n)
		ordered = ordered && n == len(places)
		i = end - 1
	}
	if ordered {
		places = nil
	}
	return text{out.String(), places}
}
