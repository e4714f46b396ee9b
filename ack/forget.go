package ack

import (
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Forget ends what is still owed to a reader who was deleted: no copy of theirs
// is handed over any more. It is called in Seq order, behind every message that
// had them in its audience. What the sender has at the moment ends with its
// answer; what a crash leaves open ends when it would be handed over.
func (l *Ledger) Forget(r journal.Reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.floors, r)
	for _, e := range l.entries {
		if !e.audience.Contains(uint32(r)) || e.flying(r) {
			continue
		}
		e.takeBack(r)
		l.forgetLocked(e, r)
	}
}

// forgetLocked ends one pair of a reader who was deleted.
func (l *Ledger) forgetLocked(e *entry, r journal.Reader) {
	if e.read.Contains(uint32(r)) || e.handed.Contains(uint32(r)) || !e.forgotten.CheckedAdd(uint32(r)) {
		return
	}
	e.end(endForgotten, uint32(r), time.Now())
	e.left--
	l.pairs--
	l.m.acks[howForgotten].Inc()
	l.dirtiedLocked(e)
}

// Pending gives those of some readers to whom anything is still owed.
func (l *Ledger) Pending(of *roaring.Bitmap) *roaring.Bitmap {
	l.mu.Lock()
	defer l.mu.Unlock()
	owed := roaring.New()
	for _, e := range l.entries {
		owed.Or(e.pending(of))
	}
	return owed
}
