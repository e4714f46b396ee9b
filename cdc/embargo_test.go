package cdc

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// embargoed is a configuration in which a time says from when on a row is news.
func embargoed(db *pgtest.DB) Config {
	cfg := articles(db)
	cfg.Tables[0].Published = &Published{Column: "published_at", Reached: true}
	return cfg
}

// titles is what readers learn, one word, key and title for each message.
func titles(t *testing.T, messages []journal.Message) string {
	t.Helper()
	var words []string
	for _, m := range messages {
		word := fmt.Sprintf("%s %s", m.Action, m.Key)
		if m.Action != journal.Retract {
			word += fmt.Sprintf(" %v", field(t, m, "title"))
		}
		words = append(words, word)
	}
	return strings.Join(words, "\n")
}

// embargoStories tell, for a table of their own each, what readers learn.
var embargoStories = []struct {
	name string
	sql  []string
	want string
}{
	{"goes out then", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s')`}, `publish {"id":1} a`},
	{"is long past", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', '-infinity'), (2, 'b', '1999-01-01')`}, "publish {\"id\":1} a\npublish {\"id\":2} b"},
	{"has no time", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', NULL), (2, 'b', 'infinity')`}, ``},
	{"in order of the time", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'late', now() + '2s'), (2, 'early', now() + '500ms'), (3, 'now', now())`}, "publish {\"id\":3} now\npublish {\"id\":2} early\npublish {\"id\":1} late"},
	{"changed before", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s')`, `UPDATE articles SET title = 'b'`}, `publish {"id":1} b`},
	{"deleted before", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s')`, `DELETE FROM articles`}, ``},
	{"truncated before", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s')`, `TRUNCATE articles`}, ``},
	{"withdrawn before", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s')`, `UPDATE articles SET published_at = NULL`}, ``},
	{"put off for ever", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s')`, `UPDATE articles SET published_at = 'infinity'`}, ``},
	{"put off", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '1500ms'), (2, 'b', now() + '2s')`, `UPDATE articles SET published_at = now() + '2200ms' WHERE id = 1`}, "publish {\"id\":2} b\npublish {\"id\":1} a"},
	{"brought forward", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '1d'), (2, 'b', now() + '1500ms')`, `UPDATE articles SET published_at = now() WHERE id = 1`}, "publish {\"id\":1} a\npublish {\"id\":2} b"},
	{"taken back until then", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now())`, `UPDATE articles SET published_at = now() + '2s'`}, "publish {\"id\":1} a\nretract {\"id\":1}\npublish {\"id\":1} a"},
	{"another key", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s')`, `UPDATE articles SET id = 7`}, `publish {"id":7} a`},
	{"nothing that readers get", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s')`, `UPDATE articles SET url = 'x'`}, `publish {"id":1} a`},
	{"deleted and inserted again in one transaction", []string{`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s'), (2, 'b', now() + '1d')`, `BEGIN; DELETE FROM articles; INSERT INTO articles (id, title, published_at) VALUES (1, 'c', now() + '2s'), (2, 'd', now()); COMMIT`}, "publish {\"id\":2} d\npublish {\"id\":1} c"},
	{"in and out within one transaction", []string{`BEGIN; INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s'); UPDATE articles SET title = 'b'; DELETE FROM articles; INSERT INTO articles (id, title, published_at) VALUES (1, 'c', now() + '900ms'); COMMIT`}, `publish {"id":1} c`},
}

func TestAnArticleWaitsForItsTime(t *testing.T) {
	t.Parallel()
	for _, identity := range []string{"DEFAULT", "FULL"} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), watch(t)
			cfg := embargoed(db)
			one, total := cfg.Tables[0], 0
			cfg.Tables = nil
			for i, story := range embargoStories {
				one.Name = fmt.Sprintf("public.story%02d", i)
				cfg.Tables = append(cfg.Tables, one)
				db.Exec(`CREATE TABLE ` + one.Name + ` (LIKE articles INCLUDING ALL); GRANT SELECT ON ` + one.Name + ` TO ` + db.Role + `; ALTER TABLE ` + one.Name + ` REPLICA IDENTITY ` + identity)
				total += 1 + strings.Count(story.want, "{")
			}
			l := listen(t, cfg, j).ready()
			for i, story := range embargoStories {
				for _, sql := range append(story.sql, `INSERT INTO articles (id, title, published_at) VALUES (99, 'end', now() + '3s')`) {
					db.Exec(strings.ReplaceAll(sql, "articles", cfg.Tables[i].Name))
				}
			}
			got := j.wait(t, total)
			if !slices.IsSortedFunc(got, func(a, b journal.Message) int { return a.ID.Compare(b.ID) }) {
				t.Errorf("ids are not in order:\n%s", titles(t, got))
			}
			for i, story := range embargoStories {
				mine := slices.DeleteFunc(slices.Clone(got), func(m journal.Message) bool { return m.Source != cfg.Tables[i].Name })
				if s := titles(t, mine); s != strings.TrimPrefix(story.want+"\n"+`publish {"id":99} end`, "\n") {
					t.Errorf("%s: readers learn\n%s\nwant\n%s\nand the end", story.name, s, story.want)
				}
			}
			nothingIsLeft(t, l, j)
		})
	}
}

// nothingIsLeft checks that nobody waits, and that nothing of who did is kept.
func nothingIsLeft(t *testing.T, l *running, j Journal) {
	t.Helper()
	eventually(t, "nobody waits", func() bool { n, first := l.Waiting(); return n == 0 && first.IsZero() })
	for _, space := range [][]byte{dueSpace, bodySpace} {
		err := j.Rows(space, func(key, _ []byte) error {
			t.Errorf("the record %q is left", key)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestBothConditionsMustHold(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), watch(t)
	cfg := embargoed(db)
	cfg.Tables[0].Published.And = &Published{Column: "status", Equals: "published"}
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, status, published_at) VALUES (1, 'a draft', 'draft', now()), (2, 'waits', 'published', now() + '2s'),
		(3, 'becomes a draft', 'published', now() + '1500ms'), (4, 'now', 'published', now()), (5, 'a draft then', 'draft', now() + '1500ms')`)
	db.Exec(`UPDATE articles SET status = 'draft' WHERE id = 3`)
	got := j.wait(t, 2)
	for _, id := range []int{1, 3, 5} { // their times have come
		db.Exec(`UPDATE articles SET status = 'published' WHERE id = $1`, id)
	}
	got = append(got, j.wait(t, 5)[2:]...)
	want := "publish {\"id\":4} now\npublish {\"id\":2} waits\npublish {\"id\":1} a draft\npublish {\"id\":3} becomes a draft\npublish {\"id\":5} a draft then"
	if s := titles(t, got); s != want {
		t.Errorf("readers learn\n%s\nwant\n%s", s, want)
	}
	nothingIsLeft(t, l, j)
}

func TestTimesOfEveryKindAreReached(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"timestamptz", "timestamp", "moment", "date"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), watch(t)
			db.Exec(`CREATE DOMAIN moment AS timestamptz(3) CHECK (VALUE > '2000-01-01'); ALTER TABLE articles ALTER published_at DROP DEFAULT;
				ALTER TABLE articles ALTER published_at TYPE ` + kind)
			listen(t, embargoed(db), j).ready()
			soon := `now() AT TIME ZONE 'UTC' + '1s'`
			switch kind {
			case "timestamptz", "moment":
				soon = `now() + '1s'`
			case "date":
				soon = `(now() AT TIME ZONE 'UTC')::date`
			}
			db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (1, 'soon', ` + soon + `), (2, 'later', '2999-12-31'), (3, 'before', '2001-01-01')`)
			want := "publish {\"id\":3} before\npublish {\"id\":1} soon"
			if kind == "date" {
				want = "publish {\"id\":1} soon\npublish {\"id\":3} before"
			}
			if s := titles(t, j.wait(t, 2)); s != want {
				t.Errorf("readers learn\n%s\nwant\n%s", s, want)
			}
		})
	}
}

func TestWhatWaitsIsToldAsItStoodLast(t *testing.T) {
	t.Parallel()
	for _, identity := range []string{"DEFAULT", "FULL"} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), watch(t)
			db.Exec(`ALTER TABLE articles REPLICA IDENTITY ` + identity + `; ALTER TABLE articles ALTER COLUMN summary SET STORAGE EXTERNAL`)
			cfg := embargoed(db)
			cfg.Tables[0].Data = []string{"id", "title", "summary"}
			l := listen(t, cfg, j).ready()
			// More than one record takes, less than a message may have.
			db.Exec(`INSERT INTO articles (id, title, summary, tags, published_at) VALUES (1, 'a', repeat('o', 700000), '{tech}', now() + '2s'),
				(2, 'too large', repeat('x', 1200000), '{ai}', now() + '2s')`)
			db.Exec(`UPDATE articles SET title = 'b', tags = '{sport}' WHERE id = 1`)
			got := j.wait(t, 2)
			if s := story(got); s != "publish {\"id\":1} sport-\npublish {\"id\":2} ai-" {
				t.Fatalf("readers learn\n%s", s)
			}
			if v := field(t, got[0], "summary"); v != strings.Repeat("o", 700000) || field(t, got[0], "title") != "b" {
				t.Errorf("the summary has %d bytes, want 700000; data begins %.60s", len(fmt.Sprint(v)), got[0].Data)
			}
			if !got[1].Truncated || string(got[1].Data) != `{"id":2}` {
				t.Errorf("an article over 1 MiB goes out as %.80s, truncated %v", got[1].Data, got[1].Truncated)
			}
			db.Exec(`UPDATE articles SET title = 'c' WHERE id = 1`)
			got = j.wait(t, 3)
			if v := field(t, got[2], "summary"); got[2].Action != journal.Correct || v != strings.Repeat("o", 700000) {
				t.Errorf("then %s with a summary of %d bytes", got[2].Action, len(fmt.Sprint(v)))
			}
			nothingIsLeft(t, l, j)
		})
	}
}

func TestManyGoOutTogetherInOrder(t *testing.T) {
	t.Parallel()
	const rows = 12_000
	db, j := pgtest.New(t), watch(t)
	l := listen(t, embargoed(db), j).ready()
	db.Exec(`INSERT INTO articles (id, title, published_at) SELECT n, 'row ' || n, t FROM (SELECT now() + '2s' AS t) at, generate_series(1, 12000) n`)
	eventually(t, "all wait", func() bool { n, _ := l.Waiting(); return n == rows })
	due := pgtest.Value[time.Time](db, `SELECT max(published_at) FROM articles`)
	got := j.wait(t, rows)
	for i, m := range got {
		if m.ID.LSN != got[0].ID.LSN || m.ID.Ordinal != uint32(i) || m.Action != journal.Publish {
			t.Fatalf("message %d is %s of %s", i, m.Action, m.ID)
		}
		if i > 0 && string(m.Key) <= string(got[i-1].Key) {
			t.Fatalf("%s comes behind %s", m.Key, got[i-1].Key)
		}
	}
	if at := got[0].Time; at.Before(due) {
		t.Errorf("they went out at %s, before %s", at, due)
	}
	nothingIsLeft(t, l, j)
}

func TestEveryArticleGoesOutOnceThroughRestarts(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), watch(t)
	cfg := embargoed(db)
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, published_at) SELECT n, 'row ' || n, now() + n * '100ms'::interval FROM generate_series(1, 25) n`)
	for range 6 { // while they go out, again and again
		eventually(t, "some wait", func() bool { n, _ := l.Waiting(); return n > 0 })
		l.halt()
		l = listen(t, cfg, j).ready()
	}
	got := j.wait(t, 25)
	for i, m := range got {
		if string(m.Key) != fmt.Sprintf(`{"id":%d}`, i+1) {
			t.Errorf("message %d is about %s", i, m.Key)
		}
	}
	db.Exec(`SELECT pg_logical_emit_message(true, 'newswire.due', 'a second one for the same time'); INSERT INTO articles (id, title) VALUES (99, 'end')`)
	if got = j.wait(t, 26); string(got[25].Key) != `{"id":99}` {
		t.Errorf("behind it comes %s", got[25].Key)
	}
	nothingIsLeft(t, l, j)
}

func TestNobodyElseMakesAnArticleGoOutEarly(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), watch(t)
	l := listen(t, embargoed(db), j).ready()
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (1, 'tomorrow', now() + '1d')`)
	db.Exec(`SELECT pg_logical_emit_message(true, 'newswire.due', '9999999999999999')`)
	db.Exec(`BEGIN; INSERT INTO articles (id, title, published_at) VALUES (2, 'now', now()), (3, 'later', now() + '1d');
		SELECT pg_logical_emit_message(true, 'newswire.due', ''); INSERT INTO articles (id, title, published_at) VALUES (4, 'now', now()); COMMIT`)
	if s := titles(t, j.wait(t, 2)); s != "publish {\"id\":2} now\npublish {\"id\":4} now" {
		t.Errorf("readers learn\n%s", s)
	}
	eventually(t, "the first of the two is known", func() bool { n, first := l.Waiting(); return n == 2 && first.After(time.Now()) })
}

func TestWhatIsDueWhileTheServerIsDownGoesOutWhenItIsBack(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, nil)
	db, j := pgtest.New(t, pgtest.On(server)), watch(t)
	l := listen(t, embargoed(db), j).ready()
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '1s')`)
	eventually(t, "it waits", func() bool { n, _ := l.Waiting(); return n == 1 })
	_, due := l.Waiting()
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its time has come", func() bool { return time.Now().After(due) })
	if head := j.Head(); head != 0 {
		t.Fatalf("%d messages while the server was down", head)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := titles(t, j.wait(t, 1)); s != `publish {"id":1} a` {
		t.Errorf("readers learn\n%s", s)
	}
}

func TestFirstStartFindsWhatWaits(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithoutSlot()), watch(t)
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (1, 'old', now()), (2, 'waits', now() + '2s'), (3, 'waits long', now() + '1d'), (4, 'never', NULL)`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	// Between the slot and the first start: the stream tells it, and the snapshot too.
	db.Exec(`UPDATE articles SET title = 'changed' WHERE id = 2; INSERT INTO articles (id, title, published_at) VALUES (5, 'new', now() + '1d')`)
	l := listen(t, embargoed(db), j).ready()
	if s := titles(t, j.wait(t, 1)); s != `publish {"id":2} changed` {
		t.Errorf("readers learn\n%s", s)
	}
	l.halt()
	l = listen(t, embargoed(db), j).ready()
	if n, _ := l.Waiting(); n != 2 {
		t.Errorf("%d wait, want 2", n)
	}
}

func TestResyncKnowsWhatWaits(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), watch(t)
	cfg := embargoed(db)
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (1, 'stays', now()), (2, 'taken back', now()), (3, 'waited, deleted', now() + '1d'),
		(4, 'waited, brought forward', now() + '1d'), (5, 'waits on', now() + '1d')`)
	j.wait(t, 2)
	eventually(t, "three wait", func() bool { n, _ := l.Waiting(); return n == 3 })
	l.halt()
	eventually(t, "the slot is free", func() bool {
		return pgtest.Value[bool](db, `SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
	})
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	db.Exec(`UPDATE articles SET published_at = now() + '1d' WHERE id = 2; DELETE FROM articles WHERE id = 3; UPDATE articles SET published_at = now() WHERE id = 4;
		UPDATE articles SET title = 'waits on, changed', published_at = now() + '2s' WHERE id = 5; INSERT INTO articles (id, title, published_at) VALUES (6, 'missed', now()), (7, 'new', now() + '1d')`)
	mend(t, cfg, j)
	if s := titles(t, j.wait(t, 5)[2:]); s != "retract {\"id\":2}\npublish {\"id\":4} waited, brought forward\npublish {\"id\":6} missed" {
		t.Errorf("readers learn\n%s", s)
	}
	l = listen(t, cfg, j).ready()
	if s := titles(t, j.wait(t, 6)[5:]); s != `publish {"id":5} waits on, changed` {
		t.Errorf("then readers learn\n%s", s)
	}
	eventually(t, "two wait", func() bool { n, _ := l.Waiting(); return n == 2 })
}

func TestPreflightOfTimes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage string
		want   []string
	}{
		"no time":  {`ALTER TABLE articles ALTER published_at DROP DEFAULT; ALTER TABLE articles ALTER published_at TYPE text`, []string{"column published_at of public.articles is of type text", "timestamptz, timestamp or date", "postgres.tables[0].published.column"}},
		"no key":   {`ALTER TABLE articles DROP CONSTRAINT articles_pkey; ALTER TABLE articles REPLICA IDENTITY FULL`, []string{"public.articles has no primary key", "published_at"}},
		"revoked":  {`REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC`, []string{"GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean,text,text"}},
		"all well": {``, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			damage := c.damage
			if pgtest.Value[int](db, `SELECT current_setting('server_version_num')::int`) >= 170000 {
				damage = strings.ReplaceAll(damage, "(boolean, text, text)", "(boolean, text, text, boolean)")
			}
			if damage != "" {
				db.Exec(damage)
			}
			err := Preflight(t.Context(), embargoed(db))
			if c.want == nil {
				if err != nil {
					t.Errorf("Preflight = %v", err)
				}
				return
			}
			if err == nil || !hasLine(err.Error(), c.want) {
				t.Errorf("Preflight = %v\nwant a line with %q", err, c.want)
			}
		})
	}
}

func TestTagsOfAQueryAreThoseOfTheLastChangeBeforeTheTime(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), watch(t)
	db.Exec(`ALTER TABLE articles ADD published_at timestamptz`)
	cfg := cmsConfig(db)
	cfg.Tables[0].Published = &Published{Column: "published_at", Reached: true}
	l := listen(t, cfg, j).ready()
	db.Exec(`BEGIN; INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '2s'), (2, 'b', now() + '2s'); INSERT INTO articles_tags VALUES (1, 1), (2, 1); COMMIT`)
	db.Exec(`INSERT INTO articles_tags VALUES (1, 2)`)
	db.Exec(`DELETE FROM articles_tags WHERE article_id = 2`)
	db.Exec(`UPDATE articles SET title = 'c' WHERE id = 2`)
	if s := story(j.wait(t, 2)); s != "publish {\"id\":1} ai,tech-\npublish {\"id\":2} general-" {
		t.Errorf("readers learn\n%s", s)
	}
	nothingIsLeft(t, l, j)
}

func TestWhatWaitsIsCountedOnceWhenItIsRepeated(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	l := listen(t, embargoed(db), j).ready()
	j.hold(true)
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (1, 'a', now() + '1d')`)
	j.until(t, func() bool { return len(j.appended) == 1 })
	db.Exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '` + db.Slot + `'`)
	j.until(t, func() bool { return len(j.appended) == 2 })
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (2, 'b', now() + '1d')`)
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (3, 'c', now())`)
	j.wait(t, 1) // so the one before it is counted
	if n, _ := l.Waiting(); n != 2 {
		t.Errorf("%d articles wait, want 2", n)
	}
}
