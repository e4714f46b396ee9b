package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
)

// kick lets the writer look what is due; of no session it does nothing.
func (s *session) kick() {
	if s == nil {
		return
	}
	select {
	case s.due <- struct{}{}:
	default: // it will look
	}
}

// say writes a frame.
func (s *session) say(f clientFrame) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return err
	}
	return s.conn.WriteMessage(websocket.TextMessage, raw)
}

// write says what is due until ctx ends; then what is left, and goodbye.
func (s *session) write(ctx context.Context) error {
	alive := time.NewTicker(s.every)
	defer alive.Stop()
	for {
		select {
		case <-s.due:
			if err := s.flush(); err != nil {
				return err
			}
		case token := <-s.tokens:
			if err := s.say(clientFrame{Type: "token", Token: token}); err != nil {
				return err
			}
		case <-alive.C:
			if s.stalled.Load() { // who does not read sees no ping
				_ = s.conn.WriteControl(websocket.PongMessage, nil, time.Now().Add(writeWait))
			}
		case <-ctx.Done():
			_ = s.flush() // what is lost is acknowledged again
			bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
			_ = s.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(goodbyeWait))
			return nil
		}
	}
}

func (s *session) flush() error {
	for _, change := range s.client.unsent() {
		if err := s.say(change); err != nil {
			return err
		}
	}
	for _, ids := range s.client.inbox.takeAcks() {
		if err := s.say(clientFrame{Type: "ack", IDs: ids}); err != nil {
			return err
		}
	}
	return nil
}

// read takes what comes until the connection ends, which is its error.
func (s *session) read(ctx context.Context) error {
	lives := func() error { return s.conn.SetReadDeadline(time.Now().Add(2*s.every + writeWait)) }
	s.conn.SetPingHandler(func(data string) error {
		_ = s.conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeWait))
		return lives()
	})
	for ctx.Err() == nil {
		if err := lives(); err != nil {
			return err
		}
		_, raw, err := s.conn.ReadMessage()
		if err != nil {
			return s.ended(err)
		}
		if err := s.receive(ctx, raw); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ended says how the server has ended the connection, where it has.
func (s *session) ended(err error) error {
	closed := new(CloseError)
	var frame *websocket.CloseError
	switch {
	case s.bye.Type == "bye":
		_ = json.Unmarshal(s.bye.Code, &closed.Code) // 0 of what is no number
		closed.Reason = s.bye.Reason
	case errors.As(err, &frame) && frame.Code != websocket.CloseAbnormalClosure:
		closed.Code, closed.Reason = frame.Code, frame.Text
	default:
		return fmt.Errorf("connection lost: %w", err)
	}
	if wait := time.Duration(s.bye.RetryAfterMS) * time.Millisecond; wait > 0 {
		return &retryError{closed, wait}
	}
	return closed
}

func (s *session) receive(ctx context.Context, raw []byte) error {
	var f serverFrame
	if err := json.Unmarshal(raw, &f); err != nil {
		return fmt.Errorf("the server sent what is no frame: %w", err)
	}
	c := s.client
	switch f.Type {
	case "message":
		m := &Message{client: c, Raw: raw}
		if err := json.Unmarshal(raw, m); err != nil {
			return fmt.Errorf("the server sent what is no message: %w", err)
		}
		s.stalled.Store(true)
		repeated := c.inbox.take(ctx, m)
		s.stalled.Store(false)
		if repeated {
			s.kick()
		}
	case "subscriptions":
		sets := c.told(f)
		if r := c.take(f.Ref); r != nil {
			r.answer <- answer{sets: sets}
		}
	case "error":
		var code string
		_ = json.Unmarshal(f.Code, &code) // empty of what is no string
		if r := c.take(f.Ref); r != nil {
			r.answer <- answer{err: &RefusedError{code, f.Message}}
		}
	case "token":
		select {
		case s.expires <- f.expiry():
		default: // one waits already, which refresh has not seen yet
		}
	case "bye":
		s.bye = f
	}
	return nil
}

// refresh replaces the token before it expires; it ends early only where
// Config.Token says stop.
func (s *session) refresh(ctx context.Context) error {
	var expires time.Time
	for {
		var due <-chan time.Time // never, of a reader without a token
		if !expires.IsZero() && s.client.cfg.Token != nil {
			left := time.Until(expires)
			due = time.After(max(left-refreshAhead, left/2, shortest))
		}
		select {
		case expires = <-s.expires:
			continue
		case <-ctx.Done():
			return nil
		case <-due:
		}
		token, err := s.client.token(ctx)
		switch {
		case errors.Is(err, ErrStop):
			return err
		case err != nil:
			continue // the present one still holds
		}
		select {
		case s.tokens <- token:
		case <-ctx.Done():
			return nil
		}
	}
}
