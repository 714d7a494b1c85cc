package store_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// TestMain runs the tests and then says whether row security was shown to keep
// organizations apart at every place of the store that runs a statement.
//
// Before each statement that the contract runs on Postgres, a stranger runs it on the
// same data, with its conditions on org_id taken out: the stranger must find and
// change what there would be in a database without anybody's data. As a control the
// stranger runs it again with row security out of the way, and then must find or
// change more, once at least for each place in the code.
func TestMain(m *testing.M) {
	code := m.Run()
	whole := !testing.Short() && os.Getenv("PEAT_TEST_POSTGRES_URL") != ""
	for _, name := range []string{"test.run", "test.skip", "test.bench", "test.fuzz", "test.list"} {
		whole = whole && flag.Lookup(name).Value.String() == ""
	}
	if whole && !strangers.report(os.Stdout) {
		code = 1
	}
	os.Exit(code)
}

// strangers has everything that was tried in this process.
var strangers attacks

// attack puts a stranger before every statement of a store on Postgres.
func attack(t *testing.T, s *store.Store) {
	strangers.once.Do(func() { strangers.places, strangers.err = readPlaces() })
	if strangers.err != nil {
		t.Fatal(strangers.err)
	}
	if s.DB().Engine == sqldb.Postgres {
		s.Around(func(q sqldb.Querier) sqldb.Querier { return attacked{q, s.DB(), &strangers, t} })
	}
}

const stranger = tenant.OrgID("stranger")

// place is where the code runs a statement.
type place struct {
	scope string // of, everywhere or unowned
	why   string // of everywhere

	seen, mutated, leaked int
}

// attacks is what has been done at each place, by file and line.
type attacks struct {
	once   sync.Once
	err    error
	mu     sync.Mutex
	places map[string]*place
}

// enough attacks of one place, if the control has leaked there; it gets many
// chances more to leak.
const enough = 3

// begin notes that a place was seen, and says whether it is to be attacked.
func (a *attacks) begin(where string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.places[where]
	if p == nil {
		panic("no statement is known at " + where)
	}
	p.seen++
	return p.scope == "of" && (p.mutated < enough || p.leaked == 0 && p.mutated < 300)
}

func (a *attacks) end(where string, leaked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.places[where].mutated++
	if leaked {
		a.places[where].leaked++
	}
}

// report says what was done, and whether it was enough.
func (a *attacks) report(w io.Writer) bool {
	mutated, runs, ok := 0, 0, true
	say := func(format string, args ...any) {
		_, _ = fmt.Fprintf(w, format+"\n", args...) // to a test's output
	}
	for _, where := range slices.Sorted(maps.Keys(a.places)) {
		p := a.places[where]
		switch {
		case p.seen == 0:
			ok = false
			say("%s: the contract never comes here", where)
		case p.scope == "everywhere":
			say("%s is on all organizations: %s", where, p.why)
		case p.scope == "of" && p.leaked == 0:
			ok = false
			say("%s: attacked %d times, and never would it have leaked: nothing is shown", where, p.mutated)
		case p.scope == "of":
			mutated++
			runs += p.mutated
		}
	}
	say("%d statements were attacked, %d times together", mutated, runs)
	return ok && mutated > 0
}

// readPlaces finds in the code every place that runs a statement.
func readPlaces() (map[string]*place, error) {
	out := map[string]*place{}
	names, err := filepath.Glob("*.go")
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			run, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"ExecContext", "QueryContext", "QueryRowContext"}, run.Sel.Name) {
				return true
			}
			position := set.Position(run.Sel.Pos())
			where := fmt.Sprintf("%s:%d", name, position.Line)
			p := &place{}
			if of, ok := run.X.(*ast.CallExpr); ok {
				if scope, ok := of.Fun.(*ast.SelectorExpr); ok {
					p.scope = scope.Sel.Name
					if p.scope == "everywhere" && len(of.Args) == 1 {
						if why, ok := of.Args[0].(*ast.BasicLit); ok {
							p.why = strings.Trim(why.Value, "`\"")
						}
					}
				}
			}
			if !slices.Contains([]string{"of", "everywhere", "unowned"}, p.scope) {
				problems = append(problems, fmt.Errorf("%s: a statement runs without a scope", where))
			}
			if p.scope == "everywhere" && len(p.why) < 10 {
				problems = append(problems, fmt.Errorf("%s: all organizations, and no reason given", where))
			}
			out[where] = p
			return true
		})
	}
	return out, errors.Join(problems...)
}

// attacked runs statements, each after a stranger has.
type attacked struct {
	q       sqldb.Querier
	db      *sqldb.DB
	attacks *attacks
	t       *testing.T
}

func (a attacked) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	a.before(ctx, query, args)
	return a.q.ExecContext(ctx, query, args...)
}

func (a attacked) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	a.before(ctx, query, args)
	return a.q.QueryContext(ctx, query, args...)
}

func (a attacked) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	a.before(ctx, query, args)
	return a.q.QueryRowContext(ctx, query, args...)
}

var condition = regexp.MustCompile(`(?:\w+\.)?\borg_id\s*[<>]?=\s*(?:(\$\d+)|\w+\.org_id)`)

// mutate takes the conditions on org_id out of a statement.
func mutate(query string) string {
	return condition.ReplaceAllStringFunc(query, func(c string) string {
		if p := condition.FindStringSubmatch(c)[1]; p != "" {
			return p + `::text = ` + p + `::text` // its type must still be known
		}
		return `true`
	})
}

// asStranger are a statement's arguments with another organization.
func asStranger(query string, args []any) []any {
	out := slices.Clone(args)
	for _, c := range condition.FindAllStringSubmatch(query, -1) {
		if n, err := strconv.Atoi(strings.TrimPrefix(c[1], "$")); err == nil {
			out[n-1] = stranger
		}
	}
	return out
}

// before attacks a statement that is about to run.
func (a attacked) before(ctx context.Context, query string, args []any) {
	where := caller()
	if !a.attacks.begin(where) {
		return
	}
	tx, inTx := a.q.(*sql.Tx)
	if !inTx {
		var err error
		if tx, err = a.db.Reader().BeginTx(ctx, nil); err != nil {
			return // the statement will tell
		}
		defer func() { _ = tx.Rollback() }()
	}
	got := a.attempt(ctx, tx, false, mutate(query), args)
	want := a.attempt(ctx, tx, true, query, asStranger(query, args))
	control := a.attempt(ctx, tx, true, mutate(query), args)
	leaked := false
	switch verb := strings.ToUpper(strings.Fields(query)[0]); verb {
	case "SELECT", "WITH":
		if got.failure != "" || cmp.Diff(want.rows, got.rows) != "" {
			a.t.Errorf("%s: a stranger finds %v %s, should find %v\n%s", where, got.rows, got.failure, want.rows, mutate(query))
		}
		leaked = cmp.Diff(want.rows, control.rows) != ""
	case "INSERT":
		if got.failure != notAllowed && (got.failure != "" || got.changed+len(got.rows) > 0) {
			a.t.Errorf("%s: a stranger adds %d rows, or fails with %q\n%s", where, got.changed, got.failure, mutate(query))
		}
		leaked = control.changed+len(control.rows) > 0
	case "UPDATE", "DELETE":
		if got.failure != "" || got.changed+len(got.rows) > 0 {
			a.t.Errorf("%s: a stranger changes %d rows, or fails with %q\n%s", where, got.changed, got.failure, mutate(query))
		}
		// What others still refer to cannot be deleted, but it was about to be.
		leaked = control.changed+len(control.rows) > 0 || control.failure == "23503"
	default:
		a.t.Errorf("%s: nothing is known about %s", where, verb)
	}
	a.attacks.end(where, leaked)
}

// caller is the place in the store that runs the statement.
func caller() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "shared/store.") && !strings.HasSuffix(f.File, "_test.go") {
			return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		}
		if !more {
			panic("a statement from nowhere")
		}
	}
}

const notAllowed = "42501"

// outcome is what a statement came to.
type outcome struct {
	rows    [][]any
	changed int
	failure string // Postgres's class
}

// attempt runs a statement as the stranger and undoes it. above is with row security
// out of the way.
func (a attacked) attempt(ctx context.Context, tx *sql.Tx, above bool, query string, args []any) outcome {
	q := a.db.Scoped(tx, sqldb.Owner(string(stranger)))
	run := func(query string) {
		if _, err := q.ExecContext(ctx, query); err != nil {
			a.t.Errorf("%s: %v", query, err)
		}
	}
	run(`SAVEPOINT attack`)
	defer func() {
		run(`ROLLBACK TO SAVEPOINT attack`)
		run(`RELEASE SAVEPOINT attack`)
	}()
	if above {
		run(`SELECT set_config('role', 'none', true)`) // the tests' login is a superuser
	}
	out, err := answer(ctx, q, query, args)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		out.failure = pg.Code
	} else if err != nil {
		out.failure = err.Error()
	}
	return out
}

func answer(ctx context.Context, q sqldb.Querier, query string, args []any) (outcome, error) {
	var out outcome
	verb := strings.ToUpper(strings.Fields(query)[0])
	if verb != "SELECT" && verb != "WITH" && !strings.Contains(strings.ToUpper(query), "RETURNING") {
		res, err := q.ExecContext(ctx, query, args...)
		if err != nil {
			return out, err
		}
		n, err := res.RowsAffected()
		out.changed = int(n)
		return out, err
	}
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return out, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return out, err
	}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			return out, err
		}
		out.rows = append(out.rows, values)
	}
	return out, rows.Err()
}

func TestMutate(t *testing.T) {
	for in, want := range map[string]string{
		`SELECT x FROM t WHERE org_id = $1 AND y = $2`:              `SELECT x FROM t WHERE $1::text = $1::text AND y = $2`,
		`DELETE FROM t WHERE y = $1 AND org_id=$12`:                 `DELETE FROM t WHERE y = $1 AND $12::text = $12::text`,
		`SELECT 1 FROM a JOIN b ON b.org_id = a.org_id AND b.x=a.x`: `SELECT 1 FROM a JOIN b ON true AND b.x=a.x`,
		`SELECT x FROM t WHERE org_id >= $1 AND org_id <= $2`:       `SELECT x FROM t WHERE $1::text = $1::text AND $2::text = $2::text`,
		`INSERT INTO t (org_id) VALUES ($1)`:                        `INSERT INTO t (org_id) VALUES ($1)`,
		`SELECT org_id FROM t WHERE org_id > $1`:                    `SELECT org_id FROM t WHERE org_id > $1`,
	} {
		if got := mutate(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
