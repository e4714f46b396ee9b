package ack

import (
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Story is what the ledger knows of one message. Times of acknowledgements and
// hand-overs are kept for the message, not for each reader.
type Story struct {
	ID        string         `json:"id"`
	Seq       journal.Seq    `json:"seq"`
	Action    journal.Action `json:"action"`
	Source    string         `json:"source"`
	Key       string         `json:"key"`
	Tags      []string       `json:"tags"`
	Committed time.Time      `json:"committed"`
	Routed    *time.Time     `json:"routed"` // nil: nobody was to have it, or it is not routed yet
	Parts
	Retracted bool      `json:"retracted"`
	Sends     []Attempt `json:"sends,omitempty"`
	AckedAt   *Times    `json:"acked_between,omitempty"`
	HandedAt  *Times    `json:"handed_over_between,omitempty"`
}

// Attempt is one attempt at about one time.
type Attempt struct {
	N       int       `json:"attempt"`
	At      time.Time `json:"at"`
	Readers uint64    `json:"readers"`
}

// Times is from the first to the last time.
type Times struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

func (s span) times() *Times {
	if s.first.IsZero() {
		return nil
	}
	return &Times{s.first.UTC(), s.last.UTC()}
}

// The states of one reader's copy.
const (
	StateNone      = "not_in_audience"
	StatePending   = "pending"
	StateAcked     = "acked"
	StateHanded    = "handed_over"
	StateLate      = "handed_over_then_read"
	StateForgotten = "forgotten"
)

// Copy is what became of one reader's copy of one message.
type Copy struct {
	ID        string         `json:"id"`
	Seq       journal.Seq    `json:"seq"`
	Action    journal.Action `json:"action"`
	Committed time.Time      `json:"committed"`
	Routed    *time.Time     `json:"routed"`
	State     string         `json:"state"`
	Attempts  []Attempt      `json:"attempts,omitempty"`
	Between   *Times         `json:"ended_between,omitempty"` // the copies of this message that ended in this state did so
	Retracted bool           `json:"retracted,omitempty"`
}

// TellMessage tells the story of the message at a place of the journal.
func TellMessage(j *journal.Journal, seq journal.Seq, m *journal.Message) (Story, error) {
	s := Story{
		ID: m.ID.String(), Seq: seq, Action: m.Action, Source: m.Source, Key: string(m.Key), Tags: m.Tags, Committed: m.Time,
	}
	e, err := readAccount(j, seq)
	if err != nil || e == nil {
		return s, err
	}
	routed := e.routed.UTC()
	s.Routed, s.Parts, s.Retracted = &routed, e.parts(), e.retracted
	s.AckedAt, s.HandedAt = e.reads.times(), e.hands.times()
	for _, one := range e.sends {
		s.Sends = append(s.Sends, Attempt{one.n, one.at.UTC(), one.readers.GetCardinality()})
	}
	return s, nil
}

// TellCopy tells what became of a reader's copy of the message at a place.
func TellCopy(j *journal.Journal, seq journal.Seq, m *journal.Message, r journal.Reader) (Copy, error) {
	c := Copy{ID: m.ID.String(), Seq: seq, Action: m.Action, Committed: m.Time, State: StateNone}
	e, err := readAccount(j, seq)
	if err != nil || e == nil {
		return c, err
	}
	routed := e.routed.UTC()
	c.Routed, c.Retracted = &routed, e.retracted
	has := func(set *roaring.Bitmap) bool { return set.Contains(uint32(r)) }
	switch {
	case !has(e.audience):
		return c, nil
	case has(e.handed) && has(e.read):
		c.State, c.Between = StateLate, e.hands.times()
	case has(e.handed):
		c.State, c.Between = StateHanded, e.hands.times()
	case has(e.read):
		c.State, c.Between = StateAcked, e.reads.times()
	case has(e.forgotten):
		c.State = StateForgotten
	default:
		c.State = StatePending
	}
	for _, one := range e.sends {
		if has(one.readers) {
			c.Attempts = append(c.Attempts, Attempt{one.n, one.at.UTC(), 1})
		}
	}
	return c, nil
}

// readAccount reads an entry from disk; nil when there is none.
func readAccount(j *journal.Journal, seq journal.Seq) (e *entry, err error) {
	err = j.View(func(v journal.View) (err error) {
		e, _, err = loadEntry(v, seq)
		return err
	})
	return e, err
}
