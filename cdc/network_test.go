package cdc

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// listenHasty runs a listener that is short of patience.
func listenHasty(t *testing.T, cfg Config, j Journal, patience limits) *running {
	t.Helper()
	return listenSet(t, cfg, j, func(l *Listener) { l.limits = patience })
}

func hasty() limits {
	return limits{stuck: 500 * time.Millisecond, poll: 50 * time.Millisecond, silence: time.Second}
}

// A connection whose other end has vanished is noticed soon behind
// wal_sender_timeout, whichever way is dead, and the slot is waited for that
// the server still takes for held.
func TestHalfOpenConnectionIsNoticedAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, ways := range map[string][]direction{
		"both ways": {toServer, toClient}, "to the server": {toServer}, "to the engine": {toClient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), watch(t)
			db.Exec(`ALTER ROLE ` + db.Role + ` SET wal_sender_timeout = '1s'`)
			p := newProxy(t, db.Server())
			cfg := articles(db)
			cfg.DSN = p.dsn(db)
			patience := hasty()
			patience.stuck = time.Minute
			l := listenHasty(t, cfg, j, patience).ready()
			db.Exec(`INSERT INTO articles (title) VALUES ('before')`)
			j.wait(t, 1)
			p.swallow(ways...)
			db.Exec(`INSERT INTO articles (title) VALUES ('into the hole')`)
			eventually(t, "the dead connection is told", func() bool { return l.Ready() != nil })
			p.mend()
			db.Exec(`INSERT INTO articles (title) VALUES ('behind it')`)
			got := j.wait(t, 3)
			l.ready()
			for i, want := range []string{"before", "into the hole", "behind it"} {
				if field(t, got[i], "title") != want {
					t.Errorf("message %d is %s, want %q", i, got[i].Data, want)
				}
			}
		})
	}
}

// save is an editor who saves articles until told to stop, whatever becomes of
// the server meanwhile.
func save(t *testing.T, db *pgtest.DB) (stop func()) {
	t.Helper()
	dsn := db.SuperDSN
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conn *pgx.Conn
		for ctx.Err() == nil {
			if conn == nil || conn.IsClosed() {
				var err error
				if conn, err = pgx.Connect(ctx, dsn); err != nil {
					pause(ctx, 20*time.Millisecond)
					continue
				}
			}
			// Refused while the server is away; else it ends before stop does: a
			// statement that is given up may still be committed.
			_, _ = conn.Exec(context.WithoutCancel(ctx), `INSERT INTO articles (title) SELECT repeat('x', 500) FROM generate_series(1, 20)`)
			pause(ctx, 10*time.Millisecond)
		}
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}()
	return func() { cancel(); <-done }
}

// once checks that the journal has each row of the table once.
func once(t *testing.T, db *pgtest.DB, j *watched) {
	t.Helper()
	db.Exec(`INSERT INTO articles (title) VALUES ('last')`)
	n := pgtest.Value[int](db, `SELECT count(*) FROM articles`)
	seen := make(map[string]int)
	for _, m := range j.wait(t, n) {
		seen[string(m.Key)]++
	}
	for _, id := range pgtest.Values[int](db, `SELECT id FROM articles`) {
		if key := fmt.Sprintf(`{"id":%d}`, id); seen[key] != 1 {
			t.Errorf("row %s made %d messages, want 1", key, seen[key])
		}
	}
}

func TestResetsInMidStreamLoseNothing(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), watch(t)
	p := newProxy(t, db.Server())
	cfg := articles(db)
	cfg.DSN = p.dsn(db)
	l := listen(t, cfg, j).ready()
	stop := save(t, db)
	for round := 1; round <= 4; round++ {
		before := j.Head()
		eventually(t, "articles arrive", func() bool { return j.Head() > before })
		p.reset()
		eventually(t, "the stream is back", func() bool { return counter(t, l.metrics.connects) > float64(round) })
	}
	stop()
	once(t, db, j)
}

func TestTenRestartsOfTheServerLoseNothing(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, nil)
	db, j := pgtest.New(t, pgtest.On(server)), watch(t)
	l := listen(t, articles(db), j).ready()
	stop := save(t, db)
	for range 10 {
		before := j.Head()
		eventually(t, "articles arrive", func() bool { return j.Head() > before })
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	l.ready()
	once(t, db, j)
}

// The server dies while it sends a large commit and while another transaction
// is open: the one comes again whole, the other was never committed.
func TestServerCrashInMidTransactionIsRepeatedWhole(t *testing.T) {
	t.Parallel()
	const rows = 3 * spoolMessages
	server := pgtest.NewCluster(t, nil)
	db, j := pgtest.New(t, pgtest.On(server)), watch(t)
	crash := make(chan error, 1)
	crashed := false // owned by apply, one stream after the other
	j.spooling = func(c journal.Commit) {
		if !crashed && c.Spooled == 1 {
			crashed = true
			crash <- server.Crash()
		}
	}
	l := listen(t, articles(db), j).ready()
	db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'before')`)
	j.wait(t, 1)
	open := db.Connect()
	if _, err := open.Exec(t.Context(), `BEGIN; INSERT INTO articles (id, title) VALUES (1000000, 'never committed')`); err != nil {
		t.Fatal(err)
	}
	db.Exec(`INSERT INTO articles (id, title) SELECT n, 'row ' || n FROM generate_series(2, $1::int) n`, rows)
	if err := <-crash; err != nil {
		t.Fatal(err)
	}
	if head := j.Head(); head != 1 {
		t.Errorf("the journal has %d messages within the transaction, want the one before it", head)
	}
	eventually(t, "the loss of the server is told", func() bool { return l.Ready() != nil })
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.ready()
	got := j.wait(t, rows)
	for i, m := range got {
		if string(m.Key) != fmt.Sprintf(`{"id":%d}`, i+1) {
			t.Fatalf("message %d has key %s", i, m.Key)
		}
	}
	once2 := pgtest.Value[int](db, `SELECT count(*) FROM articles`)
	if once2 != rows {
		t.Errorf("the table has %d rows, want %d", once2, rows)
	}
}
