package ack

import (
	"testing"
	"testing/synctest"

	"newswire/fanout/journal"
)

// departuresOnDisk counts the notes of batches under way.
func departuresOnDisk(d *desk) (n int) {
	d.t.Helper()
	d.must(d.j.View(func(v journal.View) error {
		return v.Scan(journal.SpaceDepartures, nil, func([]byte, []byte) (bool, error) { n++; return true, nil })
	}))
	return n
}

// TestWhoAcknowledgesWhatIsInDoubtIsCancelled: Kafka may have the copy, and the
// answer was lost or the process ended before it could be noted.
func TestWhoAcknowledgesWhatIsInDoubtIsCancelled(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(d *desk, dir string) *desk // what happens to the batch that the sender has
		want bool                            // a cancel
	}{
		{"no answer", func(d *desk, _ string) *desk { d.must(d.l.Settle([]Outcome{InDoubt}, nil)); return d }, true},
		{"refused", func(d *desk, _ string) *desk { d.must(d.l.Settle([]Outcome{Refused}, nil)); return d }, false},
		{"no answer, then refused", func(d *desk, _ string) *desk {
			d.must(d.l.Settle([]Outcome{InDoubt}, nil))
			d.next(10)
			d.must(d.l.Settle([]Outcome{Refused}, nil))
			return d
		}, true},
		{"the process ends", func(d *desk, dir string) *desk { d = d.restart(dir); d.l.Arm(); return d }, true},
		{"no answer, and the process ends", func(d *desk, dir string) *desk {
			d.must(d.l.Settle([]Outcome{InDoubt}, nil))
			d = d.restart(dir)
			d.l.Arm()
			return d
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				d := newDesk(t, dir, usual)
				defer func() { d.close() }()
				d.l.Arm()
				seq, id := d.publish(1)
				d.sent(1, 1, seq)
				d.fall()
				if overs, _ := d.next(10); len(overs) != 1 {
					t.Fatalf("given %v, want one", overs)
				}
				d = c.then(d, dir)
				d.ack(1, id)
				d.wantCounts(Counts{})
				overs, cancels := d.next(10)
				want := Cancel{Seq: seq, Reader: 1, ID: id, CeID: CeID(id, "reader-1"), Cause: CauseAcked}
				if len(overs) > 0 || (len(cancels) == 1 && cancels[0] == want) != c.want || len(cancels) > 1 {
					t.Fatalf("given %+v and %+v, want a cancel: %t", overs, cancels, c.want)
				}
				d.settle(nil, all(len(cancels)))
				d.ack(1, id)
				if _, cancels := d.next(10); len(cancels) > 0 {
					t.Errorf("cancelled again: %+v", cancels)
				}
				d.flushed()
				d.flushed()
				if n := departuresOnDisk(d); n > 0 || d.inMemory() > 0 {
					t.Errorf("%d notes stay on disk, %d accounts in memory", n, d.inMemory())
				}
				d.addsUp()
			})
		})
	}
}

// TestWhatIsInDoubtIsGivenAgain and ends as handed over, without a cancel.
func TestWhatIsInDoubtIsGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		d.publish(1, 2)
		d.fall()
		d.next(10)
		d.must(d.l.Settle([]Outcome{InDoubt, Taken}, nil))
		d = d.restart(dir)
		if n := departuresOnDisk(d); n != 1 {
			t.Errorf("%d notes after a restart, want 1", n)
		}
		d.l.Arm()
		d.fall()
		overs, cancels := d.drain()
		if len(overs) != 1 || overs[0].Reader != 1 || len(cancels) > 0 {
			t.Errorf("given %+v and %+v, want the first reader's again", overs, cancels)
		}
		d.flushed()
		d.flushed()
		if n := departuresOnDisk(d); n > 0 {
			t.Errorf("%d notes stay", n)
		}
		d.addsUp()
	})
}

func TestDamagedDeparturesAreRefused(t *testing.T) {
	whole := departure{7, []departed{{3, 1}, {4, 70_000}}}
	for n := range whole.encode() {
		if _, err := decodeDeparture(whole.key(), whole.encode()[:n]); err == nil {
			t.Errorf("its first %d bytes are taken for whole", n)
		}
	}
	if d, err := decodeDeparture(whole.key(), whole.encode()); err != nil || d.serial != 7 || len(d.copies) != 2 || d.copies[1] != whole.copies[1] {
		t.Errorf("decoded as %+v, %v", d, err)
	}
}
