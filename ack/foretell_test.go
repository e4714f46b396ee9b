package ack

import (
	"slices"
	"testing"
	"testing/synctest"

	"newswire/fanout/journal"
)

// wantGiven checks the next batch, and settles it as Kafka answers: nothing
// else may be in it.
func (d *desk) wantGiven(overs []journal.Reader, cancels []Cancel, kafka bool) {
	d.t.Helper()
	gotOvers, gotCancels := d.next(100)
	if !slices.Equal(readersOf(gotOvers), overs) || !slices.Equal(gotCancels, cancels) {
		d.t.Fatalf("given %+v and %+v, want hand-overs for %v and %+v", gotOvers, gotCancels, overs, cancels)
	}
	if len(overs)+len(cancels) > 0 {
		d.settle(slices.Repeat([]bool{kafka}, len(overs)), slices.Repeat([]bool{kafka}, len(cancels)))
	}
}

// What was withdrawn before it left is cancelled first, and handed over once
// Kafka has the cancel: wherever it was when it was withdrawn, whatever Kafka
// refuses, and wherever the program stops.
func TestWithdrawnIsCancelledBeforeItIsHandedOver(t *testing.T) {
	for _, when := range []string{"before its deadline", "in the outbox", "refused once", "before a restart"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				d := newDesk(t, dir, usual)
				defer func() { d.close() }()
				d.l.Arm()
				seq, id := d.publish(1, 2)
				if when != "before its deadline" {
					d.fall()
				}
				if when == "refused once" {
					d.wantGiven([]journal.Reader{1, 2}, nil, false)
				}
				d.withdraw()
				if when == "before a restart" {
					d = d.restart(dir)
					d.l.Arm()
				}
				if when == "before its deadline" || when == "before a restart" {
					d.fall()
				}
				first := []Cancel{retracted(seq, id, 1), retracted(seq, id, 2)}
				d.wantGiven(nil, first, false)
				d.wantGiven(nil, first, true)
				d.wantGiven([]journal.Reader{1, 2}, nil, false)
				d = d.restart(dir)
				d.l.Arm()
				d.fall()
				d.wantGiven(nil, first, true)
				d.wantGiven([]journal.Reader{1, 2}, nil, true)
				d.wantCounts(Counts{})
				d.wantCancels()
				d = d.restart(dir)
				d.wantCancels()
				d.wantNone(journal.SpaceRetracts, journal.SpaceCancels, journal.SpaceOpen)
			})
		})
	}
}

// A retraction that waits behind many cancels is respected all the same; what
// is published later of the row is none of its business, nor is itself.
func TestWithdrawnIsCancelledFirstBehindManyCancels(t *testing.T) {
	for _, where := range []string{"in memory", "after a restart"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				d := newDesk(t, dir, usual)
				defer func() { d.close() }()
				d.l.Arm()
				d.publish(bitmapOf(maxCancels + 1).ToArray()...)
				d.fall()
				d.drain()
				d.flushed()
				d.withdraw() // has more to cancel than may wait
				d.flushed()
				d.key = `{"id":2}`
				seq, id := d.publish(1)
				gone := d.withdraw(2)
				again, _ := d.publish(3)
				d.flushed()
				if where == "after a restart" {
					key := d.key
					d = d.restart(dir)
					d.key = key
					d.l.Arm()
				}
				d.fall()
				overs, cancels := d.next(8)
				if len(overs) != 2 || overs[0].Seq != gone || overs[1].Seq != again || !slices.Contains(cancels, retracted(seq, id, 1)) {
					t.Fatalf("given %+v and %+v", overs, cancels)
				}
				d.settle(all(2), all(len(cancels)))
				if overs, _ := d.next(8); len(overs) != 1 || overs[0].Seq != seq {
					t.Fatalf("given %+v, want what was withdrawn", overs)
				}
				d.settle(all(1), nil)
				d.wantCounts(Counts{})
			})
		})
	}
}

// While its cancel is refused a withdrawn copy holds up what else its reader has
// coming, for nothing may overtake, and nobody else, however many are held up.
func TestRefusedCancelHoldsUpOnlyItsReader(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		withdrawn, _ := d.publish(bitmapOf(50).ToArray()...)
		d.withdraw()
		d.key = `{"id":2}`
		later, _ := d.publish(1, 50, 51, 52)
		d.fall()
		overs, cancels := d.next(10)
		if len(overs) != 2 || overs[0].Reader != 51 || overs[1].Reader != 52 || len(cancels) != 8 {
			t.Fatalf("given %+v and %d cancels, want readers 51 and 52, and 8", overs, len(cancels))
		}
		d.settle(all(2), make([]bool, 8))
		if overs, cancels := d.next(10); len(overs) != 0 || len(cancels) != 10 {
			t.Fatalf("given %+v and %d cancels, want none, and 10", overs, len(cancels))
		}
		d.settle(nil, all(10))
		overs, _ = d.drain()
		last := make(map[journal.Reader]journal.Seq)
		for _, over := range overs {
			if over.Seq < last[over.Reader] {
				t.Errorf("reader %d is handed over %d after %d", over.Reader, over.Seq, last[over.Reader])
			}
			last[over.Reader] = over.Seq
		}
		if len(overs) != 52 || last[2] != withdrawn || last[1] != later || last[50] != later {
			t.Errorf("%d hand-overs, last %v", len(overs), last)
		}
		d.wantCounts(Counts{})
	})
}

// Who acknowledges, or is deleted, while the cancel is on its way is not handed
// over behind it.
func TestWithdrawnEndsWhileItsCancelIsOnItsWay(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1, 2, 3, 4)
		d.sent(1, 1, seq)
		d.withdraw()
		d.fall()
		d.wantGiven(nil, []Cancel{retracted(seq, id, 1), retracted(seq, id, 2), retracted(seq, id, 3), retracted(seq, id, 4)}, false)
		d.next(100)
		d.ack(1, id)
		d.mu.Lock()
		d.gone[2], d.gone[3] = true, true
		d.mu.Unlock()
		d.l.Forget(2)
		d.settle(nil, []bool{true, true, false, true})
		d.wantGiven([]journal.Reader{4}, nil, true) // 3 is found to be gone
		d.wantCounts(Counts{})
		d.wantCancels()
	})
}

// An acknowledgement may come between the moment when the cancel is chosen and
// the one when its reader is named.
func TestReaderDeletedAfterAckAheadOfTheFlight(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1)
		d.sent(1, 1, seq)
		d.withdraw()
		d.flushed()
		d.fall()
		d.l.mu.Lock()
		d.l.takeOffLocked(10)
		ahead := slices.Clone(d.l.ahead)
		d.l.mu.Unlock()
		if len(ahead) != 1 {
			t.Fatalf("%d cancels go ahead, want 1", len(ahead))
		}
		d.ack(1, id)
		d.l.forget(ahead[0])
		d.wantCounts(Counts{})
	})
}
