package ack

import (
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Story is what the ledger knows of one message, with the first and the last
// time of what happened to its copies; Copy has those of one reader.
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

// Copy is what became of one reader's copy of one message. How it ended is told
// with the first and the last time of those readers whose copies ended alike
// within the same step of the message's age: one moment where it was the only
// one, 50 ms where there were many, and a 64th of the age, at most 51.2 s, for
// who comes late.
type Copy struct {
	ID        string         `json:"id"`
	Seq       journal.Seq    `json:"seq"`
	Action    journal.Action `json:"action"`
	Committed time.Time      `json:"committed"`
	Routed    *time.Time     `json:"routed"`
	State     string         `json:"state"`
	Attempts  []Attempt      `json:"attempts,omitempty"`
	HandedAt  *Times         `json:"handed_over_between,omitempty"`
	AckedAt   *Times         `json:"acked_between,omitempty"` // or polled
	GoneAt    *Times         `json:"forgotten_between,omitempty"`
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
	err := j.View(func(v journal.View) error {
		e, ok, err := loadEntry(v, seq)
		if err != nil || !ok {
			return err
		}
		routed := e.routed.UTC()
		c.Routed, c.Retracted = &routed, e.retracted
		if !e.audience.Contains(uint32(r)) {
			return nil
		}
		c.became(e, r)
		ended, err := endsOf(v, e, r)
		c.HandedAt, c.AckedAt, c.GoneAt = ended[endHanded].times(), ended[endRead].times(), ended[endForgotten].times()
		return err
	})
	return c, err
}

// became tells how often a copy was sent, and what became of it.
func (c *Copy) became(e *entry, r journal.Reader) {
	has := func(set *roaring.Bitmap) bool { return set.Contains(uint32(r)) }
	switch {
	case has(e.handed) && has(e.read):
		c.State = StateLate
	case has(e.handed):
		c.State = StateHanded
	case has(e.read):
		c.State = StateAcked
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
}

// endsOf gives when a reader's copy ended, in each way in which it has.
func endsOf(v journal.View, e *entry, r journal.Reader) (map[ending]span, error) {
	ended := make(map[ending]span)
	err := eachEnd(v, e.seq, e.seq, func(_ journal.Seq, x end) {
		// A crash may have kept the time of an end that it took back; the one
		// that counts came later.
		if x.readers.Contains(uint32(r)) && e.have(x.how).Contains(uint32(r)) {
			ended[x.how] = x.span
		}
	})
	return ended, err
}

// readAccount reads an entry from disk; nil when there is none.
func readAccount(j *journal.Journal, seq journal.Seq) (e *entry, err error) {
	err = j.View(func(v journal.View) (err error) {
		e, _, err = loadEntry(v, seq)
		return err
	})
	return e, err
}
