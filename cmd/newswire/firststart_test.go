package main

import (
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
)

func TestALookIntoTheSlotLeavesTheFirstStartAlone(t *testing.T) {
	db := pgtest.New(t) // made by hand: nothing notes where the slot began
	e := harness.Configure(t, harness.Options{DB: db})
	db.Exec("INSERT INTO articles (title) VALUES ('first')")
	db.Exec("ALTER PUBLICATION " + db.Publication + " SET (publish = 'insert, update, delete, truncate')") // now it may be the younger one
	for _, args := range [][]string{{"doctor"}, {"slot", "drop"}, {"slot", "advance", "--to", db.CurrentLSN().String()}} {
		r := harness.Run(t, e.Dir, nil, args...)
		if args[0] == "doctor" && (r.Code != exitDone || !strings.Contains(r.Stdout, "what the slot keeps can be read by way of the publication")) ||
			args[0] == "slot" && (r.Code != exitUsage || !strings.Contains(r.Stderr, "with 1 commit of 1 insert, ") ||
				!strings.Contains(r.Stderr, "newswire: journal.dir holds no journal, or an empty one: nothing of it is there\n")) {
			t.Errorf("%v: code %d, %s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	if n := pgtest.Value[int](db, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"); n != 1 {
		t.Errorf("%d slots are left, want the one", n)
	}
	e.Launch()
	e.AwaitReady()
	harness.Eventually(t, "the first article to be in the journal", func() (bool, any) {
		s := e.Status()
		return s.Journal.Head > 0, s.Journal
	})
}

func TestDoctorSeesAJournalThatWasLost(t *testing.T) {
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	db.Exec("INSERT INTO articles (title) VALUES ('read')")
	harness.Eventually(t, "the article to be in the journal", func() (bool, any) {
		s := e.Status()
		return s.Journal.Head > 0, s.Journal
	})
	e.Stop()
	e.WipeJournal()
	harness.Eventually(t, "doctor to miss the journal", func() (bool, any) { // the server's statistics are half a second old on version 14
		r := harness.Run(t, e.Dir, nil, "doctor")
		return r.Code == exitFailed && strings.Contains(r.Stdout, "journal: this journal is empty, but ") &&
			strings.Contains(r.Stdout, "remedy: give journal.dir the directory of that journal, or run `newswire resync`\n"), r
	})
	e.Launch()
	harness.Eventually(t, "doctor to tell what the engine has stopped at", func() (bool, any) {
		r := harness.Run(t, e.Dir, nil, "doctor")
		return r.Code == exitFailed && strings.Contains(r.Stdout, "newswire serve: the engine runs, but is not ready: ") && strings.Contains(r.Stdout, "this journal is empty, but "), r
	})
	e.Stop()
}

func TestSetupMakesNoSlotBesideAUsedJournal(t *testing.T) {
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	e.Stop()
	db.Exec("SELECT pg_drop_replication_slot('" + db.Slot + "')")
	r := harness.Run(t, e.Dir, nil, "doctor")
	if r.Code != exitFailed || !strings.Contains(r.Stdout, "the replication slot does not exist, and a new one has nothing of what was committed since ") ||
		!strings.Contains(r.Stdout, "remedy: run `newswire resync`\n") {
		t.Errorf("doctor: code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	r = harness.Run(t, e.Dir, nil, "setup", "--apply", "--admin-dsn", db.SuperDSN)
	if r.Code != exitDone || standing(db) || !strings.Contains(r.Stdout, "left alone: Replication slot "+db.Slot+" is not made here: the journal ends at ") {
		t.Errorf("setup: code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r = harness.Run(t, e.Dir, nil, "resync"); r.Code != exitDone || !standing(db) {
		t.Errorf("resync: code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
}
