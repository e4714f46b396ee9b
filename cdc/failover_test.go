package cdc

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/cluster"
	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// unconfirmed is a journal that keeps what it is given, and confirms nothing
// from a moment on: the server sends it all again.
type unconfirmed struct {
	*watched

	mu     sync.Mutex // guards the rest
	frozen journal.LSN
	given  map[string][]journal.ID // by key: of every message, repeats included
	times  int                     // messages were given
}

func (j *unconfirmed) freeze() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.frozen = j.watched.Confirmed()
}

func (j *unconfirmed) Confirmed() journal.LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.frozen > 0 {
		return j.frozen
	}
	return j.watched.Confirmed()
}

func (j *unconfirmed) Append(ctx context.Context, c journal.Commit) error {
	j.mu.Lock()
	if j.given == nil {
		j.given = make(map[string][]journal.ID)
	}
	for _, m := range c.Messages {
		j.given[string(m.Key)] = append(j.given[string(m.Key)], m.ID)
		j.times++
	}
	j.mu.Unlock()
	return j.watched.Append(ctx, c)
}

// repeated waits until so many messages were given, and checks that each has
// one id however often it came.
func (j *unconfirmed) repeated(t *testing.T, times int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages are given, repeats included", times), func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.times >= times
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, ids := range j.given {
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("%s came as %s and as %s", key, ids[0], id)
			}
		}
	}
}

// epochs gives the epochs of messages, and checks that they come in the order
// of their ids.
func epochs(t *testing.T, messages []journal.Message) (list []uint16) {
	t.Helper()
	for i, m := range messages {
		if i > 0 && m.ID.Compare(messages[i-1].ID) <= 0 {
			t.Errorf("id %s stands behind %s", m.ID, messages[i-1].ID)
		}
		list = append(list, m.ID.Epoch)
	}
	return list
}

// A row change has its id for ever: that of a commit from before the switch
// does not depend on which server sends it, nor on when.
func TestPlannedFailoverGoesOnWithTheSameIDs(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, nil)
	db, j := pgtest.New(t, pgtest.On(server)), &unconfirmed{watched: watch(t)}
	l := listen(t, articles(db), j).ready()
	db.Exec(`INSERT INTO articles (title) VALUES ('first')`)
	j.wait(t, 1)
	j.freeze()
	db.Exec(`INSERT INTO articles (title) VALUES ('second')`)
	j.wait(t, 2)
	if err := server.Crash(); err != nil { // one that shuts down waits for what is not confirmed
		t.Fatal(err)
	}
	pgtest.NewTimeline(t, server)
	db.Exec(`INSERT INTO articles (title) VALUES ('third')`)
	j.wait(t, 3)
	j.repeated(t, 4) // the second came again
	l.ready()
	if n := counter(t, l.metrics.failovers); n != 1 {
		t.Errorf("%v failovers were counted, want 1", n)
	}
	l.halt()
	pgtest.NewTimeline(t, server) // two while we are away
	db.Exec(`INSERT INTO articles (title) VALUES ('fourth')`)
	pgtest.NewTimeline(t, server)
	db.Exec(`INSERT INTO articles (title) VALUES ('fifth')`)
	listen(t, articles(db), j).ready()
	got := j.wait(t, 5)
	j.repeated(t, 4+4) // all but the first once more
	if list := fmt.Sprint(epochs(t, got)); list != "[1 1 2 3 4]" {
		t.Errorf("epochs = %s, want one for each timeline", list)
	}
	source, _ := j.Source()
	if source.Timeline != 4 || len(source.Past) != 3 {
		t.Errorf("source = %+v", source)
	}
}

// copied is a server with a standby that stays where it is, and an engine's
// journal that has read on from the primary.
func copied(t *testing.T) (db *pgtest.DB, standby *cluster.Cluster, cfg Config, j *watched, l *running) {
	t.Helper()
	primary := pgtest.NewCluster(t, nil)
	db, j = pgtest.New(t, pgtest.On(primary)), watch(t)
	cfg = published(db)
	listen(t, cfg, j).ready().halt() // the slot and the journal know each other
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (1, 'stays', '{tech}', 'published')`)
	standby = pgtest.NewStandby(t, primary, nil)
	cfg.DSN = eitherOf(db, primary, standby)
	l = listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (2, 'is lost', '{ai}', 'published')`)
	j.wait(t, 2)
	if err := primary.Crash(); err != nil {
		t.Fatal(err)
	}
	return db, standby, cfg, j, l
}

// eitherOf is a DSN of two servers, of which the primary is taken.
func eitherOf(db *pgtest.DB, a, b *cluster.Cluster) string {
	return fmt.Sprintf("host=%s,%s user=%s dbname=%s sslmode=disable target_session_attrs=read-write", a.SocketDir(), b.SocketDir(), db.Role, db.Name)
}

func TestFailoverThatLostWhatWasReadStopsIntake(t *testing.T) {
	t.Parallel()
	db, standby, cfg, j, l := copied(t)
	eventually(t, "that there is no primary is told", func() bool { return l.Ready() != nil })
	pgtest.Promote(t, standby)
	db.MoveTo(standby)
	err := l.fails(ErrGap)
	for _, part := range []string{j.Accepted().String(), "timeline 1", "timeline 2", "has left at ", "newswire resync"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (2, 'comes instead', '{tech}', 'published')`)
	mend(t, cfg, j)
	listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (id, title, tags, status) VALUES (3, 'goes on', '{tech}', 'published')`)
	got := j.wait(t, 4)
	if s := story(got[2:]); s != "correct {\"id\":2} tech-ai\npublish {\"id\":3} tech-" {
		t.Errorf("behind the gap readers learn\n%s", s)
	}
	if list := fmt.Sprint(epochs(t, got)); list != "[1 1 2 2]" {
		t.Errorf("epochs = %s", list)
	}
}

// A former primary that comes back is not gone on with, nor is a server that
// was promoted apart from the one that the journal knows.
func TestServerOfAnotherHistoryStopsIntake(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t, nil)
	db, j := pgtest.New(t, pgtest.On(primary)), watch(t)
	listen(t, articles(db), j).ready().halt()
	standby := pgtest.NewStandby(t, primary, nil)
	db.Exec(`CREATE TABLE other (n int PRIMARY KEY); SELECT pg_switch_wal()`) // the two part here
	pgtest.NewTimeline(t, primary)
	db.Exec(`INSERT INTO articles (title) VALUES ('a')`)
	l := listen(t, articles(db), j).ready()
	j.wait(t, 1)
	l.halt()
	cfg := articles(db)
	cfg.DSN = standby.DSN(db.Name, db.Role)
	waiting := listen(t, cfg, j)
	eventually(t, "a standby is waited with", func() bool {
		err := waiting.Ready()
		return err != nil && strings.Contains(err.Error(), "is a standby")
	})
	pgtest.Promote(t, standby)
	if err := waiting.fails(ErrGap); !strings.Contains(err.Error(), "another history") {
		t.Errorf("%q does not say what is wrong", err)
	}
	source, _ := j.Source()
	source.Timeline++ // as if another had taken over from the primary meanwhile
	if err := j.SetSource(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	if err := listen(t, articles(db), j).fails(ErrGap); !strings.Contains(err.Error(), "former primary") {
		t.Errorf("%q does not say what is wrong", err)
	}
}

// pair is a primary with a failover slot and a standby that synchronises it.
func pair(t *testing.T) (db *pgtest.DB, primary, standby *cluster.Cluster) {
	t.Helper()
	primary = pgtest.NewCluster(t, nil)
	db = pgtest.New(t, pgtest.On(primary), pgtest.WithoutSlot())
	if pgtest.Value[int](db, `SELECT current_setting('server_version_num')::int`) < 170000 {
		t.Skip("slots that fail over came with PostgreSQL 17")
	}
	db.Slot = db.Name + "_failover"
	db.Exec(`SELECT pg_create_logical_replication_slot('` + db.Slot + `', 'pgoutput', failover => true)`)
	db.Exec(`SELECT pg_create_physical_replication_slot('standby', true)`)
	db.Exec(`CREATE ROLE standby LOGIN REPLICATION`)
	standby = pgtest.NewStandby(t, primary, map[string]string{
		"primary_conninfo":       "host=" + primary.SocketDir() + " user=standby dbname=postgres",
		"primary_slot_name":      "standby",
		"hot_standby_feedback":   "on",
		"sync_replication_slots": "on",
	})
	return db, primary, standby
}

// synced waits until the standby could take the slot over as it stands now.
func synced(t *testing.T, db *pgtest.DB, standby *cluster.Cluster) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), standby.DSN("postgres", cluster.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	at := db.ConfirmedFlush()
	eventually(t, "the standby has the slot", func() bool {
		db.Exec(`SELECT pg_log_standby_snapshot()`) // lets the primary's slot move, which the copy must not precede
		var ok bool
		err := conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_replication_slots
			WHERE slot_name = $1 AND synced AND NOT temporary AND confirmed_flush_lsn >= $2::text::pg_lsn)`, db.Slot, at.String()).Scan(&ok)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	})
}

func TestFailoverSlotLosesNothingAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	db, primary, standby := pair(t)
	db.Exec(`ALTER SYSTEM SET synchronized_standby_slots = 'standby'`)
	db.Exec(`SELECT pg_reload_conf()`)
	cfg, j := articles(db), watch(t)
	cfg.DSN = eitherOf(db, primary, standby)
	l := listen(t, cfg, j).ready()
	for range 20 {
		db.Exec(`INSERT INTO articles (title) VALUES ('before')`)
	}
	j.wait(t, 20)
	synced(t, db, standby)
	for range 20 {
		db.Exec(`INSERT INTO articles (title) VALUES ('behind what the standby knows of the slot')`)
	}
	if err := primary.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.Promote(t, standby)
	db.MoveTo(standby)
	for range 20 {
		db.Exec(`INSERT INTO articles (title) VALUES ('on the new primary')`)
	}
	got := j.wait(t, 60)
	l.ready()
	for i, m := range got {
		if want := fmt.Sprintf(`{"id":%d}`, i+1); i < 40 && string(m.Key) != want {
			t.Fatalf("message %d is of %s, want %s", i, m.Key, want)
		}
		if want := uint16(1 + i/40); m.ID.Epoch != want {
			t.Fatalf("message %d has epoch %d, want %d", i, m.ID.Epoch, want)
		}
	}
	epochs(t, got)
}

// Without synchronized_standby_slots the engine can be ahead of a standby.
func TestFailoverSlotBehindTheJournalStopsIntake(t *testing.T) {
	t.Parallel()
	db, primary, standby := pair(t)
	cfg, j := articles(db), watch(t)
	cfg.DSN = eitherOf(db, primary, standby)
	l := listen(t, cfg, j).ready()
	db.Exec(`INSERT INTO articles (title) VALUES ('before')`)
	j.wait(t, 1)
	synced(t, db, standby)
	db.Exec(`ALTER ROLE standby NOLOGIN`)
	db.Exec(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'standby'`)
	db.Exec(`INSERT INTO articles (title) VALUES ('which the standby does not get')`)
	j.wait(t, 2)
	if err := primary.Crash(); err != nil {
		t.Fatal(err)
	}
	pgtest.Promote(t, standby)
	db.MoveTo(standby)
	if err := l.fails(ErrGap); !strings.Contains(err.Error(), "newswire resync") || !strings.Contains(err.Error(), "has left at") {
		t.Errorf("%q does not say what was lost", err)
	}
}
