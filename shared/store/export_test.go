package store

import "github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"

// Security is what row security is made from.
var Security = security

// Around puts something around whatever runs the store's statements from now on.
func (s *Store) Around(around func(sqldb.Querier) sqldb.Querier) {
	s.around = around
	s.bare = around(s.bare)
}

// DB is the database below.
func (s *Store) DB() *sqldb.DB { return s.db }
