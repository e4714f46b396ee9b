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
			for _, space := range []journal.Space{journal.SpaceAudience, journal.SpaceProgress, journal.SpaceOpen, journal.SpaceUnread, journal.SpaceCancels} {
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
