package cdc

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

func TestCommittedRowBecomesAMessage(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	listen(t, articles(db), j)
	began := time.Now()
	db.Exec(`INSERT INTO articles (id, title, tags) VALUES (42, 'Ünïcödé 🗞 "q" \ 漢', '{tech,"a b",tech,NULL,"*",""}')`)
	m := j.wait(t, 1)[0]
	if m.Action != journal.Publish || m.Source != "public.articles" || string(m.Key) != `{"id":42}` || m.Truncated {
		t.Errorf("message = %+v", m)
	}
	if want := []string{"tech", "a b"}; !slices.Equal(m.Tags, want) {
		t.Errorf("tags = %q, want %q", m.Tags, want)
	}
	if got, want := field(t, m, "title"), `Ünïcödé 🗞 "q" \ 漢`; got != want {
		t.Errorf("title = %q, want %q", got, want)
	}
	if m.ID.Epoch != 1 || m.ID.LSN == 0 || m.ID.Ordinal != 0 {
		t.Errorf("id = %+v", m.ID)
	}
	if m.Time.Location() != time.UTC || m.Time.Before(began.Add(-time.Second)) || m.Time.After(time.Now().Add(time.Second)) {
		t.Errorf("time = %v, committed between %v and now", m.Time, began)
	}
}

func TestRolledBackRowsMakeNothing(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	listen(t, articles(db), j)
	db.Exec(`BEGIN; INSERT INTO articles (id, title) VALUES (1, 'gone'); ROLLBACK`)
	db.Exec(`BEGIN; INSERT INTO articles (id, title) VALUES (2, 'kept'); SAVEPOINT s;
		INSERT INTO articles (id, title) VALUES (3, 'gone too'); ROLLBACK TO s;
		INSERT INTO articles (id, title) VALUES (4, 'kept as well'); COMMIT`)
	got := j.wait(t, 2)
	if field(t, got[0], "title") != "kept" || field(t, got[1], "title") != "kept as well" {
		t.Errorf("messages = %s, %s", got[0].Data, got[1].Data)
	}
}

func TestLargeTransactionArrivesWholeAndInOrder(t *testing.T) {
	t.Parallel()
	const rows = 2000
	db, j := pgtest.New(t), newMemJournal()
	listen(t, articles(db), j)
	db.Exec(`INSERT INTO articles (id, title, tags) SELECT n, 'row ' || n, '{tech}' FROM generate_series(1, 2000) n`)
	got := j.wait(t, rows)
	for i, m := range got {
		if string(m.Key) != fmt.Sprintf(`{"id":%d}`, i+1) || m.ID.Ordinal != uint32(i) || m.ID.LSN != got[0].ID.LSN {
			t.Fatalf("message %d has key %s and id %v", i, m.Key, m.ID)
		}
	}
	if calls := len(j.appended); calls != 1 {
		t.Errorf("%d appends for one transaction", calls)
	}
}

func TestRestartRepeatsTheSameIDs(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	j.hold(true)
	first := listen(t, articles(db), j)
	db.Exec(`INSERT INTO articles (title) SELECT 'a' FROM generate_series(1, 3)`)
	db.Exec(`INSERT INTO articles (title) VALUES ('b')`)
	j.wait(t, 4)
	first.halt()
	j.mu.Lock()
	before := slices.Clone(j.appended)
	j.mu.Unlock()
	listen(t, articles(db), j)
	j.until(t, func() bool { return len(j.appended) == 2*len(before) })
	for i, c := range before {
		again := j.appended[len(before)+i]
		if again.LSN != c.LSN || again.End != c.End || !again.Time.Equal(c.Time) || len(again.Messages) != len(c.Messages) {
			t.Fatalf("repeat of commit %s is %+v", c.LSN, again)
		}
		for k := range c.Messages {
			if again.Messages[k].ID != c.Messages[k].ID {
				t.Errorf("repeat has id %v, want %v", again.Messages[k].ID, c.Messages[k].ID)
			}
		}
	}
}

func TestMappingRenumbersNothing(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	db.Exec(`CREATE TABLE authors (id int PRIMARY KEY)`)
	cfg := articles(db)
	cfg.Tables[0].Published = &Published{Column: "status", Equals: "published"}
	l := listen(t, cfg, j)
	db.Exec(`BEGIN; INSERT INTO authors VALUES (1); INSERT INTO articles (id, status) VALUES (1, 'draft');
		UPDATE articles SET title = 'x' WHERE id = 1; INSERT INTO articles (id, status) VALUES (2, 'published');
		DELETE FROM articles WHERE id = 1; TRUNCATE authors; INSERT INTO articles (id, status) VALUES (3, 'published'); COMMIT`)
	got := j.wait(t, 2)
	if got[0].ID.Ordinal != 3 || got[1].ID.Ordinal != 6 {
		t.Errorf("ordinals = %d and %d, want 3 and 6: all row changes count", got[0].ID.Ordinal, got[1].ID.Ordinal)
	}
	for fate, want := range map[rowFate]float64{rowPublish: 2, rowUnpublished: 3, rowUnmapped: 2} {
		if n := counter(t, l.metrics.rows.WithLabelValues(string(fate))); n != want {
			t.Errorf("rows %s = %v, want %v", fate, n, want)
		}
	}
}

func TestSlotIsNeverAheadOfTheJournal(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	db.Exec(`ALTER ROLE ` + db.Role + ` SET wal_sender_timeout = '1s'`) // a status update at least each third of it
	listen(t, articles(db), j).ready()
	j.hold(true)
	held := j.Confirmed()
	db.Exec(`INSERT INTO articles (title) VALUES ('a')`)
	j.wait(t, 1)
	awaitReply(t, db)
	if got := journal.LSN(db.ConfirmedFlush()); got > held {
		t.Fatalf("slot confirmed %s, the journal only %s", got, held)
	}
	j.hold(false)
	end := j.appended[0].End
	eventually(t, "the slot follows the journal", func() bool { return journal.LSN(db.ConfirmedFlush()) >= end })
}

// awaitReply returns once the walsender has had a status update from after now.
func awaitReply(t *testing.T, db *pgtest.DB) {
	t.Helper()
	asked := pgtest.Value[time.Time](db, `SELECT clock_timestamp()`)
	eventually(t, "the server gets a status update", func() bool {
		return pgtest.Value[bool](db, `SELECT coalesce(max(reply_time) > $1, false) FROM pg_stat_replication
			JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = $2`, asked, db.Slot)
	})
}

func TestIdleTablesLetTheSlotAdvance(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithPublication("FOR TABLE articles")), newMemJournal()
	listen(t, articles(db), j).ready()
	for range 3 {
		db.Exec(`CREATE TABLE IF NOT EXISTS other (n int); INSERT INTO other SELECT generate_series(1, 1000)`)
		target := db.CurrentLSN()
		eventually(t, "the slot passes what others write", func() bool { return db.ConfirmedFlush() >= target })
		db.Exec(`INSERT INTO articles (title) VALUES ('news')`)
	}
	j.wait(t, 3) // no commit was taken for passed
}

// idleVariable makes the next test as long as an acceptance run wants it.
const idleVariable = "NEWSWIRE_TEST_IDLE"

// While nothing happens to the mapped table, another table and another database
// write much log. The slot keeps little of it, and at the end next to nothing;
// and no position is confirmed with a commit in flight.
func TestBusyNeighboursDoNotMakeTheSlotKeepLog(t *testing.T) {
	t.Parallel()
	lasts := 3 * time.Second
	if text := os.Getenv(idleVariable); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	server := pgtest.NewCluster(t, nil)
	db, other := pgtest.New(t, pgtest.On(server), pgtest.WithPublication("FOR TABLE articles")), pgtest.New(t, pgtest.On(server), pgtest.WithoutSlot())
	cfg := articles(db)
	cfg.Heartbeat = time.Second
	j := newMemJournal()
	listen(t, cfg, j).ready()
	for _, busy := range []*pgtest.DB{db, other} {
		busy.Exec(`CREATE TABLE busy (n int, filler text)`)
	}
	const kept = `SELECT (pg_current_wal_lsn() - restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1`
	write := func() {
		db.Exec(`INSERT INTO busy SELECT n, repeat('x', 200) FROM generate_series(1, 2000) n`)
		other.Exec(`INSERT INTO busy SELECT n, repeat('x', 200) FROM generate_series(1, 2000) n`)
	}
	began := db.CurrentLSN()
	var most int64
	rounds := 0
	for end := time.Now().Add(lasts); time.Now().Before(end); rounds++ {
		write()
		db.Exec(`INSERT INTO articles (title) VALUES ('news')`)
		other.Exec(`CHECKPOINT`) // as time does: a slot lets log go at the snapshots that one writes
		most = max(most, pgtest.Value[int64](db, kept, db.Slot))
	}
	written := int64(db.CurrentLSN() - began)
	j.wait(t, rounds) // no commit was taken for passed
	eventually(t, "the slot keeps next to nothing", func() bool {
		other.Exec(`SELECT pg_logical_emit_message(true, 'any', 'thing'); CHECKPOINT`)
		return pgtest.Value[int64](db, kept, db.Slot) < 1<<20
	})
	if rounds > 10 && most > written/2 {
		t.Errorf("the slot kept %d bytes of %d written", most, written)
	}
	t.Logf("%d rounds wrote %d bytes, of which the slot kept %d at most", rounds, written, most)
}

func TestSlotInUseIsWaitedFor(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	first := listen(t, articles(db), j).ready()
	second := listen(t, articles(db), j)
	eventually(t, "the second names who holds the slot", func() bool {
		err := second.Ready()
		return err != nil && strings.Contains(err.Error(), "is being read by the PostgreSQL process")
	})
	first.halt()
	second.ready()
	db.Exec(`INSERT INTO articles (title) VALUES ('a')`)
	j.wait(t, 1)
}

func TestBlockedJournalKeepsTheStream(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	db.Exec(`ALTER ROLE ` + db.Role + ` SET wal_sender_timeout = '1s'`)
	j.blocked = make(chan struct{})
	l := listenSet(t, articles(db), j, func(l *Listener) { l.limits.silence = 3 * time.Second }).ready()
	db.Exec(fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP INSERT INTO articles (title) VALUES ('a'); COMMIT; END LOOP; END $$`, 2*inboxEvents)) // more than is read ahead
	eventually(t, "the stream outlives wal_sender_timeouts, and the longest time for which it is listened to nothing", func() bool {
		return pgtest.Value[bool](db, `SELECT coalesce(max(reply_time - backend_start) > '8s', false) FROM pg_stat_replication
			JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = $1`, db.Slot)
	})
	close(j.blocked)
	j.wait(t, 2*inboxEvents)
	if n := counter(t, l.metrics.connects); n != 1 {
		t.Errorf("%v streams, want the first one still", n)
	}
}

func TestServerCrashRepeatsAndLosesNothing(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, nil)
	db, j := pgtest.New(t, pgtest.On(server)), newMemJournal()
	l := listen(t, articles(db), j).ready()
	db.Exec(`INSERT INTO articles (title) SELECT 'a' FROM generate_series(1, 5)`)
	j.wait(t, 5)
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss of the server is told", func() bool { return l.Ready() != nil })
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Exec(`INSERT INTO articles (title) VALUES ('b')`)
	got := j.wait(t, 6)
	l.ready()
	if field(t, got[5], "title") != "b" {
		t.Errorf("last message = %s", got[5].Data)
	}
}

func TestListenerDoesNotHoldUpAShutdown(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, nil)
	db, j := pgtest.New(t, pgtest.On(server)), newMemJournal()
	l := listen(t, articles(db), j).ready()
	for i := range 3 {
		db.Exec(`INSERT INTO articles (title) VALUES ('a')`)
		began := time.Now()
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("restart %d took %s", i, took)
		}
		l.ready()
	}
	j.wait(t, 3)
}
