// Package channel is the seam between the compensation service and those who
// carry its notifications: push services, SMS gateways, webhooks.
package channel

import (
	"context"
	"encoding/json"
	"time"
)

// Device is where one channel reaches one reader.
type Device struct {
	ID       string            // the service's own, stable while the address is; empty for a channel without devices
	Reader   string            // whose it is
	Address  string            // endpoint URL, token, phone number; empty for a channel without devices
	Keys     map[string]string // what belongs to the address: p256dh and auth of a Web Push subscription
	Language string            // BCP 47; empty: unknown
}

// Notification is what is sent: worded in the device's language and within the
// channel's length.
type Notification struct {
	CeID      string          // <message id>:<reader>; the same at every repeat, so what a provider may dedupe by
	Reader    string          // who shall have it
	MessageID string          // of the newest message in it
	Action    string          // publish or correct
	Tags      []string        // of the message
	Title     string          // at most Properties.Title characters
	Body      string          // at most Properties.Body characters
	URL       string          // where a tap leads; empty: nowhere
	Collapse  string          // the same for an article's publish and its corrects: a later one replaces an earlier one; at most 32 characters of base64url
	Expires   time.Time       // stale from then on: the provider need not keep it longer
	Urgent    bool            // wakes the device
	Count     int             // messages told of: 1, or more in a digest
	Data      json.RawMessage // the message's data, or null; for a webhook, which words nothing
}

// Outcome is what became of one attempt to send.
type Outcome string

// The outcomes. What a channel does not know for certain is Doubtful.
const (
	Sent      Outcome = "sent"      // the provider has accepted it
	Gone      Outcome = "gone"      // the address reaches nobody any more: the device is deleted
	Throttled Outcome = "throttled" // certainly not accepted; not before RetryAfter again
	Temporary Outcome = "temporary" // certainly not accepted; may be tried again: refused connection, 503
	Permanent Outcome = "permanent" // certainly not accepted, and never will be: a dead letter, with Reason
	Doubtful  Outcome = "doubtful"  // may have been accepted: the answer was lost behind the request
)

// Result is an attempt's outcome and what is known about it.
type Result struct {
	Outcome    Outcome
	RetryAfter time.Duration // for Throttled and Temporary: as the provider told; 0: it did not
	Reason     string        // one bounded word for metrics and headers: "bad_token", "http_503", "timeout"; never an address
	Detail     string        // the provider's own words for people, at most 200 bytes; never a secret
	ProviderID string        // what the provider calls the notification, for its support desk
	Everybody  bool          // the fault is the provider's or our credentials', not this device's: counts for the circuit breaker; for Throttled, the whole channel waits
}

// Channel sends notifications by one provider. It is used by many goroutines
// at once and keeps no goroutine of its own.
type Channel interface {
	// Send makes one attempt and returns before ctx ends, within a moment. It
	// never retries: whether a second attempt may be made is for the service to
	// say, which has written down the first.
	Send(ctx context.Context, d Device, n Notification) Result

	// Check says in one sentence what is wrong with a device that a reader
	// registers, or nil. An address that is a URL leads only where the
	// configuration allows, so that no reader makes the service call into the
	// network behind it.
	Check(d Device) error

	// Properties are the same during the channel's life.
	Properties() Properties
}

// Properties are what the service must know of a channel.
type Properties struct {
	Dedupes     bool          // a repeat with the same Collapse or CeID is shown once: what is in doubt may be sent again
	WithDevices bool          // readers register devices; else one call per reader
	Title, Body int           // longest texts in characters; 0: none is shown (Title) or no limit (Body)
	Timeout     time.Duration // how long one attempt may take
	AtOnce      int           // calls at once that each find a connection free; 0: any number
	PublicKey   string        // what a client needs to subscribe: the VAPID key, base64url; else empty
}
