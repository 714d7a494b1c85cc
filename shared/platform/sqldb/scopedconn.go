package sqldb

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
)

// scopedConnector makes connections that put every statement into its scope.
type scopedConnector struct {
	driver.Connector
	setting string
	roles   Roles
}

func (c scopedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &scopedConn{Conn: inner.(*stdlib.Conn), setting: c.setting, roles: c.roles}, nil
}

// scopedConn tells the server a statement's scope in the same message as the
// statement, so that it costs no trip of its own. What it sets is local to a
// transaction. Outside of one, the two are a transaction together: the server takes
// what comes before one Sync for that.
type scopedConn struct {
	*stdlib.Conn
	setting string
	roles   Roles
	inTx    bool
	current Scope // what the open transaction was told last
	unsure  bool  // what it was told may have been undone
}

const (
	setOwner = `SELECT set_config($1, $2, true)`
	setScope = `SELECT set_config($1, $2, true), set_config('role', $3, true)`
)

// begin sends a statement and its scope and returns what the statement answers.
func (c *scopedConn) begin(ctx context.Context, scope Scope, query string, args []driver.NamedValue) (pgx.BatchResults, error) {
	values := make([]any, len(args))
	for i, a := range args {
		values[i] = a.Value
	}
	var b pgx.Batch
	switch {
	case scope.all:
		b.Queue(setScope, c.setting, "", c.roles.System)
	case c.current.all, c.unsure:
		b.Queue(setScope, c.setting, scope.owner, c.roles.Runtime)
	default: // the role is the right one already
		b.Queue(setOwner, c.setting, scope.owner)
	}
	b.Queue(query, values...)
	results := c.Conn.Conn().SendBatch(ctx, &b)
	if _, err := results.Exec(); err != nil {
		_ = results.Close() // err is the cause
		return nil, retryable(err)
	}
	if c.inTx {
		c.current, c.unsure = scope, false
	}
	return results, nil
}

// direct tells whether a statement may go as it is. One that moves in the
// transaction touches no row, and may have to go where no other is heard.
func (c *scopedConn) direct(scope Scope, query string) bool {
	switch {
	case strings.HasPrefix(query, "ROLLBACK TO "):
		c.unsure = true // the server forgets what it was told since the savepoint
		return true
	case strings.HasPrefix(query, "SAVEPOINT "), strings.HasPrefix(query, "RELEASE "):
		return true
	}
	return scope == c.current && !c.unsure
}

// retryable lets database/sql try another connection if nothing was sent on this one.
func retryable(err error) error {
	if pgconn.SafeToRetry(err) {
		return driver.ErrBadConn
	}
	return err
}

// ExecContext is the driver's, in the scope of ctx.
func (c *scopedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	scope := scopeOf(ctx)
	if c.direct(scope, query) {
		return c.Conn.ExecContext(ctx, query, args)
	}
	if c.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	results, err := c.begin(ctx, scope, query, args)
	if err != nil {
		return nil, err
	}
	tag, err := results.Exec()
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return driver.RowsAffected(tag.RowsAffected()), err
}

// QueryContext is the driver's, in the scope of ctx.
func (c *scopedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	scope := scopeOf(ctx)
	if c.direct(scope, query) {
		return c.Conn.QueryContext(ctx, query, args)
	}
	if c.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	results, err := c.begin(ctx, scope, query, args)
	if err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		_ = results.Close() // err is the cause
		return nil, err
	}
	// The first row is read now, for two reasons: what the statement fails with is told
	// here, and the columns are known afterwards.
	out := &scopedRows{results: results, rows: rows, ahead: true, more: rows.Next()}
	if err := rows.Err(); err != nil {
		_ = out.Close() // err is the cause
		return nil, err
	}
	return out, nil
}

// BeginTx is the driver's. A transaction begins with nobody's scope.
func (c *scopedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.inTx, c.current, c.unsure = true, Scope{}, false
	return scopedTx{tx, c}, nil
}

// ResetSession keeps a connection that is still in somebody's scope from being used again.
func (c *scopedConn) ResetSession(ctx context.Context) error {
	if c.inTx || c.current != (Scope{}) {
		return driver.ErrBadConn
	}
	return c.Conn.ResetSession(ctx)
}

type scopedTx struct {
	driver.Tx
	conn *scopedConn
}

func (t scopedTx) Commit() error {
	t.conn.inTx, t.conn.current, t.conn.unsure = false, Scope{}, false
	return t.Tx.Commit()
}

func (t scopedTx) Rollback() error {
	t.conn.inTx, t.conn.current, t.conn.unsure = false, Scope{}, false
	return t.Tx.Rollback()
}

// scopedRows are the answer to a statement that was sent with its scope.
type scopedRows struct {
	results pgx.BatchResults
	rows    pgx.Rows
	ahead   bool // the first row is read already, and was there if more
	more    bool
}

func (r *scopedRows) Columns() []string {
	fields := r.rows.FieldDescriptions()
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}

func (r *scopedRows) Close() error {
	r.rows.Close()
	err := r.rows.Err()
	if closeErr := r.results.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Next fills dest. What it points into is good until the next call, as the driver
// interface has it.
func (r *scopedRows) Next(dest []driver.Value) error {
	if r.ahead {
		r.ahead = false
	} else {
		r.more = r.rows.Next()
	}
	if !r.more {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	fields := r.rows.FieldDescriptions()
	var decoded []any
	for i, raw := range r.rows.RawValues() {
		value, ok := plain(fields[i], raw)
		if !ok {
			if decoded == nil {
				var err error
				if decoded, err = r.rows.Values(); err != nil {
					return fmt.Errorf("convert: %w", err)
				}
			}
			var err error
			if value, err = ordinary(decoded[i]); err != nil {
				return fmt.Errorf("convert column %s: %w", fields[i].Name, err)
			}
		}
		dest[i] = value
	}
	return nil
}

// plain decodes the types that tables are made of, or returns false.
func plain(f pgconn.FieldDescription, raw []byte) (driver.Value, bool) {
	switch {
	case raw == nil:
		return nil, true
	case f.Format == pgtype.TextFormatCode || f.DataTypeOID == pgtype.TextOID:
		return string(raw), true
	case f.DataTypeOID == pgtype.ByteaOID:
		return raw, true
	case f.DataTypeOID == pgtype.Int8OID && len(raw) == 8:
		return int64(binary.BigEndian.Uint64(raw)), true
	case f.DataTypeOID == pgtype.BoolOID && len(raw) == 1:
		return raw[0] != 0, true
	}
	return nil, false
}

// ordinary makes a value that database/sql knows.
func ordinary(v any) (driver.Value, error) {
	switch v := v.(type) {
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case float32:
		return float64(v), nil
	case driver.Valuer:
		return v.Value()
	}
	if !driver.IsValue(v) {
		return nil, fmt.Errorf("a %T cannot be read", v)
	}
	return v, nil
}
