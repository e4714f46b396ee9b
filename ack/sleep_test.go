package ack

import (
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"
)

// asleep is how many accounts have their attempts on disk only.
func (d *desk) asleep() (n int) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	for _, e := range d.l.entries {
		if e.asleep {
			n++
		}
	}
	return n
}

// While Kafka is away an account that only waits for it keeps its attempts on
// disk; whoever needs them finds them, and they grow there.
func TestAccountThatWaitsForKafkaSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		first, id := d.publish(1, 2, 3)
		began := time.Now()
		d.sent(1, 1, first)
		d.sent(2, 1, first)
		second, _ := d.publish(1)
		d.fall()
		d.flushed()
		if n := d.asleep(); n != 1 { // the second has no attempts
			t.Fatalf("%d accounts sleep, want 1", n)
		}
		d.wantCounts(Counts{Messages: 2, Pairs: 4, Backlog: 4})
		found, _, err := d.l.Unread(1, 0, 10)
		if d.must(err); len(found) != 2 || found[0] != (journal.Attempt{Seq: first, N: 1, Replay: true}) || found[1].Seq != second {
			t.Errorf("unread %+v", found)
		}
		d.sent(1, 2, first) // as a replay would be, had it been retried
		d.sent(3, 1, first)
		if d.asleep() != 0 {
			t.Error("an account sleeps that is written to")
		}
		d.flushed()
		if d.asleep() != 1 {
			t.Error("the account does not sleep again")
		}
		d.ack(2, id)
		d.flushed()
		overs, _ := d.next(10)
		if len(overs) != 3 || overs[0].Attempts != 2 || overs[0].FirstSent.Sub(began).Abs() > sendBucket || overs[1].Attempts != 1 || overs[1].Reader != 3 {
			t.Errorf("given %+v", overs)
		}
		d.settle(all(len(overs)), nil)
		d.flushed()
		if n := d.inMemory(); n > 0 {
			t.Errorf("%d accounts stay in memory", n)
		}
		d.wantCounts(Counts{})
	})
}
