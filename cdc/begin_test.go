package cdc

import (
	"slices"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cdc/publication"
)

// free waits until nobody reads the slot: it is let go a moment after a
// listener has ended.
func free(t *testing.T, db *pgtest.DB) {
	t.Helper()
	eventually(t, "the slot is free", func() bool {
		return pgtest.Value[bool](db, `SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
	})
}

// counted waits until the server's statistics tell that the slot was read: on
// version 14 they are half a second old.
func counted(t *testing.T, db *pgtest.DB) {
	t.Helper()
	eventually(t, "the statistics tell of the slot", func() bool {
		return pgtest.Value[bool](db, `SELECT EXISTS (SELECT FROM pg_stat_replication_slots WHERE slot_name = $1 AND total_txns > 0)`, db.Slot)
	})
}

// noted lets the publication say where the slot was made, as setup does.
func noted(db *pgtest.DB) {
	db.Exec(`COMMENT ON PUBLICATION ` + db.Publication + ` IS '` + publication.Mark + `'`)
	db.Exec(publication.NoteSlot(db.Publication, db.Slot))
}

func TestWipedJournalBesideAUsedSlotIsAGap(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(t *testing.T, db *pgtest.DB){
		"made by setup, news read": func(t *testing.T, db *pgtest.DB) {
			noted(db)
			read(t, db, newMemJournal())
			db.Exec(`SELECT pg_stat_reset_replication_slot('` + db.Slot + `')`) // as a crash does
		},
		"made by setup, advanced": func(_ *testing.T, db *pgtest.DB) {
			noted(db)
			db.Exec(`INSERT INTO articles (title) VALUES ('passed')`)
			db.Exec(`SELECT pg_replication_slot_advance('` + db.Slot + `', pg_current_wal_lsn())`)
		},
		"made by hand, news read": func(t *testing.T, db *pgtest.DB) {
			read(t, db, newMemJournal())
			counted(t, db)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			use(t, db)
			free(t, db)
			db.Exec(`INSERT INTO articles (title) VALUES ('next')`)
			wiped := newMemJournal()
			err := listen(t, articles(db), wiped).fails(ErrGap)
			for _, part := range []string{"this journal is empty", "newswire resync"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if n := len(wiped.messages); n != 0 {
				t.Errorf("%d messages, want none after the gap", n)
			}
			stood := db.ConfirmedFlush()
			said := mend(t, articles(db), wiped)
			if now := db.ConfirmedFlush(); now != stood {
				t.Errorf("the slot stands at %s, want it at %s, with what it has not given", now, stood)
			}
			if !strings.Contains(said[0], "not given yet") {
				t.Errorf("it said %q", said)
			}
			listen(t, articles(db), wiped).ready()
			db.Exec(`INSERT INTO articles (title) VALUES ('goes on')`)
			var titles []any
			for _, m := range wiped.wait(t, 2) {
				titles = append(titles, field(t, m, "title"))
			}
			if !slices.Equal(titles, []any{"next", "goes on"}) {
				t.Errorf("readers learn %v", titles)
			}
		})
	}
}

func TestSlotThatNobodyHasReadIsAFirstStart(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]func(db *pgtest.DB){
		"by hand": func(*pgtest.DB) {},
		"by setup, and looked into by doctor": func(db *pgtest.DB) {
			noted(db)
			db.Exec(`INSERT INTO articles (title) VALUES ('first')`)
			db.Exec(`SELECT count(*) FROM pg_logical_slot_peek_binary_changes('` + db.Slot + `', NULL, NULL, 'proto_version', '1', 'publication_names', '` + db.Publication + `')`)
			db.Exec(`DELETE FROM articles`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), newMemJournal()
			made(db)
			listen(t, articles(db), j).ready().halt()
			free(t, db)
			// What was begun is gone on with, also when nothing was read yet.
			l := listen(t, articles(db), j).ready()
			db.Exec(`INSERT INTO articles (title) VALUES ('news')`)
			j.until(t, func() bool {
				n := len(j.messages)
				return n > 0 && field(t, j.messages[n-1], "title") == "news"
			})
			if n := counter(t, l.metrics.connects); n != 1 {
				t.Errorf("%v streams", n)
			}
		})
	}
}

func TestSlotOfAnotherEngineIsNeverTakenOver(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	first := listen(t, articles(db), j).ready()
	empty := newMemJournal()
	second := listen(t, articles(db), empty)
	eventually(t, "the second names who holds the slot", func() bool {
		err := second.Ready()
		return err != nil && strings.Contains(err.Error(), "is being read by the PostgreSQL process") && strings.Contains(err.Error(), `for "newswire"`)
	})
	db.Exec(`INSERT INTO articles (title) VALUES ('a')`)
	j.wait(t, 1)
	counted(t, db)
	first.halt()
	second.fails(ErrGap)
	if n := len(empty.messages); n != 0 {
		t.Errorf("the second engine has %d messages", n)
	}
}
