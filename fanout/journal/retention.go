package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// expireStep is how many entries leave the journal in one update.
const expireStep = 2000

// Expire removes entries from the front that are older than cutoff, none
// behind through. with adds to each update what goes with a message. It gives
// the number of entries that have gone. Their records leave the disk in
// segments, see dropSegments. What large commits have left behind in the states
// of rows is tidied on the way.
func (j *Journal) Expire(ctx context.Context, cutoff time.Time, through Seq, with func(u *Update, seq Seq, m *Message) error) (gone int, err error) {
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
			return gone, j.dropSegments(ctx)
		}
		u.Set(keyExpired, front{last + 1, id}.encode())
		if err := j.ApplySync(ctx, u); err != nil {
			return gone, fmt.Errorf("expire journal: %w", err)
		}
		gone += int(last - oldest + 1)
		j.mu.Lock()
		j.oldest, j.expiredID = last+1, id
		before := j.extents
		j.extents = before.behind(last)
		for _, x := range before[:len(before)-len(j.extents)] {
			if x.spool&bundleSpool == 0 {
				j.goneSpools = append(j.goneSpools, x.spool)
			}
		}
		j.mu.Unlock()
	}
}

// front is where the journal begins: what lies before it may be on disk still.
type front struct {
	oldest    Seq
	expiredID ID // the greatest of a message that has gone; zero when none has
}

func (f front) encode() []byte {
	return f.expiredID.appendTo(binary.BigEndian.AppendUint64(nil, uint64(f.oldest)))
}

func decodeFront(b []byte) (f front, err error) {
	if len(b) != 8+idBytes {
		return f, fmt.Errorf("read the journal's front: %d bytes: %w", len(b), ErrDamaged)
	}
	return front{Seq(binary.BigEndian.Uint64(b)), idFromBytes(b[8:])}, nil
}

// behind gives the list without what holds nothing behind last.
func (xs extents) behind(last Seq) extents {
	for len(xs) > 0 && xs[0].last() <= last {
		xs = xs[1:]
	}
	if len(xs) == 0 || xs[0].first > last {
		return xs
	}
	xs = slices.Clone(xs)
	x := &xs[0]
	for len(x.blocks) > 0 && x.first+Seq(x.blocks[0].last) <= last {
		x.blocks = x.blocks[1:]
	}
	return xs
}

// expired adds one step's removals to u; last is the Seq of the last of them,
// 0 when there is none, and id that of the last message that has gone then.
func (j *Journal) expired(u *Update, cutoff time.Time, through Seq, with func(u *Update, seq Seq, m *Message) error) (last Seq, id ID, err error) {
	synced := j.synced.At()
	j.mu.Lock()
	from, xs := j.oldest, j.extents
	id = j.expiredID
	j.mu.Unlock()
	through = min(through, synced, from+expireStep-1)
	err = j.View(func(v View) error {
		return v.walk(xs, from, through, func(found stored) (bool, error) {
			e, err := decodeEntry(found.seq, found.record)
			if err != nil || !e.time().Before(cutoff) {
				return false, err
			}
			x, ok := xs.at(found.seq)
			spooled := ok && x.first <= found.seq
			if spooled && x.last() == found.seq {
				u.Delete(spaceExtents.Seq(x.first))
			}
			if e.Message != nil {
				if !spooled {
					u.Delete(idKey(e.Message.ID))
				}
				if err := with(u, found.seq, e.Message); err != nil {
					return false, err
				}
				if e.Message.ID.Compare(id) > 0 {
					id = e.Message.ID
				}
			}
			last = found.seq
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
