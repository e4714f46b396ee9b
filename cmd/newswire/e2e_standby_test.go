package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// takeover bounds how long nobody delivers when the first of two engines on one
// journal has died: 5 s, and what a busy machine adds.
const takeover = 20 * time.Second

// TestOnlyOneEngineDeliversWhenTheFirstIsPaused stops the first of two engines
// as a paused machine is stopped: it still holds the journal, so the other one
// waits, and nothing is delivered by two.
func TestOnlyOneEngineDeliversWhenTheFirstIsPaused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	first := harness.Start(t, harness.Options{DB: db})
	second := first.Sibling()
	second.Launch()
	holder := fmt.Sprint("held by another process, pid ", first.PID())
	standing := func() bool {
		return strings.Contains(second.Logs(), "standing by") && strings.Contains(second.Logs(), holder)
	}
	harness.Eventually(t, "the second engine to stand by", func() (bool, any) { return standing(), second.Logs() })
	r := first.Dial("u1", gatewaytest.Options{Follow: []string{"tech"}})
	r.Welcome()
	save := func(title string) {
		db.Exec(`INSERT INTO articles (title, tags) VALUES ($1, '{tech}')`, title)
	}
	save("before")
	r.WaitMessages(1)
	first.Suspend()
	save("while it is paused")
	harness.Pause(t, 2*time.Second) // several looks of the second one at the journal
	if strings.Contains(second.Logs(), "ready") || !second.Running() {
		t.Errorf("the second engine did not wait for the first, which is only paused:\n%s", second.Logs())
	}
	first.Resume()
	r.WaitMessages(2)
	save("behind the pause")
	r.WaitMessages(3)
	first.Kill()
	died := time.Now()
	second.AwaitReady()
	if took := time.Since(died); took > takeover {
		t.Errorf("the second engine was ready %s after the first one's death, want %s at most", took, takeover)
	}
	after := second.Dial("u1", gatewaytest.Options{})
	save("by the second")
	articles := witness.Articles(t)
	both := []*gatewaytest.Reader{r, after}
	awaitAll(t, len(articles), both)
	second.AwaitSettled()
	verify(t, harness.History{
		Articles: articles,
		Readers: []harness.Reader{{
			Name: "u1", Wants: harness.Follows("tech"), Connections: harness.Connections(both...), Acked: harness.Acked(both...),
		}},
	})
}

// TestEngineWithoutItsSlotDeliversWhatItHas starts an engine whose slot is gone:
// that stops intake, not delivery, and resync mends it while it runs.
func TestEngineWithoutItsSlotDeliversWhatItHas(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	e.Follow("u1", []string{"tech"}, nil)
	seen := e.Dial("u2", gatewaytest.Options{Follow: []string{"tech"}})
	seen.Welcome()
	db.Exec(`INSERT INTO articles (title, tags) VALUES ('in the journal', '{tech}')`)
	seen.WaitMessages(1)
	e.Stop()
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	e.Launch()
	harness.Eventually(t, "the engine to say what is missing", func() (bool, any) {
		return strings.Contains(e.Logs(), "does not exist any more; run `newswire resync`"), e.Logs()
	})
	r := e.Dial("u1", gatewaytest.Options{})
	r.WaitMessages(1)
	db.Exec(`INSERT INTO articles (title, tags) VALUES ('missed', '{tech}')`)
	if got := e.Run("resync"); got.Code != 0 {
		t.Fatalf("resync: code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	e.AwaitReady()
	r.WaitMessages(2)
}

// TestReadersLearnOfAGapOnlyWhereSomethingIsMissing: a resync makes up for what
// was missed, so whoever comes back misses nothing; a journal that was lost
// does not come back.
func TestReadersLearnOfAGapOnlyWhereSomethingIsMissing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	r := e.Dial("u1", gatewaytest.Options{Follow: []string{"tech"}})
	r.Welcome()
	db.Exec(`INSERT INTO articles (title, tags) VALUES ('before', '{tech}')`)
	r.WaitMessages(1)
	last := r.IDs()[0]
	e.Stop()
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	db.Exec(`INSERT INTO articles (title, tags) VALUES ('missed', '{tech}')`)
	if got := e.Run("resync"); got.Code != 0 {
		t.Fatalf("resync: code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	e.Restart()
	back := e.Dial("u1", gatewaytest.Options{After: last})
	if w := back.Welcome(); w.Resume != "complete" {
		t.Errorf("after a resync resume is %q, want complete: nothing is missing", w.Resume)
	}
	back.WaitMessages(1)
	e.Stop()
	e.WipeJournal()
	if got := e.Run("resync"); got.Code != 0 {
		t.Fatalf("resync: code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	e.Restart()
	db.Exec(`INSERT INTO articles (title, tags) VALUES ('in the new journal', '{tech}')`)
	lost := e.Dial("u1", gatewaytest.Options{After: last, Follow: []string{"tech"}})
	if w := lost.Welcome(); w.Resume != "gap" {
		t.Errorf("with a new journal resume is %q, want gap", w.Resume)
	}
}
