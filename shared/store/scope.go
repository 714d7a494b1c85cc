package store

import (
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// security keeps organizations apart a second time, by Postgres itself: what a
// statement forgets to ask for, the policies still demand. A new table is found by
// its column; one that has none is listed here, with the reason.
var security = sqldb.RowSecurity{
	Column:  "org_id",
	Setting: "peat.org",
	Tables: map[string]sqldb.Grants{
		// Which files were applied says nothing about anybody. Only the owner writes it.
		"migrations": {Runtime: "SELECT"},
		// A lease is named by who takes it; some are no organization's.
		"leases": {Runtime: "SELECT,INSERT,UPDATE", System: "SELECT"},
		// Everybody adds events; only the relay, which is the system, sees and removes them.
		"outbox": {Runtime: "INSERT", System: "SELECT,DELETE"},
		// Which logins of people were ended; people are no organization's. The sweep forgets them.
		"ended_logins": {Runtime: "SELECT,INSERT,UPDATE,DELETE"},
		// How far re-wrapping has come; it goes over all organizations or one.
		"rewraps": {Runtime: "SELECT,INSERT,UPDATE"},
		// Public keys of issuers, whom several organizations may name.
		"issuer_keys": {Runtime: "SELECT,INSERT,UPDATE,DELETE"},
		// The sweep forgets requests whose time is up, whosever they are.
		"idempotency": {Runtime: "SELECT,INSERT,UPDATE,DELETE", System: "SELECT,DELETE"},
		// The sweep forgets challenges that nobody can answer any more.
		"enrollment_challenges": {Runtime: "SELECT,INSERT,DELETE", System: "SELECT,DELETE"},
		// The sweep removes expired tickets, whosever they are.
		"tickets": {Runtime: "SELECT,INSERT,UPDATE,DELETE", System: "SELECT,DELETE"},
	},
}

// of runs statements on what one organization has. On Postgres nothing else is
// there for them, whatever they ask for.
func (s queries) of(org tenant.OrgID) sqldb.Querier {
	return s.db.Scoped(s.bare, sqldb.Owner(string(org)))
}

// everywhere runs statements on what all organizations have. Each use says why it
// must: it is where the database does not keep organizations apart.
func (s queries) everywhere(_ string) sqldb.Querier {
	return s.db.Scoped(s.bare, sqldb.Everyone())
}

// unowned runs statements on the tables that are no organization's.
func (s queries) unowned() sqldb.Querier {
	return s.db.Scoped(s.bare, sqldb.Scope{})
}
