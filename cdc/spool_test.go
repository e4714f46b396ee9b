package cdc

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// watched is a real journal that tells what it is handed.
type watched struct {
	*journal.Journal
	spooling func(c journal.Commit) // called before each part is taken

	mu    sync.Mutex       // guards parts
	parts []journal.Commit // every part, without its messages
}

func watch(t *testing.T) *watched {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: t.TempDir(), Unsynced: true}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := j.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &watched{Journal: j, spooling: func(journal.Commit) {}}
}

func (w *watched) Spool(ctx context.Context, c journal.Commit) error {
	w.spooling(c)
	w.mu.Lock()
	w.parts = append(w.parts, c)
	w.mu.Unlock()
	return w.Journal.Spool(ctx, c)
}

// wait gives the journal's messages once there are n of them, durable.
func (w *watched) wait(t *testing.T, n int) (messages []journal.Message) {
	t.Helper()
	for after := journal.Seq(0); int(after) < n; {
		ctx, cancel := context.WithTimeout(t.Context(), patience) // from one entry to the next
		entries, err := w.Next(ctx, after, 1000)
		cancel()
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", after, n, err)
		}
		for _, e := range entries {
			messages = append(messages, *e.Message)
		}
		after += journal.Seq(len(entries))
	}
	if len(messages) != n {
		t.Fatalf("%d messages, want %d", len(messages), n)
	}
	return messages
}

// bounded checks that no part is larger than what the assembler may hold.
func (w *watched) bounded(t *testing.T, atLeast int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.parts) < atLeast {
		t.Errorf("%d parts, want %d and more", len(w.parts), atLeast)
	}
	for i, c := range w.parts {
		bytes := 0
		for _, m := range c.Messages {
			bytes += len(m.Data)
		}
		if len(c.Messages) > spoolMessages || len(c.Rows) > spoolMessages || bytes > spoolBytes+maxDataBytes {
			t.Errorf("part %d has %d messages of %d bytes and %d rows", i, len(c.Messages), bytes, len(c.Rows))
		}
	}
}

// hugeRows are those of one commit in the test below: 500,000 before a release.
func hugeRows(t *testing.T) int {
	t.Helper()
	text := os.Getenv("NEWSWIRE_TEST_ROWS")
	if text == "" {
		return 50_000
	}
	rows, err := strconv.Atoi(text)
	if err != nil || rows < 50_000 {
		t.Fatalf("NEWSWIRE_TEST_ROWS is %q: want a number from 50000 on", text)
	}
	return rows
}

// TestHugeTransactionArrivesWholeAndInOrderPartByPart, beside one as large that
// is rolled back and one that is open all the time, and without a replication
// timeout although the server ends a stream that is silent for a second.
func TestHugeTransactionArrivesWholeAndInOrderPartByPart(t *testing.T) {
	t.Parallel()
	rows := hugeRows(t)
	db, j := pgtest.New(t, pgtest.On(pgtest.NewCluster(t, nil))), watch(t) // its own: an open transaction keeps others from making slots
	db.Exec(`ALTER ROLE ` + db.Role + ` SET wal_sender_timeout = '1s'`)
	l := listen(t, articles(db), j).ready()
	open := db.Connect()
	exec := func(sql string) {
		t.Helper()
		if _, err := open.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`BEGIN; INSERT INTO articles (id, title, tags) VALUES (0, 'begun first', '{tech}')`)
	const insert = `INSERT INTO articles (id, title, tags) SELECT n, 'row ' || n, '{tech}' FROM generate_series(1, %d) n`
	db.Exec(fmt.Sprintf("BEGIN; "+insert+"; ROLLBACK", rows))
	db.Exec(fmt.Sprintf(insert, rows))
	got := j.wait(t, rows)
	for i, m := range got {
		if string(m.Key) != fmt.Sprintf(`{"id":%d}`, i+1) || m.ID.Ordinal != uint32(i) || m.ID.LSN != got[0].ID.LSN {
			t.Fatalf("message %d has key %s and id %v", i, m.Key, m.ID)
		}
	}
	if n := counter(t, l.metrics.connects); n != 1 {
		t.Errorf("%v streams, want the first one still", n)
	}
	j.bounded(t, rows/spoolMessages-1)
	exec("COMMIT")
	db.Exec(`UPDATE articles SET title = 'better' WHERE id IN (1, 49999)`) // what was spooled is remembered
	last := j.wait(t, rows+3)[rows:]
	if s := story(last); s != "publish {\"id\":0} tech-\ncorrect {\"id\":1} tech-\ncorrect {\"id\":49999} tech-" {
		t.Errorf("readers learn\n%s", s)
	}
}

func TestLargeRowsAreBoundedByTheirBytes(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), watch(t)
	cfg := articles(db)
	cfg.Tables[0].Data = []string{"id", "summary"}
	listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, summary) SELECT n, repeat('x', 300000) FROM generate_series(1, 60) n`)
	j.wait(t, 60)
	j.bounded(t, 4)
}

func TestTransactionThatBreaksOffLeavesNothingAndComesWhole(t *testing.T) {
	t.Parallel()
	const rows = 4 * spoolMessages
	db, j := pgtest.New(t), watch(t)
	db.Exec(`INSERT INTO articles (id, title, tags) VALUES (1, 'before', '{tech}')`)
	var broken sync.Once
	j.spooling = func(c journal.Commit) {
		if c.Spooled < 2 {
			return
		}
		broken.Do(func() {
			db.Exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
			if head := j.Head(); head != 1 {
				t.Errorf("the journal has %d messages within the transaction, want the one before it", head)
			}
		})
	}
	l := listen(t, articles(db), j)
	j.wait(t, 1)
	// The row of before is corrected first: had the first try left its state
	// behind, the second would find nothing to tell.
	db.Exec(`BEGIN; UPDATE articles SET title = 'after' WHERE id = 1;
		INSERT INTO articles (id, title, tags) SELECT n, 'row ' || n, '{tech}' FROM generate_series(2, ` + fmt.Sprint(rows) + `) n; COMMIT`)
	got := j.wait(t, 1+rows)
	if got[1].Action != journal.Correct || field(t, got[1], "title") != "after" {
		t.Errorf("the transaction begins with %s %s, want the correction", got[1].Action, got[1].Data)
	}
	for i, m := range got[1:] {
		if string(m.Key) != fmt.Sprintf(`{"id":%d}`, i+1) || m.ID.Ordinal != uint32(i) {
			t.Fatalf("message %d has key %s and id %v", i, m.Key, m.ID)
		}
	}
	if n := counter(t, l.metrics.connects); n != 2 {
		t.Errorf("%v streams, want two: one was broken", n)
	}
	firsts := 0
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.parts {
		if c.Spooled == 0 {
			firsts++
		}
	}
	if firsts != 2 {
		t.Errorf("the transaction was begun %d times, want twice", firsts)
	}
}

func TestRowsOfEarlierPartsAreKnownWithinATransaction(t *testing.T) {
	t.Parallel()
	const rows = spoolMessages + 1000
	db, j := pgtest.New(t), watch(t)
	db.Exec(`ALTER TABLE articles ALTER COLUMN summary SET STORAGE EXTERNAL`)
	cfg := published(db)
	cfg.Tables[0].Data = []string{"id", "title", "summary"}
	listen(t, cfg, j).ready()
	db.Exec(`BEGIN;
		INSERT INTO articles (id, title, tags, status, summary) SELECT n, 'row', '{tech}', 'published', CASE n WHEN 5 THEN repeat('o', 9000) END
			FROM generate_series(1, ` + fmt.Sprint(rows) + `) n;
		UPDATE articles SET title = 'better', tags = '{ai}' WHERE id = 1;
		UPDATE articles SET url = 'x' WHERE id = 2;
		DELETE FROM articles WHERE id = 3;
		UPDATE articles SET status = 'draft' WHERE id = 4;
		UPDATE articles SET title = 'whole' WHERE id = 5;
		DELETE FROM articles WHERE id = 5; -- nobody can read it again
		COMMIT`)
	got := j.wait(t, rows+5)[rows:]
	want := "correct {\"id\":1} ai-tech\nretract {\"id\":3} tech-\nretract {\"id\":4} tech-\ncorrect {\"id\":5} tech-\nretract {\"id\":5} tech-"
	if s := story(got); s != want {
		t.Errorf("readers learn\n%s\nwant\n%s", s, want)
	}
	if v := field(t, got[3], "summary"); v != strings.Repeat("o", 9000) {
		t.Errorf("the corrected article has a summary of %d bytes, want 9000, from the part before", len(fmt.Sprint(v)))
	}
}

func TestTruncateRetractsRowsOfEarlierParts(t *testing.T) {
	t.Parallel()
	const before, rows = 100, 2*spoolMessages + 1000
	db, j := pgtest.New(t), watch(t)
	listen(t, articles(db), j).ready()
	db.Exec(`INSERT INTO articles (id, title, tags) SELECT n, 'row', '{tech}' FROM generate_series(1, $1::int) n`, before)
	j.wait(t, before)
	db.Exec(`BEGIN;
		INSERT INTO articles (id, title, tags) SELECT n, 'row', '{tech}' FROM generate_series(` + fmt.Sprint(before+1, ", ", rows) + `) n;
		DELETE FROM articles WHERE id = 7;
		TRUNCATE articles;
		INSERT INTO articles (id, title, tags) VALUES (8, 'again', '{tech}');
		COMMIT`)
	got := j.wait(t, 2*rows+1)[rows:]
	gone := make(map[int]bool)
	for i, m := range got[:rows] {
		var key struct{ ID int }
		if err := json.Unmarshal(m.Key, &key); err != nil || m.Action != journal.Retract || gone[key.ID] || i == 0 && key.ID != 7 {
			t.Fatalf("message %d is %s %s, %v", i, m.Action, m.Key, err)
		}
		gone[key.ID] = true
	}
	if len(gone) != rows || story(got[rows:]) != `publish {"id":8} tech-` {
		t.Errorf("%d rows were retracted, want %d; then %s", len(gone), rows, story(got[rows:]))
	}
	j.bounded(t, 4)
}
