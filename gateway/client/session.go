package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	subprotocol  = "newswire.v1"
	welcomeWait  = 15 * time.Second // from dialling to the welcome
	writeWait    = 10 * time.Second
	goodbyeWait  = 2 * time.Second
	pingDefault  = 25 * time.Second // where the welcome does not say
	refreshAhead = time.Minute      // before its expiry that a token is replaced
	shortest     = 5 * time.Second  // between two replacements
	mostRead     = 16 << 20         // bytes of a frame; the server truncates what has over 1 MiB of data
)

// session is one connection. One goroutine reads, one writes, one keeps the
// token fresh; run waits for all of them.
type session struct {
	client *Client
	conn   *websocket.Conn // read by read, written by write
	after  string          // the cursor that the hello told
	every  time.Duration   // of the server's pings; set before the goroutines start

	due     chan struct{}  // of size one: there is something to write
	tokens  chan string    // refresh sends, write receives
	expires chan time.Time // of size one: read sends, refresh receives
	stalled atomic.Bool    // read waits for the handler, and answers no ping
	bye     serverFrame    // owned by read: the server's last words
}

// connect runs one connection to its end, and tells how long it was online. When
// ctx ends it waits for idle, so that the last handler's acknowledgement leaves.
func (c *Client) connect(ctx context.Context, idle <-chan struct{}) (online time.Duration, err error) {
	dialling, cancel := context.WithTimeout(ctx, welcomeWait)
	defer cancel()
	token, err := c.token(dialling)
	if err != nil {
		return 0, err
	}
	hello := c.hello(token)
	if raw, _ := json.Marshal(hello); len(raw) > maxFrame {
		return 0, fmt.Errorf("%w: the hello is over 16 KiB; follow fewer tags at once", ErrStop)
	}
	conn, err := c.dial(dialling)
	if err != nil {
		return 0, err
	}
	s := &session{
		client: c, conn: conn, after: hello.After, due: make(chan struct{}, 1), tokens: make(chan string),
		expires: make(chan time.Time, 1),
	}
	conn.SetReadLimit(mostRead)
	defer conn.Close()
	stop := context.AfterFunc(dialling, func() { _ = conn.Close() })
	welcome, err := s.greet(hello)
	if !stop() && err == nil {
		err = dialling.Err()
	}
	if err != nil {
		return 0, err
	}
	c.inbox.resumed(welcome.Resume, hello.After)
	began := time.Now()
	c.enter(s, welcome)
	defer c.leave()
	err = s.run(ctx, idle)
	return time.Since(began), err
}

func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	dialer := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment, Subprotocols: []string{subprotocol}, TLSClientConfig: c.cfg.TLS,
	}
	conn, resp, err := dialer.DialContext(ctx, c.address, nil)
	if err == nil {
		return conn, nil
	}
	if resp == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		return nil, fmt.Errorf("connect to %s: %w", c.address, err)
	}
	refused := &HandshakeError{Status: resp.StatusCode}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds >= 0 {
		refused.RetryAfter = time.Duration(seconds) * time.Second
	}
	var problem struct{ Detail string }
	if body, err := io.ReadAll(io.LimitReader(resp.Body, 4096)); err == nil && json.Unmarshal(body, &problem) == nil {
		refused.Detail = problem.Detail
	}
	return nil, fmt.Errorf("connect to %s: %w", c.address, refused)
}

// greet says hello and waits for the welcome; who closes the connection ends it.
func (s *session) greet(hello clientFrame) (welcome serverFrame, err error) {
	if err := s.say(hello); err != nil {
		return welcome, err
	}
	for {
		_, raw, err := s.conn.ReadMessage()
		if err != nil {
			return welcome, s.ended(err)
		}
		var f serverFrame
		if err := json.Unmarshal(raw, &f); err != nil {
			return welcome, fmt.Errorf("the server sent what is no frame: %w", err)
		}
		switch f.Type {
		case "welcome":
			s.every = time.Duration(f.PingMS) * time.Millisecond
			if s.every <= 0 {
				s.every = pingDefault
			}
			s.expires <- f.expiry()
			return f, nil
		case "bye":
			s.bye = f
		}
	}
}

// run carries frames until the connection breaks, or ctx ends.
func (s *session) run(ctx context.Context, idle <-chan struct{}) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // longer than ctx: the last handler counts
	defer end()
	reading, writing, refreshing := start(life, s.read), start(life, s.write), start(life, s.refresh)
	var err error
	select {
	case <-reading.done:
		err = reading.err
	case <-writing.done:
		err = writing.err
	case <-refreshing.done:
		err = refreshing.err
	case <-ctx.Done():
		<-idle
	}
	end()
	<-writing.done
	select { // where writing failed, the server may have said why
	case <-reading.done:
	case <-time.After(goodbyeWait):
	}
	_ = s.conn.Close()
	<-reading.done
	<-refreshing.done
	var closed *CloseError
	if errors.As(reading.err, &closed) {
		return reading.err
	}
	return err
}

// task is a goroutine of a session.
type task struct {
	done chan struct{}
	err  error // once done is closed
}

func start(ctx context.Context, do func(context.Context) error) *task {
	t := &task{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = do(ctx)
	}()
	return t
}
