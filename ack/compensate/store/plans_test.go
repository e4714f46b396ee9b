package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/pgtest"
	"newswire/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// blocks runs a statement as the store does, leaves nothing of it, and counts the
// blocks that it looked at.
func blocks(t *testing.T, db *pgtest.DB, sql string, args ...any) (n int) {
	t.Helper()
	conn := db.Connect()
	err := pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{BeginQuery: "BEGIN; " + byIndex}, func(tx pgx.Tx) error {
		var text []byte
		if err := tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, args...).Scan(&text); err != nil {
			return err
		}
		var plans []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		if err := json.Unmarshal(text, &plans); err != nil {
			return err
		}
		n = plans[0].Plan.Hit + plans[0].Plan.Read
		return tx.Rollback(context.WithoutCancel(t.Context()))
	})
	if err != nil && err != pgx.ErrTxClosed {
		t.Fatal(err)
	}
	return n
}

// crowd is a database in which so many deliveries are in a state, ten of each reader,
// and the server knows as much of them as statistics say.
func crowd(t *testing.T, n int, state, statistics string) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""), pgtest.WithoutSlot())
	if _, err := migrations.Apply(t.Context(), db.SuperDSN, migrations.Compensate()); err != nil {
		t.Fatal(err)
	}
	db.Exec(fmt.Sprintf(`INSERT INTO newswire_compensate.records (ce_id, reader, article, action, value, expires_at)
		SELECT i || ':u' || i / 10, 'u' || i / 10, i, 'publish', 'value', now() + interval '1 day' FROM generate_series(1, %d) i`, n))
	db.Exec(`INSERT INTO newswire_compensate.deliveries (ce_id, channel, device, seq, reader, article, urgent, state, expires_at)
		SELECT ce_id, 'webhook', 0, seq, reader, article, false, $1, expires_at FROM newswire_compensate.records`, state)
	db.Exec(`ANALYZE newswire_compensate.deliveries`)
	db.Exec(statistics)
	return db
}

// What the server knows of the records: all, or that there are none, as it does when
// it looked at them before the first commit, or behind a purge.
const (
	analyzed      = `ANALYZE newswire_compensate.records`
	believedEmpty = `UPDATE pg_class SET reltuples = 0, relpages = 40 WHERE relname IN ('records', 'records_pkey')`
)

func TestTakingCostsTheSameHoweverMuchWaits(t *testing.T) {
	for _, statistics := range []string{analyzed, believedEmpty} {
		var cost []int
		for _, n := range []int{1_000, 10_000} {
			db := crowd(t, n, "waiting", statistics)
			cost = append(cost, blocks(t, db, takeSQL, "webhook", 32*lookAhead, 32, mostPerReader, [16]byte{1}, mostTaken))
		}
		if cost[1] > 2*cost[0] {
			t.Errorf("taking looks at %d blocks where 1,000 wait and at %d where 10,000 do, after %q", cost[0], cost[1], statistics)
		}
	}
}

// A reader who never comes gathers thousands of receipts until they are removed.
func TestTakingLooksAtNoReceipts(t *testing.T) {
	var cost []int
	for _, n := range []int{100, 5_000} {
		db := crowd(t, n, "sent", analyzed)
		db.Exec(`UPDATE newswire_compensate.deliveries SET reader = 'u', settled_at = now()`)
		db.Exec(`UPDATE newswire_compensate.deliveries SET state = 'waiting' WHERE seq <= 10`)
		db.Exec(`ANALYZE newswire_compensate.deliveries`)
		cost = append(cost, blocks(t, db, takeSQL, "webhook", 32*lookAhead, 32, mostPerReader, [16]byte{1}, mostTaken))
	}
	if cost[1] > 3*cost[0] {
		t.Errorf("taking ten deliveries of a reader looks at %d blocks with 90 receipts, at %d with 4,990", cost[0], cost[1])
	}
}

func TestClosingLooksAtARecordOnce(t *testing.T) {
	const n = 10_000
	db := crowd(t, n, "sent", believedEmpty)
	for _, some := range []int{1, 20, mostInBatch} {
		ids := pgtest.Values[string](db, `SELECT ce_id FROM newswire_compensate.records ORDER BY seq LIMIT $1`, some)
		if got := blocks(t, db, closeSQL, ids); got > 3*n {
			t.Errorf("closing %d of %d records looks at %d blocks", some, n, got)
		}
	}
}

// Statistics that the growth of a table has made wrong are gathered again.
func TestStatisticsFollowGrowth(t *testing.T) {
	db := crowd(t, 5_000, "waiting", analyzed)
	st, err := New(Config{DSN: db.SuperDSN})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	known := func() int {
		return pgtest.Value[int](db, `SELECT reltuples::int FROM pg_class WHERE oid = 'newswire_compensate.records'::regclass`)
	}
	db.Exec(`INSERT INTO newswire_compensate.records (ce_id, reader, article, action, expires_at)
		SELECT 'more' || i, 'u', i, 'publish', now() FROM generate_series(1, 10000) i`)
	for deadline := time.Now().Add(2 * time.Minute); known() != 15_000; <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the server knows of %d records, not of 15,000", known())
		}
		if err := st.Analyze(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
