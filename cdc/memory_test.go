package cdc

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// lines collects what is logged.
type lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// about gives the lines with a text.
func (l *lines) about(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// logged is listen with what the listener logs.
func logged(t *testing.T, cfg Config, j Journal) (*running, *lines) {
	t.Helper()
	said := new(lines)
	l := listenSet(t, cfg, j, func(l *Listener) { l.log = slog.New(slog.NewTextHandler(said, nil)) })
	return l, said
}

// large is a database whose articles have summaries that stand out of line.
func large(t *testing.T, options ...pgtest.Option) (*pgtest.DB, Config) {
	db := pgtest.New(t, append(options, pgtest.WithoutSlot())...)
	db.Exec(`ALTER TABLE articles ALTER COLUMN summary SET STORAGE EXTERNAL;
		INSERT INTO articles (id, title, summary, tags, status) VALUES (1, 'old', repeat('o', 9000), '{tech}', 'published')`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	cfg := published(db)
	cfg.Tables[0].Data = []string{"id", "title", "summary"}
	return db, cfg
}

// heldCommit runs what an editor commits while a synchronous standby does not
// answer; the stream has it, and nobody else sees it before answer is called.
func heldCommit(t *testing.T, db *pgtest.DB, sql string) (answer func()) {
	t.Helper()
	set := func(value string) {
		db.Exec(`ALTER SYSTEM SET synchronous_standby_names = '` + value + `'`)
		db.Exec(`SELECT pg_reload_conf()`)
	}
	set("ghost")
	var once sync.Once
	editor, saved := db.Connect(), make(chan error, 1)
	answer = func() {
		once.Do(func() {
			set("")
			if err := <-saved; err != nil {
				t.Errorf("the editor's commit: %v", err)
			}
		})
	}
	go func() {
		_, err := editor.Exec(context.Background(), `SET synchronous_commit = on; `+sql)
		saved <- err
	}()
	t.Cleanup(answer)
	return answer
}

func TestChangedKeyKeepsTheLargeValues(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	db, cfg := large(t, pgtest.On(cluster))
	j := newMemJournal()
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, summary, tags, status) VALUES (5, 'told', repeat('t', 9000), '{ai}', 'published')`)
	j.wait(t, 1)
	// Of 5 the journal has the last message; 1 was only filled.
	answer := heldCommit(t, db, `UPDATE articles SET id = 6 WHERE id = 5`)
	got := j.wait(t, 3)
	answer()
	answer = heldCommit(t, db, `UPDATE articles SET id = 2 WHERE id = 1`)
	eventually(t, "it is asked whether the transaction is visible", func() bool {
		return pgtest.Value[bool](db, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1 AND query LIKE '%pg_xact_status%')`, db.Role)
	})
	answer()
	got = append(got[1:3:3], j.wait(t, 5)[3:]...)
	want := "retract {\"id\":5} ai-\npublish {\"id\":6} ai-\nretract {\"id\":1} tech-\npublish {\"id\":2} tech-"
	if s := story(got); s != want {
		t.Errorf("readers learn\n%s\nwant\n%s", s, want)
	}
	for i, letter := range map[int]string{1: "t", 3: "o"} {
		if v := field(t, got[i], "summary"); v != strings.Repeat(letter, 9000) {
			t.Errorf("%s has a summary of %d bytes, want 9000", got[i].Key, len(fmt.Sprint(v)))
		}
	}
	if n := counter(t, l.metrics.fates[rowUnreadable]); n != 0 {
		t.Errorf("%v rows unreadable, want none", n)
	}
}

func TestChangedKeyAndLargeValueInOneTransaction(t *testing.T) {
	t.Parallel()
	db, cfg := large(t)
	j := newMemJournal()
	listen(t, cfg, j).ready()
	db.Exec(`BEGIN; UPDATE articles SET id = 2; UPDATE articles SET summary = repeat('n', 9000); UPDATE articles SET id = 3; UPDATE articles SET title = 'end'; COMMIT`)
	db.Exec(`INSERT INTO articles (id, title, status) VALUES (99, 'end', 'published')`)
	var got []journal.Message
	j.until(t, func() bool {
		got = j.messages
		return len(got) > 0 && string(got[len(got)-1].Key) == `{"id":99}`
	})
	last := got[len(got)-2]
	if string(last.Key) != `{"id":3}` || last.Action == journal.Retract || field(t, last, "summary") != strings.Repeat("n", 9000) || field(t, last, "title") != "end" {
		t.Errorf("readers learn\n%s\nand at last %.200s", story(got), last.Data)
	}
}

func TestChangedKeyOfARowThatWaitsKeepsItsLargeValues(t *testing.T) {
	t.Parallel()
	db, cfg := large(t)
	db.Exec(`ALTER TABLE articles ADD COLUMN at timestamptz`)
	cfg.Tables[0].Published = &Published{Column: "at", Reached: true}
	j := newMemJournal()
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, summary, tags, at) VALUES (5, 'told', repeat('t', 9000), '{ai}', now() + interval '1 day')`)
	eventually(t, "it waits", func() bool { n, _ := l.Waiting(); return n == 1 })
	db.Exec(`REVOKE SELECT ON articles FROM ` + db.Role) // so that it cannot be read again
	db.Exec(`UPDATE articles SET id = 6 WHERE id = 5; UPDATE articles SET at = now() - interval '1 day' WHERE id = 6`)
	got := j.wait(t, 1)
	if s := story(got); s != `publish {"id":6} ai-` || field(t, got[0], "summary") != strings.Repeat("t", 9000) {
		t.Errorf("readers learn\n%s with %.100s", s, got[0].Data)
	}
}

// Where the role may not read, what the stream leaves out is told to be missing:
// never empty, and never without a word.
func TestValuesThatCannotBeReadAreToldToBeMissing(t *testing.T) {
	t.Parallel()
	db, cfg := large(t)
	cfg.Tables[0].Tags = Tags{Column: "url"}
	db.Exec(`ALTER TABLE articles ALTER COLUMN url SET STORAGE EXTERNAL;
		INSERT INTO articles (id, title, url, status) VALUES (2, 'many tags', repeat('x,', 4000), 'published')`)
	db.Exec(`SELECT pg_replication_slot_advance('` + db.Slot + `', pg_current_wal_lsn())`)
	db.Exec(`REVOKE SELECT ON articles FROM ` + db.Role)
	j := newMemJournal()
	l, said := logged(t, cfg, j)
	l.ready()
	db.Exec(`UPDATE articles SET title = 'no body' WHERE id = 1`)
	db.Exec(`UPDATE articles SET title = 'no tags' WHERE id = 2; UPDATE articles SET title = 'no tags again' WHERE id = 2;
		INSERT INTO articles (id, title, status) VALUES (99, 'end', 'published')`)
	var got []journal.Message
	j.until(t, func() bool {
		got = j.messages
		return len(got) > 0 && string(got[len(got)-1].Key) == `{"id":99}`
	})
	at := len(got) - 2
	if m := got[at]; string(m.Key) != `{"id":1}` || !m.Truncated || string(m.Data) != `{"id":1,"title":"no body"}` {
		t.Errorf("without its body the article goes out as %s, truncated %t", m.Data, m.Truncated)
	}
	if n := counter(t, l.metrics.fates[rowUnreadable]); n != 2 {
		t.Errorf("%v rows unreadable, want 2", n)
	}
	found := said.about("a changed row made no message")
	if len(found) != 1 || !strings.Contains(found[0], `WARN`) || !strings.Contains(found[0], `newswire setup --apply`) || !strings.Contains(found[0], `{\"id\":2}`) {
		t.Errorf("of the one without tags the log says %q, want one line that names it and the remedy", found)
	}
}
