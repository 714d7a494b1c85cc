package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// A commit waits for the disk, and a database does not care whether it then has
// the work of one or of twenty. A group makes one transaction of those that wait
// for each other anyway: on SQLite all of them, since it has one writer; on
// Postgres those that would queue for one row's lock (see InGroup).
//
//	begin
//	  the first one's work
//	  the second one's work   …
//	commit        nobody hears anything before this is done
//
// One that fails before it has written anything leaves nothing to undo. One that
// fails later takes the others with it, who begin again by themselves, and for a
// while after that the group sets a savepoint before each member: they cost as much
// as a statement or two.
//
// Each member sees what those before it did and fails by itself. None is told that
// it succeeded before the commit, and none that it failed: what it failed by may be
// the work of another that the commit then loses.
type group struct {
	mu      sync.Mutex
	waiting []*member
	leading bool // somebody is at work, or has been told to be
	careful int  // how many transactions from now on set savepoints; the leader's
	users   int  // who is in it, under the lock of groups
}

// member is one transaction that waits to be part of a group. Each works in the
// goroutine that called for it.
type member struct {
	ctx   context.Context
	fn    func(Querier) error
	lead  chan struct{} // closed when it is this one's turn to lead
	turn  chan Querier  // from the leader: work now
	ended chan struct{} // closed when fn has ended
	done  chan struct{} // closed when err is final
	err   error
}

// Limits of a group.
const (
	// maxGroup bounds how long the first waits for the last. More than 64
	// savepoints make Postgres slow.
	maxGroup = 48
	// groupTimeout ends a group on Postgres whose statements wait for others'
	// locks. Its members' own contexts cannot: they must not end it for the others.
	groupTimeout = 20 * time.Second
	// carefully is how long a group remembers that a member failed late.
	carefully = 64
)

var (
	// errAgain is the answer to a member whose group came to nothing by another's fault.
	errAgain = errors.New("sqldb: the group of transactions came to nothing")
	// errLate is an errAgain: a member failed when it had written, and there was no savepoint.
	errLate = fmt.Errorf("%w: a member failed late", errAgain)
	// errBroken is that of one that never returned: it panicked.
	errBroken = errors.New("sqldb: the work of the transaction broke off")
)

// InGroup is InTx for work that queues for the disk or for one row's lock: those of
// one name that wait at the same time share a transaction and its commit, though
// each fails by itself. On SQLite, which has one writer, the name does not matter;
// on Postgres work without a name has a transaction of its own. The end of ctx is
// heard before fn begins and between its statements, not within one.
func (db *DB) InGroup(ctx context.Context, name string, fn func(Querier) error) error {
	if db.Engine == SQLite {
		return db.inGroup(ctx, &db.writer, fn)
	}
	if name == "" {
		return db.InTx(ctx, func(tx *sql.Tx) error { return fn(tx) })
	}
	g := db.groups.take(name)
	defer db.groups.leave(name)
	return db.inGroup(ctx, g, fn)
}

// inGroup tries it in company once, and then alone: one whose work ends its
// transaction takes the others with it only that once.
func (db *DB) inGroup(ctx context.Context, g *group, fn func(Querier) error) error {
	alone := false
	return db.retry(ctx, func() error {
		if alone {
			return db.once(ctx, func(tx *sql.Tx) error { return fn(db.Dialect(tx)) })
		}
		alone = true
		return g.join(ctx, db, fn)
	})
}

// groups are those that somebody is in, by name.
type groups struct {
	mu   sync.Mutex
	open map[string]*group
}

func (all *groups) take(name string) *group {
	all.mu.Lock()
	defer all.mu.Unlock()
	g := all.open[name]
	if g == nil {
		if all.open == nil {
			all.open = map[string]*group{}
		}
		g = &group{}
		all.open[name] = g
	}
	g.users++
	return g
}

func (all *groups) leave(name string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if g := all.open[name]; g.users > 1 {
		g.users--
	} else {
		delete(all.open, name)
	}
}

// join runs fn as part of the group and returns when that is committed. It gives
// up early only while fn has not begun.
func (g *group) join(ctx context.Context, db *DB, fn func(Querier) error) error {
	m := &member{ctx: ctx, fn: fn, lead: make(chan struct{}), turn: make(chan Querier), ended: make(chan struct{}), done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	if !g.leading {
		g.leading = true
		close(m.lead)
	}
	g.mu.Unlock()
	gone := ctx.Done()
	for {
		select {
		case <-m.lead:
			g.work(db, m)
			return m.err
		case q := <-m.turn:
			m.run(q)
		case <-m.done:
			return m.err
		case <-gone:
			if g.leave(m) {
				return ctx.Err()
			}
			gone = nil // it is a member already, or the leader
		}
	}
}

// leave takes back a member that nobody has begun with and that does not lead.
func (g *group) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-m.lead:
		return false
	default:
	}
	for i, w := range g.waiting {
		if w == m {
			g.waiting = append(g.waiting[:i:i], g.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// work does the work of the leader, who waits too, and of those behind it; then it
// hands over.
func (g *group) work(db *DB, leader *member) {
	g.mu.Lock()
	n := min(len(g.waiting), maxGroup)
	members := g.waiting[:n:n]
	g.waiting = append([]*member(nil), g.waiting[n:]...)
	g.mu.Unlock()
	defer func() {
		// Deferred, for the leader's own work may panic.
		for _, m := range members {
			select {
			case <-m.done:
			default:
				m.err = errAgain
				close(m.done)
			}
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.waiting) == 0 {
			g.leading = false
			return
		}
		close(g.waiting[0].lead)
	}()
	err := db.together(leader, members, g.careful > 0)
	switch {
	case errors.Is(err, errLate):
		g.careful = carefully
	case g.careful > 0:
		g.careful--
	}
	for _, m := range members {
		if err != nil {
			m.err = err
		}
		close(m.done)
	}
}

// together runs the members in one transaction. Its error is that of all of them.
func (db *DB) together(leader *member, members []*member, careful bool) error {
	ctx, cancel := context.Background(), func() {}
	if db.Engine == Postgres {
		ctx, cancel = context.WithTimeout(ctx, groupTimeout)
	}
	defer cancel()
	db.writings.prepareWanted(ctx)
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	alone := len(members) == 1
	var changed bool
	for _, m := range members {
		if m.err = m.ctx.Err(); m.err != nil {
			continue
		}
		if careful && !alone {
			if _, err := tx.ExecContext(ctx, `SAVEPOINT member`); err != nil {
				return again(err)
			}
		}
		q := &steady{q: db.Dialect(tx), group: ctx}
		if m == leader {
			m.run(q)
		} else {
			m.turn <- q
			<-m.ended
		}
		switch {
		case m.err == nil:
			changed = true
		case isRetryable(m.err), alone:
			return m.err // Postgres does nothing more in such a transaction
		case !careful:
			if q.dirty {
				return errLate
			}
		default:
			// What follows is right only if this is done, and it fails if the
			// engine has given up the whole transaction.
			if _, err := tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT member`); err != nil {
				return again(err)
			}
		}
		if careful && !alone {
			if _, err := tx.ExecContext(ctx, `RELEASE SAVEPOINT member`); err != nil {
				return again(err)
			}
		}
	}
	if !changed {
		return nil
	}
	err = tx.Commit()
	switch {
	case err == nil:
		db.checkpoints.committed()
		return nil
	case !alone && IsAnswer(err):
		return again(err) // nothing was kept, and it need not be everybody's fault
	}
	return fmt.Errorf("commit: %w", err)
}

// IsAnswer tells whether err is what the engine says of a statement or a commit that it
// refuses. After any other the work may have been kept.
func IsAnswer(err error) bool {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	return errors.As(err, &pg) || errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
}

// again makes of what went wrong with the group itself a reason to try again.
func again(err error) error { return fmt.Errorf("%w: %w", errAgain, err) }

func (m *member) run(q Querier) {
	defer close(m.ended)
	m.err = errBroken // unless it returns
	m.err = m.fn(q)
}

// lasting is a member's context inside its group: values of its own, an end that is
// the group's. SQLite rolls the whole transaction back when a statement that writes
// is interrupted, and pgx closes the connection.
type lasting struct {
	context.Context
	values context.Context
}

func (c lasting) Value(key any) any { return c.values.Value(key) }

// steady runs a member's statements in its group's context, whatever context they
// are given. Between them it looks whether that has ended.
type steady struct {
	q     Querier
	group context.Context
	dirty bool // something was written, or a statement failed, after which Postgres goes on with nothing
}

// saw notes what a statement does to the transaction.
func (s *steady) saw(query string, err error) {
	if err != nil || !strings.HasPrefix(query, "SELECT") {
		s.dirty = true
	}
}

func (s *steady) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	res, err := s.q.ExecContext(lasting{s.group, ctx}, query, args...)
	s.saw(query, err)
	return res, err
}

func (s *steady) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows, err := s.q.QueryContext(lasting{s.group, ctx}, query, args...)
	s.saw(query, err)
	return rows, err
}

func (s *steady) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	// A row cannot say that it was not asked for; its statement is a short one.
	row := s.q.QueryRowContext(lasting{s.group, ctx}, query, args...)
	s.saw(query, row.Err())
	return row
}
