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
// the number of entries that have gone.
func (j *Journal) Expire(ctx context.Context, cutoff time.Time, through Seq, with func(u *Update, seq Seq)) (gone int, err error) {
	for {
		var u Update
		last, err := j.expired(&u, cutoff, through, with)
		if err != nil {
			return gone, fmt.Errorf("expire journal: %w", err)
		}
		oldest := j.Oldest()
		if last < oldest {
			return gone, nil
		}
		if err := j.ApplySync(ctx, u); err != nil {
			return gone, fmt.Errorf("expire journal: %w", err)
		}
		gone += int(last - oldest + 1)
		j.mu.Lock()
		j.oldest = last + 1
		j.mu.Unlock()
	}
}

// expired adds one step's removals to u; last is the Seq of the last of them,
// 0 when there is none.
func (j *Journal) expired(u *Update, cutoff time.Time, through Seq, with func(u *Update, seq Seq)) (last Seq, err error) {
	from := j.Oldest()
	err = j.View(func(v View) error {
		return v.Scan(spaceEntries, spaceEntries.Seq(from), func(key, value []byte) (bool, error) {
			seq := SeqOf(key)
			if seq > through || seq >= from+expireStep {
				return false, nil
			}
			e, err := v.decode(seq, value)
			if err != nil || !e.time().Before(cutoff) {
				return false, err
			}
			u.Delete(spaceEntries.Seq(seq))
			if e.Message != nil {
				removeMessage(u, e, value)
				with(u, seq)
			}
			last = seq
			return true, nil
		})
	})
	return last, err
}

// time is when the entry was committed, or made.
func (e Entry) time() time.Time {
	if e.Message != nil {
		return e.Message.Time
	}
	return e.Change.Time
}

func removeMessage(u *Update, e Entry, value []byte) {
	u.Delete(idKey(e.Message.ID))
	if len(value) == 2 && value[0] == recordParts {
		for part := range int(value[1]) {
			u.Delete(partKey(e.Seq, part))
		}
	}
}
