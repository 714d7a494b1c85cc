package sqldb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// RowSecurity is how Postgres itself keeps owners' rows apart. Each table that has
// the column gets policies: the runtime role sees the rows of the one owner that the
// setting names, the system role sees all. Neither owns anything. On SQLite there is
// nothing like it, and only the statements keep owners apart.
type RowSecurity struct {
	Column  string
	Setting string // such as app.owner
	// Tables says what the roles may do to tables where it is not the usual:
	// everything but TRUNCATE for the runtime role, SELECT for the system role. A
	// table without the column is nobody's unless it is here.
	Tables map[string]Grants
}

// Grants are privileges, a comma between them; empty means none.
type Grants struct{ Runtime, System string }

// usual are the grants on a table that has owners.
var usual = Grants{Runtime: "SELECT,INSERT,UPDATE,DELETE", System: "SELECT"}

// Roles are the two roles of a database. Roles are of a whole server, so their
// names begin with the database's.
type Roles struct{ Runtime, System string }

// maxIdentifier is what Postgres keeps of a name.
const maxIdentifier = 63

// RolesOf are the roles of the database with this name.
func RolesOf(database string) Roles {
	const longest = maxIdentifier - len("_runtime")
	if len(database) > longest {
		sum := sha256.Sum256([]byte(database))
		tail := hex.EncodeToString(sum[:8])
		database = strings.ToValidUTF8(database[:longest-len(tail)], "") + tail
	}
	return Roles{Runtime: database + "_runtime", System: database + "_system"}
}

// The names of the policies on each table. The last one is the owner's, who is
// held by policies as well and would change nothing in a migration that has to.
const (
	ownPolicy       = "own_rows"
	systemPolicy    = "system_rows"
	migrationPolicy = "migration_rows"
)

// migrating is the setting that a migration's transaction has.
const (
	migrating   = "sqldb.migrating"
	asMigration = `(SELECT current_setting('` + migrating + `', true)) = 'yes'`
)

// OpenSecured opens a database whose statements run under row security. What is
// missing of migrations, roles and policies is made first, by the login of ownerURL.
// Where nothing is missing, ownerURL is not used.
func OpenSecured(ctx context.Context, databaseURL, ownerURL string, dir fs.FS, security RowSecurity) (*DB, error) {
	if !isPostgres(databaseURL) {
		db, err := Open(ctx, databaseURL)
		if err == nil {
			if err = db.Migrate(ctx, dir); err != nil {
				_ = db.Close() // err is the cause
			}
		}
		return db, err
	}
	db, err := openRestricted(databaseURL, security)
	if err != nil {
		return nil, err
	}
	if db.missing(ctx, dir) == nil {
		return db, nil
	}
	if err = prepare(ctx, databaseURL, ownerURL, dir, security); err == nil {
		err = db.missing(ctx, dir)
	}
	if err != nil {
		_ = db.Close() // err is the cause
		return nil, redact(err)
	}
	return db, nil
}

func isPostgres(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

// openRestricted makes a pool whose connections begin as the runtime role and come
// back to it, whatever a statement did.
func openRestricted(databaseURL string, security RowSecurity) (*DB, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, errors.New("open postgres: the URL cannot be read")
	}
	roles := rolesOf(config)
	config.RuntimeParams["role"] = roles.Runtime
	pool := sql.OpenDB(scopedConnector{stdlib.GetConnector(*config), security.Setting, roles})
	limitPool(pool)
	return &DB{Engine: Postgres, read: pool, write: pool, security: &security, roles: roles}, nil
}

// rolesOf are the roles of the database that a connection goes to.
func rolesOf(config *pgx.ConnConfig) Roles {
	if config.Database == "" {
		return RolesOf(config.User) // as the server has it
	}
	return RolesOf(config.Database)
}

// prepare migrates and secures the database as its owner.
func prepare(ctx context.Context, databaseURL, ownerURL string, dir fs.FS, security RowSecurity) error {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return errors.New("open postgres: the URL cannot be read")
	}
	owner, err := Open(ctx, ownerURL)
	if err != nil {
		return err
	}
	defer func() { _ = owner.Close() }()
	if err := owner.Migrate(ctx, dir); err != nil {
		return err
	}
	if err := owner.Secure(ctx, security, rolesOf(config), config.User); err != nil {
		return fmt.Errorf("row security: %w", err)
	}
	return nil
}

// Secure makes the roles, lets the login act as them, and puts every table that has
// the column under the policies. It may be run again.
func (db *DB) Secure(ctx context.Context, security RowSecurity, roles Roles, login string) error {
	return db.InTx(ctx, func(tx *sql.Tx) error {
		if err := db.lockMigrations(ctx, tx); err != nil {
			return err
		}
		for _, role := range []string{roles.Runtime, roles.System} {
			if err := makeRole(ctx, tx, role, login); err != nil {
				return err
			}
		}
		tables, err := readTables(ctx, tx, security, roles)
		if err != nil {
			return err
		}
		var statements []string
		for _, t := range tables {
			statements = append(statements, t.secure(security, roles)...)
		}
		for _, s := range statements {
			if _, err := tx.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
}

func makeRole(ctx context.Context, tx *sql.Tx, role, login string) error {
	name := pgx.Identifier{role}.Sanitize()
	var above bool
	err := tx.QueryRowContext(ctx, `SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = $1`, role).Scan(&above)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		if _, err := tx.ExecContext(ctx, `CREATE ROLE `+name+` NOLOGIN NOBYPASSRLS`); err != nil {
			return fmt.Errorf("create role %s: %w", name, err)
		}
	case err != nil:
		return err
	case above:
		return fmt.Errorf("role %s is above row security", name)
	}
	var schema string
	if err := tx.QueryRowContext(ctx, `SELECT current_schema()`).Scan(&schema); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `GRANT USAGE ON SCHEMA `+pgx.Identifier{schema}.Sanitize()+` TO `+name); err != nil {
		return fmt.Errorf("let role %s see schema %s: %w", name, schema, err)
	}
	var member bool
	if err := tx.QueryRowContext(ctx, `SELECT pg_has_role($1, $2, 'MEMBER')`, login, role).Scan(&member); err != nil || member {
		return err
	}
	if _, err := tx.ExecContext(ctx, `GRANT `+name+` TO `+pgx.Identifier{login}.Sanitize()); err != nil {
		return fmt.Errorf("let %s act as role %s: %w", login, name, err)
	}
	return nil
}

// table is what the catalog says of a table.
type table struct {
	name, owner    string
	owned          bool // it has the column
	secured        bool // both switches are on and all policies there
	open           bool // another policy lets the roles see more
	ownedByRuntime bool
}

func readTables(ctx context.Context, q Querier, security RowSecurity, roles Roles) ([]table, error) {
	rows, err := q.QueryContext(ctx, `SELECT c.relname, pg_get_userbyid(c.relowner),
			EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped),
			c.relrowsecurity AND c.relforcerowsecurity AND 3 = (SELECT count(*) FROM pg_policy p
				WHERE p.polrelid = c.oid AND p.polcmd = '*' AND (p.polname = $4 AND p.polroles = ARRAY[r.oid]
					OR p.polname = $5 AND p.polroles = ARRAY[s.oid] OR p.polname = $6 AND p.polroles = ARRAY[c.relowner])),
			EXISTS (SELECT 1 FROM pg_policy p, unnest(p.polroles) AS role (oid)
				WHERE p.polrelid = c.oid AND p.polpermissive AND p.polname NOT IN ($4, $5, $6)
				  AND (role.oid = 0 OR pg_has_role(r.oid, role.oid, 'USAGE'))),
			pg_has_role(r.oid, c.relowner, 'MEMBER') OR pg_has_role(s.oid, c.relowner, 'MEMBER')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_roles r ON r.rolname = $2 JOIN pg_roles s ON s.rolname = $3
		WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') ORDER BY c.relname`,
		security.Column, roles.Runtime, roles.System, ownPolicy, systemPolicy, migrationPolicy)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []table
	for rows.Next() {
		var t table
		if err := rows.Scan(&t.name, &t.owner, &t.owned, &t.secured, &t.open, &t.ownedByRuntime); err != nil {
			return nil, fmt.Errorf("read the catalog: %w", err)
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// grants is what the roles may do to the table.
func (t table) grants(security RowSecurity) Grants {
	if g, ok := security.Tables[t.name]; ok {
		return g
	}
	if t.owned {
		return usual
	}
	return Grants{}
}

// secure is what makes the table as RowSecurity has it.
func (t table) secure(security RowSecurity, roles Roles) []string {
	name := pgx.Identifier{t.name}.Sanitize()
	runtime, system := pgx.Identifier{roles.Runtime}.Sanitize(), pgx.Identifier{roles.System}.Sanitize()
	var out []string
	if t.owned && !t.secured {
		// Where a statement names the owner too, the planner compares the two once and for
		// all rows; as a sub-select the setting would cost every short statement more.
		own := fmt.Sprintf(`(%s = NULLIF(current_setting('%s', true), ''))`, pgx.Identifier{security.Column}.Sanitize(), security.Setting)
		out = append(out,
			`ALTER TABLE `+name+` ENABLE ROW LEVEL SECURITY`,
			`ALTER TABLE `+name+` FORCE ROW LEVEL SECURITY`,
			`DROP POLICY IF EXISTS `+ownPolicy+` ON `+name,
			`DROP POLICY IF EXISTS `+systemPolicy+` ON `+name,
			`DROP POLICY IF EXISTS `+migrationPolicy+` ON `+name,
			`CREATE POLICY `+ownPolicy+` ON `+name+` TO `+runtime+` USING `+own+` WITH CHECK `+own,
			`CREATE POLICY `+systemPolicy+` ON `+name+` TO `+system+` USING (true) WITH CHECK (true)`,
			`CREATE POLICY `+migrationPolicy+` ON `+name+` TO `+pgx.Identifier{t.owner}.Sanitize()+` USING (`+asMigration+`) WITH CHECK (`+asMigration+`)`)
	}
	out = append(out, `REVOKE ALL ON `+name+` FROM `+runtime+`, `+system)
	g := t.grants(security)
	if g.Runtime != "" {
		out = append(out, `GRANT `+g.Runtime+` ON `+name+` TO `+runtime)
	}
	if g.System != "" {
		out = append(out, `GRANT `+g.System+` ON `+name+` TO `+system)
	}
	return out
}

// missing says what is missing of migrations and row security, as the runtime role
// sees it. Tables of a newer version are not looked for, but owned ones must be secured.
func (db *DB) missing(ctx context.Context, dir fs.FS) error {
	applied, err := db.applied(ctx)
	if err != nil {
		return err
	}
	names, err := fs.Glob(dir, "*.sql")
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	for _, n := range names {
		if !applied[n] {
			return fmt.Errorf("migration %s is not applied", n)
		}
	}
	tables, err := readTables(ctx, db.read, *db.security, db.roles)
	if err != nil {
		return err
	}
	found := map[string]bool{}
	var problems []error
	var wants struct{ tables, roles, privileges []string }
	for _, t := range tables {
		found[t.name] = true
		if t.owned && !t.secured {
			problems = append(problems, fmt.Errorf("table %s is not under row security", t.name))
		}
		if t.owned && t.open {
			problems = append(problems, fmt.Errorf("table %s has another policy that shows more", t.name))
		}
		if t.ownedByRuntime {
			problems = append(problems, fmt.Errorf("table %s belongs to a role that should own nothing", t.name))
		}
		g := t.grants(*db.security)
		for role, privileges := range map[string]string{db.roles.Runtime: g.Runtime, db.roles.System: g.System} {
			for p := range strings.SplitSeq(privileges, ",") {
				if p = strings.TrimSpace(p); p != "" {
					wants.tables, wants.roles, wants.privileges = append(wants.tables, t.name), append(wants.roles, role), append(wants.privileges, p)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(db.security.Tables)) {
		if !found[name] {
			problems = append(problems, fmt.Errorf("there is no table %s", name))
		}
	}
	var above int
	if err := db.read.QueryRowContext(ctx, `SELECT count(*) FROM pg_roles WHERE rolname IN ($1, $2) AND (rolsuper OR rolbypassrls)`,
		db.roles.Runtime, db.roles.System).Scan(&above); err != nil {
		return fmt.Errorf("read the roles: %w", err)
	}
	if above > 0 {
		problems = append(problems, errors.New("a role is above row security"))
	}
	var lacking int
	if err := db.read.QueryRowContext(ctx, `SELECT count(*) FROM unnest($1::text[], $2::text[], $3::text[]) AS want (tab, role, privilege)
		WHERE NOT has_table_privilege(want.role, quote_ident(want.tab), want.privilege)`,
		wants.tables, wants.roles, wants.privileges).Scan(&lacking); err != nil {
		return fmt.Errorf("read grants: %w", err)
	}
	if lacking > 0 {
		problems = append(problems, fmt.Errorf("%d grants are missing", lacking))
	}
	return errors.Join(problems...)
}

// applied are the migrations that the database has seen.
func (db *DB) applied(ctx context.Context) (map[string]bool, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT name FROM migrations`)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		out[name] = true
	}
	return out, rows.Err()
}
