package cdc

import (
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// read brings one article into the journal and stops the listener.
func read(t *testing.T, db *pgtest.DB, j *memJournal) {
	t.Helper()
	l := listen(t, articles(db), j)
	db.Exec(`INSERT INTO articles (title) VALUES ('read')`)
	j.wait(t, 1)
	l.halt()
}

func TestGapsStopIntakeAndNameTheRemedy(t *testing.T) {
	t.Parallel()
	const advance = `INSERT INTO articles (title) VALUES ('missed'); `
	for name, damage := range map[string]func(db *pgtest.DB, j *memJournal){
		"slot advanced by another": func(db *pgtest.DB, _ *memJournal) {
			db.Exec(advance)
			db.Exec(`SELECT pg_replication_slot_advance('` + db.Slot + `', pg_current_wal_lsn())`)
		},
		"slot made anew": func(db *pgtest.DB, _ *memJournal) {
			db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
			db.Exec(advance)
			db.CreateSlot(db.Slot)
		},
		"slot dropped": func(db *pgtest.DB, _ *memJournal) {
			db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
		},
		"another system":   func(_ *pgtest.DB, j *memJournal) { j.source.SystemID = "7" },
		"another timeline": func(_ *pgtest.DB, j *memJournal) { j.source.Timeline++ },
		"a server set back": func(_ *pgtest.DB, j *memJournal) {
			j.confirmed = journal.LSN(1) << 60
			j.read = j.confirmed
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), newMemJournal()
			read(t, db, j)
			// The slot is let go a moment after the listener.
			eventually(t, "the slot is free", func() bool {
				return !pgtest.Value[bool](db, `SELECT active FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
			})
			damage(db, j)
			err := listen(t, articles(db), j).fails(ErrGap)
			if !strings.Contains(err.Error(), "newswire resync") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error = %q, want one sentence with its remedy", err)
			}
			if n := len(j.messages); n != 1 {
				t.Errorf("%d messages, want none after the gap", n)
			}
		})
	}
}

func TestSlotMadeLateIsNoGap(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithoutSlot()), newMemJournal()
	db.Slot = db.Name
	l := listen(t, articles(db), j)
	eventually(t, "the missing slot is told", func() bool {
		err := l.Ready()
		return err != nil && strings.Contains(err.Error(), "newswire setup --apply")
	})
	db.Exec(`INSERT INTO articles (title) VALUES ('before the slot')`)
	db.CreateSlot(db.Slot)
	l.ready()
	db.Exec(`INSERT INTO articles (title) VALUES ('first')`)
	if m := j.wait(t, 1)[0]; field(t, m, "title") != "first" {
		t.Errorf("message = %s", m.Data)
	}
}
