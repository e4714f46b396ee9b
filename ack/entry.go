package ack

import (
	"cmp"
	"slices"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// entry is the account of one message: a few bitmaps over its audience, never
// a record per reader. All of it is guarded by Ledger.mu but what is fixed.
type entry struct {
	seq    journal.Seq // fixed
	id     journal.ID  // fixed
	opened time.Time   // fixed; when it was routed, or loaded after a start

	audience *roaring.Bitmap // shared with the pools: replaced, never changed
	sends    []send          // what was written to whom, by attempt and then time
	read     *roaring.Bitmap // acknowledged in time or late, or polled
	handed   *roaring.Bitmap // Kafka has it
	givenUp  []*giveUp       // on its way to Kafka

	left    int  // readers of the audience neither read nor handed over
	dirty   bool // differs from its record on disk
	listed  bool // in Ledger.listed
	writing int  // writes that are on their way to the disk
}

// send is one attempt at one time. Replays of an attempt are sends of their
// own, so that a reader's first one keeps its time.
type send struct {
	n       int // the attempt, from 1
	at      time.Time
	readers *roaring.Bitmap
	again   *roaring.Bitmap // of readers, those written to on several sessions; nil: none; not on disk
}

// sendBucket is how far apart two sends may be to share a record: the error
// of first_sent, well within what deadlines allow.
const sendBucket = 20 * time.Millisecond

// giveUp is what one deadline gave up for one reason.
type giveUp struct {
	entry   *entry
	reason  Reason
	at      time.Time
	readers *roaring.Bitmap // still to be handed over
	flight  *roaring.Bitmap // of readers, those that the sender has now
}

func newEntry(seq journal.Seq, id journal.ID, opened time.Time, audience *roaring.Bitmap) *entry {
	return &entry{
		seq: seq, id: id, opened: opened, audience: audience,
		read: roaring.New(), handed: roaring.New(),
		left: int(audience.GetCardinality()),
	}
}

// settled tells that every reader has acknowledged or is handed over.
func (e *entry) settled() bool { return e.left == 0 }

// unread gives a new bitmap of who has not read the message, handed over or not.
func (e *entry) unread() *roaring.Bitmap { return roaring.AndNot(e.audience, e.read) }

// waiting gives, of some readers, those for whom a deadline still matters.
func (e *entry) waiting(of *roaring.Bitmap) *roaring.Bitmap {
	w := roaring.And(of, e.audience)
	w.AndNot(e.read)
	w.AndNot(e.handed)
	for _, g := range e.givenUp {
		w.AndNot(g.readers)
	}
	return w
}

// record notes that attempt n was written to a reader.
func (e *entry) record(r journal.Reader, n int, at time.Time) {
	for i := len(e.sends) - 1; i >= 0; i-- {
		s := &e.sends[i]
		// Once settled, only whether it was sent matters: the record must not
		// grow with everyone who comes back for it later.
		if s.n == n && (e.settled() || at.Sub(s.at) < sendBucket) {
			s.add(r)
			return
		}
		if s.n == n {
			break // the earlier ones are older still
		}
	}
	e.forgetReplays(r, n)
	e.sends = append(e.sends, send{n: n, at: at, readers: roaring.BitmapOf(uint32(r))})
	slices.SortStableFunc(e.sends, func(a, b send) int {
		return cmp.Or(cmp.Compare(a.n, b.n), a.at.Compare(b.at))
	})
}

// add notes one more write to a reader.
func (s *send) add(r journal.Reader) {
	if s.readers.CheckedAdd(uint32(r)) {
		return
	}
	if s.again == nil {
		s.again = roaring.New()
	}
	s.again.Add(uint32(r))
}

// forgetReplays drops a reader from all but the first of its sends of attempt
// n, so that who reconnects all the time does not grow the entry.
func (e *entry) forgetReplays(r journal.Reader, n int) {
	first := true
	e.sends = slices.DeleteFunc(e.sends, func(s send) bool {
		if s.n != n || !s.readers.Contains(uint32(r)) {
			return false
		}
		if first {
			first = false
			return false
		}
		s.readers.Remove(uint32(r))
		return s.readers.IsEmpty()
	})
}

// unrecord takes back a record whose write failed. Where a reader was written
// to on several sessions it stays: the others may have it.
func (e *entry) unrecord(r journal.Reader, n int) {
	for i := len(e.sends) - 1; i >= 0; i-- {
		s := e.sends[i]
		if s.n == n && s.again != nil && s.again.Contains(uint32(r)) {
			return
		}
		if s.n == n && s.readers.CheckedRemove(uint32(r)) {
			if s.readers.IsEmpty() {
				e.sends = slices.Delete(e.sends, i, i+1)
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

// flying tells whether the sender has this reader's copy at the moment.
func (e *entry) flying(r journal.Reader) bool {
	for _, g := range e.givenUp {
		if g.flight.Contains(uint32(r)) {
			return true
		}
	}
	return false
}

// takeBack drops a reader from what is given up; it tells whether it was there.
func (e *entry) takeBack(r journal.Reader) bool {
	for _, g := range e.givenUp {
		if g.readers.CheckedRemove(uint32(r)) {
			e.dropEmpty()
			return true
		}
	}
	return false
}

// dropEmpty lets go of what was given up and is done.
func (e *entry) dropEmpty() {
	e.givenUp = slices.DeleteFunc(e.givenUp, func(g *giveUp) bool { return g.readers.IsEmpty() })
}
