package sqldb_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestOwnerAndGatewayAreTwoLogins is how it is meant to run: who migrates owns the
// tables and is not there when requests are served.
func TestOwnerAndGatewayAreTwoLogins(t *testing.T) {
	databaseURL := testenv.Postgres(t)
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	roles := sqldb.RolesOf(name)
	owner, gateway := name+"_owner", name+"_gateway"
	as := func(login string) string {
		v := *u
		v.User = url.User(login)
		return v.String()
	}
	admin(t, databaseURL, `CREATE ROLE `+owner+` LOGIN`, `CREATE ROLE `+gateway+` LOGIN NOINHERIT`,
		`CREATE ROLE `+roles.Runtime, `CREATE ROLE `+roles.System, `GRANT `+roles.Runtime+`, `+roles.System+` TO `+gateway,
		`ALTER DATABASE `+name+` OWNER TO `+owner, `ALTER SCHEMA public OWNER TO `+owner)
	t.Cleanup(func() {
		db, err := pgx.Connect(context.Background(), databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close(context.Background()) }()
		for _, s := range []string{`ALTER SCHEMA public OWNER TO postgres`, `ALTER DATABASE ` + name + ` OWNER TO postgres`,
			`DROP OWNED BY ` + owner + ` CASCADE`, `DROP OWNED BY ` + gateway, `DROP ROLE ` + owner + `, ` + gateway} {
			if _, err := db.Exec(context.Background(), s); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
	})
	if _, err := sqldb.OpenSecured(t.Context(), as(gateway), as(gateway), tables, security); err == nil {
		t.Fatal("the gateway's login migrated")
	}
	for _, ownerURL := range []string{as(owner), as(gateway)} { // the second time there is nothing to migrate
		db, err := sqldb.OpenSecured(t.Context(), as(gateway), ownerURL, tables, security)
		if err != nil {
			t.Fatal(err)
		}
		admin(t, databaseURL, `DELETE FROM things`, `INSERT INTO things VALUES ('a', 'x'), ('b', 'x')`)
		wantThings(t, db.Scoped(db.Reader(), sqldb.Owner("a")), "ax")
		wantThings(t, db.Scoped(db.Reader(), sqldb.Everyone()), "ax", "bx")
		wantThings(t, db.Reader())
		_ = db.Close()
	}
	// A migration changes what everybody has, though the owner does not see it otherwise.
	more := maps.Clone(tables)
	more["2.sql"] = &fstest.MapFile{Data: []byte(`UPDATE things SET name = name || '!'`)}
	db, err := sqldb.OpenSecured(t.Context(), as(gateway), as(owner), more, security)
	if err != nil {
		t.Fatal(err)
	}
	wantThings(t, db.Scoped(db.Reader(), sqldb.Everyone()), "ax!", "bx!")
	_ = db.Close()
	// Neither login is above it, whoever forgets whatever.
	for _, login := range []string{owner, gateway} {
		db, err := sqldb.Open(t.Context(), as(login))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := things(t.Context(), db.Reader()); err == nil && len(got) > 0 {
			t.Errorf("%s sees %v", login, got)
		}
		_ = db.Close()
	}
}

// TestDrift shows that a process does not begin to work on a database that keeps
// nobody apart, and that the owner mends it.
func TestDrift(t *testing.T) {
	for name, statement := range map[string]string{
		"switched off":     `ALTER TABLE things DISABLE ROW LEVEL SECURITY`,
		"not for owners":   `ALTER TABLE things NO FORCE ROW LEVEL SECURITY`,
		"no policy":        `DROP POLICY own_rows ON things`,
		"a table more":     `CREATE TABLE more (owner TEXT)`,
		"a grant is gone":  `REVOKE SELECT ON things FROM PUBLIC, "%s"`,
		"a migration less": `DELETE FROM migrations`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, databaseURL := filled(t)
			if strings.Contains(statement, "%s") {
				statement = fmt.Sprintf(statement, sqldb.RolesOf(databaseURL[strings.LastIndex(databaseURL, "/")+1:strings.LastIndex(databaseURL, "?")]).Runtime)
			}
			if name == "a migration less" {
				admin(t, databaseURL, `DROP TABLE parts, things, weather, hidden`)
			}
			admin(t, databaseURL, statement)
			u, _ := url.Parse(databaseURL)
			login := strings.TrimPrefix(u.Path, "/") + "_less"
			roles := sqldb.RolesOf(strings.TrimPrefix(u.Path, "/"))
			admin(t, databaseURL, `CREATE ROLE `+login+` LOGIN NOINHERIT`, `GRANT `+roles.Runtime+`, `+roles.System+` TO `+login)
			t.Cleanup(func() {
				db, err := pgx.Connect(context.Background(), databaseURL)
				if err == nil {
					_, err = db.Exec(context.Background(), `DROP ROLE `+login)
					_ = db.Close(context.Background())
				}
				if err != nil {
					t.Error(err)
				}
			})
			u.User = url.User(login)
			if db, err := sqldb.OpenSecured(t.Context(), u.String(), u.String(), tables, security); err == nil {
				_ = db.Close()
				t.Error("it was opened as it was")
			}
			db := open(t, databaseURL)
			wantThings(t, db.Reader())
		})
	}
	t.Run("a policy that shows more", func(t *testing.T) {
		_, databaseURL := filled(t)
		admin(t, databaseURL, `CREATE POLICY hole ON things USING (true)`)
		_, err := sqldb.OpenSecured(t.Context(), databaseURL, databaseURL, tables, security)
		if err == nil || !strings.Contains(err.Error(), "things") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a role above it", func(t *testing.T) {
		_, databaseURL := filled(t)
		u, _ := url.Parse(databaseURL)
		admin(t, databaseURL, `ALTER ROLE `+sqldb.RolesOf(strings.TrimPrefix(u.Path, "/")).System+` BYPASSRLS`)
		if _, err := sqldb.OpenSecured(t.Context(), databaseURL, databaseURL, tables, security); err == nil {
			t.Error("it was opened")
		}
	})
}

func TestSeveralBeginAtOnce(t *testing.T) {
	databaseURL := testenv.Postgres(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			db, err := sqldb.OpenSecured(t.Context(), databaseURL, databaseURL, tables, security)
			if err != nil {
				t.Error(err)
				return
			}
			_ = db.Close()
		})
	}
	wg.Wait()
}

func TestRolesOf(t *testing.T) {
	seen := map[string]bool{}
	for _, database := range []string{"peat", strings.Repeat("x", 63), strings.Repeat("x", 62) + "y", strings.Repeat("é", 31), "Mixed Case"} {
		r := sqldb.RolesOf(database)
		for _, role := range []string{r.Runtime, r.System} {
			if len(role) > 63 || seen[role] {
				t.Errorf("%q has the role %q", database, role)
			}
			seen[role] = true
		}
	}
	if got := sqldb.RolesOf("peat"); got != (sqldb.Roles{Runtime: "peat_runtime", System: "peat_system"}) {
		t.Error(got)
	}
	if !slices.IsSorted([]string{sqldb.RolesOf("a").Runtime, sqldb.RolesOf("b").Runtime}) {
		t.Error("names do not begin with the database's")
	}
}
