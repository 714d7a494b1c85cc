package sqldb

import (
	"context"
	"database/sql"
)

// Scope is whose rows a statement may touch where RowSecurity is on. The zero
// Scope is nobody's: a statement that forgot its scope sees no owned row.
type Scope struct {
	owner string
	all   bool
}

// Owner is the scope of the rows with this value in the column of RowSecurity.
func Owner(value string) Scope { return Scope{owner: value} }

// Everyone is the scope of all rows, for the few things the system role may do.
func Everyone() Scope { return Scope{all: true} }

type scopeKey struct{}

// scopeOf is the scope of a statement: a context is what reaches the driver.
func scopeOf(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey{}).(Scope)
	return s
}

// Scoped returns q with its statements in a scope. On SQLite, which has no row
// security, that is q itself.
func (db *DB) Scoped(q Querier, s Scope) Querier {
	if db.Engine == SQLite {
		return q
	}
	return scoped{q, s}
}

type scoped struct {
	q     Querier
	scope Scope
}

func (s scoped) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, s.scope)
}

func (s scoped) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return s.q.ExecContext(s.in(ctx), query, args...)
}

func (s scoped) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.q.QueryContext(s.in(ctx), query, args...)
}

func (s scoped) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return s.q.QueryRowContext(s.in(ctx), query, args...)
}
