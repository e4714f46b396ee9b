// Package offline hands to Kafka what no reader acknowledged, so that the
// compensation service reaches them elsewhere. Nothing leaves the ledger before
// all in-sync replicas have it; each reader's records keep their order; a repeat
// after a fault carries the same ce_id, by which consumers drop it.
package offline

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"

	"newswire/ack"
)

// EmbeddedBroker in place of broker addresses asks for the broker in process.
const EmbeddedBroker = "embedded"

// Outbox is what the ledger wants Kafka to have. One Sender reads it.
type Outbox interface {
	// Next blocks until something is to be handed over or cancelled, and gives
	// at most max, in order. What it gave is in flight until Settle. A copy whose
	// cancel must be in Kafka first is not given before its cancel is settled.
	Next(ctx context.Context, max int) ([]ack.HandOver, []ack.Cancel, error)
	// Settle tells what became of the batch given last; what Kafka has not
	// acknowledged is given again by Next. Of a cancel, false means that Kafka may
	// or may not have it.
	Settle(handed []ack.Outcome, cancelled []bool) error
}

// Config says where Kafka is and what the records are called.
type Config struct {
	Brokers        []string // host:port each, or EmbeddedBroker alone
	EmbeddedListen string   // address of the broker in process; port 0 takes a free one
	Dir            string   // the journal's; the broker in process keeps its data in kafka/ under it
	Topic          string   // the cancelled go to CancelledTopic of it
	TLS            bool     // verified against the system's certificate authorities
	SASL           SASL
	Source         string // ce_source; empty means "newswire"
}

// SASL is a login; an empty Mechanism means none.
type SASL struct {
	Mechanism string // plain, scram-sha-256 or scram-sha-512
	Username  string
	Password  string
}

// Embedded tells that cfg asks for the broker in process.
func (c Config) Embedded() bool { return slices.Equal(c.Brokers, []string{EmbeddedBroker}) }

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

// maxTopicName is Kafka's limit of 249, less the suffix of the cancelled.
const maxTopicName = 249 - len(cancelledSuffix)

func (c Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		fault(`offline.brokers is empty: name host:port of at least one broker, or "embedded"`)
	}
	for _, b := range c.Brokers {
		if c.Embedded() {
			break
		}
		if _, _, err := net.SplitHostPort(b); err != nil {
			fault("offline.brokers: %q is not host:port", b)
		}
	}
	if !topicName.MatchString(c.Topic) || len(c.Topic) > maxTopicName {
		fault("offline.topic %q: want 1 to %d letters, digits, dots, dashes or underscores", c.Topic, maxTopicName)
	}
	if _, err := c.SASL.mechanism(); err != nil {
		fault("%w", err)
	}
	if c.SASL.Mechanism != "" && c.SASL.Username == "" {
		fault("offline.sasl.username is empty, but a mechanism is set")
	}
	if c.Embedded() {
		if c.TLS || c.SASL.Mechanism != "" {
			fault("offline.tls and offline.sasl do not apply to the embedded broker: remove them")
		}
		if c.Dir == "" {
			fault("the embedded broker needs the journal's directory to keep its data in")
		}
	}
	return errors.Join(faults...)
}
