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

// resident is how much memory a process has, in MiB.
func resident(t *testing.T, pid int) (mib int) {
	t.Helper()
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
