package journal

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sort"
)

// maxIDKey is behind every ID.
var maxIDKey = bytes.Repeat([]byte{0xff}, idBytes)

// placeLocked gives an entry the next place and shows it to followers.
func (j *Journal) placeLocked(e Entry) {
	j.at.Head++
	e.Seq = j.at.Head
	j.tail = append(j.tail, e)
	j.bytes += weight(e)
	j.grownLocked()
}

// grownLocked wakes the followers.
func (j *Journal) grownLocked() {
	if j.grown != nil {
		close(j.grown)
		j.grown = nil
	}
}

// trimLocked drops from memory what is synced and exceeds the tail's limits.
func (j *Journal) trimLocked(synced Seq) {
	n := 0
	for n < len(j.tail) && j.tail[n].Seq <= synced &&
		(len(j.tail)-n > tailEntries || j.bytes > tailBytesMax) {
		j.bytes -= weight(j.tail[n])
		n++
	}
	if n == 0 {
		return
	}
	clear(j.tail[:n]) // or the array would keep the messages alive
	j.tail = j.tail[n:]
}

// behindLocked gives the index of the first entry in memory behind after.
func (j *Journal) behindLocked(after Seq) int {
	return sort.Search(len(j.tail), func(i int) bool { return j.tail[i].Seq > after })
}

// weight is about the memory that an entry takes.
func weight(e Entry) int {
	const rest = 256 // everything but the data
	if e.Message != nil {
		return rest + len(e.Message.Data)
	}
	return rest
}

// Next gives the entries behind after, at least one and at most limit, in
// order. It waits for one to come; the error is ctx's or the disk's. Behind
// what is no longer kept it goes on with the oldest entry. What was spooled
// comes from the disk, so it is given once it is durable.
func (j *Journal) Next(ctx context.Context, after Seq, limit int) ([]Entry, error) {
	for {
		j.mu.Lock()
		head := j.at.Head
		after = max(after, j.oldest-1)
		entries, before := j.nextLocked(after, limit)
		if len(entries) > 0 {
			j.mu.Unlock()
			return entries, nil
		}
		if after < head {
			j.mu.Unlock()
			if err := j.synced.Wait(ctx, after+1); err != nil {
				return nil, err
			}
			return j.Range(after, min(after+Seq(limit), before-1))
		}
		if j.failed != nil {
			defer j.mu.Unlock()
			return nil, j.failed
		}
		if j.grown == nil {
			j.grown = make(chan struct{})
		}
		grown := j.grown
		j.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// nextLocked gives the entries that stand in memory right behind after. before
// is the first of those in memory that are further on, where there are none.
func (j *Journal) nextLocked(after Seq, limit int) (entries []Entry, before Seq) {
	first := j.behindLocked(after)
	n := first
	for n < len(j.tail) && n-first < limit && j.tail[n].Seq == after+1+Seq(n-first) {
		n++
	}
	if n == first && n < len(j.tail) {
		return nil, j.tail[n].Seq
	}
	return slices.Clone(j.tail[first:n]), j.at.Head + 1
}

// Range reads the durable entries behind after, up to and with through, as far
// as they are kept.
func (j *Journal) Range(after, through Seq) (entries []Entry, err error) {
	through = min(through, j.synced.At())
	j.mu.Lock()
	xs := j.extents
	after = max(after, j.oldest-1)
	j.mu.Unlock()
	err = j.View(func(v View) error {
		return v.walk(xs, after+1, through, func(found stored) (bool, error) {
			if n := len(entries); n > 0 && found.seq != entries[n-1].Seq+1 {
				return false, fmt.Errorf("entry %d is missing: %w", entries[n-1].Seq+1, ErrDamaged)
			}
			e, err := decodeEntry(found.seq, found.record)
			entries = append(entries, e)
			return true, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read entries %d to %d: %w", after+1, through, err)
	}
	return entries, nil
}

// Message gives the message at seq, from memory where it is recent. ok is false
// when it is no longer kept, or is no message.
func (j *Journal) Message(seq Seq) (m *Message, ok bool, err error) {
	j.mu.Lock()
	if i := j.behindLocked(seq - 1); i < len(j.tail) && j.tail[i].Seq == seq {
		m = j.tail[i].Message
		j.mu.Unlock()
		return m, m != nil, nil
	}
	x, spooled := j.extents.at(seq)
	gone := seq < j.oldest
	j.mu.Unlock()
	if gone {
		return nil, false, nil
	}
	if spooled && x.first <= seq {
		m, ok, err = j.spooledMessage(x, seq)
	} else {
		err = j.View(func(v View) error {
			e, _, err := v.entry(seq)
			m, ok = e.Message, e.Message != nil
			return err
		})
	}
	if err != nil {
		return nil, false, fmt.Errorf("read message %d: %w", seq, err)
	}
	return m, ok, nil
}
