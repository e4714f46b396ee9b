package setup_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"newswire/cdc"
	"newswire/cdc/cluster"
	"newswire/cdc/pgtest"
	"newswire/cdc/setup"
)

// catalogQuery lists what setup could have changed. A right that everybody has
// by default is the same whether the catalog spells it out or not.
const catalogQuery = `
SELECT line FROM (
  SELECT 'role ' || concat_ws(' ', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
    rolconnlimit, shobj_description(oid, 'pg_authid')) AS line FROM pg_roles WHERE rolname LIKE $1 || '%'
  UNION ALL SELECT 'member ' || concat_ws(' ', roleid::regrole, member::regrole) FROM pg_auth_members
    WHERE member::regrole::text LIKE $1 || '%' OR roleid::regrole::text LIKE $1 || '%'
  UNION ALL SELECT 'schema ' || concat_ws(' ', nspname, g.grantee::regrole, g.privilege_type)
    FROM pg_namespace n, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) g WHERE nspname !~ '^pg_'
  UNION ALL SELECT 'table ' || concat_ws(' ', c.oid::regclass, relreplident, relpersistence, relhastriggers, relrowsecurity, obj_description(c.oid, 'pg_class'))
    FROM pg_class c WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
  UNION ALL SELECT 'grant ' || concat_ws(' ', c.oid::regclass, g.grantee::regrole, g.privilege_type, g.is_grantable)
    FROM pg_class c, aclexplode(coalesce(relacl, acldefault('r', relowner))) g WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
  UNION ALL SELECT 'column ' || concat_ws(' ', attrelid::regclass, attname, atttypid::regtype, attnotnull, attisdropped, attacl)
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
  UNION ALL SELECT 'publication ' || concat_ws(' ', p, obj_description(oid, 'pg_publication')) FROM pg_publication p
  UNION ALL SELECT 'published ' || concat_ws(' ', prpubid, prrelid::regclass) FROM pg_publication_rel
  UNION ALL SELECT 'slot ' || concat_ws(' ', slot_name, plugin) FROM pg_replication_slots WHERE database = current_database()
  UNION ALL SELECT 'default ' || d FROM pg_default_acl d
  UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc p WHERE pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
  UNION ALL SELECT 'trigger ' || t FROM pg_trigger t UNION ALL SELECT 'event trigger ' || t FROM pg_event_trigger t
) l ORDER BY line`

// catalog is what the database looks like: by pg_dump too, where the server's
// programs come with it.
func catalog(t *testing.T, db *pgtest.DB) []string {
	t.Helper()
	lines := pgtest.Values[string](db, catalogQuery, db.Name)
	bin, err := cluster.FindBinaries(os.Getenv("NEWSWIRE_TEST_PG_BIN"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "pg_dump")); err != nil {
		return lines
	}
	for _, run := range [][]string{
		{"pg_dump", "--schema-only", "--dbname", db.SuperDSN},
		{"pg_dumpall", "--globals-only", "--dbname", db.SuperDSN},
	} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, run[0]), run[1:]...).Output()
		if err != nil {
			t.Fatalf("%s: %v", run[0], err)
		}
		for line := range strings.SplitSeq(string(out), "\n") {
			global := run[0] == "pg_dumpall" && !strings.Contains(line, db.Name) // of other tests
			if !global && !strings.HasPrefix(line, `\`) {                        // a key that is new for each dump
				lines = append(lines, run[0]+" "+line)
			}
		}
	}
	return lines
}

// TestTeardownLeavesTheCatalogAsItWas compares dumps from before setup and
// behind teardown.
func TestTeardownLeavesTheCatalogAsItWas(t *testing.T) {
	t.Parallel()
	const partitioned = `CREATE TABLE articles (id int PRIMARY KEY, title text, url text, tags text[]) PARTITION BY RANGE (id);
		CREATE TABLE articles_1 PARTITION OF articles FOR VALUES FROM (0) TO (100)`
	for name, c := range map[string]struct {
		schema  string // instead of the one of two tables, of which one has a quoted name
		before  string // $ROLE is the engine's role
		options setup.Options
		between string // after the first setup, before a second
	}{
		"a new role":          {},
		"a new role, minimal": {options: setup.Options{Minimal: true}},
		"partitioned":         {schema: partitioned},
		"a table for everybody": {
			before: "GRANT SELECT ON salaries TO PUBLIC; GRANT SELECT (title) ON articles TO PUBLIC",
		},
		"a role that can log in":                           {before: "CREATE ROLE $ROLE LOGIN"},
		"a role that can do nothing yet":                   {before: "CREATE ROLE $ROLE"},
		"a role that was there, minimal":                   {before: "CREATE ROLE $ROLE LOGIN", options: setup.Options{Minimal: true}},
		"a role that can replicate":                        {before: "CREATE ROLE $ROLE LOGIN REPLICATION; COMMENT ON ROLE $ROLE IS 'ours'"},
		"a role with some of the rights":                   {before: `CREATE ROLE $ROLE LOGIN; GRANT SELECT (id, status) ON articles TO $ROLE; GRANT USAGE ON SCHEMA public TO $ROLE`},
		"a role with a right on a column of a whole table": {before: `CREATE ROLE $ROLE LOGIN; GRANT SELECT (a) ON "Odd"."Na""me" TO $ROLE`},
		"a role with all of the rights":                    {before: `CREATE ROLE $ROLE LOGIN REPLICATION; GRANT SELECT ON articles TO $ROLE; GRANT USAGE ON SCHEMA "Odd" TO $ROLE; GRANT SELECT ON "Odd"."Na""me" TO $ROLE`},
		"a role that reads as a member":                    {before: `CREATE ROLE $ROLE LOGIN IN ROLE pg_read_all_data`},
		"a role that was there, two runs":                  {before: "CREATE ROLE $ROLE LOGIN; GRANT SELECT (id) ON articles TO $ROLE", between: "summary"},
		"a new role, two runs":                             {between: "summary"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.schema == "" {
				c.schema = schema
			}
			db := pgtest.New(t, pgtest.WithSchema(c.schema), pgtest.WithPublication(""))
			conn, cfg := clean(t, db), config(db)
			if strings.Contains(c.schema, "PARTITION") {
				cfg.Tables = cfg.Tables[:1]
			}
			if c.before != "" {
				db.Exec(strings.ReplaceAll(c.before, "$ROLE", cfg.Slot))
			}
			before := catalog(t, db)
			prepared(t, conn, wanted(t, cfg), c.options)
			if c.between != "" {
				cfg.Tables[0].Data = append(slices.Clone(cfg.Tables[0].Data), c.between)
				prepared(t, conn, wanted(t, cfg), c.options)
			}
			if err := cdc.Preflight(t.Context(), cfg); err != nil {
				t.Errorf("Preflight = %v", err)
			}
			p := tornDown(t, conn, wanted(t, cfg))
			if diff := cmp.Diff(before, catalog(t, db)); diff != "" {
				t.Errorf("the catalog (-before +after):\n%s\nafter\n%s", diff, p)
			}
		})
	}
}

// TestATeardownRunsNothingFromAComment forges what setup notes there: a comment
// is anybody's who owns the publication.
func TestATeardownRunsNothingFromAComment(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithPublication(""))
	conn, cfg := clean(t, db), wanted(t, config(db))
	cfg.Tables = cfg.Tables[:1]
	db.Exec("CREATE ROLE " + cfg.Role + " LOGIN REPLICATION")
	prepared(t, conn, cfg, setup.Options{})
	for _, forged := range []string{
		`{"role": "postgres", "attributes": ["LOGIN"], "tables": [{"schema": "public", "name": "articles"}]}`,
		`{"role": "` + cfg.Role + `", "attributes": ["SUPERUSER; DROP TABLE articles"], "schemas": ["public; DROP TABLE articles"],
			"tables": [{"schema": "public", "name": "articles", "columns": ["id) ON articles FROM PUBLIC; DROP TABLE articles; --"]}]}`,
		`DROP TABLE articles`,
	} {
		db.Exec("COMMENT ON PUBLICATION " + cfg.Publication + " IS '" + setup.Mark + " " + forged + "'")
		p, err := setup.Teardown(t.Context(), conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range p.Steps {
			if step.Needed && !strings.HasPrefix(step.SQL, "DROP PUBLICATION ") && !strings.HasPrefix(step.SQL, "SELECT pg_catalog.pg_drop_replication_slot(") {
				t.Errorf("teardown would run %s", step.SQL)
			}
		}
	}
}

// TestWhatTeardownCannotKnowIsTold sets up a role and a publication that were
// there before: their comments are somebody else's.
func TestWhatTeardownCannotKnowIsTold(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication("FOR TABLE articles"), pgtest.WithoutSlot())
	conn, cfg := clean(t, db), config(db)
	cfg.Publication, cfg.Tables = db.Publication, cfg.Tables[:1]
	db.Exec("CREATE ROLE " + cfg.Slot + " LOGIN")
	before := catalog(t, db)
	p := prepared(t, conn, wanted(t, cfg), setup.Options{})
	if want := "notes nowhere that it made slot " + cfg.Slot + ` and what role "` + cfg.Slot + `" is given.`; !strings.Contains(p.String(), want) {
		t.Errorf("the plan lacks %q:\n%s", want, p)
	}
	down, err := setup.Teardown(t.Context(), conn, wanted(t, cfg))
	if err != nil || down.Needed() {
		t.Fatalf("teardown = %v, %v, want nothing that it runs", down, err)
	}
	for _, left := range []string{"SELECT pg_catalog.pg_drop_replication_slot", `REVOKE SELECT ("id", "title", "url", "tags") ON TABLE "public"."articles"`, `ALTER ROLE "` + cfg.Slot + `" NOREPLICATION`} {
		if !strings.Contains(down.String(), "-- not run: "+left) {
			t.Errorf("teardown does not name %s:\n%s", left, down)
		}
	}
	for _, step := range slices.Backward(p.Steps) {
		if step.Needed && step.Undo != "" {
			db.Exec(step.Undo)
		}
	}
	if diff := cmp.Diff(before, catalog(t, db)); diff != "" {
		t.Errorf("after the undo lines (-before +after):\n%s", diff)
	}
}
