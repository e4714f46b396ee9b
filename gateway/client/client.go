// Package client reads news from a Newswire gateway: at least once, in commit
// order, acknowledged when the program's handler has returned.
//
// A Client stays connected until its context ends or the server says stop. It
// reconnects with full jitter, goes on where it was, fetches a fresh token
// before the present one expires, and hands no message to a handler twice that
// the handler has dealt with. The server keeps the reader's follows, mutes and
// unread messages, so a program that is restarted with the same reader misses
// nothing.
package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// Config says who reads what.
type Config struct {
	// URL is the gateway's, as http(s) or ws(s), with or without /v1/ws.
	URL string
	// Token gives a current token for each connection, and before the present one
	// expires. An error that wraps ErrStop ends Run, any other is tried again. Nil:
	// the reader is anonymous, and nothing is kept for it.
	Token func(ctx context.Context) (string, error)
	// Follow and Mute replace the reader's stored sets at the first connection.
	// Nil leaves them as they are.
	Follow, Mute []string
	// After is the id of a message: what is not newer is not sent. An anonymous
	// reader gets what came since from the journal.
	After string
	// OnMessage is called for one message at a time, in the order of arrival. When
	// it returns nil the message is acknowledged; otherwise the server sends it
	// again. Required.
	OnMessage func(ctx context.Context, m *Message) error
	// Manual leaves acknowledging to Message.Ack and Client.Ack: what OnMessage
	// returned nil for and nobody acknowledges comes again.
	Manual bool
	// OnGap is told that what lies behind after is no longer kept by the server, or
	// not known to it: what is older has to come from elsewhere. It must not
	// block; nil: nobody is told.
	OnGap func(after string)
	// OnState is told what becomes of the connection. It must not block; nil:
	// nobody is told.
	OnState func(StateChange)
	// TLS is used for https and wss; nil: the machine's trust.
	TLS *tls.Config
}

// State is how a client stands.
type State string

// The states of a client that runs.
const (
	Connecting State = "connecting"
	Online     State = "online"  // welcomed: what is committed from now on comes
	Offline    State = "offline" // until the next attempt
)

// Subscriptions are what a reader follows and what it mutes, which beats that.
type Subscriptions struct {
	Follow []string `json:"follow"`
	Mute   []string `json:"mute"`
}

// Client is one reader's connection. It is safe for concurrent use.
type Client struct {
	cfg     Config // fixed by New
	address string // fixed by New: of the WebSocket
	inbox   *inbox
	running atomic.Bool

	mu       sync.Mutex // guards the rest
	session  *session   // nil unless welcomed
	requests []*request // changes without an answer, in order
	refs     int
	welcomed bool // the server has taken Follow and Mute
	sets     Subscriptions
}

// request is a change of the subscriptions that waits for its answer.
type request struct {
	frame  clientFrame
	sent   bool // on the present session
	answer chan answer
}

type answer struct {
	sets Subscriptions
	err  error
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Client, error) {
	if cfg.OnMessage == nil {
		return nil, errors.New("client.Config: OnMessage is missing")
	}
	address, err := socketURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, address: address, inbox: newInbox(cfg)}, nil
}

// socketURL gives the address of the WebSocket.
func socketURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("%q is not the URL of a gateway: want something like https://push.example.com", text)
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return "", fmt.Errorf("%q begins with %s: want http, https, ws or wss", text, u.Scheme)
	}
	if q := u.Query(); q.Has("token") || q.Has("access_token") {
		return "", errors.New("the URL carries a token, which would end up in logs: give the token apart from it")
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1/ws") + "/v1/ws"
	return u.String(), nil
}

// Follow adds tags. Like the three below it returns when the change is in
// effect, with the sets after it: what comes later matches the new ones. Without
// a connection it waits for the next. A *RefusedError changes nothing.
func (c *Client) Follow(ctx context.Context, tags ...string) (Subscriptions, error) {
	return c.change(ctx, "follow", tags)
}

// Unfollow drops tags.
func (c *Client) Unfollow(ctx context.Context, tags ...string) (Subscriptions, error) {
	return c.change(ctx, "unfollow", tags)
}

// Mute adds tags whose articles do not come, whatever else they are tagged.
func (c *Client) Mute(ctx context.Context, tags ...string) (Subscriptions, error) {
	return c.change(ctx, "mute", tags)
}

// Unmute drops tags from the mutes.
func (c *Client) Unmute(ctx context.Context, tags ...string) (Subscriptions, error) {
	return c.change(ctx, "unmute", tags)
}

func (c *Client) change(ctx context.Context, kind string, tags []string) (Subscriptions, error) {
	r := &request{frame: clientFrame{Type: kind, Tags: tags}, answer: make(chan answer, 1)}
	c.mu.Lock()
	c.refs++
	r.frame.Ref = fmt.Sprint(c.refs)
	if raw, _ := json.Marshal(r.frame); len(raw) > maxFrame {
		c.mu.Unlock()
		return Subscriptions{}, &RefusedError{"frame_too_big", kind + ": over 16 KiB of tags at once"}
	}
	c.requests = append(c.requests, r)
	session := c.session
	c.mu.Unlock()
	session.kick()
	select {
	case a := <-r.answer:
		return a.sets, a.err
	case <-ctx.Done():
		c.take(r.frame.Ref)
		return Subscriptions{}, fmt.Errorf("%s %q: %w", kind, tags, ctx.Err())
	}
}

// take gives the request with this ref, which then waits no more; nil when there
// is none.
func (c *Client) take(ref string) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, r := range c.requests {
		if r.frame.Ref == ref {
			c.requests = append(c.requests[:n:n], c.requests[n+1:]...)
			return r
		}
	}
	return nil
}

// unsent gives the changes that the present session has not said.
func (c *Client) unsent() (frames []clientFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.requests {
		if !r.sent {
			r.sent = true
			frames = append(frames, r.frame)
		}
	}
	return frames
}

// Subscriptions are the sets as the server has told them last.
func (c *Client) Subscriptions() Subscriptions {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sets
}

// Ack acknowledges messages by their ids; what was acknowledged or never came
// does no harm.
func (c *Client) Ack(ids ...string) {
	for _, id := range ids {
		c.inbox.handled(id)
	}
	c.current().kick()
}

// Cursor is the id up to which everything that came is dealt with; empty when
// nothing is. A program that keeps it can go on there with Config.After.
func (c *Client) Cursor() string { return c.inbox.cursor() }

// current is the session that is welcomed; nil when there is none.
func (c *Client) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}
