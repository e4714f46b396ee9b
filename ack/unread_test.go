package ack

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"
)

func (d *desk) wantUnread(r uint32, after journal.Seq, limit int, through journal.Seq, want ...journal.Seq) {
	d.t.Helper()
	if got, upto := d.unread(r, after, limit); !slices.Equal(got, want) || upto != through {
		d.t.Errorf("unread of %d behind %d, at most %d: %v through %d, want %v through %d", r, after, limit, got, upto, want, through)
	}
}

func TestUnreadIsInOrderWithinItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		var ids []journal.ID
		for range 3 {
			seq, id := d.publish(1)
			d.sent(1, 1, seq)
			ids = append(ids, id)
		}
		d.fall()
		d.drain() // 1 to 3 are handed over, and settled
		d.publish(2)
		d.publish(1)
		d.publish(1)
		d.publish(2)
		for _, when := range []string{"before", "after"} {
			d.wantUnread(1, 0, 10, 7, 1, 2, 3, 5, 6)
			d.wantUnread(1, 0, 5, 6, 1, 2, 3, 5, 6)
			d.wantUnread(1, 0, 4, 5, 1, 2, 3, 5)
			d.wantUnread(1, 1, 2, 3, 2, 3)
			d.wantUnread(1, 5, 10, 7, 6)
			d.wantUnread(1, 6, 10, 7)
			d.wantUnread(1, 7, 10, 7)
			d.wantUnread(1, 3, 0, 3)
			d.wantUnread(2, 0, 10, 7, 4, 7)
			d.wantUnread(3, 0, 10, 7)
			if when == "before" {
				d = d.restart(dir)
				continue
			}
		}
		d.ack(1, ids[1]) // late
		d.wantUnread(1, 0, 10, 7, 1, 3, 5, 6)
		d = d.restart(dir)
		d.wantUnread(1, 0, 10, 7, 1, 3, 5, 6)
		d.ack(1, ids[1], ids[0], ids[2])
		d.wantUnread(1, 0, 1, 5, 5)
	})
}

// What the disk still calls unread and is read must not use up the limit: what
// lies behind it would be hidden, and the floor would hide it for good.
func TestUnreadLooksPastWhatIsNotWrittenYet(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		var ids []journal.ID
		for range 6 {
			seq, id := d.publish(1)
			d.sent(1, 1, seq)
			ids = append(ids, id)
		}
		d.fall()
		d.drain()
		d.flushed()
		d.ack(1, ids[0], ids[1], ids[2], ids[4])
		d.wantUnread(1, 0, 1, 4, 4)
		d.wantUnread(1, 0, 2, 6, 4, 6)
		d.flushed()
		d.wantUnread(1, 0, 10, 6, 4, 6)
	})
}

func TestReplayRepeatsTheAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.connect(1)
		first, _ := d.publish(1)
		d.sent(1, 1, first)
		time.Sleep(40 * time.Second)
		second, _ := d.publish(1)
		found, _, err := d.l.Unread(1, 0, 10)
		d.must(err)
		want := []journal.Attempt{{Seq: first, N: 2, Replay: true}, {Seq: second, N: 1, Replay: true}}
		if !slices.Equal(found, want) {
			t.Errorf("unread %+v, want %+v", found, want)
		}
	})
}

// Only looking must not write every account anew.
func TestUnreadWritesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		for range 5 {
			d.publish(1)
		}
		d.fall()
		d.drain()
		d.flushed()
		d.wantUnread(1, 0, 10, 5, 1, 2, 3, 4, 5)
		if u, _ := d.l.takeListed(100); !u.Empty() {
			t.Errorf("%d bytes are to be written", u.Size())
		}
	})
}

func TestLookedUpAccountsLeaveMemoryAgain(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		for range 5 {
			d.publish(1)
		}
		d.fall()
		d.drain()
		d.flushed()
		d.wantUnread(1, 0, 10, 5, 1, 2, 3, 4, 5)
		d.flushed()
		if n := d.inMemory(); n != 0 {
			t.Errorf("%d accounts stay in memory", n)
		}
	})
}

// A reader who was away for long acknowledges everything in one frame.
func TestThousandsOfAccountsAreWrittenInPieces(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *desk) {
				const n = 11_000
				var u journal.Update
				var seqs []journal.Seq
				var ids []journal.ID
				for range n {
					seq, id := d.place(&u, 1)
					seqs, ids = append(seqs, seq), append(ids, id)
					if u.Size() > 1<<19 {
						d.apply(u)
						u = journal.Update{}
					}
				}
				d.apply(u)
				d.sent(1, 1, seqs...)
				cancels := 0
				if late {
					d.fall()
					d.drain()
					cancels = n
				}
				d.ack(1, ids...)
				d.flushed()
				d.wantCounts(Counts{})
				if n := d.inMemory(); n != 0 {
					t.Errorf("%d accounts stay in memory", n)
				}
				if _, got := d.drain(); len(got) != cancels {
					t.Errorf("%d cancels, want %d", len(got), cancels)
				}
				d.wantUnread(1, 0, 10, n)
			})
		})
	}
}

// The router may be slow to write that a message is open. That it is settled
// is noted behind that, or a start would take it up for ever.
func TestSettledAccountWaitsForItsAudience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		var u journal.Update
		seq, id := d.place(&u, 1)
		d.sent(1, 1, seq)
		d.ack(1, id)
		d.flushed()
		if n := d.inMemory(); n != 1 {
			t.Errorf("%d accounts are in memory, want the one that is not recorded", n)
		}
		d.ack(1, id)
		d.apply(u)
		d.flushed()
		if n := d.inMemory(); n != 0 {
			t.Errorf("%d accounts are in memory", n)
		}
		d = d.restart(dir)
		if n := d.inMemory(); n != 0 {
			t.Errorf("%d accounts are taken up again", n)
		}
		d.wantUnread(1, 0, 10, seq)
	})
}

// While one write of an account is on its way, another change may be: it must
// not leave memory with the first.
func TestAccountStaysUntilItsLastWriteIsDurable(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1, 2)
		d.sent(1, 1, seq)
		d.fall()
		d.drain()
		synctest.Wait()
		_, first := d.l.takeListed(seq)
		d.ack(1, id)
		_, second := d.l.takeListed(seq)
		if len(first) != 1 || len(second) != 1 {
			t.Fatalf("%d and %d accounts were to be written, want one each", len(first), len(second))
		}
		d.l.release(first)
		if n := d.inMemory(); n != 1 {
			t.Error("left memory before its last change was durable")
		}
		d.l.release(second)
		if n := d.inMemory(); n != 0 {
			t.Error("stays in memory")
		}
	})
}

// Readers who come back one by one, days later, must not each add a record.
func TestSettledAccountDoesNotGrow(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		var readers []uint32
		for r := range uint32(200) {
			readers = append(readers, r)
		}
		seq, id := d.publish(readers...)
		d.sent(7, 1, seq)
		d.fall()
		d.drain()
		for _, r := range readers {
			d.sent(r, 1, seq)
			time.Sleep(time.Second)
		}
		d.l.mu.Lock()
		e, err := d.l.entryLocked(seq)
		d.must(err)
		sends := len(e.sends)
		d.l.mu.Unlock()
		if sends > 2 {
			t.Errorf("%d records of sends", sends)
		}
		d.ack(199, id)
		if _, cancels := d.drain(); len(cancels) != 1 {
			t.Errorf("cancels %+v, want one", cancels)
		}
	})
}

func TestReplaysBeforeTheDeadlineDoNotGrowTheAccount(t *testing.T) {
	e := newEntry(1, idAt(1), time.Now(), bitmapOf(3))
	for i := range 1000 {
		e.record(1, 1, e.opened.Add(time.Duration(i)*time.Second))
	}
	if len(e.sends) > 2 {
		t.Errorf("%d records of sends", len(e.sends))
	}
	if n, first := e.attempts(1); n != 1 || !first.Equal(e.opened) {
		t.Errorf("attempt %d, first sent %v, want 1 and %v", n, first, e.opened)
	}
}

func ExampleCeID() {
	fmt.Println(CeID(journal.ID{Epoch: 1, LSN: 0x196A3B0}, "u1"))
	// Output: 0001000000000196a3b000000000:u1
}
