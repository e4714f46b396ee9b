package cdc

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/cluster"
	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// newFollower gives a streaming standby of a server.
func newFollower(t *testing.T, primary *cluster.Cluster, name string) *cluster.Cluster {
	t.Helper()
	return pgtest.NewStandby(t, primary, map[string]string{
		"primary_conninfo": fmt.Sprintf("host=%s user=%s application_name=%s", primary.SocketDir(), cluster.Superuser, name),
	})
}

func TestTagsWaitUntilTheTransactionIsVisible(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t, nil)
	standby := newFollower(t, primary, "late")
	db, j := newCMS(t, pgtest.On(primary)), newMemJournal()
	l := listen(t, cmsConfig(db), j).ready()
	late, err := pgx.Connect(t.Context(), standby.DSN("postgres", cluster.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close(context.Background())
	// Parameters of the session alone, so that only the editor waits.
	db.Exec(`ALTER SYSTEM SET synchronous_standby_names = 'late'`)
	db.Exec(`SELECT pg_reload_conf()`)
	t.Cleanup(func() {
		db.Exec(`ALTER SYSTEM RESET synchronous_standby_names`)
		db.Exec(`SELECT pg_reload_conf()`)
	})
	eventually(t, "the standby is synchronous", func() bool {
		return pgtest.Value[int](db, `SELECT count(*) FROM pg_stat_replication WHERE application_name = 'late' AND sync_state = 'sync'`) == 1
	})
	if _, err := late.Exec(t.Context(), `SELECT pg_wal_replay_pause()`); err != nil {
		t.Fatal(err)
	}
	editor := db.Connect()
	saved := make(chan error, 1)
	go func() {
		_, err := editor.Exec(context.Background(), `SET synchronous_commit = remote_apply; BEGIN; INSERT INTO articles (id, title) VALUES (1, 'late');
			INSERT INTO articles_tags VALUES (1, 1); COMMIT`)
		saved <- err
	}()
	// The stream has brought the commit, and nobody else sees it yet.
	eventually(t, "it is asked whether the transaction is visible", func() bool {
		return pgtest.Value[bool](db, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1 AND query LIKE '%pg_xact_status%')`, db.Role)
	})
	if n := pgtest.Value[int](db, `SELECT count(*) FROM articles`); n != 0 {
		t.Fatalf("%d articles are visible: the commit does not wait, so nothing is tested", n)
	}
	for asked, began := 0, time.Now(); asked < 3; { // over several looks
		if len(saved) > 0 || l.Ready() != nil {
			t.Fatalf("the editor has saved, or Ready = %v", l.Ready())
		}
		j.mu.Lock()
		n := len(j.appended)
		j.mu.Unlock()
		if n != 0 {
			t.Fatal("the article went out before its transaction was visible")
		}
		changed := pgtest.Value[time.Time](db, `SELECT max(query_start) FROM pg_stat_activity WHERE usename = $1 AND query LIKE '%pg_xact_status%'`, db.Role)
		if changed.After(began) {
			asked, began = asked+1, changed
		}
	}
	if _, err := late.Exec(t.Context(), `SELECT pg_wal_replay_resume()`); err != nil {
		t.Fatal(err)
	}
	wantMessages(t, j.wait(t, 1), want{journal.Publish, `{"id":1}`, "tech", ""})
	if err := <-saved; err != nil {
		t.Errorf("the editor's commit: %v", err)
	}
}

func TestTransactionNumbersAreWidenedToTheNearest(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const circle = 1 << 32
	for _, c := range []struct{ xid, xmax, want int64 }{
		{1000, 1001, 1000},
		{1001, 1001, 1001},                       // it runs
		{1500, 1001, 1500},                       // so do others before it
		{1000, 5*circle + 1001, 5*circle + 1000}, // after wraparounds
		{circle - 5, 5*circle + 10, 5*circle - 5},
		{3, 5*circle - 1, 5*circle + 3}, // the counter is about to turn
		{10, 5*circle + 10 + 1<<31 - 1, 5*circle + 10},
		{circle - 5, 10, 0}, // of no transaction that can be
	} {
		query := "SELECT w.xid FROM (" + widenQuery(strconv.FormatInt(c.xid, 10), strconv.FormatInt(c.xmax, 10)+"::bigint") + ") w"
		if got := pgtest.Value[int64](db, query); got != c.want {
			t.Errorf("transaction %d before %d is %d, want %d", c.xid, c.xmax, got, c.want)
		}
	}
}

func TestTransactionsAreSeenOnceTheyHaveEnded(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t, nil) // its own: an open transaction keeps others from making slots
	standby := newFollower(t, primary, "reads")
	db := pgtest.New(t, pgtest.On(primary))
	reader, err := pgx.Connect(t.Context(), standby.DSN("postgres", cluster.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close(context.Background())
	seen := func(conn *pgx.Conn, xid uint32) (seen bool) {
		if err := conn.QueryRow(t.Context(), seenQuery(strconv.FormatUint(uint64(xid), 10), currentXmax), pgx.QueryExecModeExec).Scan(&seen); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	writer, conn := db.Connect(), db.Connect()
	if _, err := writer.Exec(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	var full int64
	if err := writer.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&full); err != nil {
		t.Fatal(err)
	}
	xid := uint32(full)
	if _, err := writer.Exec(t.Context(), `INSERT INTO articles (id) VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	db.Exec(`INSERT INTO articles (id) VALUES (2)`) // a later one has ended
	follow := func() {
		end := db.CurrentLSN().String()
		eventually(t, "the standby follows", func() (there bool) {
			if err := reader.QueryRow(t.Context(), `SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn`, pgx.QueryExecModeExec, end).Scan(&there); err != nil {
				t.Fatal(err)
			}
			return there
		})
	}
	follow()
	if seen(conn, xid) || seen(reader, xid) {
		t.Error("a transaction that runs counts as seen")
	}
	if _, err := writer.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	db.Exec(`INSERT INTO articles (id) VALUES (3)`)
	follow()
	for name, c := range map[string]struct {
		conn *pgx.Conn
		xid  uint32
	}{"primary": {conn, xid}, "standby": {reader, xid}, "long ago": {conn, 3}, "long ago on the standby": {reader, 3}} {
		if !seen(c.conn, c.xid) {
			t.Errorf("%s: transaction %d does not count as seen", name, c.xid)
		}
	}
	if seen(conn, xid+1_000_000) || seen(reader, xid+1_000_000) {
		t.Error("a transaction to come counts as seen")
	}
}
