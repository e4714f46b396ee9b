package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	backoffBase = 500 * time.Millisecond
	backoffCap  = 20 * time.Second
	steady      = 10 * time.Second // online, after which the backoff starts anew
)

// Run connects and stays connected until ctx ends, which gives nil, or the
// server or Config.Token says stop, which gives why. When ctx ends, the handler
// that runs is waited for and what it has dealt with is acknowledged. Run may be
// called again, but not twice at a time.
func (c *Client) Run(ctx context.Context) error {
	if c.running.Swap(true) {
		return errors.New("client: it runs already")
	}
	defer c.running.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := make(chan struct{}) // closed when no handler runs any more
	go func() {
		defer close(idle)
		c.inbox.handle(ctx, func() { c.current().kick() })
	}()
	defer func() { cancel(); <-idle }()
	for failures := 0; ; failures++ {
		c.tell(StateChange{State: Connecting})
		online, err := c.connect(ctx, idle)
		if online >= steady {
			failures = 0
		}
		var closed *CloseError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrStop), errors.As(err, &closed) && closed.Stop():
			return err
		}
		wait := backoff(failures, err)
		c.tell(StateChange{State: Offline, Err: err, Retry: wait})
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// backoff is how long to wait before the next attempt: anything up to a ceiling
// that doubles, so that many clients do not come at once, and at least what the
// server asked for.
func backoff(failures int, err error) time.Duration {
	ceiling := backoffCap
	if failures < 6 {
		ceiling = min(ceiling, backoffBase<<failures)
	}
	wait := rand.N(ceiling)
	var later *retryError
	var refused *HandshakeError
	if errors.As(err, &later) {
		wait = max(wait, later.after)
	}
	if errors.As(err, &refused) {
		wait = max(wait, refused.RetryAfter)
	}
	return wait
}

// retryError is an end after which the server does not want to be asked before
// some time.
type retryError struct {
	error
	after time.Duration
}

func (e *retryError) Unwrap() error { return e.error }

func (c *Client) tell(change StateChange) {
	if c.cfg.OnState != nil {
		c.cfg.OnState(change)
	}
}

// token asks for a current token; empty for an anonymous reader.
func (c *Client) token(ctx context.Context) (string, error) {
	if c.cfg.Token == nil {
		return "", nil
	}
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	return token, nil
}

// hello is the first frame of a connection.
func (c *Client) hello(token string) clientFrame {
	c.mu.Lock()
	defer c.mu.Unlock()
	hello := clientFrame{Type: "hello", Token: token, After: c.inbox.cursor()}
	switch {
	case !c.welcomed:
		hello.Follow, hello.Mute = c.cfg.Follow, c.cfg.Mute
	case token == "": // nothing is stored of an anonymous reader
		hello.Follow, hello.Mute = c.sets.Follow, c.sets.Mute
	}
	return hello
}

// enter makes a session the present one.
func (c *Client) enter(s *session, welcome serverFrame) {
	c.mu.Lock()
	c.session, c.welcomed = s, true
	for _, r := range c.requests {
		r.sent = false // perhaps lost: adding or dropping a tag twice changes nothing
	}
	c.mu.Unlock()
	sets := c.told(welcome)
	c.tell(StateChange{State: Online, Reader: welcome.Reader, Sets: sets})
	if welcome.Resume == "gap" && c.cfg.OnGap != nil {
		c.cfg.OnGap(s.after)
	}
	s.kick()
}

func (c *Client) leave() {
	c.mu.Lock()
	c.session = nil
	c.mu.Unlock()
	c.inbox.lost()
}

// told notes the sets of a frame.
func (c *Client) told(f serverFrame) Subscriptions {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sets = Subscriptions{f.Follow, f.Mute}
	return c.sets
}
