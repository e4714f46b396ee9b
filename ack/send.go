package ack

import (
	"cmp"
	"slices"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// send is one attempt at about one time. Replays of an attempt are sends of
// their own, so that a reader's first one keeps its time.
type send struct {
	n       int // the attempt, from 1
	at      time.Time
	readers *roaring.Bitmap
	again   *roaring.Bitmap // of readers, those written to on several sessions; nil: none; not on disk
	serial  uint32          // its number in the entry, from 1: its key on disk
	dirty   bool            // differs from its record
}

// sendBucket is how far apart two sends may be to share a record, twice that
// for late ones: the error of first_sent and of a retry's deadline. With short
// timeouts it is a hundredth of them. A record for every moment would take more
// memory than its readers: with 50 ms, 100,000 of them who are written to
// within a second take a byte each.
const sendBucket = 50 * time.Millisecond

// grain is the sendBucket that fits the timeouts.
func (c Config) grain() time.Duration { return min(sendBucket, max(c.Timeout/100, time.Millisecond)) }

// bucket is how long a record takes sends that begin at a time.
func (e *entry) bucket(from time.Time) time.Duration {
	return min(max(from.Sub(e.opened)/10, e.grain), 2*e.grain)
}

// record notes that attempt n was written to a reader.
func (e *entry) record(r journal.Reader, n int, at time.Time) {
	e.sent.Add(uint32(r))
	for i := len(e.sends) - 1; i >= 0; i-- {
		s := &e.sends[i]
		// Once settled, only whether it was sent matters: the record must not
		// grow with everyone who comes back for it later.
		if s.n == n && (e.settled() || at.Sub(s.at) < e.bucket(s.at)) {
			s.add(r)
			return
		}
		if s.n == n {
			s.pack() // the earlier ones are older still, and nothing comes into this one any more
			break
		}
	}
	e.forgetReplays(r, n)
	e.serial++
	e.sends = append(e.sends, send{n: n, at: at, readers: roaring.BitmapOf(uint32(r)), serial: e.serial, dirty: true})
	e.sortSends()
}

// recordMany is record for many readers.
func (e *entry) recordMany(readers []journal.Reader, n int, at time.Time) {
	batch := roaring.New()
	for _, r := range readers {
		if !batch.CheckedAdd(uint32(r)) {
			e.record(r, n, at) // on one session more
		}
	}
	if batch.IsEmpty() {
		return
	}
	first := journal.Reader(batch.Minimum())
	e.record(first, n, at)
	batch.Remove(uint32(first))
	e.sent.Or(batch)
	i := len(e.sends) - 1
	for e.sends[i].n != n { // record has left a send of n for more
		i--
	}
	e.sends[i].addMany(batch)
}

// sortSends puts the sends in order of attempt and then time.
func (e *entry) sortSends() {
	slices.SortStableFunc(e.sends, func(a, b send) int {
		return cmp.Or(cmp.Compare(a.n, b.n), a.at.Compare(b.at))
	})
}

// add notes one more write to a reader.
func (s *send) add(r journal.Reader) {
	if s.readers.CheckedAdd(uint32(r)) {
		s.dirty = true
		return
	}
	if s.again == nil {
		s.again = roaring.New()
	}
	s.again.Add(uint32(r))
}

// addMany is add for many readers.
func (s *send) addMany(readers *roaring.Bitmap) {
	twice := roaring.And(s.readers, readers)
	if twice.GetCardinality() < readers.GetCardinality() {
		s.readers.Or(readers)
		s.dirty = true
	}
	if twice.IsEmpty() {
		return
	}
	if s.again == nil {
		s.again = roaring.New()
	}
	s.again.Or(twice)
}

// pack gives back the room that the readers were given to grow into.
func (s *send) pack() {
	s.readers.RunOptimize()
	s.readers = s.readers.Clone()
}

// forgetReplays drops a reader from all but the first of its sends of attempt
// n, so that who reconnects all the time does not grow the entry.
func (e *entry) forgetReplays(r journal.Reader, n int) {
	had := false
	for i := 0; i < len(e.sends); {
		s := &e.sends[i]
		switch {
		case s.n != n || !s.readers.Contains(uint32(r)):
		case !had:
			had = true
		case e.drop(s, r):
			e.sends = slices.Delete(e.sends, i, i+1)
			continue
		}
		i++
	}
}

// drop takes a reader out of a send; it tells whether nobody is left in it.
func (e *entry) drop(s *send, r journal.Reader) (empty bool) {
	s.readers.Remove(uint32(r))
	s.dirty = true
	if empty = s.readers.IsEmpty(); empty {
		e.dropped = append(e.dropped, s.serial)
	}
	return empty
}

// unrecord takes back a record whose write failed. Where a reader was written
// to on several sessions it stays: the others may have it.
func (e *entry) unrecord(r journal.Reader, n int) {
	for i := len(e.sends) - 1; i >= 0; i-- {
		s := &e.sends[i]
		if s.n == n && s.again != nil && s.again.Contains(uint32(r)) {
			return
		}
		if s.n == n && s.readers.Contains(uint32(r)) {
			if e.drop(s, r) {
				e.sends = slices.Delete(e.sends, i, i+1)
			}
			if last, _ := e.attempts(r); last == 0 {
				e.sent.Remove(uint32(r))
			}
			return
		}
	}
}

// attempts gives the highest attempt that was written to a reader, and when
// the first one was; 0 and the zero time when none was.
func (e *entry) attempts(r journal.Reader) (n int, first time.Time) {
	for _, s := range e.sends {
		if s.readers.Contains(uint32(r)) {
			if first.IsZero() || s.at.Before(first) {
				first = s.at
			}
			n = s.n
		}
	}
	return n, first
}

// group is some readers of an entry who were sent the same attempt last.
type group struct {
	n       int       // 0: never sent
	at      time.Time // of the last send
	readers *roaring.Bitmap
}

// groups divides readers by what they were sent last. It consumes of.
func (e *entry) groups(of *roaring.Bitmap) []group {
	var gs []group
	for i := len(e.sends) - 1; i >= 0 && !of.IsEmpty(); i-- {
		s := e.sends[i]
		if part := roaring.And(of, s.readers); !part.IsEmpty() {
			gs = append(gs, group{s.n, s.at, part})
			of.AndNot(part)
		}
	}
	if !of.IsEmpty() {
		gs = append(gs, group{readers: of})
	}
	return gs
}
