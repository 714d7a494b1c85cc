package sqldb

import (
	"context"
	"database/sql"
	"sync"
)

// statements keeps SQLite's statements prepared: it has no plan cache of its own,
// and reading and planning a text took a fifth of the time of an append and more of
// a small query. Postgres needs none of this, since pgx keeps its own.
type statements struct {
	pool *sql.DB

	mu     sync.Mutex
	known  map[string]*sql.Stmt
	wanted []string // to be prepared when nobody is in a transaction
}

// maxStatements bounds what each connection keeps. The texts of a program are
// fewer; what comes after these is prepared anew each time.
const maxStatements = 400

// in returns the statement of a text if there is one yet. Inside a transaction none
// can be prepared, for the pool's only connection is taken: prepareWanted does it later.
func (s *statements) in(query string) *sql.Stmt {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stmt, ok := s.known[query]
	if !ok && len(s.known) < maxStatements {
		s.note(query)
		s.wanted = append(s.wanted, query)
	}
	return stmt
}

// note enters a text that has no statement yet, so that it is prepared once.
func (s *statements) note(query string) {
	if s.known == nil {
		s.known = map[string]*sql.Stmt{}
	}
	s.known[query] = nil
}

// of returns the statement of a text, outside of any transaction, or nil.
func (s *statements) of(ctx context.Context, query string) *sql.Stmt {
	s.mu.Lock()
	stmt, ok := s.known[query]
	if ok || len(s.known) >= maxStatements {
		s.mu.Unlock()
		return stmt
	}
	s.note(query)
	s.mu.Unlock()
	s.prepare(ctx, query)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[query]
}

// prepareWanted prepares what transactions before this one asked for.
func (s *statements) prepareWanted(ctx context.Context) {
	s.mu.Lock()
	wanted := s.wanted
	s.wanted = nil
	s.mu.Unlock()
	for _, query := range wanted {
		s.prepare(ctx, query)
	}
}

// prepare leaves a text as it is that cannot be prepared: whoever runs it is told why.
func (s *statements) prepare(ctx context.Context, query string) {
	stmt, err := s.pool.PrepareContext(ctx, query)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.known, query) // the caller may only have gone away
		return
	}
	s.known[query] = stmt
}

func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stmt := range s.known {
		if stmt != nil {
			_ = stmt.Close()
		}
	}
	s.known = nil
}
