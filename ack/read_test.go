package ack

import (
	"slices"
	"testing"
	"time"

	"newswire/fanout/journal"
)

func TestAckThatIsNotTheReadersChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1, 2)
		other, otherID := d.publish(3)
		d.sent(1, 1, seq)
		d.sent(3, 1, other)
		want := d.l.Counts()
		d.ack(2, id)           // in the audience, never sent to it
		d.ack(3, id)           // sent to others
		d.ack(1, otherID)      // another's message
		d.ack(1, idAt(1_000))  // newer than the journal
		d.ack(1, journal.ID{}) // nobody's
		d.ack(9, id, otherID)  // nobody's reader
		d.unsent(1, 1, seq)    // its write failed
		d.ack(1, id)           // and so it has nothing to acknowledge
		d.wantCounts(want)     // nothing has changed
		d.sent(1, 1, seq)      //
		d.ack(1, id, id)       // now it has
		d.ack(1, id)           // and repeats itself
		d.ack(3, otherID, id)  // a good one beside a foreign one
		d.wantCounts(Counts{1, 1, 0})
		if seqs, _ := d.unread(2, 0, 10); !slices.Equal(seqs, []journal.Seq{seq}) {
			t.Errorf("unread of the other reader is %v", seqs)
		}
	})
}

// Two devices of a reader are written to at the same moment, and one of them
// is dead: the other's acknowledgement still counts.
func TestFailedWriteOfOneDeviceDoesNotTakeBackTheOthers(t *testing.T) {
	for name, apart := range map[string]time.Duration{"at once": 0, "soon": 5 * time.Millisecond, "later": time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *desk) {
				seq, id := d.publish(1)
				d.sent(1, 1, seq)
				time.Sleep(apart)
				d.sent(1, 1, seq)
				d.unsent(1, 1, seq)
				d.ack(1, id)
				d.wantCounts(Counts{})
			})
		})
	}
}

func TestPollCountsAsRead(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		first, _ := d.publish(1, 2)
		second, _ := d.publish(1)
		d.must(d.l.Read(1, []journal.Seq{first, second, 99}))
		d.must(d.l.Read(3, []journal.Seq{first}))
		d.wantCounts(Counts{1, 1, 0})
		if seqs, through := d.unread(1, 0, 10); len(seqs) > 0 || through != second {
			t.Errorf("unread %v through %d, want none through %d", seqs, through, second)
		}
	})
}
