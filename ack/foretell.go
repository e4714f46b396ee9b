package ack

import (
	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// What was withdrawn before it left for Kafka is cancelled first and handed over
// then: a compensation service that is quick could otherwise have sent it before
// the cancel comes. Which cancels Kafka has is remembered for as long as the
// program runs; a start begins with the cancel again, which the compacted topic
// bears.

// lineUpLocked collects, oldest first, at most limit of what may leave, and at
// most limit of what must be cancelled before it may. Behind such a copy all
// that its reader has coming waits too, so that nothing overtakes.
func (l *Ledger) lineUpLocked(limit int) {
	durable := l.j.Synced()
	held := roaring.New()
	for _, g := range l.outbox {
		if g.entry.seq > durable || len(l.flight) == limit {
			return
		}
		if g.entry.retracted {
			untold := roaring.AndNot(g.readers, g.told)
			l.ahead = g.appendTo(l.ahead, untold, limit)
			held.Or(untold)
		}
		free := g.readers
		if !held.IsEmpty() {
			free = roaring.AndNot(free, held)
		}
		l.flight = g.appendTo(l.flight, free, limit)
	}
}

// appendTo adds readers of what is given up, until there are limit.
func (g *giveUp) appendTo(flight []flown, readers *roaring.Bitmap, limit int) []flown {
	for it := readers.Iterator(); it.HasNext() && len(flight) < limit; {
		flight = append(flight, flown{g: g, reader: journal.Reader(it.Next())})
	}
	return flight
}

// anyWithdrawn tells that some of a batch must be cancelled before it leaves
// after all: it was withdrawn while the batch was put together, or by a
// retraction that is not worked off. Retractions may wait for long, behind
// many cancels.
func (l *Ledger) anyWithdrawn(flight []flown) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := false
	for i, f := range flight {
		e := f.g.entry
		if !e.retracted && len(l.leaving) > 0 && (i == 0 || flight[i-1].g.entry != e) {
			row, err := l.rowLocked(e)
			if err != nil {
				return false, err
			}
			if l.leaving[row] > e.seq {
				l.withdrawLocked(e)
			}
		}
		found = found || e.retracted && !f.g.told.Contains(uint32(f.reader))
	}
	return found, nil
}

// rowLocked gives the row of an entry that is in memory; none for a
// retraction, which is not withdrawn itself. It may let go of the lock.
func (l *Ledger) rowLocked(e *entry) (row, error) {
	if e.row != (row{}) {
		return e.row, nil
	}
	l.mu.Unlock()
	m, kept, err := l.j.Message(e.seq)
	l.mu.Lock()
	if err != nil || !kept || m.Action == journal.Retract {
		return row{}, err
	}
	return rowOf(m), nil
}

// withdrawLocked notes that the article of an entry was withdrawn.
func (l *Ledger) withdrawLocked(e *entry) {
	if !e.retracted {
		e.retracted = true
		l.dirtiedLocked(e)
	}
}

// foretell makes the cancels that go ahead of their hand-overs.
func (l *Ledger) foretell(ahead []flown) (cancels []Cancel, err error) {
	for _, f := range ahead {
		name, known, err := l.names.Name(f.reader)
		if err != nil {
			return nil, err
		}
		if !known {
			l.forget(f)
			continue
		}
		e := f.g.entry
		cancels = append(cancels, Cancel{Seq: e.seq, Reader: f.reader, ID: e.id, CeID: CeID(e.id, name), Cause: CauseRetracted})
	}
	return cancels, nil
}

// toldLocked takes Kafka's answers to the cancels that go ahead, which are given
// first, and returns the rest.
func (l *Ledger) toldLocked(cancelled []bool) (rest []bool) {
	n := min(len(l.ahead), len(cancelled))
	for i, f := range l.ahead[:n] {
		if cancelled[i] {
			f.g.told.Add(uint32(f.reader))
		}
	}
	l.ahead = l.ahead[:0]
	return cancelled[n:]
}
