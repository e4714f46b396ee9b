package journal

import (
	"context"
	"fmt"
	"time"
)

// expireStep is how many entries leave the journal in one update.
const expireStep = 2000

// Expire removes entries from the front that are older than cutoff, none
// behind through. with adds to each update what goes with a message. It gives
// the number of entries that have gone. What large commits have left behind in
// the states of rows is tidied on the way.
func (j *Journal) Expire(ctx context.Context, cutoff time.Time, through Seq, with func(u *Update, seq Seq)) (gone int, err error) {
	if err := j.mendRows(ctx); err != nil {
		return 0, fmt.Errorf("expire journal: %w", err)
	}
	for {
		var u Update
		last, id, err := j.expired(&u, cutoff, through, with)
		if err != nil {
			return gone, fmt.Errorf("expire journal: %w", err)
		}
		oldest := j.Oldest()
		if last < oldest {
			return gone, nil
		}
		if !id.IsZero() {
			u.Set(keyExpired, id.appendTo(nil))
		}
		if err := j.ApplySync(ctx, u); err != nil {
			return gone, fmt.Errorf("expire journal: %w", err)
		}
		gone += int(last - oldest + 1)
		j.mu.Lock()
		j.oldest = last + 1
		if id.Compare(j.expiredID) > 0 {
			j.expiredID = id
		}
		for len(j.extents) > 0 && j.extents[0].last() <= last {
			j.extents = j.extents[1:]
		}
		j.mu.Unlock()
	}
}

// expired adds one step's removals to u; last is the Seq of the last of them,
// 0 when there is none, and id that of the last message among them.
func (j *Journal) expired(u *Update, cutoff time.Time, through Seq, with func(u *Update, seq Seq)) (last Seq, id ID, err error) {
	synced := j.synced.At()
	j.mu.Lock()
	from, xs := j.oldest, j.extents
	j.mu.Unlock()
	through = min(through, synced, from+expireStep-1)
	err = j.View(func(v View) error {
		return v.walk(xs, from, through, func(seq Seq, at spot, value []byte) (bool, error) {
			e, err := v.decode(seq, at, value)
			if err != nil || !e.time().Before(cutoff) {
				return false, err
			}
			u.deleteLarge(at, value)
			if x, ok := xs.at(seq); ok && x.last() == seq {
				u.Delete(spaceExtents.Seq(x.first))
			}
			if e.Message != nil {
				if at.spool == 0 {
					u.Delete(idKey(e.Message.ID))
				}
				with(u, seq)
				id = e.Message.ID
			}
			last = seq
			return true, nil
		})
	})
	return last, id, err
}

// time is when the entry was committed, or made.
func (e Entry) time() time.Time {
	if e.Message != nil {
		return e.Message.Time
	}
	return e.Change.Time
}
