package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// anew drops the slot and makes it again, as whoever finds it lost does.
func anew(t *testing.T, db *pgtest.DB) {
	t.Helper()
	free(t, db)
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	db.Exec(`SELECT pg_logical_emit_message(true, 'filler', 'so that it stands further on')`)
	db.CreateSlot(db.Slot)
}

// What a backfill has told must not stay for ever, though the slot that would
// have told the rest is gone.
func TestSlotThatIsLostWithinABackfillIsAGap(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithoutSlot())
	db.Exec(`INSERT INTO articles (id, title, published_at) SELECT n, 'row ' || n, now() - n * '1s'::interval FROM generate_series(1, 1800) n`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	cfg := embargoed(db)
	cfg.Backfill = time.Hour
	j := watch(t)
	l := listen(t, cfg, &refusing{j, 2})
	eventually(t, "the journal refuses a part", func() bool { err := l.Ready(); return err != nil && strings.Contains(err.Error(), errRefused.Error()) })
	l.halt()
	told := j.wait(t, 2*compareStep)
	db.Exec(`DELETE FROM articles WHERE id = 1800; UPDATE articles SET title = 'changed' WHERE id IN (1799, 1)`)
	anew(t, db)
	for range 2 {
		err := listen(t, cfg, j).fails(ErrGap)
		if !strings.Contains(err.Error(), "newswire resync") {
			t.Errorf("%q does not name the remedy", err)
		}
	}
	mend(t, cfg, j)
	got := j.wait(t, 1800+2)[len(told):]
	count := make(map[journal.Action]int)
	for _, m := range got {
		count[m.Action]++
		switch key := string(m.Key); {
		case m.Action == journal.Retract && key != `{"id":1800}`, m.Action == journal.Correct && key != `{"id":1799}`:
			t.Errorf("%s of %s", m.Action, key)
		case key == `{"id":1}` && field(t, m, "title") != "changed":
			t.Error("what was not told before the change is told as it was")
		}
	}
	if count[journal.Publish] != 800 || count[journal.Correct] != 1 || count[journal.Retract] != 1 {
		t.Errorf("readers learn %v, want 800 articles more, one corrected, and one retracted", count)
	}
	listen(t, cfg, j).ready()
	db.Exec(`DELETE FROM articles WHERE id = 1`)
	if m := j.wait(t, 1803)[1802]; m.Action != journal.Retract {
		t.Errorf("behind it readers learn a %s", m.Action)
	}
}

// filling is a journal that stops within the first fill.
type filling struct {
	*watched
	rows int
}

func (j *filling) FillRows(ctx context.Context, rows func(yield func(journal.Row) bool)) error {
	return errors.Join(j.watched.FillRows(ctx, func(yield func(journal.Row) bool) {
		for r := range rows {
			if j.rows--; j.rows < 0 || !yield(r) {
				return
			}
		}
	}), errRefused)
}

func TestSlotThatIsLostWithinTheFirstFillLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithoutSlot()), watch(t)
	db.Exec(`INSERT INTO articles (id, title, tags, status) SELECT n, 'row ' || n, '{tech}', 'published' FROM generate_series(1, 20) n`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	cfg := published(db)
	l := listen(t, cfg, &filling{j, 10})
	eventually(t, "the fill stops", func() bool { err := l.Ready(); return err != nil && strings.Contains(err.Error(), errRefused.Error()) })
	l.halt()
	db.Exec(`UPDATE articles SET status = 'draft' WHERE id = 3; DELETE FROM articles WHERE id = 4`)
	anew(t, db)
	listen(t, cfg, j).ready()
	db.Exec(`UPDATE articles SET status = 'published' WHERE id = 3; UPDATE articles SET title = 'changed' WHERE id = 15`)
	if s, want := story(j.wait(t, 2)), "publish {\"id\":3} tech-\ncorrect {\"id\":15} tech-"; s != want {
		t.Errorf("readers learn\n%s\nwant\n%s", s, want)
	}
}

func TestResyncThatWasStoppedTwiceTellsEachRowOnce(t *testing.T) {
	t.Parallel()
	db, cfg, j := gapped(t)
	db.Exec(`INSERT INTO articles (id, title, tags, status) SELECT g, 'many', '{tech}', 'published' FROM generate_series(100, 1799) g`)
	for range 2 {
		if err := Resync(t.Context(), cfg, &stopping{j, 1}, func(string) {}); !errors.Is(err, errStopped) {
			t.Fatalf("Resync = %v, want %v", err, errStopped)
		}
		db.Exec(`UPDATE articles SET title = 'changed meanwhile' WHERE id = 100; DELETE FROM articles WHERE id = 101`)
	}
	mend(t, cfg, j)
	seen, ids := make(map[string]int), make(map[journal.ID]bool)
	for _, m := range j.wait(t, 3+4+1700+2)[3:] {
		seen[fmt.Sprintf("%s %s", m.Action, m.Key)]++
		if ids[m.ID] {
			t.Errorf("id %s is given twice", m.ID)
		}
		ids[m.ID] = true
	}
	for what, n := range seen {
		if n != 1 {
			t.Errorf("%s: %d times", what, n)
		}
	}
	for _, what := range []string{`correct {"id":100}`, `retract {"id":101}`, `retract {"id":2}`, `correct {"id":3}`} {
		if seen[what] != 1 {
			t.Errorf("no %s", what)
		}
	}
	if s, _ := j.Source(); s.Epoch != firstEpoch {
		t.Errorf("it has epoch %d: the server is the same", s.Epoch)
	}
}

// Keys that are renamed while nobody listens come one after the other.
func TestChangedKeysInABacklogFollowTheRow(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), watch(t)
	cfg := published(db)
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (1, 'a', '{tech}', 'published'), (2, 'b', '{ai}', 'published')`)
	j.wait(t, 2)
	l.halt()
	free(t, db)
	from := 1
	for n := range 700 { // written together, so their states stand in sets
		db.Exec(fmt.Sprintf(`UPDATE articles SET id = %d WHERE id = %d`, 11+n, from))
		from = 11 + n
	}
	db.Exec(`UPDATE articles SET id = 1 WHERE id = 2; UPDATE articles SET id = 2 WHERE id = 710; UPDATE articles SET title = 'c' WHERE id = 2; DELETE FROM articles WHERE id = 1`)
	listen(t, cfg, j).ready()
	got := j.wait(t, 2+2*700+2*2+2)[2:]
	tail := "retract {\"id\":2} ai-\npublish {\"id\":1} ai-\nretract {\"id\":710} tech-\npublish {\"id\":2} tech-\ncorrect {\"id\":2} tech-\nretract {\"id\":1} ai-"
	if s := story(got[2*700:]); s != tail {
		t.Errorf("at the end readers learn\n%s\nwant\n%s", s, tail)
	}
	for i := 0; i < 2*700; i += 2 {
		if m := got[i]; m.Action != journal.Retract || got[i+1].Action != journal.Publish || string(got[i+1].Key) != fmt.Sprintf(`{"id":%d}`, 11+i/2) {
			t.Fatalf("messages %d: %s %s, %s %s", i, m.Action, m.Key, got[i+1].Action, got[i+1].Key)
		}
	}
}
