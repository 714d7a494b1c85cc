package store_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// isolationContract runs what the other contracts run only where there is nothing to
// find, so that a stranger (see TestMain) has something to find there.
var isolationContract = map[string]func(*testing.T, *store.Store){
	"documents are counted":          testCountDocuments,
	"ended replays are not all kept": testEndedReplays,
	"a sink is marked":               testMarkSink,
	"tickets are listed":             testListTickets,

	"destructions are kept":            testDestructions,
	"requests are remembered":          testRequestClaims,
	"what is locked is there":          testLocked,
	"an organization's key is its own": testOrgKeyIsItsOwn,
	"where an authority's key is":      testRootOf,
}

func TestIsolation(t *testing.T) {
	for name, test := range isolationContract {
		t.Run("sqlite/"+name, func(t *testing.T) {
			t.Parallel()
			run(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"), test)
		})
		t.Run("postgres/"+name, func(t *testing.T) {
			t.Parallel()
			run(t, testenv.Postgres(t), test)
		})
	}
}

func testCountDocuments(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	appendAll(t, s, key, chain("d", 1, 2))
	if n, err := s.CountDocuments(t.Context(), key); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func testEndedReplays(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addSink(t, s, "s1", delivery.Start{}, "*")
	const kept, made = 200, 204
	for i := range made {
		inTx(t, s, func(tx *store.Tx) error {
			return tx.CreateReplay(t.Context(), delivery.Replay{Org: key.Org, Sink: "s1", App: key.App, ID: fmt.Sprintf("r%03d", i), State: delivery.Done, CreatedAt: now})
		})
	}
	if list, err := s.Replays(t.Context(), key.Org, "s1", "", 1000); len(list) != kept || err != nil {
		t.Error(len(list), err)
	}
}

func testMarkSink(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addSink(t, s, "s1", delivery.Start{}, "*")
	inTx(t, s, func(tx *store.Tx) error { return tx.MarkSink(t.Context(), key.Org, "s1", delivery.Failing, "why") })
	if sink, err := s.Sink(t.Context(), key.Org, "s1"); sink.State != delivery.Failing || err != nil {
		t.Error(sink.State, err)
	}
}

func testListTickets(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	ticket := store.Ticket{Org: key.Org, App: key.App, ID: "t1", Hash: []byte("h"), CreatedAt: store.Precise(now), ExpiresAt: store.Precise(now.Add(time.Hour))}
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateTicket(t.Context(), ticket) })
	list, err := s.Tickets(t.Context(), key, "", 10)
	if diff := cmp.Diff([]store.Ticket{ticket}, list); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

// TestEveryTableIsSomebodysOrListed reads the catalog, so that a migration cannot
// forget a table.
func TestEveryTableIsSomebodysOrListed(t *testing.T) {
	s, err := store.Open(t.Context(), testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	rows, err := s.DB().Reader().QueryContext(t.Context(), `SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,
			EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id' AND a.attnotnull),
			COALESCE((SELECT string_agg(p.policyname || ' for ' || p.cmd || ': ' || p.qual || ', ' || p.with_check, '; ' ORDER BY p.policyname)
				FROM pg_policies p WHERE p.schemaname = current_schema() AND p.tablename = c.relname), ''),
			has_table_privilege(c.oid, 'TRUNCATE') OR has_table_privilege(c.oid, 'REFERENCES') OR has_table_privilege(c.oid, 'TRIGGER')
		FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	own := `(org_id = NULLIF(current_setting('peat.org'::text, true), ''::text))`
	migrating := `(( SELECT current_setting('sqldb.migrating'::text, true) AS current_setting) = 'yes'::text)`
	want := fmt.Sprintf("migration_rows for ALL: %[1]s, %[1]s; own_rows for ALL: %[2]s, %[2]s; system_rows for ALL: true, true", migrating, own)
	n := 0
	for rows.Next() {
		var name, policies string
		var secured, owned, more bool
		if err := rows.Scan(&name, &secured, &owned, &policies, &more); err != nil {
			t.Fatal(err)
		}
		n++
		_, listed := store.Security.Tables[name]
		switch {
		case !owned && !listed:
			t.Errorf("%s is no organization's and not listed", name)
		case !owned && secured:
			t.Errorf("%s is under row security and has no org_id", name)
		case owned && (!secured || policies != want):
			t.Errorf("%s: %v, %s\nwant %s", name, secured, policies, want)
		}
		if more {
			t.Errorf("%s: more is granted than reading and writing", name)
		}
	}
	if err := rows.Err(); err != nil || n < 10 {
		t.Error(n, err)
	}
}

// TestAnUnscopedStatementFindsNothing is the store's own connection without a word
// about whose data is meant.
func TestAnUnscopedStatementFindsNothing(t *testing.T) {
	run(t, testenv.Postgres(t), func(t *testing.T, s *store.Store) {
		addOrg(t, s, "acme")
		for _, org := range []string{"", "*", "acme' OR 'a' = 'a"} {
			if _, err := s.Org(t.Context(), "acme"); err != nil {
				t.Error(err)
			}
			var n int
			if err := s.DB().Reader().QueryRowContext(t.Context(), `SELECT count(*) FROM orgs WHERE org_id = 'acme' OR org_id = $1`, org).Scan(&n); n != 0 || err != nil {
				t.Error(n, err)
			}
		}
		for _, attempt := range []string{`ALTER TABLE orgs DISABLE ROW LEVEL SECURITY`, `DROP POLICY own_rows ON orgs`, `CREATE TABLE mine (x int)`, `TRUNCATE orgs CASCADE`} {
			if _, err := s.DB().Reader().ExecContext(t.Context(), attempt); err == nil || !strings.Contains(err.Error(), "42501") {
				t.Errorf("%s: %v", attempt, err)
			}
		}
	})
}
