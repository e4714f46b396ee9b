package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// deaf is a journal whose Append hears of no end, as a disk that hangs.
type deaf struct {
	*memJournal
	hangs chan struct{} // Append waits while it is open
}

func (j *deaf) Append(ctx context.Context, c journal.Commit) error {
	<-j.hangs
	return j.memJournal.Append(ctx, c)
}

// letGo waits until the listener says that it stands still, and nobody reads
// the slot.
func letGo(t *testing.T, db *pgtest.DB, l *running, why string) {
	t.Helper()
	eventually(t, "the slot is let go and the reason told", func() bool {
		err := l.Ready()
		return err != nil && strings.Contains(err.Error(), why) &&
			pgtest.Value[bool](db, `SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
	})
	if n := counter(t, l.metrics.letGo); n == 0 {
		t.Error("that the slot was let go is not counted")
	}
}

func TestPipelineThatStandsStillLetsTheSlotGo(t *testing.T) {
	t.Parallel()
	patience := hasty()
	patience.stuck = 3 * time.Second // so that nothing but what is held stands still, on a busy machine either
	t.Run("the journal takes nothing", func(t *testing.T) {
		t.Parallel()
		db, j := pgtest.New(t), newMemJournal()
		hanging := &deaf{j, make(chan struct{})}
		l := listenHasty(t, articles(db), hanging, patience).ready()
		db.Exec(`INSERT INTO articles (title) VALUES ('a')`)
		letGo(t, db, l, "nothing of what the slot gives was taken")
		db.Exec(`INSERT INTO articles (title) VALUES ('b')`)
		close(hanging.hangs)
		j.wait(t, 2)
		l.ready()
	})
	t.Run("the journal syncs nothing", func(t *testing.T) {
		t.Parallel()
		db, j := pgtest.New(t), newMemJournal()
		l := listenHasty(t, articles(db), j, patience).ready()
		j.hold(true)
		db.Exec(`INSERT INTO articles (title) VALUES ('a')`)
		letGo(t, db, l, "the journal has synced nothing")
		streams := counter(t, l.metrics.connects)
		db.Exec(`INSERT INTO articles (title) VALUES ('b')`)
		j.hold(false)
		j.wait(t, 2)
		l.ready()
		if n := counter(t, l.metrics.connects); n != streams+1 {
			t.Errorf("%v streams, want one more than %v: none before the journal moved", n, streams)
		}
	})
}

// slow is a journal that takes its time over each commit.
type slow struct {
	*memJournal
	time time.Duration
}

func (j *slow) Append(ctx context.Context, c journal.Commit) error {
	if !pause(ctx, j.time) {
		return ctx.Err()
	}
	return j.memJournal.Append(ctx, c)
}

func TestSlowPipelineKeepsTheSlot(t *testing.T) {
	t.Parallel()
	const commits = 30
	db, j := pgtest.New(t), newMemJournal()
	db.Exec(`ALTER ROLE ` + db.Role + ` SET wal_sender_timeout = '1s'`)
	patience := hasty()
	patience.stuck = 2 * time.Second // far less than all of them take
	l := listenHasty(t, articles(db), &slow{j, 200 * time.Millisecond}, patience).ready()
	for range commits {
		db.Exec(`INSERT INTO articles (title) VALUES ('a')`)
	}
	j.wait(t, commits)
	if n := counter(t, l.metrics.connects); n != 1 {
		t.Errorf("%v streams, want the first one still", n)
	}
}

func TestSlowQueryKeepsTheSlot(t *testing.T) {
	t.Parallel()
	const rows = 10 * askRows
	db, j := newCMS(t), newMemJournal()
	cfg := cmsConfig(db)
	cfg.Tables[0].Tags.Query = strings.Replace(cmsQuery, "WHERE", "WHERE pg_sleep(0.003) IS NOT NULL AND", 1)
	patience := hasty()
	patience.stuck = 2 * time.Second // far less than all answers take
	db.Exec(fmt.Sprintf(`INSERT INTO articles (id, title) SELECT n, 'a' FROM generate_series(1, %d) n`, rows))
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	db.CreateSlot(db.Slot) // they are known
	l := listenHasty(t, cfg, j, patience).ready()
	db.Exec(fmt.Sprintf(`INSERT INTO articles_tags SELECT n, 1 FROM generate_series(1, %d) n`, rows))
	j.wait(t, rows)
	if n := counter(t, l.metrics.connects); n != 1 {
		t.Errorf("%v streams, want the first one still", n)
	}
}

func TestWatchdogTellsSlowFromStuck(t *testing.T) {
	t.Parallel()
	j := newMemJournal()
	var p pace
	dog := watchdog{patience: 5 * time.Minute, pace: &p, journal: j}
	now := time.Unix(1_700_000_000, 0)
	look := func(after time.Duration, stuck bool) {
		t.Helper()
		now = now.Add(after)
		if err := dog.look(now); errors.Is(err, errStuck) != stuck {
			t.Errorf("look after %s = %v, want stuck: %v", after, err, stuck)
		}
	}
	look(0, false)
	look(time.Hour, false) // nothing to do
	p.busy.Store(true)
	look(time.Second, false)
	look(4*time.Minute, false)
	p.steps.Add(1)
	look(4*time.Minute, false) // it moved
	look(5*time.Minute, false)
	look(time.Second, true)
	j.mu.Lock()
	j.full = errors.New("the disk is full")
	j.mu.Unlock()
	look(time.Hour, false) // waiting for room is no fault of the slot's
	j.mu.Lock()
	j.full = nil
	j.mu.Unlock()
	look(time.Second, false)
	look(5*time.Minute+time.Second, true)
	p.busy.Store(false)
	look(time.Second, false)
	j.hold(true)
	if err := j.Advance(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	look(time.Second, false)
	look(5*time.Minute, false)
	j.mu.Lock()
	j.confirmed = 50
	j.mu.Unlock()
	look(time.Minute, false) // it synced something
	look(5*time.Minute+time.Second, true)
}
