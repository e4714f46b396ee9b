// Package local is a channel without a provider: it keeps what readers are
// shown in memory, a little of each, for the demo's telephone and for trying a
// configuration out. A notification replaces the one that it collapses with, as
// on a real telephone.
package local

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"newswire/ack/compensate/channel"
)

// Config bounds the memory.
type Config struct {
	PerReader int `yaml:"per_reader"` // most notifications kept for one reader; 0 means 20
	Readers   int `yaml:"readers"`    // most readers, beyond which the one forgotten longest goes; 0 means 1000
}

const (
	defaultPerReader = 20
	defaultReaders   = 1000
	mostTitle        = 120
	mostBody         = 400
	timeout          = time.Second // nothing here takes any
)

// Validate says all that is wrong with c.
func (c Config) Validate() error {
	if c.PerReader < 0 || c.Readers < 0 {
		return errors.New("per_reader and readers are 0 or more")
	}
	return nil
}

// Shown is one notification on a telephone.
type Shown struct {
	channel.Notification
	At time.Time
}

// Channel keeps what it is sent.
type Channel struct {
	perReader int // fixed
	most      int // fixed

	mu      sync.Mutex               // guards the rest
	phones  map[string]*list.Element // by reader
	recency *list.List               // of *phone; front: notified last
}

// phone is one reader's, newest last.
type phone struct {
	reader string
	shown  []Shown
}

// New checks c.
func New(c Config) (*Channel, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	ch := &Channel{perReader: c.PerReader, most: c.Readers, phones: make(map[string]*list.Element), recency: list.New()}
	if ch.perReader == 0 {
		ch.perReader = defaultPerReader
	}
	if ch.most == 0 {
		ch.most = defaultReaders
	}
	return ch, nil
}

// Properties are what the service must know.
func (c *Channel) Properties() channel.Properties {
	return channel.Properties{Dedupes: true, Title: mostTitle, Body: mostBody, Timeout: timeout}
}

// Check has nothing to say: every reader has a telephone here.
func (c *Channel) Check(channel.Device) error { return nil }

// Send shows n.
func (c *Channel) Send(_ context.Context, _ channel.Device, n channel.Notification) channel.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.phones[n.Reader]
	if !ok {
		if len(c.phones) >= c.most {
			oldest := c.recency.Back()
			delete(c.phones, c.recency.Remove(oldest).(*phone).reader)
		}
		e = c.recency.PushFront(&phone{reader: n.Reader})
		c.phones[n.Reader] = e
	}
	c.recency.MoveToFront(e)
	p := e.Value.(*phone)
	p.shown = slices.DeleteFunc(p.shown, func(s Shown) bool {
		return s.CeID == n.CeID || n.Collapse != "" && s.Collapse == n.Collapse
	})
	if len(p.shown) == c.perReader {
		p.shown = slices.Delete(p.shown, 0, 1)
	}
	p.shown = append(p.shown, Shown{n, time.Now()})
	return channel.Result{Outcome: channel.Sent}
}

// Shown is what a reader's telephone shows, newest first.
func (c *Channel) Shown(reader string) []Shown {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.phones[reader]
	if !ok {
		return nil
	}
	shown := slices.Clone(e.Value.(*phone).shown)
	slices.Reverse(shown)
	return shown
}
