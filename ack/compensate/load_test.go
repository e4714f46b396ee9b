package compensate

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
)

// resident is how much memory a process has, in MiB; 0 where nobody tells.
func resident(t *testing.T, pid int) (mib int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(rest, &mib); err != nil {
		t.Fatal(err)
	}
	return mib >> 10
}

// A backlog lies in Kafka and, up to its bound, in the database: what the
// process holds of it is as much as it has places for.
func TestABacklogTakesNoMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED, NOTHING TESTED: memory is read from /proc")
	}
	g := newGround(t)
	p := newProviders(t)
	p.fail(true)
	n := amount("NEWSWIRE_TEST_BACKLOG", 5_000)
	const readers = 500
	g.phones(readers)
	spec := g.spec(p)
	spec.Backlog = n // deliveries, of which each record makes two: half of the records stays in Kafka
	c := startInstance(t, spec)
	open := func() int { return pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.deliveries`) }
	g.load(1, n, readers)
	g.longUntil("the backlog is at its bound", func() bool { return open() >= n })
	most := 0
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		most = max(most, resident(t, c.cmd.Process.Pid))
	}
	if got := open(); got > n+4*mostRecords {
		t.Errorf("%d deliveries are in the database, the bound is %d", got, n)
	}
	t.Logf("%d MiB with a backlog of %d records", most, n)
	if most > 200 {
		t.Errorf("%d MiB resident, want at most 200", most)
	}
	p.fail(false)
	g.longUntil("all settled", g.settled(n))
	if doubtful := g.check(p, n); doubtful != 0 {
		t.Errorf("%d in doubt, though nobody died", doubtful)
	}
}

// Reports how many records a second reach a webhook that answers at once.
func TestThroughputToAFastWebhook(t *testing.T) {
	g := newGround(t)
	p := newProviders(t)
	n := amount("NEWSWIRE_TEST_THROUGHPUT_RECORDS", 3_000)
	g.load(1, n, 1000) // no telephones: the webhook alone
	begin := time.Now()
	startInstance(t, g.spec(p))
	g.longUntil("all settled", g.settled(n))
	took := time.Since(begin)
	if most, ids := p.repeats("hook"); most != 1 || ids != n {
		t.Errorf("the webhook saw %d ids, one of them %d times; want %d, once each", ids, most, n)
	}
	t.Logf("%d records in %.1f s, %.0f a second, on %d processors with PostgreSQL, Kafka and receiver on the same", n, took.Seconds(), float64(n)/took.Seconds(), runtime.NumCPU())
}

// Reports whether what has waited leaves as fast at the end as at the beginning.
func TestABacklogLeavesOnce(t *testing.T) {
	g := newGround(t)
	p := newProviders(t)
	n := amount("NEWSWIRE_TEST_DRAIN", 2_000)
	g.waiting(n, n/100)
	c := startInstance(t, g.spec(p))
	begin, half, most := time.Now(), time.Duration(0), 0
	g.longUntil("all settled", func() bool {
		most = max(most, resident(t, c.cmd.Process.Pid))
		if _, ids := p.repeats("hook"); half == 0 && ids >= n/2 {
			half = time.Since(begin)
		}
		return g.settled(n)()
	})
	if most, ids := p.repeats("hook"); most != 1 || ids != n {
		t.Errorf("the webhook saw %d ids, one of them %d times; want %d, once each", ids, most, n)
	}
	rate := func(d time.Duration) float64 { return float64(n/2) / d.Seconds() }
	t.Logf("%d deliveries: the first half %.0f a second, the second %.0f, %d MiB", n, rate(half), rate(time.Since(begin)-half), most)
}

// waiting puts deliveries into the database that wait for the webhook, as the intake does.
func (g *ground) waiting(n, readers int) {
	g.t.Helper()
	value := record{n: 1, reader: "READER"}.message(g.t).Value
	g.db.Exec(`INSERT INTO newswire_compensate.records (ce_id, reader, article, action, value, expires_at, step)
		SELECT lpad(to_hex(i), 28, '0') || ':u' || i % $2, 'u' || i % $2, 'article ' || i, 'publish',
			convert_to(replace($3, 'READER', 'u' || i % $2), 'UTF8'), now() + interval '1 day', 1
		FROM generate_series(1, $1) i`, n, readers, string(value))
	g.db.Exec(`INSERT INTO newswire_compensate.deliveries (ce_id, channel, device, seq, reader, article, urgent, state, expires_at)
		SELECT ce_id, 'webhook', 0, seq, reader, article, false, 'waiting', expires_at FROM newswire_compensate.records ORDER BY seq`)
}
