package setup_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc"
	"newswire/cdc/pgtest"
	"newswire/cdc/setup"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// schema has what the mapping names, and what it does not.
const schema = pgtest.Articles + `; CREATE TABLE salaries (id int PRIMARY KEY, amount int);
	CREATE SCHEMA "Odd"; CREATE TABLE "Odd"."Na""me" (a int, "B c" text, PRIMARY KEY (a))`

// config names a role, slot and publication that do not exist yet.
func config(db *pgtest.DB) cdc.Config {
	name := db.Name + "_s"
	return cdc.Config{
		DSN:         strings.Replace(db.DSN, db.Role+"@", name+"@", 1),
		Slot:        name,
		Publication: name,
		Tables: []cdc.Table{
			{Name: "articles", Tags: cdc.Tags{Column: "tags"}, Data: []string{"title", "url"}},
			{Name: `Odd."Na""me"`, Tags: cdc.Tags{Column: "B c"}},
		},
	}
}

func wanted(t *testing.T, c cdc.Config) setup.Config {
	t.Helper()
	s, err := c.Setup()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// prepared plans and applies.
func prepared(t *testing.T, conn *pgx.Conn, cfg setup.Config, o setup.Options) setup.Plan {
	t.Helper()
	p, err := setup.Prepare(t.Context(), conn, cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, conn, p)
	return p
}

// tornDown plans and applies the removal.
func tornDown(t *testing.T, conn *pgx.Conn, cfg setup.Config) setup.Plan {
	t.Helper()
	p, err := setup.Teardown(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, conn, p)
	return p
}

func apply(t *testing.T, conn *pgx.Conn, p setup.Plan) {
	t.Helper()
	if err := p.Apply(t.Context(), conn); err != nil {
		t.Fatalf("%v\n%s", err, p)
	}
}

// clean drops the role, which outlives the test's database.
func clean(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	t.Cleanup(func() {
		if pgtest.Value[bool](db, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, db.Name+"_s") {
			db.Exec(`DROP OWNED BY ` + db.Name + `_s; DROP ROLE ` + db.Name + `_s`)
		}
	})
	return db.Connect()
}

func TestAppliedTwiceChangesNothingMore(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication(""))
	conn := clean(t, db)
	cfg := config(db)
	first := prepared(t, conn, wanted(t, cfg), setup.Options{})
	if !first.Needed() {
		t.Error("nothing was needed on a bare server")
	}
	if err := cdc.Preflight(t.Context(), cfg); err != nil {
		t.Errorf("after setup, Preflight = %v", err)
	}
	if second := prepared(t, conn, wanted(t, cfg), setup.Options{}); second.Needed() {
		t.Errorf("the second plan is not empty:\n%s", second)
	}
}

// TestRoleReadsMappedColumnsOnly tries to SELECT every column of every table,
// view and partition as the role.
func TestRoleReadsMappedColumnsOnly(t *testing.T) {
	t.Parallel()
	const more = schema + `; CREATE VIEW everything AS SELECT * FROM articles; CREATE MATERIALIZED VIEW frozen AS SELECT * FROM salaries;
		CREATE SCHEMA hidden; CREATE TABLE hidden.drafts (id int, body text); CREATE SEQUENCE numbers`
	mapped := []string{`"Odd"."Na""me".a`, `"Odd"."Na""me"."B c"`, "articles.id", "articles.tags", "articles.title", "articles.url"}
	for name, c := range map[string]struct {
		options setup.Options
		before  string
		reads   []string
		says    string
	}{
		"default": {reads: mapped},
		"minimal": {options: setup.Options{Minimal: true}},
		"what everybody may": {
			before: `GRANT SELECT ON salaries TO PUBLIC; GRANT SELECT (status) ON articles TO PUBLIC; GRANT SELECT ON hidden.drafts TO PUBLIC`,
			reads:  append(slices.Clone(mapped), "articles.status", "salaries.amount", "salaries.id"), // the schema hidden stays shut
			says:   "-- PUBLIC, and so this role too, may SELECT public.articles (status), public.salaries. Setup cannot take that from one role:\n-- REVOKE it FROM PUBLIC where nobody needs it.\n",
		},
		"what the role could before": {
			before: `CREATE ROLE $ROLE LOGIN REPLICATION; GRANT SELECT ON salaries TO $ROLE`,
			reads:  append(slices.Clone(mapped), "salaries.amount", "salaries.id"),
			says:   `may SELECT public.salaries besides, by grants of which nothing shows that setup made them. They are left.`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t, pgtest.WithSchema(more), pgtest.WithPublication(""))
			admin, cfg := clean(t, db), config(db)
			db.Exec(strings.ReplaceAll(c.before, "$ROLE", cfg.Slot))
			p := prepared(t, admin, wanted(t, cfg), c.options)
			if !strings.Contains(p.String(), c.says) || c.says == "" && strings.Contains(p.String(), "may SELECT") {
				t.Errorf("the plan says\n%s\nwant %q in it", p, c.says)
			}
			conn, err := pgx.Connect(t.Context(), cfg.DSN)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			var reads []string
			for _, column := range pgtest.Values[string](db, `SELECT a.attrelid::regclass || '.' || quote_ident(a.attname)
				FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
				WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'`) {
				i := strings.LastIndex(column, ".")
				_, err := conn.Exec(t.Context(), "SELECT "+column[i+1:]+" FROM "+column[:i])
				var refusal *pgconn.PgError
				switch {
				case err == nil:
					reads = append(reads, column)
				case !errors.As(err, &refusal) || refusal.Code != "42501":
					t.Errorf("SELECT of %s: %v, want a refusal", column, err)
				}
			}
			slices.Sort(reads)
			slices.Sort(c.reads)
			if diff := cmp.Diff(c.reads, reads); diff != "" {
				t.Errorf("the role reads (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEditorsKeepUpdatingWithoutReplicaIdentity(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(`CREATE TABLE articles (id int, title text, url text, tags text[])`), pgtest.WithPublication(""))
	conn := clean(t, db)
	cfg := config(db)
	cfg.Tables = cfg.Tables[:1]
	p := prepared(t, conn, wanted(t, cfg), setup.Options{})
	if !strings.Contains(p.String(), "public.articles has no replica identity") {
		t.Errorf("the plan does not say why it publishes only new rows:\n%s", p)
	}
	db.Exec(`INSERT INTO articles VALUES (1); UPDATE articles SET title = 'x'; DELETE FROM articles`)

	// With a key, the next plan widens what setup has made.
	db.Exec(`ALTER TABLE articles ADD PRIMARY KEY (id)`)
	prepared(t, conn, wanted(t, cfg), setup.Options{})
	if !pgtest.Value[bool](db, `SELECT pubupdate AND pubdelete FROM pg_publication`) {
		t.Error("updates are not published although the table has a key now")
	}
	db.Exec(`INSERT INTO articles VALUES (1); UPDATE articles SET title = 'x'; DELETE FROM articles`)
}

// TestChangesOfTheConfigurationAreFollowed changes mapping and table, and
// expects setup to follow without a moment in which an editor cannot save.
func TestChangesOfTheConfigurationAreFollowed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithPublication(""))
	if pgtest.Value[int](db, "SELECT current_setting('server_version_num')::int") < 150000 {
		t.Skip("PostgreSQL 14 has neither row filters nor column lists")
	}
	conn := clean(t, db)
	cfg := config(db)
	cfg.Tables = cfg.Tables[:1]
	save := func() {
		t.Helper()
		db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'a'); UPDATE articles SET title = 'b', status = 'published'; DELETE FROM articles`)
	}
	for _, change := range []struct {
		what    string
		change  func()
		refuses string // what Preflight says before setup runs again
		plan    string // what stands in the plan
	}{
		{"first", func() {}, "does not exist", `FOR TABLE "public"."articles" ("id", "title", "url", "tags") WITH`},
		{"a column more", func() { cfg.Tables[0].Data = append(cfg.Tables[0].Data, "summary") },
			"does not carry column summary of public.articles, which postgres.tables[0].data[2] names; run `newswire setup --apply` before the engine starts",
			`ADD TABLE "public"."articles" ("id", "title", "summary", "url", "tags");`},
		{"a column less", func() { cfg.Tables[0].Data = []string{"title"} }, "", `ADD TABLE "public"."articles" ("id", "title", "tags");`},
		{"a condition", func() { cfg.Tables[0].Published = &cdc.Published{Column: "status", Equals: "published"} },
			"does not carry column status", `("id", "title", "tags", "status");`},
		{"no key", func() {
			db.Exec("ALTER PUBLICATION " + cfg.Publication + " DROP TABLE articles; ALTER TABLE articles DROP CONSTRAINT articles_pkey CASCADE; ALTER PUBLICATION " + cfg.Publication + " SET (publish = 'insert')")
		}, "does not carry table", `ADD TABLE "public"."articles" ("title", "tags", "status") WHERE (status = 'published'::text);`},
		{"another condition", func() { cfg.Tables[0].Published.Equals = "live" },
			"carries only rows of public.articles with (status = 'published'::text), and the configuration asks for other ones",
			`WHERE (status = 'live'::text);`},
		{"a key again", func() { db.Exec("ALTER TABLE articles ADD PRIMARY KEY (id)") }, "", `publish = 'insert, update, delete, truncate'`},
	} {
		change.change()
		if err := cdc.Preflight(t.Context(), cfg); (err != nil) != (change.refuses != "") || err != nil && !strings.Contains(err.Error(), change.refuses) {
			t.Errorf("%s: Preflight = %v, want %q", change.what, err, change.refuses)
		}
		p, err := setup.Prepare(t.Context(), conn, wanted(t, cfg), setup.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(p.String(), change.plan) {
			t.Errorf("%s: the plan lacks %s:\n%s", change.what, change.plan, p)
		}
		for _, step := range p.Steps {
			apply(t, conn, setup.Plan{Steps: []setup.Step{step}})
			save()
		}
		if err := cdc.Preflight(t.Context(), cfg); err != nil {
			t.Errorf("%s: after setup, Preflight = %v", change.what, err)
		}
	}
}

func TestWholeRowsLeaveMigrationsAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithPublication(""))
	conn, cfg := clean(t, db), config(db)
	cfg.Tables = cfg.Tables[:1]
	prepared(t, conn, wanted(t, cfg), setup.Options{})
	if pgtest.Value[int](db, "SELECT current_setting('server_version_num')::int") >= 150000 {
		for _, ddl := range []string{"ALTER TABLE articles DROP COLUMN title", "ALTER TABLE articles ALTER title TYPE varchar(9)"} {
			if _, err := db.Connect().Exec(t.Context(), ddl); err == nil {
				t.Errorf("PostgreSQL takes %s of a listed column; then --whole has no use", ddl)
			}
		}
	}
	prepared(t, conn, wanted(t, cfg), setup.Options{Whole: true})
	if err := cdc.Preflight(t.Context(), cfg); err != nil {
		t.Errorf("Preflight = %v", err)
	}
	if p := prepared(t, conn, wanted(t, cfg), setup.Options{Whole: true}); p.Needed() {
		t.Errorf("the second plan is not empty:\n%s", p)
	}
	db.Exec("ALTER TABLE articles ALTER title TYPE varchar(9); ALTER TABLE articles DROP COLUMN title")
}

func TestExistingPublicationIsCompleted(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication("FOR TABLE salaries WITH (publish = 'update')"), pgtest.WithoutSlot())
	conn := clean(t, db)
	cfg := config(db)
	cfg.Publication = db.Publication
	prepared(t, conn, wanted(t, cfg), setup.Options{})
	if err := cdc.Preflight(t.Context(), cfg); err != nil {
		t.Errorf("Preflight = %v", err)
	}
	if p := prepared(t, conn, wanted(t, cfg), setup.Options{}); p.Needed() {
		t.Errorf("the second plan is not empty:\n%s", p)
	}
	tornDown(t, conn, wanted(t, cfg))
	if !pgtest.Value[bool](db, `SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)`, db.Publication) {
		t.Error("teardown dropped a publication that setup did not make")
	}
}

// What cannot be replicated is named before anything is done about it.
func TestWhatIsNotReplicatedIsOneSentence(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication(""))
	db.Exec(`CREATE UNLOGGED TABLE "Odd".drafts (id int PRIMARY KEY, title text, tags text[]); CREATE VIEW front AS SELECT * FROM articles`)
	conn := clean(t, db)
	for name, want := range map[string]string{
		"Odd.drafts": `table Odd.drafts is unlogged or temporary, so its rows are not replicated; run ALTER TABLE "Odd"."drafts" SET LOGGED`,
		"front":      "public.front is no table, so its rows are not replicated; name the table behind it in postgres.tables",
		"nosuch":     "table public.nosuch does not exist; create it or correct postgres.tables",
	} {
		cfg := config(db)
		cfg.Tables = []cdc.Table{{Name: name, Tags: cdc.Tags{Column: "tags"}, Data: []string{"title"}}}
		if _, err := setup.Prepare(t.Context(), conn, wanted(t, cfg), setup.Options{}); err == nil || err.Error() != want {
			t.Errorf("%s: Prepare = %v, want %s", name, err, want)
		}
	}
}

func TestPartitionedTablesArePublishedAsOne(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(`CREATE TABLE articles (id int PRIMARY KEY, title text, url text, tags text[]) PARTITION BY RANGE (id);
		CREATE TABLE articles_1 PARTITION OF articles FOR VALUES FROM (0) TO (100)`), pgtest.WithPublication(""))
	conn := clean(t, db)
	cfg := config(db)
	cfg.Tables = cfg.Tables[:1]
	prepared(t, conn, wanted(t, cfg), setup.Options{})
	if err := cdc.Preflight(t.Context(), cfg); err != nil {
		t.Errorf("Preflight = %v", err)
	}
}

func TestTeardownLeavesNothingOfSetup(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication(""))
	conn := clean(t, db)
	cfg := wanted(t, config(db))
	prepared(t, conn, cfg, setup.Options{})
	tornDown(t, conn, cfg)
	for what, query := range map[string]string{
		"role":        `SELECT count(*) FROM pg_roles WHERE rolname = $1`,
		"publication": `SELECT count(*) FROM pg_publication WHERE pubname = $1`,
		"slot":        `SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1`,
	} {
		if n := pgtest.Value[int](db, query, cfg.Slot); n != 0 {
			t.Errorf("the %s is still there", what)
		}
	}
	if p, err := setup.Teardown(t.Context(), conn, cfg); err != nil || len(p.Steps) != 0 {
		t.Errorf("a second teardown = %v, %v; want nothing to do", p, err)
	}
}

func TestTeardownLeavesWhatWasThere(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema))
	conn := db.Connect()
	cfg := config(db)
	cfg.DSN, cfg.Slot, cfg.Publication = db.DSN, db.Slot, db.Publication
	before := prepared(t, conn, wanted(t, cfg), setup.Options{})
	if before.Needed() {
		t.Errorf("pgtest's server needs\n%s", before)
	}
	p, err := setup.Teardown(t.Context(), conn, wanted(t, cfg))
	if err != nil || p.Needed() {
		t.Errorf("teardown = %v, %v; want nothing to do", p, err)
	}
	if !strings.Contains(p.String(), "-- not run: DROP PUBLICATION") {
		t.Errorf("the plan does not show what it leaves:\n%s", p)
	}
}

func TestUndoTakesEverythingBack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication(""))
	conn := clean(t, db)
	cfg := wanted(t, config(db))
	p := prepared(t, conn, cfg, setup.Options{})
	for _, step := range slices.Backward(p.Steps) {
		if _, err := conn.Exec(t.Context(), step.Undo); err != nil {
			t.Fatalf("%s: %v", step.Undo, err)
		}
	}
	again, err := setup.Prepare(t.Context(), conn, cfg, setup.Options{})
	if err != nil || again.String() != p.String() {
		t.Errorf("after the undo, the plan is %v\n%v\nwant the first one\n%v", err, again, p)
	}
}

// statements splits a script; a block in dollar quotes is one.
func statements(script string) (list []string) {
	const block = "$note$"
	for part := range strings.SplitSeq(script, ";\n") {
		if n := len(list) - 1; n >= 0 && strings.Count(list[n], block) == 1 {
			list[n] += ";\n" + part
			continue
		}
		list = append(list, part)
	}
	return list
}

func TestPlanReadsAsAScript(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication(""))
	conn := clean(t, db)
	cfg := wanted(t, config(db))
	p, err := setup.Prepare(t.Context(), conn, cfg, setup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := p.String()
	for _, part := range []string{
		`CREATE ROLE "` + cfg.Role + `" LOGIN REPLICATION;`,
		`GRANT SELECT ("id", "tags", "title", "url") ON TABLE "public"."articles" TO "` + cfg.Role + `";`,
		`GRANT SELECT ON TABLE "Odd"."Na""me" TO`,
		`publish = 'insert, update, delete, truncate'`,
		`pg_create_logical_replication_slot('` + cfg.Slot + `', 'pgoutput'`,
		`-- undo: DROP PUBLICATION "` + cfg.Publication + `";`,
		`PASSWORD`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the plan lacks %s:\n%s", part, text)
		}
	}
	if strings.Index(text, "CREATE PUBLICATION") > strings.Index(text, "pg_create_logical") {
		t.Error("the slot comes before its publication")
	}
	// Run statement by statement, as psql does, it is what Apply does.
	for _, statement := range statements(text) {
		if _, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if again, err := setup.Prepare(t.Context(), conn, cfg, setup.Options{}); err != nil || again.Needed() {
		t.Errorf("after the script, the plan is %v, %v", again, err)
	}
}
