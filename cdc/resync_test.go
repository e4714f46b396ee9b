package cdc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// mend resyncs and tells what it said.
func mend(t *testing.T, cfg Config, j Journal) (said []string) {
	t.Helper()
	if err := Resync(t.Context(), cfg, j, func(s string) { said = append(said, s) }); err != nil {
		t.Fatalf("Resync: %v", err)
	}
	return said
}

// gapped is a database whose slot was lost behind three articles, and what
// changed meanwhile.
func gapped(t *testing.T) (*pgtest.DB, Config, *memJournal) {
	db, j := pgtest.New(t), newMemJournal()
	cfg := published(db)
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (1, 'stays', '{tech}', 'published'), (2, 'goes', '{ai}', 'published'),
		(3, 'changes', '{ai}', 'published'), (4, 'draft', '{ai}', 'draft')`)
	j.wait(t, 3)
	l.halt()
	eventually(t, "the slot is free", func() bool {
		return pgtest.Value[bool](db, `SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
	})
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	db.Exec(`DELETE FROM articles WHERE id = 2; UPDATE articles SET title = 'changed', tags = '{sport}' WHERE id = 3;
		UPDATE articles SET status = 'published' WHERE id = 4; INSERT INTO articles (id, title, tags, status) VALUES (5, 'missed', '{tech}', 'published')`)
	return db, cfg, j
}

const afterGap = `correct {"id":3} sport-ai
publish {"id":4} ai-
publish {"id":5} tech-
retract {"id":2} ai-`

func TestResyncTellsExactlyWhatWasMissed(t *testing.T) {
	t.Parallel()
	db, cfg, j := gapped(t)
	db.CreateSlot(db.Slot) // made anew by somebody: still a gap
	err := listen(t, cfg, j).fails(ErrGap)
	if !strings.Contains(err.Error(), "newswire resync") {
		t.Errorf("%q does not name the remedy", err)
	}
	said := mend(t, cfg, j)
	if s := story(j.wait(t, 7)[3:]); s != afterGap {
		t.Errorf("readers learn\n%s\nwant\n%s", s, afterGap)
	}
	if len(said) != 2 || !strings.Contains(said[1], "4 messages") {
		t.Errorf("it said %q", said)
	}
	listen(t, cfg, j).ready()
	db.Exec(`UPDATE articles SET url = 'x'; DELETE FROM articles WHERE id = 5`)
	got := j.wait(t, 8)
	if s := story(got[7:]); s != `retract {"id":5} tech-` {
		t.Errorf("behind the resync readers learn\n%s", s)
	}
	for i := 1; i < len(got); i++ {
		if got[i].ID.Compare(got[i-1].ID) <= 0 {
			t.Errorf("id %s stands behind %s", got[i].ID, got[i-1].ID)
		}
	}
}

// stopping is a journal that takes only so many parts.
type stopping struct {
	*memJournal
	parts int
}

var errStopped = errors.New("stopped")

func (j *stopping) Append(ctx context.Context, c journal.Commit) error {
	if j.parts--; j.parts < 0 {
		return errStopped
	}
	return j.memJournal.Append(ctx, c)
}

func TestResyncThatWasStoppedGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	db, cfg, j := gapped(t)
	db.Exec(`INSERT INTO articles (id, title, tags, status) SELECT g, 'many', '{tech}', 'published' FROM generate_series(100, 1299) g`)
	if err := Resync(t.Context(), cfg, &stopping{j, 2}, func(string) {}); !errors.Is(err, errStopped) {
		t.Fatalf("Resync = %v, want %v", err, errStopped)
	}
	if n := len(j.wait(t, 3+2*compareStep)); n != 3+2*compareStep {
		t.Fatalf("%d messages", n)
	}
	mend(t, cfg, j)
	seen := make(map[string]int)
	for _, m := range j.wait(t, 3+4+1200)[3:] {
		seen[string(m.Key)]++
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("row %s made %d messages, want 1", key, n)
		}
	}
}

func TestResyncOfAnEmptyJournalMakesNoNews(t *testing.T) {
	t.Parallel()
	db, cfg, _ := gapped(t)
	wiped := newMemJournal()
	if said := strings.Join(mend(t, cfg, wiped), "\n"); !strings.Contains(said, "did not exist: what was committed before") || !strings.Contains(said, "is not delivered") {
		t.Errorf("it said %q, want that what was missed is not delivered", said)
	}
	listen(t, cfg, wiped).ready()
	db.Exec(`UPDATE articles SET title = 'now' WHERE id = 1`)
	if s := story(wiped.wait(t, 1)); s != `correct {"id":1} tech-` {
		t.Errorf("readers learn\n%s", s)
	}
}

func TestResyncAgainstAnotherServerBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	_, cfg, j := gapped(t)
	j.mu.Lock()
	j.source.SystemID = "1"
	before := j.source.Epoch
	j.mu.Unlock()
	mend(t, cfg, j)
	for _, m := range j.wait(t, 7)[3:] {
		if m.ID.Epoch != before+1 {
			t.Errorf("message %s has epoch %d, want %d", m.ID, m.ID.Epoch, before+1)
		}
	}
	if s, _ := j.Source(); s.Epoch != before+1 || s.SystemID == "1" {
		t.Errorf("source = %+v", s)
	}
}

func TestResyncAgainstAnotherServerKnowsWhatWasFilled(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t, pgtest.WithoutSlot()), newMemJournal()
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (1, 'stays', '{tech}', 'published'), (2, 'goes', '{ai}', 'published')`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	cfg := published(db)
	listen(t, cfg, j).ready().halt()
	j.mu.Lock()
	for key, raw := range j.rows { // as if the old server's log had been far ahead
		s, err := decodeRowState(raw)
		if err != nil {
			t.Error(err)
			continue
		}
		s.filled += 1 << 40
		j.rows[key] = s.encode()
	}
	j.source.SystemID = "1"
	j.mu.Unlock()
	db.Exec(`DELETE FROM articles WHERE id = 2`)
	mend(t, cfg, j)
	if s := story(j.wait(t, 1)); s != `retract {"id":2} ai-` {
		t.Errorf("readers learn\n%s", s)
	}
}

// Positions alone do not tell: those of the new slot are some that the journal
// has read from the server before it was set back.
func TestResyncThatDidNotEndIsAGap(t *testing.T) {
	t.Parallel()
	db, cfg, j := gapped(t)
	j.mu.Lock()
	j.read += 1 << 20
	j.confirmed, j.last = j.read, j.read
	accepted := j.read
	j.mu.Unlock()
	if err := Resync(t.Context(), cfg, &stopping{memJournal: j}, func(string) {}); !errors.Is(err, errStopped) {
		t.Fatalf("Resync: %v, want %v", err, errStopped)
	}
	db.Exec(`CREATE TABLE filler (n int PRIMARY KEY, x text); INSERT INTO filler SELECT n, repeat('x', 1000) FROM generate_series(1, 3000) n`)
	if at := db.CurrentLSN(); journal.LSN(at) <= accepted {
		t.Fatalf("the server is at %s, before %s", journal.LSN(at), accepted)
	}
	err := listen(t, cfg, j).fails(ErrGap)
	if !strings.Contains(err.Error(), "newswire resync") {
		t.Errorf("%q does not name the remedy", err)
	}
	mend(t, cfg, j)
	if s := story(j.wait(t, 7)[3:]); s != afterGap {
		t.Errorf("readers learn\n%s\nwant\n%s", s, afterGap)
	}
	listen(t, cfg, j).ready()
}
