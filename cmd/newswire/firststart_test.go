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
				!strings.Contains(r.Stderr, "newswire: the journal is empty: it has none of it\n")) {
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
