package ack

import (
	"cmp"
	"fmt"
	"slices"

	"newswire/fanout/journal"
)

// Unread gives, in Seq order, the messages behind after that a reader has not
// read, handed over or not, at most limit. through is the position up to which
// the answer is complete. Each comes with the attempt that a replay repeats.
func (l *Ledger) Unread(r journal.Reader, after journal.Seq, limit int) (found []journal.Attempt, through journal.Seq, err error) {
	if limit <= 0 {
		return nil, after, nil
	}
	oldest := l.j.Oldest()
	l.mu.Lock()
	floor := l.floors[r]
	from := max(after+1, floor, oldest)
	through = l.opened
	start, _ := slices.BinarySearchFunc(l.open, from, func(e *entry, seq journal.Seq) int { return cmp.Compare(e.seq, seq) })
	var asleep []journal.Seq // it was sent those, and how often is not in memory
	for _, e := range l.open[start:] {
		if len(found)+len(asleep) == limit {
			break
		}
		switch {
		case l.entries[e.seq] != e || !e.audience.Contains(uint32(r)) || !e.isUnread(r):
		case e.asleep && e.sent.Contains(uint32(r)):
			asleep = append(asleep, e.seq)
		default:
			found = append(found, l.replayLocked(e, r))
		}
	}
	l.mu.Unlock()
	settled, err := l.unreadOnDisk(r, from, through, limit)
	if err == nil {
		found, err = l.stillUnread(append(found, settled...), r, asleep)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("unread of reader %d: %w", r, err)
	}
	found = slices.DeleteFunc(found, func(a journal.Attempt) bool { return a.Seq > through })
	slices.SortFunc(found, func(a, b journal.Attempt) int { return cmp.Compare(a.Seq, b.Seq) })
	found = slices.CompactFunc(found, func(a, b journal.Attempt) bool { return a.Seq == b.Seq })
	if len(found) >= limit {
		found = found[:limit]
		through = found[limit-1].Seq
	}
	if after+1 <= max(floor, 1) { // nothing below the floor was passed over
		l.raiseFloor(r, found, through)
	}
	return found, through, nil
}

// raiseFloor remembers where a reader's next search may begin.
func (l *Ledger) raiseFloor(r journal.Reader, found []journal.Attempt, through journal.Seq) {
	floor := through + 1
	if len(found) > 0 {
		floor = found[0].Seq
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floors[r] = max(l.floors[r], floor)
}

func (l *Ledger) replayLocked(e *entry, r journal.Reader) journal.Attempt {
	n, _ := e.attempts(r)
	return journal.Attempt{Seq: e.seq, N: max(n, 1), Replay: true}
}

// isUnread tells whether a reader of the audience has not read the message.
func (e *entry) isUnread(r journal.Reader) bool {
	return !e.read.Contains(uint32(r)) && !e.forgotten.Contains(uint32(r))
}

// unreadOnDisk finds unread messages among those that are settled.
func (l *Ledger) unreadOnDisk(r journal.Reader, from, through journal.Seq, limit int) (found []journal.Attempt, err error) {
	for {
		var seqs []journal.Seq
		err := l.j.View(func(v journal.View) (err error) {
			seqs, err = (&search{v: v, reader: uint32(r)}).find(from, through, limit)
			return err
		})
		if err != nil {
			return nil, err
		}
		if found, err = l.stillUnread(found, r, seqs); err != nil {
			return nil, err
		}
		if len(seqs) < limit || len(found) >= limit {
			return found, nil
		}
		from = seqs[len(seqs)-1] + 1 // the disk lags behind: some were read
	}
}

// stillUnread adds to found those that the reader has not read meanwhile.
func (l *Ledger) stillUnread(found []journal.Attempt, r journal.Reader, seqs []journal.Seq) ([]journal.Attempt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, seq := range seqs {
		e, err := l.entryLocked(seq)
		if err != nil {
			return nil, err
		}
		if e != nil && e.isUnread(r) {
			found = append(found, l.replayLocked(e, r))
		}
	}
	return found, nil
}
