package doctor_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc"
	"newswire/cdc/doctor"
	"newswire/cdc/pgtest"
	"newswire/cdc/publication"
	"newswire/fanout/journal"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// config maps id, title and tags of public.articles.
func config(db *pgtest.DB) doctor.Config {
	return doctor.Config{
		DSN: db.DSN, Slot: db.Slot, Publication: db.Publication, Heartbeat: 10 * time.Second, RateOver: time.Millisecond,
		Tables: []doctor.Table{mapped("public", "articles", "id", "title", "tags")},
	}
}

func mapped(schema, name string, columns ...string) doctor.Table {
	t := doctor.Table{Schema: schema, Name: name, Key: "postgres.tables[0]"}
	for i, c := range columns {
		t.Columns = append(t.Columns, doctor.Column{Name: c, Key: fmt.Sprintf("postgres.tables[0].data[%d]", i)})
	}
	return t
}

// surroundings are checks whose findings depend on the server that tests run
// on, or on the role that pgtest makes; they have tests of their own.
var surroundings = []string{"minor-version", "wal-keep-limit", "password-method", "slot-failover", "select-excess"}

// needs gives the findings that need somebody, one line each.
func needs(r doctor.Report) (lines []string) {
	for _, f := range r.Findings {
		if f.Level != doctor.OK && !slices.Contains(surroundings, f.Check) {
			lines = append(lines, line(f))
		}
	}
	return lines
}

func line(f doctor.Finding) string {
	return fmt.Sprintf("%s %s %s: %s; %s", f.Level, f.Check, f.Object, f.Message, f.Remedy)
}

// find gives the one finding of a check.
func find(t *testing.T, r doctor.Report, check string) string {
	t.Helper()
	var found []string
	for _, f := range r.Findings {
		if f.Check == check {
			found = append(found, line(f))
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d findings, want 1: %q\n%s", check, len(found), found, r)
	}
	return found[0]
}

// expand puts the names of a test's database in place of $NAME, which role,
// slot and publication share.
func expand(db *pgtest.DB, lines []string) (expanded []string) {
	for _, l := range lines {
		l = strings.ReplaceAll(l, "$NAME", db.Name)
		if strings.Contains(l, "$CONFIRMED") {
			l = strings.ReplaceAll(l, "$CONFIRMED", db.ConfirmedFlush().String())
		}
		if strings.Contains(l, "$SKIPPED") {
			l = strings.ReplaceAll(l, "$SKIPPED", pgtest.Value[string](db, `SELECT CASE WHEN current_setting('server_version_num')::int < 180000
				THEN 'at which every reader stops' ELSE 'which PostgreSQL leaves out without a word' END`))
		}
		if strings.Contains(l, "$EMIT") {
			l = strings.ReplaceAll(l, "$EMIT", strings.ReplaceAll(pgtest.Value[string](db, `SELECT oid::regprocedure::text FROM pg_proc
				WHERE proname = 'pg_logical_emit_message' AND proargtypes[2] = 'text'::regtype`), ",", ", "))
		}
		expanded = append(expanded, l)
	}
	return expanded
}

// agrees checks that Preflight refuses to start exactly where doctor is fatal.
func agrees(t *testing.T, cfg doctor.Config, fatal bool) {
	t.Helper()
	c := cdc.Config{DSN: cfg.DSN, Slot: cfg.Slot, Publication: cfg.Publication}
	for _, table := range cfg.Tables {
		mapping := cdc.Table{Name: `"` + table.Schema + `"."` + table.Name + `"`, Tags: cdc.Tags{Column: table.Columns[0].Name}}
		for _, column := range table.Columns {
			mapping.Data = append(mapping.Data, column.Name)
		}
		c.Tables = append(c.Tables, mapping)
	}
	if err := cdc.Preflight(t.Context(), c); (err != nil) != fatal {
		t.Errorf("doctor is fatal: %t, Preflight = %v", fatal, err)
	}
}

// database is a case of what can be wrong in a database.
type database struct {
	schema      string // instead of pgtest.Articles
	publication string // what it is for; "" means all tables
	sql         string // run before the examination; $NAME is role, slot, publication and database
	change      func(db *pgtest.DB, c *doctor.Config)
	since       int  // server version that the case needs
	until       int  // server version that knows better; 0: none does
	unseen      bool // by Preflight: a fault that does not keep the engine from starting
	want        []string
}

func (c database) run(t *testing.T) {
	t.Parallel()
	options := []pgtest.Option{pgtest.WithSchema(c.schema)}
	if c.schema == "" {
		options[0] = pgtest.WithSchema(pgtest.Articles)
	}
	if c.publication != "" {
		options = append(options, pgtest.WithPublication(c.publication))
	}
	if c.since > 0 || c.until > 0 {
		probe := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""))
		version := pgtest.Value[int](probe, "SELECT current_setting('server_version_num')::int")
		if version < c.since || c.until > 0 && version >= c.until {
			t.Skip("the server is older, or newer, than what is tested")
		}
	}
	db := pgtest.New(t, options...)
	if c.sql != "" {
		db.Exec(strings.ReplaceAll(c.sql, "$NAME", db.Name))
	}
	cfg := config(db)
	if c.change != nil {
		c.change(db, &cfg)
	}
	report := doctor.Run(t.Context(), cfg)
	if diff := cmp.Diff(expand(db, c.want), needs(report)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	agrees(t, cfg, report.Count(doctor.Fatal) > 0 && !c.unseen)
}

func TestDatabaseInOrder(t *testing.T) {
	database{change: func(_ *pgtest.DB, c *doctor.Config) { c.Tables[0].All = true }}.run(t)
}

func TestTables(t *testing.T) {
	for name, c := range map[string]database{
		"missing": {
			schema: "CREATE TABLE other (id int PRIMARY KEY)",
			want: []string{
				"fatal table public.articles: the table does not exist; create it or correct postgres.tables[0].name",
			},
		},
		"view": {
			schema: "CREATE TABLE real (id int PRIMARY KEY, title text, tags text[]); CREATE VIEW articles AS SELECT * FROM real",
			want: []string{
				"fatal table public.articles: this is no table, so its rows are not replicated; name the table behind it in postgres.tables[0].name",
			},
		},
		"unlogged": {
			schema: "CREATE UNLOGGED TABLE articles (id int PRIMARY KEY, title text, tags text[])",
			want: []string{
				`fatal table public.articles: the table is unlogged or temporary, so its rows are not replicated; run ALTER TABLE "public"."articles" SET LOGGED`,
				"fatal publication-tables public.articles: publication \"$NAME\" does not carry the table; run `newswire setup --apply`, or ALTER PUBLICATION \"$NAME\" ADD TABLE \"public\".\"articles\"",
			},
		},
		"columns": {
			schema: "CREATE TABLE articles (id int PRIMARY KEY, title text)",
			want: []string{
				"fatal columns public.articles: the table has no column tags; add it or correct postgres.tables[0].data[2]",
			},
		},
		"generated column": {
			until:  180000,
			schema: "CREATE TABLE articles (id int PRIMARY KEY, tags text[], title text GENERATED ALWAYS AS ('x') STORED)",
			want: []string{
				"fatal columns public.articles: column title is generated, and this PostgreSQL does not replicate it; name another in postgres.tables[0].data[1]",
			},
		},
		"virtual column": {
			since:  180000,
			schema: "CREATE TABLE articles (id int PRIMARY KEY, tags text[], title text GENERATED ALWAYS AS ('x') VIRTUAL)",
			want: []string{
				"fatal columns public.articles: column title is generated, and this PostgreSQL does not replicate it; name another in postgres.tables[0].data[1]",
			},
		},
		"generated column that is published": {
			since:       180000,
			schema:      "CREATE TABLE articles (id int PRIMARY KEY, tags text[], title text GENERATED ALWAYS AS ('x') STORED)",
			publication: "FOR TABLE articles WITH (publish_generated_columns = stored)",
		},
		"no key": {
			schema:      "CREATE TABLE articles (id int, title text, tags text[])",
			publication: "FOR TABLE articles WITH (publish = 'insert, truncate')",
			want: []string{
				`warn primary-key public.articles: the table has no primary key, so nothing ties a correction or a retraction to what was published; run ALTER TABLE "public"."articles" ADD PRIMARY KEY (…)`,
				"warn publication-operations $NAME: the publication does not publish updates and deletes, so readers miss the corrections and retractions made by them; give every table a primary key and run `newswire setup --apply`",
			},
		},
		"no key beside one that has": {
			schema:      pgtest.Articles + "; CREATE TABLE nopk (id int, title text)",
			publication: "FOR TABLE articles, nopk WITH (publish = 'insert, truncate')",
			change: func(_ *pgtest.DB, c *doctor.Config) {
				c.Tables = append(c.Tables, mapped("public", "nopk", "id", "title"))
			},
			want: []string{
				`warn primary-key public.nopk: the table has no primary key, so nothing ties a correction or a retraction to what was published; run ALTER TABLE "public"."nopk" ADD PRIMARY KEY (…)`,
				"warn publication-operations $NAME: the publication does not publish updates and deletes, so readers miss the corrections and retractions made by them; give every table a primary key and run `newswire setup --apply`",
				"fatal publication-operations $NAME: public.nopk has no usable replica identity, and a publication that carries it can publish no updates and deletes of any table: of public.articles " +
					"corrections, retractions and articles that an UPDATE publishes would be missed, and an article deleted before its time would go out; " +
					"give it a primary key or, by ALTER TABLE … REPLICA IDENTITY, another identity, or take it out of postgres.tables, then run `newswire setup --apply`",
			},
		},
		"row level security": {
			sql: "ALTER TABLE articles ENABLE ROW LEVEL SECURITY",
			want: []string{
				"warn row-security public.articles: row level security hides rows from the role, and `newswire resync` takes a row that it cannot see for one that is gone; " +
					`add a policy that lets "$NAME" see every row: CREATE POLICY newswire ON "public"."articles" FOR SELECT TO "$NAME" USING (true)`,
			},
		},
	} {
		t.Run(name, c.run)
	}
}

const partitioned = `CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[]) PARTITION BY RANGE (id);
	CREATE TABLE articles_1 PARTITION OF articles FOR VALUES FROM (1) TO (1000)`

func TestPublication(t *testing.T) {
	for name, c := range map[string]database{
		"missing": {
			sql: "DROP PUBLICATION $NAME",
			want: []string{
				"fatal publication $NAME: the publication does not exist; run `newswire setup --apply`",
			},
		},
		"without the table": {
			schema:      pgtest.Articles + "; CREATE TABLE other (id int PRIMARY KEY)",
			publication: "FOR TABLE other",
			want: []string{
				"fatal publication-tables public.articles: publication \"$NAME\" does not carry the table; run `newswire setup --apply`, or ALTER PUBLICATION \"$NAME\" ADD TABLE \"public\".\"articles\"",
			},
		},
		"without inserts": {
			publication: "FOR TABLE articles WITH (publish = 'update, delete')",
			want: []string{
				"fatal publication-operations $NAME: the publication does not publish inserts; run `newswire setup --apply`",
				"warn publication-operations $NAME: the publication does not publish truncates, so readers miss the corrections and retractions made by them; give every table a primary key and run `newswire setup --apply`",
			},
		},
		"partitioned, by partitions": {
			schema:      partitioned,
			publication: "FOR TABLE articles",
			want: []string{
				"fatal publication-tables public.articles: publication \"$NAME\" publishes the rows of this partitioned table under the names of its partitions, if at all; " +
					"run `newswire setup --apply`, or ALTER PUBLICATION \"$NAME\" SET (publish_via_partition_root = true)",
			},
		},
		"partitioned, by the root": {
			schema:      partitioned,
			publication: "FOR TABLE articles WITH (publish_via_partition_root = true)",
		},
		"a partition, by the root": {
			schema:      partitioned,
			publication: "FOR TABLE articles WITH (publish_via_partition_root = true)",
			change: func(_ *pgtest.DB, c *doctor.Config) {
				c.Tables[0] = mapped("public", "articles_1", "id", "title", "tags")
			},
			want: []string{
				"fatal publication-tables public.articles_1: publication \"$NAME\" publishes the rows of this partition under the name of public.articles; name public.articles in postgres.tables[0].name",
			},
		},
		"column list": {
			since:       150000,
			publication: "FOR TABLE articles (id, title)",
			want: []string{
				"fatal publication-tables public.articles: publication \"$NAME\" does not carry column tags; add it to the publication's column list, or take it out of postgres.tables[0].data[2]",
			},
		},
		"unknown filter": {
			since:       150000,
			publication: "FOR TABLE articles WHERE (id > 10)",
			want: []string{
				"warn publication-filter public.articles: the publication has the row filter (id > 10), of which the configuration knows nothing: readers do not see the other rows; " +
					"set postgres.tables[0].published to the same condition, or take the filter off the publication",
			},
		},
		"known filter": {
			since:       150000,
			schema:      pgtest.Articles + "; ALTER TABLE articles REPLICA IDENTITY FULL",
			publication: "FOR TABLE articles WHERE (status = 'published')",
			change:      func(_ *pgtest.DB, c *doctor.Config) { c.Tables[0].News = published },
		},
	} {
		t.Run(name, c.run)
	}
}

func TestRole(t *testing.T) {
	for name, c := range map[string]database{
		"superuser": {
			change: func(db *pgtest.DB, c *doctor.Config) { c.DSN = db.SuperDSN },
			want: []string{
				"warn role-excess postgres: the role has SUPERUSER, CREATEROLE and CREATEDB, and needs only LOGIN and REPLICATION; " +
					"name a role of its own in postgres.dsn, as `newswire setup` makes it, or run ALTER ROLE \"postgres\" NOSUPERUSER NOCREATEROLE NOCREATEDB",
			},
		},
		"may write": {
			sql: `GRANT INSERT ON articles TO "$NAME"`,
			want: []string{
				"warn role-excess $NAME: the role may change public.articles, and needs at most SELECT; revoke INSERT, UPDATE, DELETE and TRUNCATE from it; a role that owns the table should not be the engine's",
			},
		},
		"may not replicate": {
			sql: `ALTER ROLE "$NAME" NOREPLICATION`,
			want: []string{
				"fatal login $NAME: the role may not replicate; run `newswire setup --apply`, or ALTER ROLE \"$NAME\" REPLICATION",
			},
		},
		"may not select": {
			sql: `REVOKE SELECT ON articles FROM "$NAME"; GRANT SELECT (id, title) ON articles TO "$NAME"`,
			want: []string{
				"warn select-rights public.articles: the role may not SELECT tags, so it loses the silent first fill, `newswire resync` and reading large values again; run `newswire setup --apply`, unless it was set up --minimal",
			},
		},
		"may not enter the schema": {
			schema: `CREATE SCHEMA cms; CREATE TABLE cms.articles (id int PRIMARY KEY, title text, tags text[])`,
			sql:    `REVOKE USAGE ON SCHEMA cms FROM "$NAME"`,
			change: func(_ *pgtest.DB, c *doctor.Config) {
				c.Tables[0] = mapped("cms", "articles", "id", "title", "tags")
			},
			want: []string{
				"warn select-rights cms.articles: the role may not use schema cms, so it loses the silent first fill, `newswire resync` and reading large values again; " +
					`run GRANT USAGE ON SCHEMA "cms" TO "$NAME", unless it was set up --minimal`,
			},
		},
		"may not write heartbeats": {
			sql: `DO $$BEGIN EXECUTE (SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM public', oid::regprocedure)
				FROM pg_proc WHERE proname = 'pg_logical_emit_message' AND proargtypes[2] = 'text'::regtype); END$$`,
			want: []string{
				"warn heartbeat $NAME: the role may not write heartbeats, so the slot keeps all log while the tables are quiet and others are not; run GRANT EXECUTE ON FUNCTION $EMIT TO \"$NAME\"",
			},
		},
		"no heartbeat": {
			change: func(_ *pgtest.DB, c *doctor.Config) { c.Heartbeat = 0 },
			want: []string{
				"warn heartbeat postgres.heartbeat: no heartbeat is sent, so the slot keeps all log while the tables are quiet and others are not; set it to 10s",
			},
		},
	} {
		t.Run(name, c.run)
	}
}

func TestARoleThatReadsMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(plain+"; CREATE TABLE salaries (id int PRIMARY KEY)"))
	narrow := "REVOKE SELECT ON articles, salaries FROM $NAME; GRANT SELECT (id, title, tags) ON articles TO $NAME"
	for _, c := range []struct{ sql, want string }{
		{"", "warn select-excess $NAME: the role may SELECT public.articles (status), public.salaries, and needs only what is mapped; run REVOKE SELECT ON … FROM \"$NAME\", or take its memberships away"},
		{narrow, "ok select-excess $NAME: the role may SELECT nothing but what is mapped; "},
		{"GRANT SELECT ON salaries TO PUBLIC", "warn select-excess $NAME: PUBLIC, and so the role, may SELECT public.salaries; run REVOKE SELECT ON … FROM PUBLIC where nobody needs it: it cannot be taken from one role"},
		{"REVOKE ALL ON salaries FROM PUBLIC; GRANT pg_read_all_data TO $NAME", "warn select-excess $NAME: the role may SELECT public.articles (status), public.salaries, and needs only what is mapped; run REVOKE SELECT ON … FROM \"$NAME\", or take its memberships away"},
	} {
		if c.sql != "" {
			db.Exec(strings.ReplaceAll(c.sql, "$NAME", db.Name))
		}
		if got, want := find(t, doctor.Run(t.Context(), config(db)), "select-excess"), expand(db, []string{c.want})[0]; got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
}

func TestSlot(t *testing.T) {
	for name, c := range map[string]database{
		"missing": {
			sql: "SELECT pg_drop_replication_slot('$NAME')",
			want: []string{
				"fatal slot $NAME: the replication slot does not exist; run `newswire setup --apply`",
			},
		},
		"missing beside a used journal": {
			sql: "SELECT pg_drop_replication_slot('$NAME')",
			change: func(_ *pgtest.DB, c *doctor.Config) {
				c.Journal = func(context.Context) (journal.LSN, bool) { return 1, true }
			},
			want: []string{
				"fatal slot $NAME: the replication slot does not exist, and a new one has nothing of what was committed since 0/1, where the journal ends; run `newswire resync`",
			},
		},
		"used beside an empty journal": {
			change: func(db *pgtest.DB, c *doctor.Config) {
				db.Exec(fmt.Sprintf(`COMMENT ON PUBLICATION %s IS '%s {"slots": {"%s": "0/1"}}'`, db.Publication, publication.Mark, db.Slot))
				c.JournalDir = "/"
				c.Journal = func(context.Context) (journal.LSN, bool) { return 0, true }
			},
			unseen: true,
			want: []string{
				"fatal journal-position /: this journal is empty, but replication slot \"$NAME\", which `newswire setup` made at 0/1, stands at $CONFIRMED: it was read into another journal, or made anew; give journal.dir the directory of that journal, or run `newswire resync`",
			},
		},
		"new beside an empty journal": {
			change: func(_ *pgtest.DB, c *doctor.Config) {
				c.Journal = func(context.Context) (journal.LSN, bool) { return 0, true }
			},
		},
		"the engine has stopped": {
			change: func(_ *pgtest.DB, c *doctor.Config) {
				c.Engine = func(context.Context) ([]string, bool) {
					return []string{"the log lacks a column; run `newswire resync`"}, true
				}
			},
			unseen: true,
			want:   []string{"fatal engine newswire serve: the engine runs, but is not ready: the log lacks a column; run `newswire resync`"},
		},
		"other plugin": {
			sql: "SELECT pg_drop_replication_slot('$NAME'); SELECT pg_create_logical_replication_slot('$NAME', 'test_decoding')",
			want: []string{
				"fatal slot $NAME: the replication slot has the plugin \"test_decoding\", not pgoutput; name another in postgres.slot and run `newswire setup --apply`",
			},
		},
		"older than its publication": {
			sql: "DROP PUBLICATION $NAME; INSERT INTO articles (title) VALUES ('before')",
			change: func(db *pgtest.DB, _ *doctor.Config) {
				db.Exec("CREATE PUBLICATION " + db.Publication + " FOR ALL TABLES")
			},
			unseen: true,
			want: []string{
				"fatal slot-publication $NAME: the slot is older than publication \"$NAME\", and keeps changes from before it, $SKIPPED; run `newswire resync`; before the first start `newswire slot drop --confirm $NAME` and `newswire slot create` do",
			},
		},
		"publication altered, but never missing": {
			sql: "INSERT INTO articles (title) VALUES ('before'); ALTER PUBLICATION $NAME SET (publish_via_partition_root = true)",
		},
		"ahead of the journal": {
			change: func(db *pgtest.DB, c *doctor.Config) {
				c.JournalDir = "/journal"
				c.Journal = func(context.Context) (journal.LSN, bool) { return 1, true }
			},
			unseen: true,
			want: []string{
				"fatal journal-position /journal: slot \"$NAME\" stands at $CONFIRMED, the journal ends at 0/1: what lies between was confirmed by another reader, or the slot was made anew; run `newswire resync`",
			},
		},
	} {
		t.Run(name, c.run)
	}
}

func TestASlotInAnotherDatabase(t *testing.T) {
	t.Parallel()
	first, second := pgtest.New(t), pgtest.New(t)
	cfg := config(second)
	cfg.Slot = first.Slot
	report := doctor.Run(t.Context(), cfg)
	want := []string{
		fmt.Sprintf("fatal slot %s: the replication slot belongs to database %q; name another in postgres.slot and run `newswire setup --apply`", first.Slot, first.Name),
	}
	if diff := cmp.Diff(want, needs(report)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	agrees(t, cfg, true)
}

func TestASlotThatIsRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for application, remedied := range map[string]bool{"newswire": false, "pg_recvlogical": true} {
		conn, err := pgconn.Connect(t.Context(), db.DSN+"&replication=database&application_name="+application)
		if err != nil {
			t.Fatal(err)
		}
		err = pglogrepl.StartReplication(t.Context(), conn, db.Slot, 0, pglogrepl.StartReplicationOptions{
			PluginArgs: []string{"proto_version '1'", "publication_names '" + db.Publication + "'"},
		})
		if err != nil {
			t.Fatal(err)
		}
		pid := pgtest.Value[int](db, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", db.Slot)
		want := fmt.Sprintf("ok slot-reader %s: the engine reads the slot, by PostgreSQL process %d; ", db.Slot, pid)
		if remedied {
			want = fmt.Sprintf(`warn slot-reader %s: "pg_recvlogical" reads the slot, by PostgreSQL process %d, and no engine can; end that program; the last resort is SELECT pg_terminate_backend(%d)`,
				db.Slot, pid, pid)
		}
		report := doctor.Run(t.Context(), config(db))
		if got := find(t, report, "slot-reader"); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, db, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1", db.Slot)
	}
}

// await waits until the query gives true.
func await(t *testing.T, db *pgtest.DB, query string, args ...any) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if pgtest.Value[bool](db, query, args...) {
			return
		}
		<-tick.C
	}
	t.Fatalf("waited in vain for %s", query)
}
