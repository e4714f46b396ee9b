package ack

import (
	"slices"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// entry is the account of one message: a few bitmaps over its audience, never
// a record per reader. All of it is guarded by Ledger.mu but what is fixed.
type entry struct {
	seq    journal.Seq   // fixed
	id     journal.ID    // fixed
	row    row           // fixed; none for one that was loaded
	opened time.Time     // fixed; when it was routed, or loaded after a start
	routed time.Time     // fixed; when it was routed
	grain  time.Duration // fixed; Config.grain

	audience  *roaring.Bitmap // shared with the pools: replaced, never changed
	sends     []send          // what was written to whom, by attempt and then time
	sent      *roaring.Bitmap // whom anything was written to: the readers of all sends
	read      *roaring.Bitmap // acknowledged in time or late, or polled
	handed    *roaring.Bitmap // Kafka has it
	forgotten *roaring.Bitmap // were deleted before they had read it or it was handed over
	givenUp   []*giveUp       // on its way to Kafka
	doubt     *roaring.Bitmap // Kafka may have it, and we do not know; nil: nobody's
	reads     span            // when readers came into read
	hands     span            // when readers came into handed
	ends      []end           // whose copies have ended since that was written
	retracted bool            // its article was withdrawn: what was handed over is taken back

	left    int      // readers of the audience neither read nor handed over nor forgotten
	serial  uint32   // of the last send
	dropped []uint32 // serials of sends that are gone, perhaps not yet from the disk
	dirty   bool     // differs from its record on disk
	listed  bool     // in Ledger.listed
	writing int      // writes that are on their way to the disk
	counted bool     // in Ledger.busy
	asleep  bool     // its sends are on disk only
}

// span is from the first to the last time that something happened to an entry;
// zero for never.
type span struct{ first, last time.Time }

func (s *span) note(at time.Time) {
	if s.first.IsZero() {
		s.first = at
	}
	s.last = at
}

// join takes in what happened at other times.
func (s *span) join(other span) {
	if other.first.Before(s.first) {
		s.first = other.first
	}
	if other.last.After(s.last) {
		s.last = other.last
	}
}

// giveUp is what one deadline gave up for one reason.
type giveUp struct {
	entry   *entry
	reason  Reason
	at      time.Time
	readers *roaring.Bitmap // still to be handed over
	flight  *roaring.Bitmap // of readers, those that the sender has now
	told    *roaring.Bitmap // of readers, those whose cancel Kafka has before their copy
}

func newEntry(seq journal.Seq, id journal.ID, opened time.Time, audience *roaring.Bitmap) *entry {
	return &entry{
		seq: seq, id: id, opened: opened, routed: opened, grain: sendBucket, audience: audience,
		sent: roaring.New(), read: roaring.New(), handed: roaring.New(), forgotten: roaring.New(),
		left: int(audience.GetCardinality()),
	}
}

// maySleep tells that nothing but the hand-over is left to be done, which may
// take as long as Kafka is away: then most of what the entry takes of memory is
// needed for single readers only, and is on disk.
func (e *entry) maySleep() bool {
	return !e.settled() && len(e.sends) > 0 && !e.listed && e.writing == 0 && len(e.givenUp) > 0 && e.waiting(e.audience).IsEmpty()
}

// settled tells that every reader has acknowledged, is handed over or forgotten.
func (e *entry) settled() bool { return e.left == 0 }

// unread gives a new bitmap of who has not read the message, handed over or not.
func (e *entry) unread() *roaring.Bitmap {
	u := roaring.AndNot(e.audience, e.read)
	u.AndNot(e.forgotten)
	return u
}

// pending gives a new bitmap of those of some readers whose copy has not ended.
func (e *entry) pending(of *roaring.Bitmap) *roaring.Bitmap {
	w := roaring.And(of, e.audience)
	w.AndNot(e.read)
	w.AndNot(e.handed)
	w.AndNot(e.forgotten)
	return w
}

// waiting gives, of some readers, those for whom a deadline still matters.
func (e *entry) waiting(of *roaring.Bitmap) *roaring.Bitmap {
	w := e.pending(of)
	for _, g := range e.givenUp {
		w.AndNot(g.readers)
	}
	return w
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
