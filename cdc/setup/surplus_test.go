package setup_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"newswire/cdc"
	"newswire/cdc/pgtest"
	"newswire/cdc/setup"
)

// TestWhatTheConfigurationDoesNotNeedAnyMoreIsTakenBack runs setup for a wide
// configuration and then for a narrower one: what stands must be what the
// narrower one alone would have made.
func TestWhatTheConfigurationDoesNotNeedAnyMoreIsTakenBack(t *testing.T) {
	t.Parallel()
	narrower := map[string]func(c *cdc.Config, o *setup.Options){
		"a table less":   func(c *cdc.Config, _ *setup.Options) { c.Tables = c.Tables[:1] },
		"a column less":  func(c *cdc.Config, _ *setup.Options) { c.Tables[0].Data = []string{"title"} },
		"not every more": func(c *cdc.Config, _ *setup.Options) { c.Tables[1].Data = []string{"a"} },
		"minimal":        func(_ *cdc.Config, o *setup.Options) { o.Minimal = true },
		"minimal, a table less": func(c *cdc.Config, o *setup.Options) {
			c.Tables, o.Minimal = c.Tables[1:], true
		},
	}
	roles := map[string]string{
		"":                 "",
		", a role before":  "CREATE ROLE $ROLE LOGIN",
		", rights before":  `CREATE ROLE $ROLE LOGIN REPLICATION; GRANT SELECT (id, status) ON articles TO $ROLE; GRANT SELECT (a) ON "Odd"."Na""me" TO $ROLE; GRANT SELECT ON salaries TO $ROLE`,
		", a right on all": `CREATE ROLE $ROLE LOGIN REPLICATION; GRANT SELECT ON articles TO $ROLE; GRANT USAGE ON SCHEMA "Odd" TO $ROLE; GRANT SELECT ON "Odd"."Na""me" TO $ROLE`,
	}
	for what, narrow := range narrower {
		for before, sql := range roles {
			if what == "not every more" && before != "" {
				continue // a role that was there before keeps the whole table
			}
			t.Run(what+before, func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication(""))
				conn, cfg := clean(t, db), config(db)
				if sql != "" {
					db.Exec(strings.ReplaceAll(sql, "$ROLE", cfg.Slot))
				}
				start := rights(db)
				var o setup.Options
				narrow(&cfg, &o)
				prepared(t, conn, wanted(t, cfg), o)
				want := rights(db)
				tornDown(t, conn, wanted(t, cfg))

				wide := config(db)
				prepared(t, conn, wanted(t, wide), setup.Options{})
				p := prepared(t, conn, wanted(t, cfg), o)
				if diff := cmp.Diff(want, rights(db)); diff != "" {
					t.Errorf("published and granted (-want +got):\n%s\nafter\n%s", diff, p)
				}
				if err := cdc.Preflight(t.Context(), cfg); err != nil {
					t.Errorf("Preflight = %v", err)
				}
				if again := prepared(t, conn, wanted(t, cfg), o); again.Needed() {
					t.Errorf("the next plan is not empty:\n%s", again)
				}
				prepared(t, conn, wanted(t, wide), setup.Options{})
				tornDown(t, conn, wanted(t, wide))
				if diff := cmp.Diff(start, rights(db)); diff != "" {
					t.Errorf("after teardown (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// rights are what is published, and what the role has been granted.
func rights(db *pgtest.DB) []string {
	return pgtest.Values[string](db, `SELECT line FROM (
		SELECT 'published ' || concat_ws(' ', schemaname, tablename, to_jsonb(t) -> 'attnames') AS line FROM pg_publication_tables t
		UNION ALL SELECT 'table ' || c.oid::regclass || ' ' || g.privilege_type FROM pg_class c, aclexplode(c.relacl) g WHERE g.grantee::regrole::text = $1
		UNION ALL SELECT 'column ' || attrelid::regclass || ' ' || attname || ' ' || g.privilege_type FROM pg_attribute, aclexplode(attacl) g WHERE g.grantee::regrole::text = $1
		UNION ALL SELECT 'schema ' || nspname || ' ' || g.privilege_type FROM pg_namespace, aclexplode(nspacl) g WHERE g.grantee::regrole::text = $1
	) l ORDER BY line`, db.Name+"_s")
}
