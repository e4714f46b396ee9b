package cdc

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
)

// A slot that exceeds max_slot_wal_keep_size is lost for good.
func TestLostSlotStopsAndResyncTellsExactlyWhatWasMissed(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"})
	db, j := pgtest.New(t, pgtest.On(server)), watch(t)
	cfg := published(db)
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (1, 'stays', '{tech}', 'published'), (2, 'goes', '{ai}', 'published'),
		(3, 'changes', '{ai}', 'published'), (4, 'draft', '{ai}', 'draft')`)
	j.wait(t, 3)
	l.halt()
	free(t, db)
	db.Exec(`DELETE FROM articles WHERE id = 2; UPDATE articles SET title = 'changed', tags = '{sport}' WHERE id = 3;
		UPDATE articles SET status = 'published' WHERE id = 4; INSERT INTO articles (id, title, tags, status) VALUES (5, 'missed', '{tech}', 'published')`)
	eventually(t, "the slot is lost", func() bool {
		db.Exec(`CREATE TABLE IF NOT EXISTS filler (n serial PRIMARY KEY); INSERT INTO filler DEFAULT VALUES`)
		_ = pgtest.Value[string](db, `SELECT pg_switch_wal()::text`)
		db.Exec(`CHECKPOINT`)
		return pgtest.Value[string](db, `SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1`, db.Slot) == "lost"
	})
	for range 2 { // a restart does not take it for anything else
		err := listen(t, cfg, j).fails(ErrGap)
		for _, part := range []string{"is lost", "max_slot_wal_keep_size", "newswire resync"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	}
	// What is committed while the tables are compared comes once, too: it is
	// behind the snapshot, and so in the new slot.
	err := Resync(t.Context(), cfg, j, func(said string) {
		if strings.Contains(said, "made anew") {
			db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (6, 'meanwhile', '{tech}', 'published'); UPDATE articles SET title = 'twice' WHERE id = 5`)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := story(j.wait(t, 7)[3:]); s != afterGap {
		t.Errorf("readers learn\n%s\nwant\n%s", s, afterGap)
	}
	listen(t, cfg, j).ready()
	if s := story(j.wait(t, 9)[7:]); s != "publish {\"id\":6} tech-\ncorrect {\"id\":5} tech-" {
		t.Errorf("of what was saved meanwhile readers learn\n%s", s)
	}
}

func TestSlotThatWasIdleForTooLongSaysSo(t *testing.T) {
	t.Parallel()
	if v := pgtest.Value[int](pgtest.New(t), `SELECT current_setting('server_version_num')::int`); v < 180000 {
		t.Skip("idle_replication_slot_timeout came with PostgreSQL 18")
	}
	server := pgtest.NewCluster(t, map[string]string{"idle_replication_slot_timeout": "1s"})
	db, j := pgtest.New(t, pgtest.On(server)), watch(t)
	listen(t, articles(db), j).ready().halt()
	eventually(t, "the slot is lost", func() bool {
		db.Exec(`CHECKPOINT`)
		return pgtest.Value[string](db, `SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1`, db.Slot) == "lost"
	})
	err := listen(t, articles(db), j).fails(ErrGap)
	for _, part := range []string{"idle_replication_slot_timeout", "newswire resync"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// What is committed while there is no publication can never be read from the
// slot: up to version 17 PostgreSQL fails there for ever, from 18 on it leaves
// it out.
func TestDroppedPublicationIsToldAndWhatItMissedIsAGap(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), watch(t)
	cfg := published(db)
	l := listenHasty(t, cfg, j, limits{stuck: time.Minute, poll: 50 * time.Millisecond, silence: time.Minute}).ready()
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (1, 'read', '{tech}', 'published')`)
	j.wait(t, 1)
	db.Exec(`DROP PUBLICATION ` + db.Publication)
	eventually(t, "the missing publication is told", func() bool {
		err := l.Ready()
		return err != nil && strings.Contains(err.Error(), db.Publication) && strings.Contains(err.Error(), "newswire setup --apply")
	})
	db.Exec(`CREATE PUBLICATION ` + db.Publication + ` FOR ALL TABLES`)
	l.ready() // nothing was saved meanwhile
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (2, 'read too', '{tech}', 'published')`)
	j.wait(t, 2)
	db.Exec(`DROP PUBLICATION ` + db.Publication)
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (3, 'missed', '{tech}', 'published')`)
	for range 2 {
		err := l.fails(ErrGap)
		for _, part := range []string{db.Publication, "newswire setup --apply", "newswire resync"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
		l = listen(t, cfg, j)
	}
	l.fails(ErrGap)
	if err := Resync(t.Context(), cfg, j, func(string) {}); err == nil || !strings.Contains(err.Error(), "newswire setup --apply") {
		t.Errorf("Resync without a publication = %v, want that it must be made first", err)
	}
	db.Exec(`CREATE PUBLICATION ` + db.Publication + ` FOR ALL TABLES`)
	listen(t, cfg, j).fails(ErrGap) // it comes too late
	mend(t, cfg, j)
	listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (4, 'goes on', '{tech}', 'published')`)
	if s := story(j.wait(t, 4)[2:]); s != "publish {\"id\":3} tech-\npublish {\"id\":4} tech-" {
		t.Errorf("behind the gap readers learn\n%s", s)
	}
}

// PostgreSQL says nothing of rows whose table is not published when they are
// saved; so the engine does, also when the table is back.
func TestTableTakenOffThePublicationIsTold(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithPublication("FOR TABLE articles")), watch(t)
	l := listenHasty(t, articles(db), j, limits{stuck: time.Minute, poll: 50 * time.Millisecond, silence: time.Minute}).ready()
	told := func() bool {
		err := l.Ready()
		return err != nil && strings.Contains(err.Error(), "public.articles") && strings.Contains(err.Error(), "newswire resync")
	}
	db.Exec(`ALTER PUBLICATION ` + db.Publication + ` DROP TABLE articles`)
	eventually(t, "the missing table is told", told)
	db.Exec(`ALTER PUBLICATION ` + db.Publication + ` ADD TABLE articles`)
	eventually(t, "that it was away is told", func() bool { return told() && strings.Contains(l.Ready().Error(), "for a time") })
	db.Exec(`INSERT INTO articles (title) VALUES ('goes on')`)
	j.wait(t, 1)
	l.halt()
	free(t, db)
	l = listenHasty(t, articles(db), j, limits{stuck: time.Minute, poll: 50 * time.Millisecond, silence: time.Minute})
	eventually(t, "it is told behind a restart too", told)
	l.halt()
	free(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	if err := Resync(ctx, articles(db), j, func(string) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatalf("Resync = %v, want that it was stopped", err)
	}
	if s, _ := j.Source(); !slices.Equal(s.Away, []string{"public.articles"}) {
		t.Errorf("behind a resync that was stopped these were away: %q", s.Away)
	}
	mend(t, articles(db), j)
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }() // as the engine does after a resync
	l.ready()
	cancel()
	if err := <-done; err != nil || l.Ready() == nil {
		t.Errorf("Run = %v, and Ready = %v behind it, where a resync may replace the slot", err, l.Ready())
	}
}

// What makes the editors' changes fail, or takes a table away, may come while
// the engine runs.
func TestFaultsThatComeLaterAreTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql, back string
		want      []string
	}{
		"replica identity": {`ALTER TABLE articles REPLICA IDENTITY NOTHING`, `ALTER TABLE articles REPLICA IDENTITY DEFAULT`,
			[]string{"of the editors fail on public.articles", "replica identity"}},
		"replica identity of another table": {`ALTER TABLE notes REPLICA IDENTITY NOTHING`, `ALTER TABLE notes REPLICA IDENTITY DEFAULT`,
			[]string{"of the editors fail on public.notes"}},
		"replica identity that the column list does not have": {`ALTER TABLE articles REPLICA IDENTITY FULL`, `ALTER TABLE articles REPLICA IDENTITY DEFAULT`,
			[]string{"of the editors fail on public.articles", "column list", "newswire setup"}},
		"dropped": {`DROP TABLE articles`, "", []string{"table public.articles does not exist any more", "postgres.tables"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t, pgtest.WithPublication("FOR ALL TABLES")), newMemJournal()
			db.Exec(`CREATE TABLE notes (id int PRIMARY KEY)`)
			cfg := articles(db)
			if strings.Contains(name, "column list") {
				if pgtest.Value[int](db, `SELECT current_setting('server_version_num')::int`) < 150000 {
					t.Skip("PostgreSQL 14 has no column lists")
				}
				cfg.Publication = narrow(t, db, cfg)
			}
			said := new(lines)
			l := listenSet(t, cfg, j, func(l *Listener) {
				l.limits.poll = 50 * time.Millisecond
				l.log = slog.New(slog.NewTextHandler(said, nil))
			}).ready()
			db.Exec(c.sql)
			eventually(t, "the fault is told", func() bool {
				err := l.Ready()
				return err != nil && !slices.ContainsFunc(c.want, func(part string) bool { return !strings.Contains(err.Error(), part) })
			})
			if found := said.about(c.want[0]); len(found) != 1 || !strings.Contains(found[0], "ERROR") {
				t.Errorf("the log says %q, want one line", found)
			}
			if c.back != "" {
				db.Exec(c.back)
				l.ready()
			}
		})
	}
}
