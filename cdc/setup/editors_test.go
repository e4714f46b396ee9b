package setup_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"newswire/cdc"
	"newswire/cdc/doctor"
	"newswire/cdc/pgtest"
	"newswire/cdc/setup"
)

// shape is a table as a CMS may have it. Its columns are id, title, tags and
// status, and whatever more.
type shape struct {
	schema string
	since  int    // server version that the schema needs
	equals string // of status; "" means published
	data   []string
	edits  string // more that editors run

	columns string // that leave the database, from version 15 on; "" means all
	filter  string // likewise
	inserts bool   // updates and deletes cannot be published
}

var shapes = map[string]shape{
	"primary key": {
		schema:  "CREATE TABLE articles (body text, id int PRIMARY KEY, title text, tags text[], status text)",
		columns: "id title tags status",
	},
	"column dropped before": {
		schema:  "CREATE TABLE articles (id int PRIMARY KEY, gone int, title text, tags text[], status text, body text); ALTER TABLE articles DROP COLUMN gone",
		columns: "id title tags status",
	},
	"every column": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status text); ALTER TABLE articles REPLICA IDENTITY FULL",
		filter: "(status = 'published'::text)",
	},
	"index with the status": {
		schema: `CREATE TABLE articles (id int PRIMARY KEY, slug text NOT NULL DEFAULT md5(random()::text), title text, tags text[], status text NOT NULL DEFAULT 'draft', body text);
			CREATE UNIQUE INDEX slugs ON articles (slug, status); ALTER TABLE articles REPLICA IDENTITY USING INDEX slugs`,
		columns: "id slug title tags status", filter: "(status = 'published'::text)",
		edits: "UPDATE articles SET slug = slug || '-2'; UPDATE articles SET status = 'published'",
	},
	"index beside the key": {
		schema: `CREATE TABLE articles (id int PRIMARY KEY, slug text NOT NULL DEFAULT md5(random()::text), title text, tags text[], status text);
			CREATE UNIQUE INDEX slugs ON articles (slug); ALTER TABLE articles REPLICA IDENTITY USING INDEX slugs`,
		columns: "id slug title tags status",
		edits:   "UPDATE articles SET slug = slug || '-2'",
	},
	"status in the key": {
		schema:  "CREATE TABLE articles (id int, title text, tags text[], status text DEFAULT 'draft', body text, PRIMARY KEY (status, id))",
		columns: "id title tags status", filter: "(status = 'published'::text)",
	},
	"no key": {
		schema:  "CREATE TABLE articles (id int, title text, tags text[], status text, body text)",
		columns: "id title tags status", filter: "(status = 'published'::text)", inserts: true,
	},
	"identity nothing": {
		schema:  "CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[], status text); ALTER TABLE articles REPLICA IDENTITY NOTHING",
		columns: "id title tags status", filter: "(status = 'published'::text)", inserts: true,
	},
	"deferrable key": {
		schema:  "CREATE TABLE articles (id int PRIMARY KEY DEFERRABLE, title text, tags text[], status text)",
		columns: "id title tags status", filter: "(status = 'published'::text)", inserts: true,
	},
	"heirs without a key": {
		schema: `CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[], status text);
			CREATE TABLE reviews (stars int) INHERITS (articles)`,
		columns: "id title tags status",
		edits:   "INSERT INTO reviews (id, title) VALUES (7, 'x'); UPDATE articles SET title = 'y' WHERE id = 7; DELETE FROM articles WHERE id = 7",
	},
	"partitioned": {
		schema: `CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[], status text, body text) PARTITION BY RANGE (id);
			CREATE TABLE articles_1 PARTITION OF articles FOR VALUES FROM (0) TO (100);
			CREATE TABLE articles_2 (body text, status text, id int NOT NULL, tags text[], title text);
			ALTER TABLE articles ATTACH PARTITION articles_2 FOR VALUES FROM (100) TO (200)`,
		columns: "id title tags status",
		edits:   "UPDATE articles SET id = id + 100; UPDATE articles_2 SET title = 'z'; DELETE FROM articles_2",
	},
	"partitioned, a partition with every column": {
		schema: `CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[], status text) PARTITION BY RANGE (id);
			CREATE TABLE articles_1 PARTITION OF articles FOR VALUES FROM (0) TO (100);
			CREATE TABLE articles_2 PARTITION OF articles FOR VALUES FROM (100) TO (200); ALTER TABLE articles_2 REPLICA IDENTITY FULL`,
		edits: "UPDATE articles SET id = id + 100; UPDATE articles SET title = 'z'; DELETE FROM articles_2",
	},
	"partitioned, every partition with every column": {
		schema: `CREATE TABLE articles (id int, title text, tags text[], status text) PARTITION BY LIST (status);
			CREATE TABLE articles_1 PARTITION OF articles FOR VALUES IN ('draft'); ALTER TABLE articles_1 REPLICA IDENTITY FULL;
			CREATE TABLE articles_2 PARTITION OF articles DEFAULT; ALTER TABLE articles_2 REPLICA IDENTITY FULL`,
		filter: "(status = 'published'::text)",
	},
	"partitioned, a partition without identity": {
		schema: `CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[], status text) PARTITION BY RANGE (id);
			CREATE TABLE articles_1 PARTITION OF articles FOR VALUES FROM (0) TO (100); ALTER TABLE articles_1 REPLICA IDENTITY NOTHING`,
		columns: "id title tags status", filter: "(status = 'published'::text)", inserts: true,
	},
	"partitioned, without partitions yet": {
		schema: "CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[], status text) PARTITION BY RANGE (id)",
		edits: `CREATE TABLE articles_1 PARTITION OF articles FOR VALUES FROM (0) TO (100);
			INSERT INTO articles (id) VALUES (1); UPDATE articles SET title = 'x'; DELETE FROM articles`,
		columns: "id title tags status",
	},
	"generated column": {
		schema: `CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[], status text, upper text GENERATED ALWAYS AS (upper(title)) STORED)`,
		since:  180000, data: []string{"id", "upper"},
		columns: "id tags status upper",
	},
	"generated column, every column": {
		schema: `CREATE TABLE articles (id int, title text, tags text[], status text, upper text GENERATED ALWAYS AS (upper(title)) STORED);
			ALTER TABLE articles REPLICA IDENTITY FULL`,
		filter: "(status = 'published'::text)",
	},
	"generated column in the key": {
		schema:  "CREATE TABLE articles (id int, title text, tags text[], status text, twice int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY)",
		since:   180000,
		columns: "id title tags status twice",
	},
	"virtual column, every column": {
		schema: `CREATE TABLE articles (id int, title text, tags text[], status text, upper text GENERATED ALWAYS AS (upper(title)) VIRTUAL);
			ALTER TABLE articles REPLICA IDENTITY FULL`,
		since:   180000,
		columns: "id title tags status", filter: "(status = 'published'::text)", inserts: true,
	},
	"varchar": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status varchar(20)); ALTER TABLE articles REPLICA IDENTITY FULL",
		filter: "((status)::text = 'published'::text)",
	},
	"char": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status char(20)); ALTER TABLE articles REPLICA IDENTITY FULL",
		filter: "(status = 'published'::bpchar)",
	},
	"boolean": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status boolean); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: "t", filter: "(status = true)",
	},
	"boolean that is none": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status boolean); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: "published",
	},
	"smallint": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status smallint); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: "1", filter: "(status = '1'::smallint)",
	},
	"integer": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status int); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: "1", filter: "(status = 1)",
	},
	"negative integer": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status int); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: "-1", filter: "(status = '-1'::integer)",
	},
	"integer that is none": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status int); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: "01",
	},
	"bigint": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status bigint); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: "5", filter: "(status = '5'::bigint)",
	},
	"enum": {
		schema: `CREATE TYPE state AS ENUM ('draft', 'published'); CREATE TABLE articles (id int, title text, tags text[], status state);
			ALTER TABLE articles REPLICA IDENTITY FULL`,
	},
	"domain": {
		schema: `CREATE DOMAIN state AS text; CREATE TABLE articles (id int, title text, tags text[], status state);
			ALTER TABLE articles REPLICA IDENTITY FULL`,
	},
	"value to be quoted": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status text); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: `it's out`, filter: `(status = 'it''s out'::text)`,
	},
	"value with a backslash": {
		schema: "CREATE TABLE articles (id int, title text, tags text[], status text); ALTER TABLE articles REPLICA IDENTITY FULL",
		equals: `\`,
	},
}

// mapping is what the shape's configuration maps.
func (s shape) mapping() cdc.Table {
	if s.equals == "" {
		s.equals = "published"
	}
	if s.data == nil {
		s.data = []string{"id", "title"}
	}
	return cdc.Table{
		Name: "articles", Tags: cdc.Tags{Column: "tags"}, Data: s.data, Published: &cdc.Published{Column: "status", Equals: s.equals},
	}
}

// TestEditorsSaveWhateverTheTable sets up tables of every shape and then saves
// as editors do: each INSERT, UPDATE, DELETE and TRUNCATE must be taken.
func TestEditorsSaveWhateverTheTable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""))
	version := pgtest.Value[int](db, "SELECT current_setting('server_version_num')::int")
	conn, cfg := clean(t, db), config(db)
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			if version < s.since {
				t.Skip("the server is older than what is tested")
			}
			db.Exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION IF EXISTS " + cfg.Publication)
			db.Exec(s.schema)
			cfg.Tables = []cdc.Table{s.mapping()}
			prepared(t, conn, wanted(t, cfg), setup.Options{})
			s.edit(t, db)
			s.check(t, db, cfg, version)
			if p := prepared(t, conn, wanted(t, cfg), setup.Options{}); p.Needed() {
				t.Errorf("the second plan is not empty:\n%s", p)
			}
		})
	}
}

// edit runs what editors' forms run; pgtest ends the test where that fails.
func (s shape) edit(t *testing.T, db *pgtest.DB) {
	t.Helper()
	if strings.Contains(s.schema, "PARTITION BY") && !strings.Contains(s.schema, "PARTITION OF") {
		db.Exec(s.edits)
		return
	}
	db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'a'), (2, 'b')`)
	db.Exec(`UPDATE articles SET title = 'c', tags = '{x}', status = DEFAULT`)
	db.Exec(`UPDATE articles SET id = id + 10`)
	if s.edits != "" {
		db.Exec(s.edits)
	}
	db.Exec(`DELETE FROM articles WHERE id % 10 = 1`)
	db.Exec(`TRUNCATE articles`)
}

func (s shape) check(t *testing.T, db *pgtest.DB, cfg cdc.Config, version int) {
	t.Helper()
	if err := cdc.Preflight(t.Context(), cfg); err != nil {
		t.Errorf("Preflight = %v", err)
	}
	if changes := pgtest.Value[bool](db, `SELECT pubupdate AND pubdelete FROM pg_publication`); changes == s.inserts {
		t.Errorf("updates and deletes are published: %t", changes)
	}
	type form struct{ Columns, Filter string }
	if version < 150000 {
		return
	}
	got := form{
		pgtest.Value[string](db, `SELECT coalesce(string_agg(attname, ' ' ORDER BY attnum), '') FROM pg_publication_rel, pg_attribute
			WHERE attrelid = prrelid AND attnum = ANY (prattrs)`),
		pgtest.Value[string](db, `SELECT coalesce(pg_get_expr(prqual, prrelid), '') FROM pg_publication_rel`),
	}
	if diff := cmp.Diff(form{s.columns, s.filter}, got); diff != "" {
		t.Errorf("the publication (-want +got):\n%s", diff)
	}
	w := wanted(t, cfg).Tables[0]
	d := doctor.Config{DSN: cfg.DSN, Slot: cfg.Slot, Publication: cfg.Publication, RateOver: time.Millisecond, Tables: []doctor.Table{{Schema: w.Schema, Name: w.Name, News: w.News}}}
	for _, c := range w.Columns {
		d.Tables[0].Columns = append(d.Tables[0].Columns, doctor.Column{Name: c})
	}
	for _, f := range doctor.Run(t.Context(), d).Findings {
		if strings.HasPrefix(f.Check, "publication-") && f.Check != "publication-operations" && f.Level != doctor.OK ||
			f.Level == doctor.Fatal && f.Check != "slot-publication" { // the slot is that of the first shape
			t.Errorf("doctor: %s", fmt.Sprint(f))
		}
	}
}
