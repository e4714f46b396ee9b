package doctor_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/doctor"
	"newswire/cdc/pgtest"
	"newswire/cdc/publication"
)

// plain has what config maps, and a column that no key contains.
const plain = "CREATE TABLE articles (id int PRIMARY KEY, title text NOT NULL, tags text[], status text)"

// published is the condition that an editor's status says that a row is news.
var published = &publication.Equals{Column: "status", Value: "published"}

// TestEditorsCannotSave lets an editor save, and doctor says beforehand
// whether that fails.
func TestEditorsCannotSave(t *testing.T) {
	const unfixed = "; give the table a primary key, or run `newswire setup --apply`, or take the table out of publication \"$NAME\""
	for name, c := range map[string]struct {
		database
		table string // that the editor saves; "" means articles
		saves bool   // and all is well
	}{
		"primary key": {saves: true},
		"no replica identity": {
			database: database{schema: "CREATE TABLE articles (id int, title text, tags text[])", want: []string{
				`warn primary-key public.articles: the table has no primary key, so nothing ties a correction or a retraction to what was published; run ALTER TABLE "public"."articles" ADD PRIMARY KEY (…)`,
				"fatal replica-identity public.articles: the publication carries its changes, but the table has no replica identity, so every UPDATE and DELETE on it fails" + unfixed,
			}},
		},
		"no replica identity, updates only": {
			database: database{
				schema:      "CREATE TABLE articles (id int, title text, tags text[])",
				publication: "FOR TABLE articles WITH (publish = 'insert, update, truncate')",
				want: []string{
					`warn primary-key public.articles: the table has no primary key, so nothing ties a correction or a retraction to what was published; run ALTER TABLE "public"."articles" ADD PRIMARY KEY (…)`,
					"warn publication-operations $NAME: the publication does not publish deletes, so readers miss the corrections and retractions made by them; give every table a primary key and run `newswire setup --apply`",
					"fatal replica-identity public.articles: the publication carries its changes, but the table has no replica identity, so every UPDATE on it fails" + unfixed,
				},
			},
		},
		"deferrable key": {
			database: database{schema: "CREATE TABLE articles (id int PRIMARY KEY DEFERRABLE, title text, tags text[])", want: []string{
				"fatal replica-identity public.articles: the publication carries its changes, but the table has no replica identity, so every UPDATE and DELETE on it fails" + unfixed,
			}},
		},
		"replica identity nothing": {
			database: database{sql: "ALTER TABLE articles REPLICA IDENTITY NOTHING", want: []string{
				"fatal replica-identity public.articles: the publication carries its changes, but the table has no replica identity, so every UPDATE and DELETE on it fails" + unfixed,
			}},
		},
		"replica identity full": {
			database: database{
				schema: "CREATE TABLE articles (id int, title text, tags text[]); ALTER TABLE articles REPLICA IDENTITY FULL",
			},
			saves: true,
		},
		"replica identity by an index": {
			database: database{
				schema: plain + "; CREATE UNIQUE INDEX articles_title ON articles (title); ALTER TABLE articles REPLICA IDENTITY USING INDEX articles_title",
			},
			saves: true,
		},
		"somebody else's table": {
			database: database{
				schema: plain + "; CREATE TABLE notes (id int, title text)",
				want: []string{
					"warn publication-excess $NAME: the publication carries public.notes, which no mapping names: their rows leave the database for nothing; name a publication in postgres.publication that does not exist yet, and run `newswire setup --apply`",
					"fatal replica-identity public.notes: the publication carries its changes, but the table has no replica identity, so every UPDATE and DELETE on it fails; give the table a primary key, or take it out of publication \"$NAME\"",
				},
			},
			table: "notes",
		},
		"a partition": {
			database: database{
				schema:      partitioned + "; ALTER TABLE articles_1 REPLICA IDENTITY NOTHING",
				publication: "FOR TABLE articles WITH (publish_via_partition_root = true)",
				want: []string{
					"fatal replica-identity public.articles_1: the publication carries its changes, but the table has no replica identity, so every UPDATE and DELETE on it fails" + unfixed,
				},
			},
		},
		"row filter": {
			database: database{
				since:       150000,
				schema:      plain,
				publication: "FOR TABLE articles WHERE (status = 'published' AND id > 0)",
				change:      func(_ *pgtest.DB, c *doctor.Config) { c.Tables[0].News = published },
				want: []string{
					"warn publication-filter public.articles: the publication has a row filter of its own, ((status = 'published'::text) AND (id > 0)): readers do not see the other rows; see that every row with published holds for the filter, too",
					"fatal replica-identity public.articles: the publication's row filter reads status, which the replica identity does not contain, so every UPDATE and DELETE on it fails; take the row filter off publication \"$NAME\", or let it read key columns only",
				},
			},
		},
		"row filter, all in the identity": {
			database: database{
				since:       150000,
				schema:      plain + "; ALTER TABLE articles REPLICA IDENTITY FULL",
				publication: "FOR TABLE articles WHERE (status = 'published')",
				change:      func(_ *pgtest.DB, c *doctor.Config) { c.Tables[0].News = published },
			},
			saves: true,
		},
		"column list without the key": {
			database: database{
				since:       150000,
				schema:      plain,
				publication: "FOR TABLE articles (title, tags)",
				change:      func(_ *pgtest.DB, c *doctor.Config) { c.Tables[0] = mapped("public", "articles", "title", "tags") },
				want: []string{
					"fatal replica-identity public.articles: the publication's column list leaves out a part of the replica identity, id, so every UPDATE and DELETE on it fails; add it to the column list of publication \"$NAME\"",
				},
			},
		},
		"column list under full": {
			database: database{
				since:       150000,
				schema:      plain + "; ALTER TABLE articles REPLICA IDENTITY FULL",
				publication: "FOR TABLE articles (id, title, tags)",
				want: []string{
					"fatal replica-identity public.articles: the publication has a column list, but the replica identity is every column, so every UPDATE and DELETE on it fails; take the column list off publication \"$NAME\", or set the table's replica identity to its key",
				},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.schema == "" {
				c.schema = plain
			}
			if c.table == "" {
				c.table = "articles"
			}
			examined := c.change
			c.change = func(db *pgtest.DB, cfg *doctor.Config) {
				if examined != nil {
					examined(db, cfg)
				}
				saves(t, db, c.table, c.saves)
			}
			c.run(t)
		})
	}
}

// saves runs what an editor's form runs.
func saves(t *testing.T, db *pgtest.DB, table string, want bool) {
	t.Helper()
	conn := db.Connect()
	if _, err := conn.Exec(t.Context(), "INSERT INTO "+table+" (id, title) VALUES (1, 'draft')"); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Exec(t.Context(), "UPDATE "+table+" SET title = 'final' WHERE id = 1")
	var refusal *pgconn.PgError
	refused := errors.As(err, &refusal) && strings.HasPrefix(refusal.Message, "cannot update table")
	if diff := cmp.Diff(want, !refused); diff != "" {
		t.Errorf("the editor's UPDATE: %v; want it to succeed: %t", err, want)
	}
}

// TestAPublicationOfAllTablesTakesNoList: it takes neither a column list
// nor a row filter.
func TestAPublicationOfAllTablesTakesNoList(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(pgtest.Articles+"; ALTER TABLE articles REPLICA IDENTITY FULL"))
	cfg := config(db)
	cfg.Tables[0].News = published
	if pgtest.Value[int](db, "SELECT current_setting('server_version_num')::int") < 150000 {
		t.Skip("PostgreSQL 14 has neither row filters nor column lists")
	}
	for _, identity := range []string{"FULL", "DEFAULT"} {
		db.Exec("ALTER TABLE articles REPLICA IDENTITY " + identity)
		report := doctor.Run(t.Context(), cfg)
		if got, want := find(t, report, "publication-columns"), "a publication FOR ALL TABLES takes no column list; "; !strings.HasSuffix(got, want) || !strings.HasPrefix(got, "ok ") {
			t.Errorf("%s: doctor says %q, want %q", identity, got, want)
		}
		if got, want := find(t, report, "publication-filter"), "a publication FOR ALL TABLES takes no row filter; "; identity == "FULL" && !strings.HasSuffix(got, want) {
			t.Errorf("%s: doctor says %q, want %q", identity, got, want)
		}
	}
}
