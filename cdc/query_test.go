package cdc

import (
	"errors"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

func TestParametersAreFoundWhereSQLHasThem(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT $1":                            "SELECT <1>",
		"SELECT $1;\n ; ":                      "SELECT <1>",
		"SELECT $1; -- $2\n /* $3 */ ;":        "SELECT <1>",
		"SELECT $1; SELECT $2;":                "SELECT <1>; SELECT <2>",
		"SELECT $2+$1::int,$12":                "SELECT <2>+<1>::int,<12>",
		"SELECT '$2', $1":                      "SELECT '$2', <1>",
		"SELECT 'it''s $2', $1":                "SELECT 'it''s $2', <1>",
		`SELECT '\', $1, '$2'`:                 `SELECT '\', <1>, '$2'`,
		`SELECT E'\'$2', e'\\', $1`:            `SELECT E'\'$2', e'\\', <1>`,
		`SELECT type'$2', $1`:                  `SELECT type'$2', <1>`,
		`SELECT "a$2""$2", a$2, $1`:            `SELECT "a$2""$2", a$2, <1>`,
		"SELECT $1 -- $2":                      "SELECT <1> -- $2",
		"SELECT 1 -- $2\n, $1":                 "SELECT 1 -- $2\n, <1>",
		"SELECT /* $2 /* $2 */ $2 */ $1":       "SELECT /* $2 /* $2 */ $2 */ <1>",
		"SELECT $$ $2 $$, $1, $a_1$ $$2 $a_1$": "SELECT $$ $2 $$, <1>, $a_1$ $$2 $a_1$",
		"SELECT é$2, $1":                       "SELECT é$2, <1>",
	} {
		q, err := parseQuery(sql)
		if err != nil {
			t.Errorf("%q: %v", sql, err)
			continue
		}
		if got := q.with(func(n int) string { return "<" + string(rune('0' + n/10))[:n/10] + string(rune('0'+n%10)) + ">" }); got != want {
			t.Errorf("%q became %q, want %q", sql, got, want)
		}
	}
	for sql, want := range map[string]error{
		" ; ": errQueryEmpty, "SELECT 1": errQueryNoParam, "SELECT '$1'": errQueryNoParam, "SELECT $0": errQueryBadParam,
		"SELECT '$1": errQueryOpen, `SELECT "$1`: errQueryOpen, "SELECT /* /* */ $1": errQueryOpen, "SELECT $x$ $1": errQueryOpen, `SELECT E'\'$1`: errQueryOpen,
	} {
		if _, err := parseQuery(sql); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", sql, err, want)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	for _, sql := range []string{"SELECT $1", `E'\'$1'"a""$1"/*/**/*/--` + "\n$$ $1 $$ $12", "'", "$", "$a"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		q, err := parseQuery(sql)
		if err != nil {
			return
		}
		if q.most() < 1 || len(q.parts) != len(q.params)+1 {
			t.Errorf("%q: %+v", sql, q)
		}
		i := 0
		if got := q.with(func(int) string { i++; return "" }); i != len(q.params) || len(got) >= len(sql) {
			t.Errorf("%q lost its parameters as %q", sql, got)
		}
	})
}

// cms is how systems with join tables keep articles.
const cms = `
	CREATE TABLE articles (id bigserial PRIMARY KEY, title text, body text, status text NOT NULL DEFAULT 'published');
	CREATE TABLE tags (id int PRIMARY KEY, name text NOT NULL);
	CREATE TABLE articles_tags (article_id bigint, tag_id int REFERENCES tags, position int NOT NULL DEFAULT 0, PRIMARY KEY (article_id, tag_id));
	CREATE INDEX ON articles_tags (tag_id);
	INSERT INTO tags VALUES (1, 'tech'), (2, 'ai'), (3, 'sport'), (4, '*')`

const cmsQuery = `SELECT t.name FROM articles_tags at JOIN tags t ON t.id = at.tag_id WHERE at.article_id = $1 ORDER BY at.position, t.name`

func cmsConfig(db *pgtest.DB) Config {
	cfg := articles(db)
	cfg.Tables = []Table{{
		Name: "articles",
		Tags: Tags{Query: cmsQuery, Links: []Link{{Table: "articles_tags", Key: []string{"article_id"}}}},
		Data: []string{"title", "body"},
	}}
	return cfg
}

func newCMS(t *testing.T, opts ...pgtest.Option) *pgtest.DB {
	return pgtest.New(t, append([]pgtest.Option{pgtest.WithSchema(cms)}, opts...)...)
}

// want is what is wanted of a message.
type want struct {
	action journal.Action
	key    string
	tags   string // joined
	former string
}

func wantMessages(t *testing.T, got []journal.Message, wants ...want) {
	t.Helper()
	if len(got) != len(wants) {
		t.Errorf("%d messages, want %d", len(got), len(wants))
	}
	for i, w := range wants[:min(len(wants), len(got))] {
		m := got[i]
		is := want{m.Action, string(m.Key), strings.Join(m.Tags, ","), strings.Join(m.Former, ",")}
		if is != w {
			t.Errorf("message %d is %+v, want %+v", i, is, w)
		}
		if i > 0 && m.ID.Compare(got[i-1].ID) <= 0 {
			t.Errorf("message %d has id %s behind %s", i, m.ID, got[i-1].ID)
		}
	}
}

func TestTagsOfTheSameTransactionComeFromTheQuery(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	listen(t, cmsConfig(db), j)
	db.Exec(`BEGIN; INSERT INTO articles (id, title) VALUES (1, 'first'), (2, 'second'), (3, 'untagged');
		INSERT INTO articles_tags VALUES (1, 3, 1), (1, 1, 2), (2, 2, 1), (2, 4, 2); COMMIT`)
	wantMessages(t, j.wait(t, 3),
		want{journal.Publish, `{"id":1}`, "sport,tech", ""}, want{journal.Publish, `{"id":2}`, "ai", ""}, want{journal.Publish, `{"id":3}`, "general", ""})
	// The tags are remembered: a retract knows them when the links have gone.
	db.Exec(`BEGIN; DELETE FROM articles_tags WHERE article_id = 1; DELETE FROM articles WHERE id = 1; COMMIT`)
	wantMessages(t, j.wait(t, 4)[3:], want{journal.Retract, `{"id":1}`, "sport,tech", ""})
}

// script runs statements one after the other, each after the messages of the
// one before it have come.
type script struct {
	db   *pgtest.DB
	j    *memJournal
	seen int
}

func (s *script) step(t *testing.T, sql string, wants ...want) []journal.Message {
	t.Helper()
	s.db.Exec(sql)
	end := s.db.CurrentLSN()
	var got []journal.Message
	s.j.until(t, func() bool {
		got = s.j.messages[s.seen:]
		return len(got) >= len(wants) && s.j.read >= journal.LSN(end)
	})
	s.seen += len(got)
	wantMessages(t, got, wants...)
	return got
}

func TestLinkChangesCorrectTheArticle(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	listen(t, cmsConfig(db), j)
	s := script{db: db, j: j}
	publish, correct := journal.Publish, journal.Correct
	s.step(t, `INSERT INTO articles (id, title, body) VALUES (1, 'first', 'x'), (2, 'second', 'y'), (3, 'third', 'z');
		INSERT INTO articles_tags VALUES (1, 1), (2, 2), (3, 3)`,
		want{publish, `{"id":1}`, "tech", ""}, want{publish, `{"id":2}`, "ai", ""}, want{publish, `{"id":3}`, "sport", ""})
	added := s.step(t, `INSERT INTO articles_tags VALUES (1, 2, 1)`, want{correct, `{"id":1}`, "tech,ai", ""})
	if string(added[0].Data) != `{"title":"first","body":"x"}` || added[0].Source != "public.articles" || added[0].ID.Ordinal != 0 {
		t.Errorf("the correction is %+v", added[0])
	}
	s.step(t, `UPDATE articles_tags SET tag_id = 3 WHERE article_id = 1 AND tag_id = 2`, want{correct, `{"id":1}`, "tech,sport", "ai"})
	s.step(t, `DELETE FROM articles_tags WHERE article_id = 1 AND tag_id = 1`, want{correct, `{"id":1}`, "sport", "tech"})
	s.step(t, `UPDATE articles_tags SET article_id = 2 WHERE article_id = 1`, // both are told
		want{correct, `{"id":2}`, "ai,sport", ""}, want{correct, `{"id":1}`, "general", "sport"})
	s.step(t, `DELETE FROM articles_tags WHERE article_id = 3; INSERT INTO articles_tags VALUES (3, 3)`)
	one := s.step(t, `INSERT INTO articles_tags VALUES (3, 1); UPDATE articles SET title = 'Third' WHERE id = 3`, want{correct, `{"id":3}`, "sport,tech", ""})
	if one[0].ID.Ordinal != 1 {
		t.Errorf("an article that changed itself has the ordinal %d of its link", one[0].ID.Ordinal)
	}
	s.step(t, `UPDATE articles_tags SET position = 7 WHERE article_id = 3 AND tag_id = 3`, want{correct, `{"id":3}`, "tech,sport", ""})
	s.step(t, `UPDATE tags SET name = 'science' WHERE name = 'tech'`) // no link: what the README says corrects them
	s.step(t, `UPDATE articles_tags SET tag_id = tag_id WHERE tag_id = (SELECT id FROM tags WHERE name = 'science')`, want{correct, `{"id":3}`, "science,sport", "tech"})
	s.step(t, `UPDATE tags SET name = 'tech' WHERE name = 'science'; UPDATE articles_tags SET tag_id = tag_id WHERE tag_id = 1`, want{correct, `{"id":3}`, "tech,sport", "science"})
	s.step(t, `INSERT INTO articles_tags VALUES (99, 1)`) // of no article
	s.step(t, `INSERT INTO articles (id, status) VALUES (4, 'x'); DELETE FROM articles WHERE id = 4`)
	s.step(t, `TRUNCATE articles_tags`, want{correct, `{"id":2}`, "general", "ai,sport"}, want{correct, `{"id":3}`, "general", "tech,sport"})
	s.step(t, `DELETE FROM articles WHERE id = 2`, want{journal.Retract, `{"id":2}`, "general", ""})
}
