package ack

import (
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"
)

// An old message leaves with all that is known of it; one that is not settled,
// or whose hand-over is to be taken back, stays.
func TestOnlySettledMessagesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		expire := func(want int) {
			t.Helper()
			if gone, err := d.l.Expire(t.Context(), time.Hour); err != nil || gone != want {
				t.Errorf("Expire = %d, %v, want %d", gone, err, want)
			}
		}
		first, _ := d.publish(1)
		second, id := d.publish(1)
		d.sent(1, 1, second)
		d.fall()
		d.drain()
		third, _ := d.publish(1)
		time.Sleep(2 * time.Hour) // the third is given up, and nobody takes it
		d.ack(1, id)
		d.flushed()
		expire(1)
		d.wantUnread(1, 0, 10, third, third)
		d.drain()
		d.flushed()
		expire(2)
		d.wantUnread(1, 0, 10, third)
		d.must(d.j.View(func(v journal.View) error {
			for _, space := range []journal.Space{
				journal.SpaceAudience, journal.SpaceProgress, journal.SpaceSends, journal.SpaceEnds, journal.SpaceOpen,
				journal.SpaceUnread, journal.SpaceCancels, journal.SpaceHistory,
			} {
				if key, ok, err := v.Last(space); ok || err != nil {
					t.Errorf("%x stays: %v", key, err)
				}
			}
			return nil
		}))
		d = d.restart(dir)
		d.l.Arm()
		d.ack(1, id)
		d.wantCounts(Counts{})
		if next, _ := d.publish(1); next != third+1 || first != 1 {
			t.Errorf("the next message is %d, want %d", next, third+1)
		}
	})
}

// An account that is looked up while its message leaves is not written behind
// it; what was queued in that moment leaves with the next call.
func TestAccountLookedUpWhileItExpiresLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, _ := d.publish(1)
		d.sent(1, 1, seq)
		d.fall()
		d.drain()
		d.flushed()
		time.Sleep(2 * time.Hour)
		d.l.mu.Lock()
		e, err := d.l.entryLocked(seq)
		d.must(err)
		delete(d.l.entries, seq) // as if Expire had looked just before
		d.l.mu.Unlock()
		if gone, err := d.l.Expire(t.Context(), time.Hour); err != nil || gone != 1 {
			t.Fatalf("Expire = %d, %v", gone, err)
		}
		d.l.mu.Lock()
		d.l.entries[seq] = e
		d.l.readLocked(e, 1, time.Now(), howPolled)
		d.l.mu.Unlock()
		spaces := []journal.Space{journal.SpaceAudience, journal.SpaceProgress, journal.SpaceSends, journal.SpaceUnread}
		d.wantNone(spaces...)
		if n := d.inMemory(); n > 0 {
			t.Errorf("%d accounts stay in memory", n)
		}
		var u journal.Update
		u.Set(journal.SpaceProgress.Seq(seq), []byte{1}) // as if it had been queued behind the removal
		d.must(d.j.ApplySync(t.Context(), u))
		d.drain()
		d.flushed()
		if _, err := d.l.Expire(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		d.wantNone(spaces...)
	})
}
