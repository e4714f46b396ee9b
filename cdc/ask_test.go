package cdc

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

func TestRowsOfATransactionAreAskedAboutTogether(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithSchema(`
		CREATE TABLE films (lang char(2), no int, title text, PRIMARY KEY (lang, no));
		CREATE TABLE films_tags (no int, lang char(2), tag text, PRIMARY KEY (no, lang, tag));
		CREATE TABLE videos (id uuid PRIMARY KEY, title text);
		CREATE TABLE videos_tags (video uuid, tag text, PRIMARY KEY (video, tag));`)), newMemJournal()
	db.Exec(`ALTER ROLE ` + db.Role + ` SET log_statement = 'all'`)
	cfg := articles(db)
	cfg.Tables = []Table{
		{Name: "films", Data: []string{"title"}, Tags: Tags{Query: "SELECT tag FROM films_tags WHERE lang = $1 AND no = $2 ORDER BY tag"}},
		{Name: "videos", Data: []string{"title"}, Tags: Tags{Query: "SELECT tag FROM videos_tags WHERE video = $1 ORDER BY tag DESC"}},
	}
	listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO films SELECT 'de', n, 'film ' || n FROM generate_series(1, 300) n;
		INSERT INTO films_tags SELECT n, 'de', 't' || n % 3 FROM generate_series(1, 300) n; INSERT INTO films_tags VALUES (1, 'en', 'other');
		INSERT INTO videos SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'v' FROM generate_series(1, 50) n;
		INSERT INTO videos_tags SELECT id, unnest('{a,b}'::text[]) FROM videos`)
	got := j.wait(t, 350)
	for i, m := range got[:300] {
		if string(m.Key) != fmt.Sprintf(`{"lang":"de","no":%d}`, i+1) || !slices.Equal(m.Tags, []string{fmt.Sprint("t", (i+1)%3)}) || m.ID.Ordinal != uint32(i) {
			t.Fatalf("message %d has key %s, tags %q and ordinal %d", i, m.Key, m.Tags, m.ID.Ordinal)
		}
	}
	for i, m := range got[300:] {
		if !slices.Equal(m.Tags, []string{"b", "a"}) || m.ID.Ordinal != uint32(601+i) {
			t.Fatalf("video %d has tags %q and ordinal %d", i, m.Tags, m.ID.Ordinal)
		}
	}
	log, err := os.ReadFile(db.Server().LogFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"films", "videos"} {
		if n := strings.Count(string(log), `JOIN "public"."`+table+`" AS `+rowAlias); n != 1 {
			t.Errorf("the server was asked %d times about one transaction's rows of %s, want once", n, table)
		}
	}
}

func TestHugeTransactionsAreAskedAboutPartByPart(t *testing.T) {
	t.Parallel()
	const rows = 2*spoolMessages + 10
	db, j := newCMS(t), watch(t)
	listen(t, cmsConfig(db), j).ready()
	db.Exec(fmt.Sprintf(`INSERT INTO articles (id, title) SELECT n, 'row ' || n FROM generate_series(1, %d) n;
		INSERT INTO articles_tags SELECT n, 1 FROM generate_series(1, %[1]d) n; UPDATE articles SET title = 'last' WHERE id = 1`, rows))
	got := j.wait(t, rows+1)
	for i, m := range got[:rows] {
		if string(m.Key) != fmt.Sprintf(`{"id":%d}`, i+1) || m.ID.Ordinal != uint32(i) || !slices.Equal(m.Tags, []string{"tech"}) {
			t.Fatalf("message %d has key %s, id %v and tags %q", i, m.Key, m.ID, m.Tags)
		}
	}
	wantMessages(t, got[rows:], want{journal.Correct, `{"id":1}`, "tech", ""})
	j.bounded(t, rows/spoolMessages-1)
	db.Exec(`DELETE FROM articles_tags`) // every row of it names one article
	for i, m := range j.wait(t, 2*rows+1)[rows+1:] {
		if string(m.Key) != fmt.Sprintf(`{"id":%d}`, i+1) || m.ID.Ordinal != uint32(i) || !slices.Equal(m.Tags, []string{"general"}) {
			t.Fatalf("correction %d has key %s, id %v and tags %q", i, m.Key, m.ID, m.Tags)
		}
	}
}

func TestChangesOfOneTransactionKeepTheirOrder(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	db.Exec(`CREATE TABLE flashes (id int PRIMARY KEY, title text, tag text)`)
	cfg := cmsConfig(db)
	cfg.Tables = append(cfg.Tables, Table{Name: "flashes", Data: []string{"title"}, Tags: Tags{Column: "tag"}})
	listen(t, cfg, j).ready()
	s := script{db: db, j: j}
	publish, correct, retract := journal.Publish, journal.Correct, journal.Retract
	s.step(t, `INSERT INTO articles (id, title) VALUES (1, 'a'); INSERT INTO flashes VALUES (1, 'f', 'x'); INSERT INTO articles (id, title) VALUES (2, 'b');
		INSERT INTO articles_tags VALUES (1, 1), (2, 2); UPDATE flashes SET title = 'g'; UPDATE articles SET title = 'c' WHERE id = 1`,
		want{publish, `{"id":1}`, "tech", ""}, want{publish, `{"id":1}`, "x", ""}, want{publish, `{"id":2}`, "ai", ""},
		want{correct, `{"id":1}`, "x", ""}, want{correct, `{"id":1}`, "tech", ""})
	// Deleted and inserted again is one change; what is deleted for good never was.
	s.step(t, `DELETE FROM articles WHERE id = 1; INSERT INTO articles (id, title) VALUES (1, 'c')`)
	s.step(t, `DELETE FROM articles WHERE id = 1; INSERT INTO articles (id, title) VALUES (1, 'd')`, want{correct, `{"id":1}`, "tech", ""})
	s.step(t, `INSERT INTO articles (id, title) VALUES (3, 'x'); DELETE FROM articles WHERE id = 3`)
	// A changed key is two changes.
	s.step(t, `UPDATE articles SET id = 9 WHERE id = 1; UPDATE articles_tags SET article_id = 9 WHERE article_id = 1`,
		want{retract, `{"id":1}`, "tech", ""}, want{publish, `{"id":9}`, "tech", ""})
	// Truncated with its links, or behind them.
	s.step(t, `INSERT INTO articles (id, title) VALUES (4, 'e'); TRUNCATE articles, articles_tags`, want{retract, `{"id":2}`, "ai", ""}, want{retract, `{"id":9}`, "tech", ""})
}

func TestRepeatedLinkChangesHaveTheSameIDs(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	first := listen(t, cmsConfig(db), j)
	s := script{db: db, j: j}
	s.step(t, `INSERT INTO articles (id, title) VALUES (1, 'a'), (2, 'b'); INSERT INTO articles_tags VALUES (1, 1), (2, 2)`,
		want{journal.Publish, `{"id":1}`, "tech", ""}, want{journal.Publish, `{"id":2}`, "ai", ""})
	j.hold(true)
	j.mu.Lock()
	rows, last, read := maps.Clone(j.rows), j.last, j.read
	j.mu.Unlock()
	told := s.step(t, `INSERT INTO articles_tags VALUES (99, 1), (2, 3), (1, 2), (2, 1)`,
		want{journal.Correct, `{"id":2}`, "ai,sport,tech", ""}, want{journal.Correct, `{"id":1}`, "ai,tech", ""})
	first.halt()
	j.mu.Lock() // the journal loses what was not synced
	j.rows, j.last, j.read, j.messages = rows, last, read, nil
	j.mu.Unlock()
	db.Exec(`INSERT INTO articles_tags VALUES (99, 2); DELETE FROM articles_tags WHERE article_id = 1 AND tag_id = 2; INSERT INTO articles_tags VALUES (1, 3)`)
	listen(t, cmsConfig(db), j)
	// What is said now is what is true now; the row change that says it is the same.
	j.until(t, func() bool { return len(j.messages) == 2 })
	wantMessages(t, j.wait(t, 2), want{journal.Correct, `{"id":2}`, "ai,sport,tech", ""}, want{journal.Correct, `{"id":1}`, "sport,tech", ""})
	for i, again := range j.wait(t, 2) {
		if again.ID != told[i].ID {
			t.Errorf("%s has id %v, and %v when it is repeated", again.Key, told[i].ID, again.ID)
		}
	}
}

func TestConfirmedTransactionsAreNotAskedAboutAgain(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	l := listen(t, cmsConfig(db), j)
	db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'a')`)
	j.wait(t, 1)
	l.halt()
	db.Exec(`INSERT INTO articles_tags VALUES (1, 1); DROP TABLE articles_tags`) // the query would fail
	j.mu.Lock()
	j.confirmed = journal.LSN(db.CurrentLSN()) // all of it was read
	j.mu.Unlock()
	eventually(t, "the slot is free", func() bool {
		return pgtest.Value[bool](db, `SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
	})
	listen(t, cmsConfig(db), j).ready()
	db.Exec(`CREATE TABLE articles_tags (article_id int, tag_id int, position int, PRIMARY KEY (article_id, tag_id)); GRANT SELECT ON articles_tags TO ` + db.Role)
	db.Exec(`INSERT INTO articles (id, title) VALUES (2, 'b')`)
	j.wait(t, 2)
}

func TestAQueryThatFailsStopsIntake(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ damage, want string }{
		"dropped": {`DROP TABLE articles_tags`, `relation "articles_tags" does not exist`},
		"revoked": {`REVOKE SELECT ON tags FROM $db`, "permission denied for table tags"},
		"renamed": {`ALTER TABLE tags RENAME name TO label`, "column t.name does not exist"},
		"link column": {`ALTER TABLE articles_tags RENAME article_id TO news; CREATE VIEW v AS SELECT 1; INSERT INTO articles_tags VALUES (1, 1)`,
			"column article_id of public.articles_tags, which postgres.tables[0].tags.links[0].key names"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, j := newCMS(t), newMemJournal()
			l := listen(t, cmsConfig(db), j)
			db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'a')`)
			j.wait(t, 1)
			db.Exec(strings.ReplaceAll(c.damage, "$db", db.Name))
			db.Exec(`INSERT INTO articles (id, title) VALUES (2, 'b')`)
			err := l.fails(ErrMapping)
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "postgres.tables[0].tags.") {
				t.Errorf("Run = %v, want one sentence with %q and the key", err, c.want)
			}
		})
	}
}

func TestAServerInTroubleIsAskedAgain(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t, pgtest.On(pgtest.NewCluster(t, nil))), newMemJournal() // its own: an open transaction keeps others from making slots
	db.Exec(`ALTER ROLE ` + db.Role + ` SET statement_timeout = '2s'`)
	db.Exec(`CREATE TABLE gate (open boolean); INSERT INTO gate VALUES (true)`)
	cfg := cmsConfig(db)
	cfg.Tables[0].Tags.Query = strings.Replace(cmsQuery, "WHERE", "JOIN gate ON open WHERE", 1)
	l := listen(t, cfg, j)
	db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'a')`)
	j.wait(t, 1)
	conn := db.Connect()
	if _, err := conn.Exec(t.Context(), `BEGIN; LOCK TABLE gate`); err != nil { // the query waits for it
		t.Fatal(err)
	}
	db.Exec(`INSERT INTO articles (id, title) VALUES (2, 'b'); INSERT INTO articles_tags VALUES (2, 2)`)
	eventually(t, "the timeout is told", func() bool {
		err := l.Ready()
		return err != nil && strings.Contains(err.Error(), "statement timeout")
	})
	// Its connection is cut, too, and a commit comes behind it.
	db.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + db.Role + `'`)
	db.Exec(`INSERT INTO articles (id, title) VALUES (3, 'c')`)
	if _, err := conn.Exec(context.Background(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	wantMessages(t, j.wait(t, 3), want{journal.Publish, `{"id":1}`, "general", ""}, want{journal.Publish, `{"id":2}`, "ai", ""}, want{journal.Publish, `{"id":3}`, "general", ""})
	select {
	case <-l.done:
		t.Errorf("Run = %v", l.err)
	default:
	}
}

func TestAnIdleConnectionThatWasCutIsMadeAnew(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	l := listen(t, cmsConfig(db), j).ready()
	db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'a')`)
	j.wait(t, 1)
	db.Exec(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '` + db.Role + `' AND backend_type = 'client backend'`)
	db.Exec(`INSERT INTO articles (id, title) VALUES (2, 'b')`)
	j.wait(t, 2)
	if n := counter(t, l.metrics.connects); n != 1 {
		t.Errorf("the stream was opened %v times, want once", n)
	}
}

func TestRowsThatAreGoneMakeNoMessage(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	l := listen(t, cmsConfig(db), j)
	db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'a')`)
	j.wait(t, 1)
	l.halt()
	// Read late, the first transactions find what the later ones have left.
	db.Exec(`INSERT INTO articles (id, title) VALUES (2, 'short-lived'); INSERT INTO articles_tags VALUES (2, 1)`)
	db.Exec(`UPDATE articles SET title = 'changed' WHERE id = 1; INSERT INTO articles_tags VALUES (1, 1)`)
	db.Exec(`DELETE FROM articles WHERE id = 2`)
	db.Exec(`UPDATE articles_tags SET tag_id = 2 WHERE article_id = 1`)
	again := listen(t, cmsConfig(db), j)
	db.Exec(`INSERT INTO articles (id, title) VALUES (3, 'last')`)
	wantMessages(t, j.wait(t, 3)[1:], want{journal.Correct, `{"id":1}`, "ai", "general"}, want{journal.Publish, `{"id":3}`, "general", ""})
	if n := counter(t, again.metrics.rows.WithLabelValues(string(rowUnreadable))); n != 1 {
		t.Errorf("rows unreadable = %v, want 1: the one that has gone", n)
	}
}

func TestFirstFillAndResyncAskTheQuery(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'old'), (2, 'older'), (3, 'goes'); INSERT INTO articles_tags VALUES (1, 2, 2), (1, 1, 1), (3, 3, 1)`)
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	db.CreateSlot(db.Slot)
	l := listen(t, cmsConfig(db), j).ready()
	s := script{db: db, j: j}
	s.step(t, `UPDATE articles SET body = 'x' WHERE id = 1`, want{journal.Correct, `{"id":1}`, "tech,ai", ""})
	l.halt()
	eventually(t, "the slot is free", func() bool {
		return pgtest.Value[bool](db, `SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
	})
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	db.Exec(`INSERT INTO articles_tags VALUES (2, 3); DELETE FROM articles WHERE id = 3; DELETE FROM articles_tags WHERE article_id = 3;
		INSERT INTO articles (id, title) VALUES (4, 'missed'); INSERT INTO articles_tags VALUES (4, 1)`)
	mend(t, cmsConfig(db), j)
	wantMessages(t, j.wait(t, 4)[1:], want{journal.Correct, `{"id":2}`, "sport", "general"}, want{journal.Publish, `{"id":4}`, "tech", ""}, want{journal.Retract, `{"id":3}`, "sport", ""})
}

func TestQuotedNamesAndOddKeysAreAskedAbout(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithSchema(`CREATE SCHEMA "Odd"; CREATE DOMAIN "Odd"."Slug" AS varchar(40); CREATE TYPE "Odd"."Kind" AS ENUM ('a"b', 'c');
		CREATE TABLE "Odd"."Na""me" ("K 1" "Odd"."Slug", "k'2" "Odd"."Kind", at timestamptz, title text, PRIMARY KEY ("K 1", "k'2", at));
		CREATE TABLE "Odd"."Tag's" (a "Odd"."Slug", b "Odd"."Kind", c timestamptz, tag text, PRIMARY KEY (a, b, c, tag))`)), newMemJournal()
	db.Exec(`GRANT USAGE ON SCHEMA "Odd" TO ` + db.Role)
	cfg := articles(db)
	cfg.Tables = []Table{{Name: `Odd."Na""me"`, Data: []string{"title"}, Tags: Tags{
		Query: `SELECT tag FROM "Odd"."Tag's" WHERE (a, b, c) = ($1, $2, $3)`,
		Links: []Link{{Table: `Odd.Tag's`, Key: []string{"a", "b", "c"}}},
	}}}
	if err := Preflight(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	listen(t, cfg, j).ready()
	s := script{db: db, j: j}
	const key = `{"K 1":"it's \"{\\,}\"","k'2":"a\"b","at":"2026-01-02T03:04:05.678+00:00"}`
	s.step(t, `INSERT INTO "Odd"."Na""me" VALUES ('it''s "{\,}"', 'a"b', '2026-01-02 03:04:05.678Z', 'x'); INSERT INTO "Odd"."Tag's" SELECT "K 1", "k'2", at, 'a' FROM "Odd"."Na""me"`,
		want{journal.Publish, key, "a", ""})
	s.step(t, `UPDATE "Odd"."Tag's" SET tag = 'b'`, want{journal.Correct, key, "b", "a"})
	s.step(t, `TRUNCATE "Odd"."Tag's"`, want{journal.Correct, key, "general", "b"})
}

func TestOneLinkTableTiesRowsOfSeveralTables(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithSchema(`CREATE TABLE articles (id int PRIMARY KEY, title text); CREATE TABLE videos (id uuid PRIMARY KEY, title text);
		CREATE TABLE taggings (kind text, item text, tag text, PRIMARY KEY (kind, item, tag))`)), newMemJournal()
	cfg := articles(db)
	cfg.Tables = nil
	for _, table := range []string{"articles", "videos"} {
		cfg.Tables = append(cfg.Tables, Table{Name: table, Data: []string{"title"}, Tags: Tags{
			Query: `SELECT tag FROM taggings WHERE kind = '` + table + `' AND item = $1::text ORDER BY tag`, Links: []Link{{Table: "taggings", Key: []string{"item"}}},
		}})
	}
	if err := Preflight(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	l := listen(t, cfg, j).ready()
	s := script{db: db, j: j}
	const video = `{"id":"00000000-0000-0000-0000-00000000000a"}`
	s.step(t, `INSERT INTO articles VALUES (1, 'a'); INSERT INTO videos VALUES ('00000000-0000-0000-0000-00000000000A', 'v')`,
		want{journal.Publish, `{"id":1}`, "general", ""}, want{journal.Publish, video, "general", ""})
	told := s.step(t, `INSERT INTO taggings VALUES ('articles', '1', 'x'), ('videos', '00000000-0000-0000-0000-00000000000a', 'y'), ('pages', 'about-us', 'z'), ('articles', '99999999999', 'x')`,
		want{journal.Correct, `{"id":1}`, "x", "general"}, want{journal.Correct, video, "y", "general"})
	// Each change of a link row has an ordinal for each table that it may concern.
	if told[0].ID.Ordinal != 0 || told[1].ID.Ordinal != 3 {
		t.Errorf("ordinals = %d and %d, want 0 and 3", told[0].ID.Ordinal, told[1].ID.Ordinal)
	}
	if n := counter(t, l.metrics.rows.WithLabelValues(string(rowUnkeyed))); n != 6 {
		t.Errorf("rows unkeyed = %v, want 6: those whose keys are of another type", n)
	}
}

func TestEveryTypeOfTagIsTaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ query, want string }{
		"text":     {"SELECT 'b' WHERE $1 > 0 UNION ALL SELECT 'a'", "b,a"},
		"number":   {"SELECT $1 + 1.50", "2.50"},
		"array":    {"SELECT ARRAY['x', 'y z'] WHERE $1 > 0", "x,y z"},
		"enum":     {"SELECT 'sad'::mood WHERE $1 > 0", "sad"},
		"json":     {`SELECT '["j", {"k": 1}]'::jsonb WHERE $1 > 0`, "j"},
		"nothing":  {"SELECT 'x' WHERE $1 < 0", "general"},
		"null":     {"SELECT NULL WHERE $1 > 0", "general"},
		"repeated": {"SELECT unnest('{a,b,a,*,\"\"}'::text[]) WHERE $1 > 0", "a,b"},
		"comma":    {"SELECT 'a, b' WHERE $1 > 0", "a, b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t, pgtest.WithSchema(`CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TABLE articles (id bigint PRIMARY KEY, title text)`)), newMemJournal()
			cfg := articles(db)
			cfg.Tables[0].Tags = Tags{Query: c.query}
			if err := Preflight(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			listen(t, cfg, j)
			db.Exec(`INSERT INTO articles VALUES (1, 'a')`)
			wantMessages(t, j.wait(t, 1), want{journal.Publish, `{"id":1}`, c.want, ""})
		})
	}
}

func TestWhatWaitsOrIsBackfilledHasTheTagsOfTheQuery(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t, pgtest.WithoutSlot()), newMemJournal()
	db.Exec(`ALTER TABLE articles ADD published_at timestamptz`)
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (1, 'old', now() - '9d'::interval), (2, 'of today', now() - '1h'::interval), (3, 'waits', now() + '1d'::interval);
		INSERT INTO articles_tags VALUES (1, 1), (2, 2), (3, 3)`)
	db.Slot = db.Name
	db.CreateSlot(db.Slot)
	cfg := cmsConfig(db)
	cfg.Tables[0].Published, cfg.Backfill = &Published{Column: "published_at", Reached: true}, 24*time.Hour
	listen(t, cfg, j).ready()
	wantMessages(t, j.wait(t, 1), want{journal.Publish, `{"id":2}`, "ai", ""})
	s := script{db: db, j: j, seen: 1}
	// What waits takes up the tags that it is given meanwhile.
	s.step(t, `INSERT INTO articles_tags VALUES (3, 1)`)
	s.step(t, `DELETE FROM articles_tags WHERE article_id = 3 AND tag_id = 3`)
	s.step(t, `UPDATE articles_tags SET tag_id = 3 WHERE article_id = 1`, want{journal.Correct, `{"id":1}`, "sport", "tech"})
	s.step(t, `UPDATE articles SET published_at = now() WHERE id = 3`, want{journal.Publish, `{"id":3}`, "tech", ""})
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (4, 'soon', clock_timestamp() + '3s'::interval)`)
	db.Exec(`INSERT INTO articles_tags VALUES (4, 2)`)
	wantMessages(t, j.wait(t, 4)[3:], want{journal.Publish, `{"id":4}`, "ai", ""})
}
