package ack

import (
	"slices"
	"testing"
	"testing/synctest"

	"newswire/fanout/journal"
)

// withdraw commits a retraction of the row that place writes.
func (d *desk) withdraw(audience ...uint32) journal.Seq {
	d.t.Helper()
	var u journal.Update
	d.action = journal.Retract
	seq, _ := d.place(&u, audience...)
	d.action = journal.Publish
	d.apply(u)
	return seq
}

// wantCancels checks what there is to be cancelled, and says that Kafka has it.
func (d *desk) wantCancels(want ...Cancel) {
	d.t.Helper()
	d.flushed()
	overs, cancels := d.drain()
	if len(overs) > 0 || !slices.Equal(cancels, want) {
		d.t.Errorf("given %+v and %+v, want %+v", overs, cancels, want)
	}
}

func retracted(seq journal.Seq, id journal.ID, r journal.Reader) Cancel {
	return Cancel{Seq: seq, Reader: r, ID: id, CeID: CeID(id, name(r)), Cause: CauseRetracted}
}

// A withdrawn article is taken back from everyone to whom it was handed over and
// who has not read it, wherever its account is: in memory, or long on disk.
func TestRetractionTakesBackWhatWasHandedOver(t *testing.T) {
	for _, where := range []string{"in memory", "on disk", "after a restart"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				d := newDesk(t, dir, usual)
				defer func() { d.close() }()
				d.l.Arm()
				seq, id := d.publish(1, 2, 3, 4)
				d.sent(4, 1, seq)
				d.ack(4, id)
				d.key = `{"id":2}`
				d.publish(1, 2) // another row
				d.key = ""
				d.fall()
				if where != "in memory" {
					d.drain()
					d.flushed()
					d.ack(3, id) // was never sent to it: no acknowledgement
					d.must(d.l.Read(2, []journal.Seq{seq}))
					d.wantCancels(Cancel{Seq: seq, Reader: 2, ID: id, CeID: CeID(id, name(2)), Cause: CauseAcked})
				}
				if where == "after a restart" {
					d = d.restart(dir)
					d.l.Arm()
				}
				want := []Cancel{retracted(seq, id, 1), retracted(seq, id, 3)}
				if where == "in memory" {
					if overs, _ := d.next(100); len(overs) != 5 {
						t.Fatalf("given %d hand-overs, want 5", len(overs))
					}
					d.settle(all(5), nil)
					want = []Cancel{retracted(seq, id, 1), retracted(seq, id, 2), retracted(seq, id, 3)}
				}
				d.withdraw()
				d.wantCancels(want...)
				d.wantCancels() // once
				if where == "after a restart" {
					d = d.restart(dir)
					d.wantCancels()
				}
			})
		})
	}
}

// What was on its way when the retraction came is taken back as it lands; who
// acknowledges is left alone.
func TestRetractionReachesWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		seq, id := d.publish(1, 2)
		d.sent(2, 1, seq)
		d.fall()
		if overs, _ := d.next(10); len(overs) != 2 {
			t.Fatalf("given %v", overs)
		}
		d.withdraw()
		d.flushed()
		d.ack(2, id)
		d.settle(all(2), nil)
		overs, cancels := d.drain()
		slices.SortFunc(cancels, func(a, b Cancel) int { return int(a.Reader) - int(b.Reader) })
		if len(overs) > 0 || len(cancels) != 2 || cancels[0] != retracted(seq, id, 1) || cancels[1].Cause != CauseAcked {
			t.Errorf("given %v and %v", overs, cancels)
		}
		d = d.restart(dir)
		d.wantCancels()
		d.wantCounts(Counts{})
	})
}

// The program may stop anywhere between the retraction and its last cancel, and
// more may be withdrawn than the memory shall hold.
func TestRetractionOfMuchSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const readers = maxCancels + 500
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		seq, _ := d.publish(bitmapOf(readers).ToArray()...)
		d.fall()
		d.drain()
		d.flushed()
		d.withdraw()
		d.flushed()
		taken := make(map[journal.Reader]bool)
		take := func(limit int) {
			_, cancels := d.next(limit)
			for _, c := range cancels {
				if c.Seq != seq || c.Cause != CauseRetracted {
					t.Fatalf("cancelled %+v", c)
				}
				taken[c.Reader] = true
			}
			d.settle(nil, all(len(cancels)))
		}
		take(700)
		d.l.mu.Lock()
		if n := len(d.l.cancels); n > maxCancels {
			t.Errorf("%d cancels wait in memory", n)
		}
		d.l.mu.Unlock()
		d = d.restart(dir)
		for range 100 {
			d.flushed()
			take(700)
		}
		if len(taken) != readers {
			t.Errorf("%d of %d were taken back", len(taken), readers)
		}
		d.wantNone(journal.SpaceRetracts, journal.SpaceCancels)
	})
}

// A CMS that deletes its archive withdraws more at once than one transaction of
// the journal takes.
func TestManyRetractionsAtOnceAreWorkedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, t.TempDir(), usual)
		defer func() { d.close() }()
		d.l.Arm()
		seq, id := d.publish(1)
		d.fall()
		d.drain()
		d.key = `{"id":2}` // which nobody was handed over
		for range 2 * mostWithdrawn {
			d.withdraw()
		}
		d.key = ""
		d.withdraw()
		d.flushed()
		d.flushed()
		d.wantCancels(retracted(seq, id, 1))
		d.wantNone(journal.SpaceRetracts, journal.SpaceCancels)
	})
}

// wantNone checks that the disk holds nothing in some spaces.
func (d *desk) wantNone(spaces ...journal.Space) {
	d.t.Helper()
	d.flushed()
	d.must(d.j.View(func(v journal.View) error {
		for _, s := range spaces {
			if key, ok, err := v.Last(s); ok || err != nil {
				d.t.Errorf("%x stays: %v", key, err)
			}
		}
		return nil
	}))
}
