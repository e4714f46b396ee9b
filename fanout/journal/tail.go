package journal

import (
	"bytes"
	"context"
	"fmt"
)

// maxIDKey is behind every ID.
var maxIDKey = bytes.Repeat([]byte{0xff}, idBytes)

// placeLocked gives an entry the next place and shows it to followers.
func (j *Journal) placeLocked(e Entry) {
	j.at.Head++
	e.Seq = j.at.Head
	j.tail = append(j.tail, e)
	j.bytes += weight(e)
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
	j.base += Seq(n)
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
// order. It waits for one to come; the error is ctx's or the database's. Behind
// what is no longer kept it goes on with the oldest entry.
func (j *Journal) Next(ctx context.Context, after Seq, limit int) ([]Entry, error) {
	for {
		j.mu.Lock()
		head, base := j.at.Head, j.base
		after = max(after, j.oldest-1)
		if after >= base && after < head {
			from := int(after - base)
			entries := append([]Entry(nil), j.tail[from:min(from+limit, len(j.tail))]...)
			j.mu.Unlock()
			return entries, nil
		}
		if after < base {
			j.mu.Unlock()
			return j.Range(after, min(after+Seq(limit), base))
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

// Range reads the durable entries behind after, up to and with through, as far
// as they are kept.
func (j *Journal) Range(after, through Seq) (entries []Entry, err error) {
	err = j.View(func(v View) error {
		return v.Scan(spaceEntries, spaceEntries.Seq(after+1), func(key, value []byte) (bool, error) {
			seq := SeqOf(key)
			if seq > through {
				return false, nil
			}
			if n := len(entries); n > 0 && seq != entries[n-1].Seq+1 {
				return false, fmt.Errorf("entry %d is missing: %w", entries[n-1].Seq+1, ErrDamaged)
			}
			e, err := v.decode(seq, value)
			entries = append(entries, e)
			return err == nil && seq < through, err
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
	if seq > j.base && seq <= j.at.Head {
		m = j.tail[seq-j.base-1].Message
		j.mu.Unlock()
		return m, m != nil, nil
	}
	j.mu.Unlock()
	err = j.View(func(v View) error {
		e, found, err := v.entry(seq)
		m, ok = e.Message, found && e.Message != nil
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read message %d: %w", seq, err)
	}
	return m, ok, nil
}

// Place says where an ID stands in the journal.
type Place struct {
	Seq   Seq  // the last message that is not newer than the ID; 0 when none is
	Exact bool // that message has this very ID
	Gone  bool // what came behind the ID is no longer kept
	Ahead bool // the ID is newer than the journal
}

// Find looks an ID up.
func (j *Journal) Find(id ID) (Place, error) {
	j.mu.Lock()
	if id.Compare(j.lastID) > 0 {
		defer j.mu.Unlock()
		return Place{Seq: j.at.Head, Ahead: true}, nil
	}
	synced := j.synced.At()
	for i := len(j.tail) - 1; i >= 0 && j.tail[i].Seq > synced; i-- { // what is not synced is only here
		if m := j.tail[i].Message; m != nil && m.ID.Compare(id) <= 0 {
			defer j.mu.Unlock()
			return Place{Seq: j.tail[i].Seq, Exact: m.ID == id}, nil
		}
	}
	oldest := j.oldest
	j.mu.Unlock()
	var p Place
	err := j.View(func(v View) error {
		key, value, ok, err := v.last(spaceIDs, idKey(id))
		if err != nil {
			return err
		}
		if !ok {
			p.Gone = oldest > 1
			return nil
		}
		p.Seq, p.Exact = SeqOf(append([]byte{0}, value...)), bytes.Equal(key, idKey(id))
		return nil
	})
	if err != nil {
		return Place{}, fmt.Errorf("find message %s: %w", id, err)
	}
	return p, nil
}
