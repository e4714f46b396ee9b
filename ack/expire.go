package ack

import (
	"context"
	"time"

	"newswire/fanout/journal"
)

// Expire removes messages older than retention with their accounts. What is
// not settled stays, however old, and so does all behind it.
func (l *Ledger) Expire(ctx context.Context, retention time.Duration) (gone int, err error) {
	l.mu.Lock()
	through := l.opened
	for seq := range l.entries { // or what is still to be written of them would outlive them
		through = min(through, seq-1)
	}
	for _, c := range l.cancels {
		through = min(through, c.Seq-1)
	}
	l.mu.Unlock()
	return l.j.Expire(ctx, time.Now().Add(-retention), through, func(u *journal.Update, seq journal.Seq) {
		for _, space := range []journal.Space{journal.SpaceAudience, journal.SpaceProgress, journal.SpaceUnread} {
			u.Delete(space.Seq(seq))
		}
	})
}
