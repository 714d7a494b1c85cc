package sqldb

import (
	"fmt"
	"reflect"
	"strings"
)

// Column is one of the columns of rows that go into one statement.
type Column struct{ Name, Type string }

// The types of columns. Integers of any size are BigInt.
const (
	Text   = "text"
	Bytes  = "bytea"
	BigInt = "bigint"
)

// RowsAtOnce is how many rows are worth one statement. Postgres is asked over a wire,
// and each question costs as much as many rows. SQLite is not, and would have to
// prepare a statement for each number of rows.
func (db *DB) RowsAtOnce() int {
	if db.Engine == Postgres {
		return 64
	}
	return 1
}

// Insert returns the beginning of a statement that inserts rows, up to what comes
// after them, such as ON CONFLICT, and its arguments. On Postgres it is one text for
// any number of rows, so that it is planned once.
func (db *DB) Insert(table string, columns []Column, rows [][]any) (string, []any) {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	into := `INSERT INTO ` + table + ` (` + strings.Join(names, `, `) + `) `
	if db.Engine == Postgres {
		from, args := arrays(1, columns, rows)
		return into + `SELECT * FROM ` + from, args
	}
	var out strings.Builder
	out.WriteString(into + `VALUES `)
	var args []any
	for i, row := range rows {
		if i > 0 {
			out.WriteString(`, `)
		}
		out.WriteString(`(` + places(1+i*len(columns), len(columns)) + `)`)
		args = append(args, row...)
	}
	return out.String(), args
}

// Table returns rows as a table that a statement can read, whose parameters begin
// with the given number, and its arguments. It has a further column, nth, that
// counts from 1.
func (db *DB) Table(first int, columns []Column, rows [][]any) (string, []any) {
	if db.Engine == Postgres {
		from, args := arrays(first, columns, rows)
		names := make([]string, len(columns))
		for i, c := range columns {
			names[i] = c.Name
		}
		return from + ` WITH ORDINALITY AS v (` + strings.Join(names, `, `) + `, nth)`, args
	}
	var out strings.Builder
	var args []any
	for i, row := range rows {
		if i > 0 {
			out.WriteString(` UNION ALL `)
		}
		out.WriteString(`SELECT `)
		for j, c := range columns {
			fmt.Fprintf(&out, `$%d AS %s, `, first+len(args)+j, c.Name)
		}
		fmt.Fprintf(&out, `%d AS nth`, i+1)
		args = append(args, row...)
	}
	return `(` + out.String() + `) AS v`, args
}

// arrays are rows as arrays, one for each column. They stand in subqueries, where the
// planner does not see how long they are: it would else plan anew each time, which
// costs more than the statement.
func arrays(first int, columns []Column, rows [][]any) (string, []any) {
	parts, args := make([]string, len(columns)), make([]any, len(columns))
	for i, c := range columns {
		parts[i] = fmt.Sprintf(`(SELECT $%d::%s[])`, first+i, c.Type)
		args[i] = array(c.Type, rows, i)
	}
	return `unnest(` + strings.Join(parts, `, `) + `)`, args
}

func array(kind string, rows [][]any, column int) any {
	switch kind {
	case Text:
		out := make([]string, len(rows))
		for i, row := range rows {
			out[i] = reflect.ValueOf(row[column]).String()
		}
		return out
	case Bytes:
		out := make([][]byte, len(rows))
		for i, row := range rows {
			out[i] = row[column].([]byte)
		}
		return out
	}
	out := make([]int64, len(rows))
	for i, row := range rows {
		if v := reflect.ValueOf(row[column]); v.CanInt() {
			out[i] = v.Int()
		} else {
			out[i] = int64(v.Uint())
		}
	}
	return out
}

// places are the places of n arguments, beginning with one.
func places(first, n int) string {
	var out strings.Builder
	for i := range n {
		if i > 0 {
			out.WriteString(`, `)
		}
		fmt.Fprintf(&out, `$%d`, first+i)
	}
	return out.String()
}
