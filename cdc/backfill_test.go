package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// old is a database with articles of the last days and a slot that is younger.
func old(t *testing.T, cfg func(*pgtest.DB) Config) (*pgtest.DB, Config) {
	t.Helper()
	db := pgtest.New(t, pgtest.WithoutSlot())
	db.Exec(`INSERT INTO articles (id, title, tags, published_at) SELECT n, 'hours ago: ' || n, '{tech}', now() - n * '1h'::interval FROM generate_series(1, 40) n`)
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (90, 'never', NULL), (91, 'waits', now() + '1d')`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	c := cfg(db)
	c.Backfill = 10*time.Hour + 30*time.Minute
	return db, c
}

// lately is what becomes of the ten articles of the last hours.
func lately() string {
	var words []string
	for n := 10; n > 0; n-- {
		words = append(words, fmt.Sprintf(`publish {"id":%d} hours ago: %d`, n, n))
	}
	return strings.Join(words, "\n")
}

func TestBackfillTellsTheNewsOfTheLastHours(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(*pgtest.DB) Config{
		"by the time that is reached": embargoed,
		"by another column": func(db *pgtest.DB) Config {
			cfg := articles(db)
			cfg.Tables[0].Time = "published_at"
			return cfg
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, c := old(t, cfg)
			j := watch(t)
			listen(t, c, j).ready()
			db.Exec(`UPDATE articles SET title = 'corrected' WHERE id IN (3, 20)`)
			db.Exec(`UPDATE articles SET url = 'nothing that readers get'; DELETE FROM articles WHERE id = 5`)
			db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (99, 'new', now())`)
			got := j.wait(t, 14)
			behind := "\ncorrect {\"id\":3} corrected\ncorrect {\"id\":20} corrected\nretract {\"id\":5}\npublish {\"id\":99} new"
			if s := titles(t, got); s != lately()+behind {
				t.Errorf("readers learn\n%s\nwant\n%s", s, lately()+behind)
			}
			times := pgtest.Values[time.Time](db, `SELECT now() - (now() - published_at) FROM articles WHERE id BETWEEN 6 AND 10 ORDER BY id DESC`)
			for i, m := range got {
				if m.Backfilled != (i < 10) {
					t.Errorf("%s is backfilled: %v", m.Key, m.Backfilled)
				}
				if i < len(times) && !m.Time.Equal(times[i]) {
					t.Errorf("%s has the time %s, want that since when it is news, %s", m.Key, m.Time, times[i])
				}
				if i > 0 && m.ID.Compare(got[i-1].ID) <= 0 {
					t.Errorf("id %s stands behind %s", m.ID, got[i-1].ID)
				}
			}
		})
	}
}

func TestWhatTheSnapshotOfABackfillKnowsIsNotToldTwice(t *testing.T) {
	t.Parallel()
	db, c := old(t, embargoed)
	j := watch(t)
	// Between the slot and the first start: the stream tells it, and the snapshot too.
	db.Exec(`UPDATE articles SET title = 'changed' WHERE id = 4; UPDATE articles SET title = 'hours ago: 4' WHERE id = 4;
		DELETE FROM articles WHERE id = 2; INSERT INTO articles (id, title, tags, published_at) VALUES (2, 'hours ago: 2', '{ai}', now() - '2h'::interval);
		UPDATE articles SET id = 100 WHERE id = 1; UPDATE articles SET title = 'old, changed' WHERE id = 30;
		INSERT INTO articles (id, title, published_at) VALUES (101, 'came', now()), (102, 'went', now()); DELETE FROM articles WHERE id = 102`)
	listen(t, c, j).ready()
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (99, 'new', now())`)
	want := strings.ReplaceAll(lately(), `{"id":1} hours`, `{"id":100} hours`) + `
publish {"id":101} came
publish {"id":30} old, changed
publish {"id":102} went
retract {"id":102}
publish {"id":99} new`
	got := j.wait(t, 15)
	if s := titles(t, got); s != want {
		t.Errorf("readers learn\n%s\nwant\n%s", s, want)
	}
}

// refusing is a journal that takes only so many parts of a backfill.
type refusing struct {
	*watched
	parts int
}

var errRefused = errors.New("refused")

func (j *refusing) Append(ctx context.Context, c journal.Commit) error {
	if j.parts--; c.Part && j.parts < 0 {
		return errRefused
	}
	return j.watched.Append(ctx, c)
}

func TestBackfillThatWasInterruptedTellsEachRowOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithoutSlot())
	const rows = 1800
	db.Exec(`CREATE TABLE videos (LIKE articles INCLUDING ALL); GRANT SELECT ON videos TO ` + db.Role)
	for _, table := range []string{"articles", "videos"} {
		db.Exec(`INSERT INTO ` + table + ` (id, title, published_at) SELECT n, 'row ' || n, now() - n * '1s'::interval FROM generate_series(1, 900) n`)
	}
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	cfg := embargoed(db)
	cfg.Backfill = time.Hour
	cfg.Tables = append(cfg.Tables, cfg.Tables[0])
	cfg.Tables[1].Name = "public.videos"
	j := watch(t)
	l := listen(t, cfg, &refusing{j, 2})
	eventually(t, "the journal refuses a part", func() bool { err := l.Ready(); return err != nil && strings.Contains(err.Error(), errRefused.Error()) })
	l.halt()
	some := j.Head()
	if some == 0 || some >= rows {
		t.Fatalf("%d messages before the end", some)
	}
	// Meanwhile one of those told is deleted, and one changed of those not told.
	db.Exec(`DELETE FROM articles WHERE id = 900; UPDATE videos SET title = 'changed' WHERE id = 1`)
	listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (9999, 'new', now())`)
	got := j.wait(t, rows+2)
	if s := titles(t, got[rows:]); s != "retract {\"id\":900}\npublish {\"id\":9999} new" {
		t.Errorf("behind the backfill readers learn\n%s", s)
	}
	seen := make(map[string]bool)
	for i, m := range got[:rows] {
		if what := m.Source + string(m.Key); seen[what] {
			t.Errorf("%s is told twice", what)
		} else {
			seen[what] = true
		}
		if i > 0 && (m.ID.Compare(got[i-1].ID) <= 0 || m.Time.Before(got[i-1].Time)) {
			t.Errorf("message %d, of %s, stands behind one of %s", i, m.Time, got[i-1].Time)
		}
	}
	last := slices.IndexFunc(got, func(m journal.Message) bool { return m.Source == "public.videos" && string(m.Key) == `{"id":1}` })
	if last < 0 || field(t, got[last], "title") != "changed" {
		t.Errorf("the article that was changed before it was told is told as it was")
	}
}

func TestBackfillIsForTheFirstStartOnly(t *testing.T) {
	t.Parallel()
	db, c := old(t, embargoed)
	j := watch(t)
	first := listen(t, c, j).ready()
	j.wait(t, 10)
	first.halt()
	listen(t, c, j).ready()
	db.Exec(`INSERT INTO articles (id, title, published_at) VALUES (99, 'new', now())`)
	if s := titles(t, j.wait(t, 11)); s != lately()+"\npublish {\"id\":99} new" {
		t.Errorf("readers learn\n%s", s)
	}
}
