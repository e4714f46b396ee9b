package journal

import (
	"encoding/json"
	"time"
)

// Action says what happened to the article.
type Action string

// The three actions of a message.
const (
	Publish Action = "publish" // inserted, or became published
	Correct Action = "correct" // data or tags of a published row changed
	Retract Action = "retract" // deleted, or no longer published
)

// Message is one row change as readers get it. It is never changed once it is
// in the journal; everyone shares its slices.
type Message struct {
	ID        ID
	Action    Action
	Tags      []string        // as stored, in order, without repeats; never empty
	Former    []string        // tags that the row had before and has no more: their followers get it too
	Source    string          // schema.table
	Key       json.RawMessage // the primary key as a JSON object
	Time      time.Time       // PostgreSQL's commit time, microseconds, UTC
	Data      json.RawMessage // the configured columns as a JSON object
	Truncated bool            // Data was over 1 MiB and holds the key columns only

	// Backfilled marks what was news before the first start. It is in no ledger:
	// never sent again, never handed over.
	Backfilled bool
}

// Commit is one whole transaction, reduced to the messages it makes.
type Commit struct {
	Epoch    uint16
	LSN      LSN       // of the commit record: what the message IDs are made of
	End      LSN       // behind the transaction: the position to confirm
	Time     time.Time // when PostgreSQL committed it
	Messages []Message // in the order the transaction wrote them; may be empty
	Part     bool      // more of it follows: the journal's position stays where it is
	Spooled  int       // how many parts of it were given to Spool before this one
	Rows     []Row     // what is to be remembered of the rows that it changed
}

// Change is one change of a reader's subscriptions, as the difference to the
// sets before it: no tag that was there is added, none that was not is dropped.
type Change struct {
	Name     string // the reader, as its token names it
	Reader   Reader
	Time     time.Time // when it got its place, microseconds, UTC
	Follow   []string  // tags now followed
	Unfollow []string  // tags no longer followed
	Mute     []string
	Unmute   []string
	Forget   bool // the reader is deleted; the lists above drop all it had

	First bool     // it follows something for the first time, and so gets what was backfilled
	Muted []string // when First: all that it mutes
}

// Entry is one place in the journal: a message or a change, never both.
type Entry struct {
	Seq     Seq
	Message *Message
	Change  *Change
}

// Attempt is one try at giving a message to a reader.
type Attempt struct {
	Seq    Seq
	N      int  // 1 for the first
	Replay bool // from the journal after a reconnect or by a poll
}

// Receipt is a reader's acknowledgement of a message.
type Receipt struct {
	Reader Reader
	ID     ID
}
