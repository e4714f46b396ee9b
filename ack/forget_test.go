package ack

import (
	"testing"
	"testing/synctest"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Nothing more is handed over to a reader who was deleted, the accounts add up,
// and what the sender had at that moment ends as Kafka says.
func TestForgottenReaderIsOwedNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		given, _ := d.publish(1, 2)
		d.fall()
		waiting, id := d.publish(1, 2)
		d.sent(1, 1, waiting)
		if overs, _ := d.next(1); len(overs) != 1 || overs[0].Reader != 1 {
			t.Fatalf("given %v", overs)
		}
		d.unread(1, 0, 10)
		d.gone[1] = true
		d.l.Forget(1)
		d.wantCounts(Counts{Messages: 2, Pairs: 3, Backlog: 2})
		d.ack(1, id) // of a session that has not noticed
		d.must(d.l.Read(1, []journal.Seq{waiting}))
		d.settle(all(1), nil)
		d.l.Forget(1)
		d.wantCounts(Counts{Messages: 2, Pairs: 2, Backlog: 1})
		if seqs, _ := d.unread(1, 0, 10); len(seqs) > 1 { // the first was handed over, and its number is never given again
			t.Errorf("unread of a forgotten reader: %v", seqs)
		}
		if owed := d.l.Pending(roaring.BitmapOf(1, 2, 3)); !owed.Equals(roaring.BitmapOf(2)) {
			t.Errorf("something is owed to %v, want 2", owed)
		}
		d.flushed()
		d = d.restart(dir)
		d.wantCounts(Counts{Messages: 2, Pairs: 2})
		d.l.Arm()
		d.fall()
		overs, _ := d.drain()
		if len(overs) != 2 || overs[0].Seq != given || overs[0].Reader != 2 || overs[1].Seq != waiting || overs[1].Reader != 2 {
			t.Errorf("given %+v", overs)
		}
		d.wantCounts(Counts{})
	})
}
