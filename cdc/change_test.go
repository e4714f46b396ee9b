package cdc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cdc/setup"
	"newswire/fanout/journal"
)

// story is what readers learn, one word and the tags for each message.
func story(messages []journal.Message) string {
	var words []string
	for _, m := range messages {
		words = append(words, fmt.Sprintf("%s %s %s-%s", m.Action, m.Key, strings.Join(m.Tags, ","), strings.Join(m.Former, ",")))
	}
	return strings.Join(words, "\n")
}

// published is a configuration in which a status says what is news.
func published(db *pgtest.DB) Config {
	cfg := articles(db)
	cfg.Tables[0].Published = &Published{Column: "status", Equals: "published"}
	return cfg
}

func TestEveryChangeOfARowMeansWhatReadersSee(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, want string }{
		"insert":                {`INSERT INTO articles (id, title, tags, status) VALUES (1, 'a', '{tech}', 'published')`, `publish {"id":1} tech-`},
		"draft, then published": {`INSERT INTO articles (id, status) VALUES (1, 'draft'); UPDATE articles SET status = 'published', tags = '{ai}'`, `publish {"id":1} ai-`},
		"corrected": {`INSERT INTO articles (id, title, tags, status) VALUES (1, 'a', '{tech,ai}', 'published'); UPDATE articles SET title = 'b', tags = '{ai,sport}'`,
			"publish {\"id\":1} tech,ai-\ncorrect {\"id\":1} ai,sport-tech"},
		"a column that readers do not get": {`INSERT INTO articles (id, status) VALUES (1, 'published'); UPDATE articles SET url = 'x'; UPDATE articles SET url = 'y'`,
			`publish {"id":1} general-`},
		"withdrawn": {`INSERT INTO articles (id, tags, status) VALUES (1, '{tech}', 'published'); UPDATE articles SET status = 'draft'; UPDATE articles SET title = 'x'`,
			"publish {\"id\":1} tech-\nretract {\"id\":1} tech-"},
		"deleted": {`INSERT INTO articles (id, tags, status) VALUES (1, '{tech}', 'published'), (2, '{ai}', 'draft'); DELETE FROM articles`,
			"publish {\"id\":1} tech-\nretract {\"id\":1} tech-"},
		"truncated": {`INSERT INTO articles (id, tags, status) VALUES (1, '{tech}', 'published'), (2, '{ai}', 'draft'), (3, '{ai}', 'published'); TRUNCATE articles`,
			"publish {\"id\":1} tech-\npublish {\"id\":3} ai-\nretract {\"id\":1} tech-\nretract {\"id\":3} ai-"},
		"another key": {`INSERT INTO articles (id, tags, status) VALUES (1, '{tech}', 'published'); UPDATE articles SET id = 2`,
			"publish {\"id\":1} tech-\nretract {\"id\":1} tech-\npublish {\"id\":2} tech-"},
		"all in one transaction": {`BEGIN; INSERT INTO articles (id, tags, status) VALUES (1, '{tech}', 'published'); UPDATE articles SET title = 'b'; DELETE FROM articles; COMMIT`,
			"publish {\"id\":1} tech-\ncorrect {\"id\":1} tech-\nretract {\"id\":1} tech-"},
		"deleted and inserted again in one transaction": {
			`INSERT INTO articles (id, title, tags, status) VALUES (1, 'a', '{tech}', 'published'), (2, 'a', '{ai}', 'published');
			 BEGIN; DELETE FROM articles; INSERT INTO articles (id, title, tags, status) VALUES (1, 'a', '{tech}', 'published'), (2, 'b', '{ai}', 'published'); COMMIT;
			 UPDATE articles SET url = 'z'`,
			"publish {\"id\":1} tech-\npublish {\"id\":2} ai-\ncorrect {\"id\":2} ai-"},
	} {
		for _, identity := range []string{"DEFAULT", "FULL", "DEFAULT, as set up", "FULL, as set up"} {
			t.Run(name+" with identity "+identity, func(t *testing.T) {
				t.Parallel()
				identity, setUp := strings.CutSuffix(identity, ", as set up")
				db, j := pgtest.New(t), newMemJournal()
				db.Exec(`ALTER TABLE articles REPLICA IDENTITY ` + identity)
				cfg := published(db)
				if setUp { // a row filter or a column list, from version 15 on
					cfg.Publication = narrow(t, db, cfg)
				}
				l := listen(t, cfg, j)
				l.ready()
				for sql := range strings.SplitSeq(c.sql, ";\n") {
					db.Exec(sql)
				}
				db.Exec(`INSERT INTO articles (id, title, status) VALUES (99, 'end', 'published')`)
				got := j.wait(t, strings.Count(c.want, "\n")+2)
				if s := story(got[:len(got)-1]); s != c.want {
					t.Errorf("readers learn\n%s\nwant\n%s", s, c.want)
				}
				if !slices.IsSortedFunc(got, func(a, b journal.Message) int { return a.ID.Compare(b.ID) }) {
					t.Errorf("ids are not in order:\n%s", story(got))
				}
			})
		}
	}
}

// narrow makes the publication that setup would make, and gives its name.
func narrow(t *testing.T, db *pgtest.DB, cfg Config) string {
	t.Helper()
	cfg.Publication += "_narrow"
	wanted, err := cfg.Setup()
	if err != nil {
		t.Fatal(err)
	}
	conn := db.Connect()
	plan, err := setup.Prepare(t.Context(), conn, wanted, setup.Options{})
	if err == nil {
		err = plan.Apply(t.Context(), conn)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Publication
}

func TestUnchangedLargeValuesAreNeverEmpty(t *testing.T) {
	t.Parallel()
	for _, identity := range []string{"DEFAULT", "FULL"} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), newMemJournal()
			db.Exec(`ALTER TABLE articles REPLICA IDENTITY ` + identity + `; ALTER TABLE articles ALTER COLUMN summary SET STORAGE EXTERNAL`)
			db.Exec(`INSERT INTO articles (id, title, summary, status) VALUES (1, 'old', repeat('o', 9000), 'published')`)
			cfg := published(db)
			cfg.Tables[0].Data = []string{"id", "title", "summary"}
			listen(t, cfg, j).ready()
			j.wait(t, 1)                                             // the insert lies behind the slot's position
			db.Exec(`UPDATE articles SET url = 'seen' WHERE id = 1`) // nothing that readers get
			db.Exec(`UPDATE articles SET title = 'from the last message' WHERE id = 1`)
			got := j.wait(t, 2)
			if v := field(t, got[1], "summary"); got[1].Action != journal.Correct || v != strings.Repeat("o", 9000) {
				t.Errorf("%s with a summary of %d bytes, want a correct with 9000", got[1].Action, len(fmt.Sprint(v)))
			}
		})
	}
}

// A draft whose large value the stream leaves out, and which is published and
// changed in one transaction: whatever is read as it stands later, the last
// message about the row says what is committed, whole.
func TestDraftPublishedAndChangedAtOnceLosesNoValue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		last string // what the row's last message is, and its summary
	}{
		"published, then its value changed":       {`UPDATE articles SET status = 'published'; UPDATE articles SET summary = repeat('n', 9000)`, "n 9000"},
		"published, then its value made small":    {`UPDATE articles SET status = 'published'; UPDATE articles SET summary = 'small'`, "small"},
		"published, then its value taken away":    {`UPDATE articles SET status = 'published'; UPDATE articles SET summary = NULL`, "<nil>"},
		"published, then another value changed":   {`UPDATE articles SET status = 'published'; UPDATE articles SET title = 'better'`, "o 9000"},
		"its value changed, then published":       {`UPDATE articles SET summary = repeat('n', 9000); UPDATE articles SET status = 'published'`, "n 9000"},
		"changed, published, changed again":       {`UPDATE articles SET summary = repeat('n', 9000); UPDATE articles SET status = 'published'; UPDATE articles SET summary = repeat('m', 9000)`, "m 9000"},
		"published under a key, then another":     {`UPDATE articles SET status = 'published'; UPDATE articles SET id = 2`, "o 9000"},
		"another key, then published":             {`UPDATE articles SET id = 2; UPDATE articles SET status = 'published'`, "o 9000"},
		"published, changed, then another key":    {`UPDATE articles SET status = 'published'; UPDATE articles SET summary = repeat('n', 9000); UPDATE articles SET id = 2`, "n 9000"},
		"published, unpublished, published":       {`UPDATE articles SET status = 'published'; UPDATE articles SET status = 'draft'; UPDATE articles SET status = 'published'`, "o 9000"},
		"published, then deleted and made anew":   {`UPDATE articles SET status = 'published'; DELETE FROM articles; INSERT INTO articles (id, summary, status) VALUES (1, 'anew', 'published')`, "anew"},
		"published, and changed in the next one":  {`UPDATE articles SET status = 'published'; COMMIT; BEGIN; UPDATE articles SET summary = repeat('n', 9000)`, "n 9000"},
		"published, and another key in the next":  {`UPDATE articles SET status = 'published'; COMMIT; BEGIN; UPDATE articles SET id = 2`, "o 9000"},
		"changed, and published in the next one":  {`UPDATE articles SET summary = repeat('n', 9000); COMMIT; BEGIN; UPDATE articles SET status = 'published'`, "n 9000"},
		"published, and its value away in a next": {`UPDATE articles SET status = 'published'; COMMIT; BEGIN; UPDATE articles SET summary = NULL`, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), newMemJournal()
			db.Exec(`ALTER TABLE articles ALTER COLUMN summary SET STORAGE EXTERNAL`)
			db.Exec(`INSERT INTO articles (id, title, summary, status) VALUES (1, 'old', repeat('o', 9000), 'draft')`)
			cfg := published(db)
			cfg.Tables[0].Data = []string{"id", "title", "summary"}
			l := listen(t, cfg, j)
			l.ready()
			l.halt() // all of it has been committed before any of it is read
			db.Exec("BEGIN; " + c.sql + "; COMMIT")
			db.Exec(`INSERT INTO articles (id, title, summary, status) VALUES (99, 'end', '', 'published')`)
			listen(t, cfg, j).ready()
			var got []journal.Message
			j.until(t, func() bool {
				got = j.messages
				return len(got) > 0 && string(got[len(got)-1].Key) == `{"id":99}`
			})
			m := got[len(got)-2]
			said := fmt.Sprint(field(t, m, "summary"))
			if n := len(said); n == 9000 && said == strings.Repeat(said[:1], n) {
				said = fmt.Sprint(said[:1], " ", n)
			}
			if m.Truncated || said != c.last {
				t.Errorf("the last is a %s with the summary %.20s, truncated %t, want %s; readers learn\n%s", m.Action, said, m.Truncated, c.last, story(got))
			}
			for _, m := range got {
				if m.Action != journal.Retract && !m.Truncated && !strings.Contains(string(m.Data), `"summary"`) {
					t.Errorf("a %s without its summary does not say so: %s", m.Action, m.Data)
				}
			}
		})
	}
}

func TestOldArticlesAreNoNewsButTheirCorrectionsAre(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithoutSlot()), newMemJournal()
	db.Exec(`ALTER TABLE articles ALTER COLUMN summary SET STORAGE EXTERNAL;
		INSERT INTO articles (id, title, summary, tags, status) VALUES
		(1, 'old', repeat('o', 9000), '{tech}', 'published'), (2, 'old', '', '{ai}', 'draft'), (3, 'old', '', '{ai}', 'published'), (4, 'x', '', '{ai}', 'published')`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	// Between the slot and the first start: what the stream tells of these rows
	// counts, not what the first look at the table knows in advance.
	db.Exec(`UPDATE articles SET status = 'published' WHERE id = 2; DELETE FROM articles WHERE id = 4;
		INSERT INTO articles (id, title, tags, status) VALUES (5, 'new', '{ai}', 'published')`)
	cfg := published(db)
	cfg.Tables[0].Data = []string{"id", "title", "summary"}
	listen(t, cfg, j).ready()
	j.wait(t, 2)
	db.Exec(`UPDATE articles SET url = 'seen'; UPDATE articles SET title = 'better', tags = '{ai}' WHERE id = 1; DELETE FROM articles WHERE id = 3`)
	got := j.wait(t, 4)
	want := "publish {\"id\":2} ai-\npublish {\"id\":5} ai-\ncorrect {\"id\":1} ai-tech\nretract {\"id\":3} ai-"
	if s := story(got); s != want {
		t.Errorf("readers learn\n%s\nwant\n%s", s, want)
	}
	if v := field(t, got[2], "summary"); v != strings.Repeat("o", 9000) {
		t.Errorf("the corrected article has a summary of %d bytes, want 9000, read again", len(fmt.Sprint(v)))
	}
}

func TestMovesBetweenPartitionsAreNoNews(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(`
		CREATE TABLE articles (id int, title text, tags text[], status text, section text, PRIMARY KEY (id, section)) PARTITION BY LIST (section);
		CREATE TABLE articles_a PARTITION OF articles FOR VALUES IN ('a');
		CREATE TABLE articles_b PARTITION OF articles FOR VALUES IN ('b')`),
		pgtest.WithPublication(`FOR TABLE articles WITH (publish_via_partition_root = true)`))
	j := newMemJournal()
	listen(t, published(db), j).ready()
	db.Exec(`INSERT INTO articles VALUES (1, 'a', '{tech}', 'published', 'a'); UPDATE articles SET section = 'b';
		UPDATE articles SET title = 'z'`)
	got := j.wait(t, 4)
	want := "publish {\"id\":1,\"section\":\"a\"} tech-\nretract {\"id\":1,\"section\":\"a\"} tech-\npublish {\"id\":1,\"section\":\"b\"} tech-\ncorrect {\"id\":1,\"section\":\"b\"} tech-"
	if s := story(got); s != want {
		t.Errorf("readers learn\n%s\nwant\n%s", s, want)
	}
}

func TestTheFirstFillKnowsWhatThePublicationCarries(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(`
		CREATE TABLE articles (id int PRIMARY KEY, title text, notes text, tags text[], status text,
			shout text GENERATED ALWAYS AS (upper(title)) STORED, seen int NOT NULL DEFAULT 0);
		INSERT INTO articles (id, title, notes, tags, status) VALUES (1, 'a', 'private', '{tech}', 'published'), (2, 'b', 'private', '{ai}', 'hidden')`),
		pgtest.WithPublication(`FOR TABLE articles WITH (publish = 'insert')`))
	if pgtest.Value[int](db, `SELECT current_setting('server_version_num')::int`) < 150000 {
		t.Skip("PostgreSQL 14 has neither row filters nor column lists")
	}
	db.Exec(`ALTER PUBLICATION ` + db.Publication + ` SET TABLE articles (id, title, tags, status) WHERE (status <> 'hidden')`)
	j := newMemJournal()
	cfg := articles(db)
	cfg.Tables[0].Data = nil
	l := listen(t, cfg, j).ready()
	if n := len(j.rows); n != 1 {
		t.Errorf("%d rows are remembered, want the one that is published", n)
	}
	db.Exec(`UPDATE articles SET seen = 1; INSERT INTO articles (id, title, status) VALUES (3, 'c', 'published')`)
	got := j.wait(t, 1)
	if s := string(got[0].Data); strings.Contains(s, "private") || strings.Contains(s, "shout") {
		t.Errorf("readers get %s", s)
	}
	l.halt()
	mend(t, cfg, j)
	db.Exec(`INSERT INTO articles (id, title, status) VALUES (4, 'd', 'published')`)
	listen(t, cfg, j).ready()
	if s := story(j.wait(t, 2)[1:]); s != `publish {"id":4} general-` {
		t.Errorf("a resync where nothing was missed tells\n%s", s)
	}
}

func TestARowWithoutAKeyIsNewsOnlyOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(`CREATE TABLE articles (id int, title text, tags text[]); ALTER TABLE articles REPLICA IDENTITY FULL`))
	j := newMemJournal()
	listen(t, articles(db), j).ready()
	db.Exec(`INSERT INTO articles VALUES (1, repeat('x', 100000), '{tech}'); UPDATE articles SET title = 'y'; DELETE FROM articles;
		INSERT INTO articles VALUES (2, 'end', '{ai}')`)
	if s := story(j.wait(t, 2)); s != "publish {} tech-\npublish {} ai-" {
		t.Errorf("readers learn\n%s", s)
	}
}
