// Package checker judges a whole run of Newswire from outside: what PostgreSQL
// committed, what every reader got, acknowledged and asked for, what Kafka
// holds, and what the engine said about itself. Its Check is a function of a
// History and of nothing else, so that a history can be damaged on purpose to
// see whether it would notice. It knows the promises, not how they are kept.
package checker

import (
	"time"

	"newswire/fanout/journal"
)

// History is a run as its witnesses tell it.
type History struct {
	Commits   []Commit // in commit order, from the server's log
	Lives     []Life   // of the engine's processes, in order
	Readers   []Reader
	Offline   []Record // of news-offline, in each partition's order
	Cancelled []Record // of news-offline-cancelled, likewise
	Positions []Position
	Outages   []Outage
	Rest      Rest
	Retries   int           // of ack.retries
	Retention time.Duration // of the journal; 0: longer than the run
	Faultless bool          // nothing went wrong: no repeat of any kind is allowed
}

// Commit is one transaction that was committed.
type Commit struct {
	Behind, End journal.LSN // its commit record lies between
	Time        time.Time   // as the server noted it, before it wrote the record
	Changes     []Change    // of the mapped table, in order
}

// Change is one row change: an insert has no Old, a delete no New.
type Change struct{ Old, New *Row }

// Row is a row as a transaction left it.
type Row struct {
	Key       int64
	Tags      []string // as stored
	Published bool
	Data      Digest // of the mapped columns, as to_jsonb prints them
}

// Life is one process of the engine.
type Life struct {
	Start, End time.Time
	Killed     bool // it had no chance to tidy up
}

// Reader is one reader and all that it did.
type Reader struct {
	Name     string
	Claim    []string    // tags that its tokens cover; nil: all
	Sessions []Session   // in the order in which they began
	Sets     []SetChange // in the order in which they took effect
	Left     bool        // was deleted at the end, with the last of Sets: what was open then is forgotten
}

// Session is one connection, or one poll.
type Session struct {
	Life   int // in whose process; an index
	Began  time.Time
	Frames []Frame // that are messages, in their order on the wire
	Acks   []Ack
}

// Frame is one message as it came.
type Frame struct {
	At      time.Time
	Attempt int
	Replay  bool
	*Copy   `json:"Copy"`
}

// Copy is what a message says, whoever it is said to: frames of one text share it.
type Copy struct {
	ID     string
	Action string
	Source string
	Key    int64
	Tags   []string
	Data   Digest
	Cut    bool // its data went missing on the way, and it says so
}

// Ack is one acknowledgement that was sent.
type Ack struct {
	ID    string
	At    time.Time
	Heard time.Time // when the engine had it for certain, in the same life; zero: not known
}

// SetChange is a change of what a reader follows and mutes, that took effect.
type SetChange struct {
	Follow, Mute []string  // from then on
	Asked        time.Time // it took effect at one place of the order between Asked
	Answered     time.Time // and Answered
	Life         int       // of the process that was asked
	Session      int       // on which it was asked and answered; -1: elsewhere
	Before       int       // so many Frames of that session came before the answer
}

// Record is one record in Kafka.
type Record struct {
	Key, CeID string
	ID        string // of the value, as the rest
	Reader    string
	Reason    string
	Attempts  int
	Handed    time.Time
	Cause     string        // of a cancellation
	*Copy     `json:"Copy"` // the message; nil in a cancellation
}

// Position is a look at a moment at which no engine ran.
type Position struct {
	Slot journal.LSN // the server does not send again what is before it
	Held journal.LSN // the journal has everything up to here, whatever happens to the machine
}

// Outage is a fault of something that the engine needs, long enough to be told.
type Outage struct {
	What string
	Said string // what the engine said about it meanwhile
}

// Rest is the engine at the end, when the faults have healed, everything has
// been delivered, and the readers have gone.
type Rest struct {
	Pairs, Backlog int    // that are not settled
	Complaints     string // why it is not ready
	Goroutines     int
	Files          int
	Memory         int // bytes
	Retained       int // bytes of the log that the slot keeps
	Most           Bounds
	Audit          *Audit // nil: there was none
}

// Bounds are what the engine may take at rest; 0 is no bound.
type Bounds struct{ Goroutines, Files, Memory, Retained int }

// Audit is what `newswire audit --json` says.
type Audit struct {
	Messages, Pairs, Acked, Handed, Pending, Forgotten int
	AddsUp                                             bool
}

// Invariant is one of the promises that every run must hold.
type Invariant string

// The invariants, by the names that the project's reliability page gives them.
const (
	// I1: every committed change that is news, and every reader who followed it
	// at its place in the order: acknowledged, or in news-offline.
	Complete Invariant = "I1 complete"
	// I2: one id for ever; what was acknowledged does not come again and is not
	// handed over; what was handed over and is acknowledged or withdrawn later is
	// cancelled.
	Unique Invariant = "I2 unique"
	// I3: on each connection, commit order; only a retry may come later.
	Ordered Invariant = "I3 ordered"
	// I4: the slot is never ahead of what the journal holds.
	Behind Invariant = "I4 never ahead"
	// I5: nothing that was not committed, nothing other than it was committed, and
	// nobody else's.
	True Invariant = "I5 true"
	// I6: at rest, the engine has let go of what it took.
	Bounded Invariant = "I6 bounded"
	// I7: when the faults have healed, everything drains.
	Live Invariant = "I7 live"
	// I8: while something is wrong, the engine says so; when nothing is, it does not.
	Loud Invariant = "I8 loud"
	// The engine's own account is that of the run.
	Audited Invariant = "audit"
)

// Violation is one invariant broken.
type Violation struct {
	Invariant Invariant
	Text      string
}

func (v Violation) String() string { return string(v.Invariant) + ": " + v.Text }
