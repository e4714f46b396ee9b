package setup_test

import (
	"fmt"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cdc/setup"
)

func TestNothingIsMadeBeforeTheServerCanHaveASlot(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, map[string]string{"wal_level": "replica"})
	db := pgtest.New(t, pgtest.On(c), pgtest.WithSchema(schema), pgtest.WithPublication(""), pgtest.WithoutSlot())
	conn, cfg := db.Connect(), config(db)
	cfg.Slot, cfg.Publication = db.Name, db.Name
	p, err := setup.Prepare(t.Context(), conn, wanted(t, cfg), setup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const want = "wal_level is replica, which carries no row changes; run ALTER SYSTEM SET wal_level = 'logical', restart PostgreSQL, and run this again"
	if err := p.Apply(t.Context(), conn); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if text := p.String(); !strings.HasPrefix(text, "-- First: "+want+".\n\n-- ") {
		t.Errorf("the script does not begin with it:\n%s", text)
	}
	if n := pgtest.Value[int](db, "SELECT count(*) FROM pg_publication"); n != 0 {
		t.Errorf("%d publications were made", n)
	}
}

func TestASlotThatAJournalWasReadFromIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithSchema(schema), pgtest.WithPublication(""))
	conn, cfg := clean(t, db), config(db)
	p := prepared(t, conn, wanted(t, cfg), setup.Options{Journal: "0/1A2B3C4"})
	const want = "-- Replication slot %s is not made here: the journal ends at 0/1A2B3C4, and a new slot has nothing of what was committed since.\n-- Run newswire resync, "
	if text := p.String(); !strings.Contains(text, fmt.Sprintf(want, cfg.Slot)) {
		t.Errorf("the plan does not say why:\n%s", text)
	}
	for _, what := range []string{"pg_replication_slots WHERE slot_name", "pg_publication WHERE pubname"} {
		n := pgtest.Value[int](db, "SELECT count(*) FROM "+what+" = $1", cfg.Slot)
		if want := strings.Count(what, "pubname"); n != want {
			t.Errorf("%s: %d, want %d", what, n, want)
		}
	}
	prepared(t, conn, wanted(t, cfg), setup.Options{}) // for the clean-up, which looks for leaks
}
