package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Message is a record of the topic, as far as the service looks into it.
type Message struct {
	CeID       string
	Reader     string
	HandedOver time.Time
	ID         string
	Action     string
	Tags       []string
	Source     string
	Key        json.RawMessage
	Time       time.Time
	Data       json.RawMessage
	Fields     map[string]string // Data's, for templates: a text as it reads, anything else as JSON, null as ""
}

// Parse reads a record's value. Fields that it does not know are ignored.
func Parse(value []byte) (Message, error) {
	var v struct {
		ID         string    `json:"id"`
		Reader     string    `json:"reader"`
		HandedOver time.Time `json:"handed_over"`
		Message    struct {
			ID     string          `json:"id"`
			Action string          `json:"action"`
			Tags   []string        `json:"tags"`
			Source string          `json:"source"`
			Key    json.RawMessage `json:"key"`
			Time   time.Time       `json:"time"`
			Data   json.RawMessage `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return Message{}, fmt.Errorf("read record: %w", err)
	}
	if v.ID == "" || v.Reader == "" {
		return Message{}, errors.New("read record: it names no message or no reader")
	}
	m := Message{
		CeID: v.ID + ":" + v.Reader, Reader: v.Reader, HandedOver: v.HandedOver, ID: v.ID, Action: v.Message.Action,
		Tags: v.Message.Tags, Source: v.Message.Source, Key: v.Message.Key, Time: v.Message.Time, Data: v.Message.Data,
		Fields: fields(v.Message.Data),
	}
	if m.Time.IsZero() {
		m.Time = m.HandedOver
	}
	if m.Time.IsZero() {
		return Message{}, errors.New("read record: it has no time")
	}
	return m, nil
}

func fields(data json.RawMessage) map[string]string {
	var raw map[string]json.RawMessage
	if json.Unmarshal(data, &raw) != nil {
		return map[string]string{}
	}
	all := make(map[string]string, len(raw))
	for name, value := range raw {
		var text string
		switch {
		case json.Unmarshal(value, &text) == nil: // null leaves it empty
			all[name] = text
		default:
			all[name] = string(value)
		}
	}
	return all
}

// Article ties a publish to its corrects and its retract.
func (m Message) Article() string {
	if len(m.Key) == 0 {
		return m.ID // cut short to fit into its record: it is tied to nothing
	}
	var key bytes.Buffer
	if json.Compact(&key, m.Key) != nil {
		return m.ID
	}
	return m.Source + " " + key.String()
}

// Collapse is a short name of an article, or of anything else that one
// notification replaces another for.
func Collapse(of string) string {
	sum := sha256.Sum256([]byte(of))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:32]
}
