package setup_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc"
	"newswire/cdc/pgtest"
	"newswire/cdc/setup"
)

// joined keeps tags in a join table, in another schema.
const joined = `CREATE TABLE articles (id int PRIMARY KEY, title text, status text);
	CREATE SCHEMA tax; CREATE TABLE tax.tags (id int PRIMARY KEY, name text, secret text, hidden boolean);
	CREATE TABLE tax.links (article_id int, tag_id int, editor text, PRIMARY KEY (article_id, tag_id));
	CREATE TABLE tax.other (id int PRIMARY KEY)`

func joinedConfig(db *pgtest.DB) cdc.Config {
	cfg := config(db)
	cfg.Tables = []cdc.Table{{Name: "articles", Data: []string{"title"}, Tags: cdc.Tags{
		Query: `SELECT t.name FROM tax.tags t JOIN tax.links l ON l.tag_id = t.id WHERE l.article_id = $1 AND NOT t.hidden ORDER BY t.name; -- $2`,
		Links: []cdc.Link{{Table: "tax.links", Key: []string{"article_id"}}},
	}}}
	return cfg
}

func TestRoleReadsWhatTheQueryReads(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(joined), pgtest.WithPublication(""))
	conn := clean(t, db)
	cfg := joinedConfig(db)
	prepared(t, conn, wanted(t, cfg), setup.Options{})
	if err := cdc.Preflight(t.Context(), cfg); err != nil {
		t.Errorf("after setup, Preflight = %v", err)
	}
	role, err := pgx.Connect(t.Context(), cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer role.Close(context.Background())
	for _, q := range []string{"id, title FROM articles", "id, name, hidden FROM tax.tags", "article_id, tag_id FROM tax.links"} {
		if _, err := role.Exec(t.Context(), "SELECT "+q); err != nil {
			t.Errorf("SELECT %s: %v", q, err)
		}
	}
	for _, q := range []string{"status FROM articles", "secret FROM tax.tags", "editor FROM tax.links", "id FROM tax.other"} {
		var refusal *pgconn.PgError
		if _, err := role.Exec(t.Context(), "SELECT "+q); !errors.As(err, &refusal) || refusal.Code != "42501" {
			t.Errorf("SELECT %s: %v, want a refusal", q, err)
		}
	}
	if second := prepared(t, conn, wanted(t, cfg), setup.Options{}); second.Needed() {
		t.Errorf("the second plan is not empty:\n%s", second)
	}
	if n := pgtest.Value[int](db, `SELECT count(*) FROM pg_class WHERE relname = 'newswire_reads'`); n != 0 {
		t.Error("the view that told what the query reads is still there")
	}
	if tables := pgtest.Values[string](db, `SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1`, cfg.Publication); strings.Join(tables, " ") != "public.articles tax.links" {
		t.Errorf("the publication carries %q, want the article's table and the link table", tables)
	}
	if pgtest.Value[int](db, `SELECT current_setting('server_version_num')::int`) >= 150000 {
		if carried := pgtest.Values[string](db, `SELECT attnames::text FROM pg_publication_tables WHERE pubname = $1 AND tablename = 'links'`, cfg.Publication); strings.Join(carried, " ") != "{article_id,tag_id}" {
			t.Errorf("the publication carries %q of the link table, want its key only", carried)
		}
	}
	tornDown(t, conn, wanted(t, cfg))
	if n := pgtest.Value[int](db, `SELECT count(*) FROM pg_roles WHERE rolname = $1`, cfg.Slot); n != 0 {
		t.Error("the role is still there")
	}
}

func TestQueriesThatCannotBeServedAreOneSentence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(*cdc.Config)
		options setup.Options
		want    string
	}{
		"minimal":   {func(*cdc.Config) {}, setup.Options{Minimal: true}, "postgres.tables[0].tags.query needs SELECT on what it reads, which --minimal does not grant"},
		"wrong":     {func(c *cdc.Config) { c.Tables[0].Tags.Query = "SELECT name FROM tax.nosuch WHERE id = $1" }, setup.Options{}, `postgres.tables[0].tags.query fails: relation "tax.nosuch" does not exist`},
		"parameter": {func(c *cdc.Config) { c.Tables[0].Tags.Query = "SELECT name FROM tax.tags WHERE id = $2" }, setup.Options{}, "has the parameter $2, but the key of public.articles has only 1: id"},
		"no link":   {func(c *cdc.Config) { c.Tables[0].Tags.Links[0].Table = "tax.nosuch" }, setup.Options{}, "table tax.nosuch does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t, pgtest.WithSchema(joined), pgtest.WithPublication(""))
			cfg := joinedConfig(db)
			c.change(&cfg)
			_, err := setup.Prepare(t.Context(), db.Connect(), wanted(t, cfg), c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Prepare = %v, want one sentence with %q", err, c.want)
			}
		})
	}
}
