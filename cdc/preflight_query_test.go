package cdc

import (
	"errors"
	"strings"
	"testing"
)

func TestPreflightTakesQueriesThatWork(t *testing.T) {
	t.Parallel()
	db := newCMS(t)
	db.Exec(`CREATE TABLE pages (lang char(2), no int, title text, PRIMARY KEY (lang, no));
		CREATE TABLE pages_tags (id int PRIMARY KEY, no int NOT NULL, lang char(2) NOT NULL, tag text NOT NULL, UNIQUE (lang, no, tag));
		ALTER TABLE pages_tags REPLICA IDENTITY USING INDEX pages_tags_lang_no_tag_key`)
	cfg := cmsConfig(db)
	cfg.Tables = append(cfg.Tables, Table{Name: "pages", Data: []string{"title"}, Tags: Tags{
		Query: `WITH w AS (SELECT 1) SELECT tag FROM pages_tags WHERE (lang, no) = ($1, $2); -- $3`,
		Links: []Link{{Table: "pages_tags", Key: []string{"lang", "no"}}},
	}})
	if err := Preflight(t.Context(), cfg); err != nil {
		t.Errorf("Preflight = %v", err)
	}
}

func TestPreflightNamesEachFaultOfAQuery(t *testing.T) {
	t.Parallel()
	query := func(sql string) func(*Config) { return func(c *Config) { c.Tables[0].Tags.Query = sql } }
	link := func(l Link) func(*Config) { return func(c *Config) { c.Tables[0].Tags.Links = []Link{l} } }
	const at = "postgres.tables[0].tags.query"
	for name, c := range map[string]struct {
		damage string
		change func(*Config)
		want   []string
	}{
		"syntax":           {"", query("SELECT FROM WHERE $1"), []string{at + " fails", "syntax error", "correct it"}},
		"no such table":    {`DROP TABLE articles_tags`, nil, []string{at + " fails", `relation "articles_tags" does not exist`}},
		"column of outer":  {"", query("SELECT title FROM tags WHERE id = $1"), []string{at + " fails", `column "title" does not exist`}},
		"too many":         {"", query("SELECT name FROM tags WHERE id IN ($1, $2)"), []string{at, "$2", "has only 1: id"}},
		"two columns":      {"", query("SELECT id, name FROM tags WHERE id = $1"), []string{at, "2 columns", "SELECT the tag alone"}},
		"two statements":   {"", query("SELECT name FROM tags WHERE id = $1; SELECT 1"), []string{at + " fails", "multiple commands"}},
		"writes":           {"", query("INSERT INTO tags VALUES ($1, 'x') RETURNING name"), []string{at + " fails"}},
		"other type":       {"", query("SELECT name FROM tags WHERE name = $1"), []string{at + " fails", "operator does not exist"}},
		"no right":         {`REVOKE SELECT ON tags FROM $db`, nil, []string{at, "permission denied for table tags", "newswire setup --apply", "without --minimal"}},
		"no data right":    {`REVOKE SELECT ON articles FROM $db; GRANT SELECT (id) ON articles TO $db`, nil, []string{at, "permission denied for table articles"}},
		"hidden rows":      {`ALTER TABLE articles ENABLE ROW LEVEL SECURITY`, nil, []string{"row level security", "public.articles", "policy"}},
		"no key":           {`ALTER TABLE articles DROP CONSTRAINT articles_pkey; ALTER TABLE articles REPLICA IDENTITY FULL`, nil, []string{at, "no primary key"}},
		"no link table":    {"", link(Link{"nosuch", []string{"id"}}), []string{"table public.nosuch does not exist", "tags.links[0].table"}},
		"a view":           {`CREATE VIEW v AS SELECT * FROM articles_tags`, link(Link{"v", []string{"article_id"}}), []string{"public.v is no table", "tags.links[0].table"}},
		"no link column":   {"", link(Link{"articles_tags", []string{"news_id"}}), []string{"no column news_id", "tags.links[0].key[0]"}},
		"columns too many": {"", link(Link{"articles_tags", []string{"article_id", "tag_id"}}), []string{"names 2 columns", "has 1"}},
		"not carried":      {`DROP PUBLICATION $db; CREATE PUBLICATION $db FOR TABLE articles`, nil, []string{"does not carry the link table public.articles_tags", "newswire setup --apply"}},
		"blind deletes": {`ALTER TABLE articles_tags DROP CONSTRAINT articles_tags_pkey; ALTER TABLE articles_tags ADD id serial PRIMARY KEY`, nil,
			[]string{"DELETE on public.articles_tags does not tell article_id", `ALTER TABLE "public"."articles_tags" REPLICA IDENTITY FULL`}},
		"blind, with an index": {`ALTER TABLE articles_tags DROP CONSTRAINT articles_tags_pkey; ALTER TABLE articles_tags ADD id serial PRIMARY KEY, ADD CONSTRAINT pair UNIQUE (tag_id, article_id)`, nil,
			[]string{"DELETE on public.articles_tags", "REPLICA IDENTITY USING INDEX pair"}},
		"no identity": {`ALTER TABLE articles_tags DROP CONSTRAINT articles_tags_pkey`, nil, []string{"every UPDATE and DELETE of the editors fail on public.articles_tags", "primary key"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newCMS(t)
			for statement := range strings.SplitSeq(c.damage, "; ") {
				if statement != "" {
					db.Exec(strings.ReplaceAll(statement, "$db", db.Name))
				}
			}
			cfg := cmsConfig(db)
			if c.change != nil {
				c.change(&cfg)
			}
			err := Preflight(t.Context(), cfg)
			if err == nil || errors.Is(err, ErrUnreachable) {
				t.Fatalf("Preflight = %v", err)
			}
			if !hasLine(err.Error(), c.want) {
				t.Errorf("Preflight = %v\nwant a line with %q", err, c.want)
			}
		})
	}
}
