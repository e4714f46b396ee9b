package client

import (
	"encoding/json"
	"time"
)

// Message is what became of one row.
type Message struct {
	ID      string          `json:"id"`     // sorts in commit order
	Action  string          `json:"action"` // publish, correct or retract
	Tags    []string        `json:"tags"`
	Source  string          `json:"source"` // the table: with Key what ties the three actions together
	Key     json.RawMessage `json:"key"`    // the row's primary key
	Time    time.Time       `json:"time"`   // of the commit
	Attempt int             `json:"attempt"`
	Replay  bool            `json:"replay"` // from the journal, after a reconnect

	// Data are the row's columns; the key's alone of a retraction, and where
	// Truncated says that the row was too large.
	Data      json.RawMessage `json:"data"`
	Truncated bool            `json:"truncated"`

	// Raw is the message as the server sent it, one JSON object.
	Raw json.RawMessage `json:"-"`

	client *Client
}

// Ack acknowledges the message at once, whatever the handler returns.
func (m *Message) Ack() { m.client.Ack(m.ID) }

// Decode puts the row's columns into v, as json.Unmarshal does.
func (m *Message) Decode(v any) error { return json.Unmarshal(m.Data, v) }

// maxFrame is what the server takes, in bytes.
const maxFrame = 16 << 10

// clientFrame is what a client says.
type clientFrame struct {
	Type   string   `json:"type"`
	Ref    string   `json:"ref,omitempty"`
	Token  string   `json:"token,omitempty"`
	After  string   `json:"after,omitempty"`
	Follow []string `json:"follow,omitzero"` // [] is told, nil is not
	Mute   []string `json:"mute,omitzero"`
	Tags   []string `json:"tags,omitempty"`
	IDs    []string `json:"ids,omitempty"`
}

// serverFrame is what a server says, beside messages.
type serverFrame struct {
	Type    string `json:"type"`
	Ref     string `json:"ref"`
	Message string `json:"message"` // of an error

	Session string   `json:"session"` // welcome
	Reader  string   `json:"reader"`
	Resume  string   `json:"resume"`
	PingMS  int64    `json:"ping_ms"`
	Expires string   `json:"expires"` // and token, RFC 3339; empty where nothing expires
	Follow  []string `json:"follow"`  // and subscriptions
	Mute    []string `json:"mute"`

	Code         json.RawMessage `json:"code"` // of an error a string, of a bye a number
	Reason       string          `json:"reason"`
	RetryAfterMS int64           `json:"retry_after_ms"`
}

// expiry is when the token expires; zero where it does not.
func (f *serverFrame) expiry() time.Time {
	at, err := time.Parse(time.RFC3339, f.Expires)
	if err != nil {
		return time.Time{}
	}
	return at
}
