package cdc

import (
	"strings"
	"testing"
)

func TestConfigFaultsNameTheirKeys(t *testing.T) {
	cfg := Config{
		DSN:         "postgres://u:s3cret@h:notaport/db",
		Slot:        "No-Slot",
		Publication: strings.Repeat("p", 64),
		Heartbeat:   -1,
		Tables: []Table{
			{Name: "a.b.c", Tags: Tags{Query: "SELECT 1"}},
			{Name: "news", Tags: Tags{Column: "a", Columns: []string{"b"}}, DefaultTag: "*", Data: []string{"x", "x", ""}},
			{Name: `"public"."news"`, Tags: Tags{Columns: []string{""}}, Published: &Published{Reached: true, And: &Published{Column: "b", Reached: true}}},
			{Name: "videos", Tags: Tags{Query: "SELECT $1", Links: []Link{{Table: "a.b.c"}, {Table: "videos", Key: []string{"id"}}, {Table: "l", Key: []string{""}}, {Table: "public.l", Key: []string{"x"}}}}},
			{Name: "audios", Tags: Tags{Column: "a", Links: []Link{{Table: "l", Key: []string{"x"}}}}},
		},
	}
	_, err := New(cfg, newMemJournal(), nil, nil)
	if err == nil {
		t.Fatal("New took it")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		"postgres.dsn:", "postgres.slot:", "postgres.publication:", "postgres.heartbeat:",
		"postgres.tables[0].name:", "postgres.tables[0].tags.query: has no $1",
		"postgres.tables[1].tags:", "postgres.tables[1].default_tag:", "postgres.tables[1].data[1]:", "postgres.tables[1].data[2]:",
		"postgres.tables[2].name:", "postgres.tables[2].tags.columns[0]:",
		"postgres.tables[2].published.column:", "postgres.tables[2].published.and: want one condition",
		"postgres.tables[3].tags.links[0].table:", "postgres.tables[3].tags.links[0].key:", "postgres.tables[3].tags.links[2].key:",
		"postgres.tables[3].tags.links[3].table: public.l is listed twice", "postgres.tables[3].tags.links[1].table: public.videos is the table itself",
		"postgres.tables[4].tags.links: belong to tags.query",
	} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("fault %d of\n%v\nwant %s", i, err, want)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the password stands in %q", err)
	}
}

func TestTableNames(t *testing.T) {
	for in, want := range map[string]name{
		"articles":              {"public", "articles"},
		"cms.Articles":          {"cms", "Articles"},
		`cms."a.b"`:             {"cms", "a.b"},
		`"o""dd"."Name"`:        {`o"dd`, "Name"},
		"":                      {},
		"a.":                    {},
		".a":                    {},
		"a.b.c":                 {},
		`"a`:                    {},
		`"a"b`:                  {},
		strings.Repeat("x", 64): {},
	} {
		got, err := parseName(in)
		if got != want || (err == nil) != (want != name{}) {
			t.Errorf("parseName(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
}
