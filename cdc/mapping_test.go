package cdc

import (
	"slices"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

func TestTagsAreCleaned(t *testing.T) {
	long := strings.Repeat("é", 64) // 128 bytes
	twenty := strings.Split("abcdefghijklmnopqrst", "")
	twentyAndAgain := `["` + strings.Join(append(slices.Clone(twenty), "s", "a"), `","`) + `"]`
	for name, c := range map[string]struct {
		json    string
		split   bool
		want    []string
		skipped []tagFate
	}{
		"array":              {`["b","a","b"]`, true, []string{"b", "a"}, nil},
		"array with spaces":  {`[ "b" , "a" , "b" ]`, true, []string{"b", "a"}, nil},
		"array of quotes":    {`["a\"b","c"]`, true, []string{`a"b`, "c"}, nil},
		"array of nothing":   {`[]`, true, nil, nil},
		"array of twenty":    {twentyAndAgain, true, twenty, nil},
		"not an array":       {`["a",`, true, nil, []tagFate{tagNotText}},
		"array as stored":    {`[" a ","a,b"]`, true, []string{" a ", "a,b"}, nil},
		"text is split":      {`" a, b ,a,,c"`, true, []string{"a", "b", "c"}, []tagFate{tagEmpty}},
		"one text of many":   {`"Food, Drink"`, false, []string{"Food, Drink"}, nil},
		"empty text":         {`""`, true, nil, []tagFate{tagEmpty}},
		"star":               {`["*"]`, true, nil, []tagFate{tagWildcard}},
		"null":               {`[null,"a"]`, true, []string{"a"}, []tagFate{tagNull}},
		"longest":            {`["` + long + `"]`, true, []string{long}, nil},
		"too long":           {`["` + long + `x"]`, true, nil, []tagFate{tagTooLong}},
		"control characters": {`["a\nb","\u0085","c"]`, true, []string{"c"}, []tagFate{tagControl, tagControl}},
		"numbers":            {`[7,1.5]`, true, []string{"7", "1.5"}, nil},
		"a number":           {`12345678901234567890`, false, []string{"12345678901234567890"}, nil},
		"nested":             {`[["a","b"],["c"]]`, true, []string{"a", "b", "c"}, nil},
		"objects":            {`[{"name":"a"},true,"b"]`, true, []string{"b"}, []tagFate{tagNotText, tagNotText}},
	} {
		t.Run(name, func(t *testing.T) {
			var known tagCache
			for range 2 { // the second time the tags are known
				var skipped []tagFate
				list := tagList{skip: func(why tagFate) { skipped = append(skipped, why) }, known: &known}
				list.addJSON([]byte(c.json), c.split)
				if !slices.Equal(list.tags, c.want) || !slices.Equal(skipped, c.skipped) {
					t.Errorf("%s = %q, skipped %v; want %q, %v", c.json, list.tags, skipped, c.want, c.skipped)
				}
			}
		})
	}
}

func TestTagsComeFromEveryKindOfColumn(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithSchema(`
		CREATE TYPE mood AS ENUM ('Glad', 'sad');
		CREATE DOMAIN label AS varchar(20);
		CREATE TABLE arrays (id int PRIMARY KEY, tags varchar(9)[]);
		CREATE TABLE enums (id int PRIMARY KEY, tags mood[]);
		CREATE TABLE jsons (id int PRIMARY KEY, tags jsonb);
		CREATE TABLE texts (id int PRIMARY KEY, tags text);
		CREATE TABLE several (id int PRIMARY KEY, category label, section mood, more text[]);`)), newMemJournal()
	cfg := articles(db)
	cfg.Tables = nil
	for _, n := range []string{"arrays", "enums", "jsons", "texts"} {
		cfg.Tables = append(cfg.Tables, Table{Name: n, Tags: Tags{Column: "tags"}, DefaultTag: "rest"})
	}
	cfg.Tables = append(cfg.Tables, Table{Name: "several", Tags: Tags{Columns: []string{"category", "section", "more"}}})
	listen(t, cfg, j)
	db.Exec(`BEGIN; INSERT INTO arrays VALUES (1, '{tech,"a, b"}'), (2, NULL), (3, '{}'); INSERT INTO enums VALUES (1, '{Glad}');
		INSERT INTO jsons VALUES (1, '["x","y"]'), (2, 'null'); INSERT INTO texts VALUES (1, 'x, y'), (2, ' ');
		INSERT INTO several VALUES (1, 'Food, Drink', 'sad', '{x,sad}'), (2, NULL, NULL, NULL); COMMIT`)
	want := [][]string{{"tech", "a, b"}, {"rest"}, {"rest"}, {"Glad"}, {"x", "y"}, {"rest"}, {"x", "y"}, {"rest"},
		{"Food, Drink", "sad", "x"}, {"general"}}
	for i, m := range j.wait(t, len(want)) {
		if !slices.Equal(m.Tags, want[i]) {
			t.Errorf("%s %s has tags %q, want %q", m.Source, m.Key, m.Tags, want[i])
		}
	}
}

func TestPublishedRowsOnlyAreNews(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithSchema(`
		CREATE TABLE flags (id int PRIMARY KEY, live boolean);
		CREATE TABLE padded (id int PRIMARY KEY, live char(12));`)), newMemJournal()
	cfg := articles(db)
	cfg.Tables = []Table{
		{Name: "flags", Tags: Tags{Column: "live"}, Published: &Published{Column: "live", Equals: "true"}},
		{Name: "padded", Tags: Tags{Column: "live"}, Published: &Published{Column: "live", Equals: "published"}},
	}
	listen(t, cfg, j)
	db.Exec(`BEGIN; INSERT INTO flags VALUES (1, NULL), (2, false), (3, true);
		INSERT INTO padded VALUES (4, 'draft'), (5, 'published'), (6, 'Published'); COMMIT`)
	got := j.wait(t, 2)
	if string(got[0].Key) != `{"id":3}` || string(got[1].Key) != `{"id":5}` {
		t.Errorf("keys = %s and %s, want 3 and 5", got[0].Key, got[1].Key)
	}
}

func TestKeyIsThePrimaryKeyWhateverTheIdentity(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithSchema(`
		CREATE TABLE plain (a text, lang text, "<b>" int, PRIMARY KEY (lang, "<b>"));
		CREATE TABLE whole (a text, id int PRIMARY KEY); ALTER TABLE whole REPLICA IDENTITY FULL;
		CREATE TABLE other (a text, id int PRIMARY KEY, u int NOT NULL UNIQUE); ALTER TABLE other REPLICA IDENTITY USING INDEX other_u_key;
		CREATE TABLE bare (a text, u int NOT NULL UNIQUE); ALTER TABLE bare REPLICA IDENTITY USING INDEX bare_u_key;
		CREATE TABLE none (a text);`)), newMemJournal()
	cfg := articles(db)
	cfg.Tables = nil
	for _, n := range []string{"plain", "whole", "other", "bare", "none"} {
		cfg.Tables = append(cfg.Tables, Table{Name: n, Tags: Tags{Column: "a"}})
	}
	listen(t, cfg, j)
	db.Exec(`BEGIN; INSERT INTO plain VALUES ('x', 'de', 1); INSERT INTO whole VALUES ('x', 2); INSERT INTO other VALUES ('x', 3, 4);
		INSERT INTO bare VALUES ('x', 5); INSERT INTO none VALUES ('x'); COMMIT`)
	want := []string{`{"lang":"de","<b>":1}`, `{"id":2}`, `{"id":3}`, `{"u":5}`, `{}`}
	for i, m := range j.wait(t, len(want)) {
		if string(m.Key) != want[i] {
			t.Errorf("%s has key %s, want %s", m.Source, m.Key, want[i])
		}
	}
}

func TestLargeValues(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	cfg := articles(db)
	cfg.Tables[0].Data = nil // all
	listen(t, cfg, j)
	// Random digits do not compress, so the value is stored out of line.
	db.Exec(`INSERT INTO articles (id, title, summary, tags) SELECT 1, 'toasted', string_agg(md5(n::text), ''), '{a}' FROM generate_series(1, 4000) n`)
	db.Exec(`INSERT INTO articles (id, title, tags) VALUES (2, repeat('x', 1048576), '{b}')`)
	got := j.wait(t, 2)
	want := pgtest.Value[string](db, `SELECT summary FROM articles WHERE id = 1`)
	if field(t, got[0], "summary") != want || len(want) != 128000 || got[0].Truncated {
		t.Errorf("a value of %d bytes did not arrive whole", len(want))
	}
	if m := got[1]; string(m.Data) != `{"id":2}` || !m.Truncated || !slices.Equal(m.Tags, []string{"b"}) {
		t.Errorf("message over 1 MiB has %d bytes of data, truncated %v", len(m.Data), m.Truncated)
	}
}

func TestSchemaChangesInMidStream(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	cfg := articles(db)
	cfg.Tables[0].Data = nil
	l := listen(t, cfg, j)
	db.Exec(`INSERT INTO articles (title) VALUES ('before')`)
	db.Exec(`BEGIN; ALTER TABLE articles ADD COLUMN extra jsonb DEFAULT '[1]'; ALTER TABLE articles DROP COLUMN url;
		ALTER TABLE articles ALTER COLUMN summary TYPE int USING 0;
		INSERT INTO articles (title, summary) VALUES ('after', 5); COMMIT`)
	got := j.wait(t, 2)
	if !strings.Contains(string(got[0].Data), `"url":null`) || !strings.Contains(string(got[1].Data), `"summary":5`) ||
		!strings.Contains(string(got[1].Data), `"extra":[1]`) || strings.Contains(string(got[1].Data), `"url"`) {
		t.Errorf("data = %s, then %s", got[0].Data, got[1].Data)
	}
	db.Exec(`ALTER TABLE articles RENAME COLUMN tags TO labels`)
	db.Exec(`INSERT INTO articles (title) VALUES ('lost its tags')`)
	err := l.fails(ErrMapping)
	for _, part := range []string{"tags", "public.articles", "postgres.tables[0].tags.column"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %s", err, part)
		}
	}
	// Mended, it goes on with the row that it stopped at.
	cfg.Tables[0].Tags.Column = "labels"
	listen(t, cfg, j)
	if m := j.wait(t, 3)[2]; field(t, m, "title") != "lost its tags" {
		t.Errorf("message = %s", m.Data)
	}
}

func TestPositionsSurviveHeartbeats(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	cfg := articles(db)
	cfg.Heartbeat = settle / 10
	listen(t, cfg, j).ready()
	for range 20 {
		db.Exec(`SELECT pg_logical_emit_message(true, 'newswire', 'within'); INSERT INTO articles (title) VALUES ('a')`)
	}
	got := j.wait(t, 20)
	if !slices.IsSortedFunc(got, func(a, b journal.Message) int { return a.ID.Compare(b.ID) }) {
		t.Error("ids are not in commit order")
	}
	target := db.CurrentLSN()
	eventually(t, "the slot advances", func() bool { return db.ConfirmedFlush() >= target })
}

func TestDataIsWhatToJSONBPrintsWhateverTheDefaults(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithSchema(`CREATE TYPE pair AS (a int, b text);
		CREATE TABLE articles (id int PRIMARY KEY, title text, d date, ts timestamptz, iv interval, f float8, n numeric(20,5),
			b bytea, j jsonb, a text[][], p pair, u uuid, tags text[])`)), newMemJournal()
	db.Exec(`ALTER ROLE ` + db.Role + ` SET DateStyle = 'German'; ALTER ROLE ` + db.Role + ` SET TimeZone = 'Asia/Tokyo';
		ALTER ROLE ` + db.Role + ` SET IntervalStyle = 'iso_8601'; ALTER ROLE ` + db.Role + ` SET extra_float_digits = -5;
		ALTER ROLE ` + db.Role + ` SET bytea_output = 'escape'`)
	cfg := articles(db)
	cfg.Tables[0].Data = nil
	listen(t, cfg, j)
	db.Exec(`INSERT INTO articles VALUES (1, E'tab\t', '2026-02-01', '2026-02-01 10:00:00.123456+05:30', '1 day 02:03', 0.1::float8 + 0.2, 12.5,
		'\xdeadbeef', '{"x": [1, null]}', '{{a,"b,c"},{NULL,"\"q\""}}', '(1,"x y")', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{a}')`)
	m := j.wait(t, 1)[0]
	db.Exec(`SET TimeZone = 'UTC'`)
	if !pgtest.Value[bool](db, `SELECT to_jsonb(articles) = $1::jsonb FROM articles`, string(m.Data)) {
		t.Errorf("data = %s\nwant %s", m.Data, pgtest.Value[string](db, `SELECT to_jsonb(articles)::text FROM articles`))
	}
}
