package torture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"newswire/cmd/newswire/internal/checker"
)

// book keeps what messages say, once for each text, whoever they are said to.
type book struct {
	mu     sync.Mutex // guards copies
	copies map[string]*checker.Copy
}

func newBook() *book { return &book{copies: make(map[string]*checker.Copy)} }

// told is a frame of the server, as far as the recorder cares.
type told struct {
	Type    string          `json:"type"`
	Ref     string          `json:"ref"`
	Code    json.RawMessage `json:"code"`
	Attempt int             `json:"attempt"`
	Replay  bool            `json:"replay"`
	Follow  []string        `json:"follow"`
	Mute    []string        `json:"mute"`
	words
}

// words are what a message says.
type words struct {
	ID        string          `json:"id"`
	Action    string          `json:"action"`
	Source    string          `json:"source"`
	Key       json.RawMessage `json:"key"`
	Tags      []string        `json:"tags"`
	Data      json.RawMessage `json:"data"`
	Truncated bool            `json:"truncated"`
}

// copy gives the book's copy of what a message says.
func (b *book) copy(w words) (*checker.Copy, error) {
	text := fmt.Sprintf("%s %s %s %s %q %t %s", w.ID, w.Action, w.Source, w.Key, w.Tags, w.Truncated, w.Data)
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, ok := b.copies[text]; ok {
		return c, nil
	}
	var key struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal(w.Key, &key); err != nil {
		return nil, fmt.Errorf("key of message %s: %w", w.ID, err)
	}
	c := &checker.Copy{
		ID: w.ID, Action: w.Action, Source: w.Source, Key: key.ID, Tags: w.Tags,
		Data: checker.DigestOf(bytes.Clone(w.Data)), Cut: w.Truncated,
	}
	b.copies[text] = c
	return c, nil
}

// frame makes the checker's frame of a message.
func (b *book) frame(at time.Time, f told) (checker.Frame, error) {
	c, err := b.copy(f.words)
	return checker.Frame{At: at, Attempt: f.Attempt, Replay: f.Replay, Copy: c}, err
}
