package ack

import (
	"time"

	"newswire/fanout/journal"
)

// Reason says why a reader's copy of a message went to the topic
// news-offline. It stands in the record and as a label of the counter.
type Reason string

// The reasons there are.
const (
	ReasonAckTimeout   Reason = "ack_timeout"  // was sent, never acknowledged
	ReasonDisconnected Reason = "disconnected" // never written to the reader, who had no connection for a whole ack timeout
	ReasonSlowReader   Reason = "slow_reader"  // never written to the reader, who had a connection
)

// HandOver is one reader's copy of one message, given up by the ledger and to
// be handed to Kafka.
type HandOver struct {
	Seq       journal.Seq
	Reader    journal.Reader
	Name      string // the reader, as its token names it: the record's key
	Message   *journal.Message
	Reason    Reason
	Attempts  int       // how often it was written to the reader
	FirstSent time.Time // zero when it never was
	Due       time.Time // when the ledger gave up
}

// The causes of a Cancel.
const (
	CauseAcked     = "acked"     // the reader acknowledged after the hand-over
	CauseRetracted = "retracted" // the article was withdrawn, before the hand-over or after
)

// Cancel takes back a hand-over that Kafka already has, or is to get once it has
// the cancel, so that no phone rings for it.
type Cancel struct {
	Seq    journal.Seq
	Reader journal.Reader
	ID     journal.ID
	CeID   string // "<message id>:<reader>", the key of the record
	Cause  string // CauseAcked or CauseRetracted
}

// CeID is the record id that compensation dedupes by.
func CeID(id journal.ID, reader string) string { return id.String() + ":" + reader }
