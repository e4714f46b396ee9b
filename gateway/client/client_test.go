package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"newswire/gateway/client"
)

func TestAnAckFollowsTheHandler(t *testing.T) {
	t.Parallel()
	s := serve(t)
	release := make(chan struct{})
	r := run(t, s, client.Config{
		Token:  func(context.Context) (string, error) { return "t1", nil },
		Follow: []string{"tech"}, Mute: []string{"gossip"},
		OnMessage: func(ctx context.Context, _ *client.Message) error {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		},
	})
	c := s.accept()
	hello := c.welcome()
	if hello.Token != "t1" || hello.After != "" || !slices.Equal(hello.Follow, []string{"tech"}) || !slices.Equal(hello.Mute, []string{"gossip"}) {
		t.Errorf("hello = %+v", hello)
	}
	if online := r.until(client.Online); online.Reader != "u1" || !slices.Equal(online.Sets.Follow, []string{"tech"}) {
		t.Errorf("online with %+v", online)
	}
	c.send(news(1, 1))
	followed := make(chan error, 1)
	go func() { _, err := r.Follow(t.Context(), "ai"); followed <- err }()
	f := c.read("follow") // and no ack before it: the handler still runs
	c.send(frame{Type: "subscriptions", Ref: f.Ref, Follow: []string{"ai", "tech"}})
	if err := receive(t, followed, "the answer"); err != nil {
		t.Error(err)
	}
	close(release)
	c.acked(id(1))
}

func TestWhatFailedComesAgainAndWhatWasHandledDoesNot(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var calls atomic.Int32
	r := run(t, s, client.Config{OnMessage: func(_ context.Context, m *client.Message) error {
		calls.Add(1)
		if m.ID == id(1) && m.Attempt < 2 {
			return errors.New("not yet")
		}
		return nil
	}})
	c := s.accept()
	c.welcome()
	c.send(news(1, 1), news(2, 1))
	c.acked(id(2))
	if cursor := r.Cursor(); cursor != "" {
		t.Errorf("the cursor stands at %s, beyond what failed", cursor)
	}
	c.send(news(2, 2))
	c.acked(id(2))
	c.send(news(1, 2))
	c.acked(id(1))
	if n := calls.Load(); n != 3 {
		t.Errorf("the handler was called %d times, want 3", n)
	}
	if cursor := r.Cursor(); cursor != id(2) {
		t.Errorf("the cursor stands at %q", cursor)
	}
}

func TestManualAcks(t *testing.T) {
	t.Parallel()
	s := serve(t)
	handled := make(chan string, 8)
	r := run(t, s, client.Config{Manual: true, OnMessage: func(_ context.Context, m *client.Message) error {
		if m.Attempt == 3 {
			m.Ack()
		}
		handled <- m.ID
		return nil
	}})
	c := s.accept()
	c.welcome()
	for attempt := range 3 {
		// One that comes while its handler runs is left to that; the second message is
		// handled when the first one's handler has returned.
		c.send(news(1, attempt+1), news(10+attempt, 1))
		for _, want := range []string{id(1), id(10 + attempt)} {
			if got := receive(t, handled, "the handler"); got != want {
				t.Fatalf("handled %s, want %s", got, want)
			}
		}
	}
	c.acked(id(1))
	r.Ack(id(10))
	c.acked(id(10))
}

func TestItComesBackWithItsCursorAndKeepsTheServersSets(t *testing.T) {
	t.Parallel()
	s := serve(t)
	r := run(t, s, client.Config{
		Token:  func(context.Context) (string, error) { return "t1", nil },
		Follow: []string{"tech"}, After: id(0),
	})
	c := s.accept()
	if hello := c.welcome(); hello.After != id(0) {
		t.Errorf("hello after %q", hello.After)
	}
	c.send(news(1, 1), news(2, 1))
	c.acked(id(1), id(2))
	c.end(4009, "slow_reader")
	off := r.until(client.Offline)
	var closed *client.CloseError
	if !errors.As(off.Err, &closed) || closed.Code != 4009 || closed.Reason != "slow_reader" || off.Retry > 500*time.Millisecond {
		t.Errorf("offline with %+v", off)
	}
	c = s.accept()
	hello := c.read("hello")
	if hello.After != id(2) || hello.Follow != nil {
		t.Errorf("second hello = %+v, want after %s and no follow", hello, id(2))
	}
	c.send(frame{Type: "welcome", Resume: "complete"})
	c.acked(id(1), id(2))          // the last connection may have lost them
	c.send(news(0, 3), news(3, 1)) // what lies below the cursor was handled before this program began
	c.acked(id(0), id(3))
	if n := len(r.got); n != 3 {
		t.Errorf("the handler got %d messages, want 3", n)
	}
}

func TestAGapIsTold(t *testing.T) {
	t.Parallel()
	s := serve(t)
	gaps := make(chan string, 1)
	r := run(t, s, client.Config{After: id(7), OnGap: func(after string) { gaps <- after }})
	c := s.accept()
	c.read("hello")
	c.send(frame{Type: "welcome", Resume: "gap"}, news(1, 1))
	if after := receive(t, gaps, "the gap"); after != id(7) {
		t.Errorf("a gap after %s", after)
	}
	c.acked(id(1))
	if m := receive(t, r.got, "the message"); m.ID != id(1) {
		t.Errorf("got %s", m.ID)
	}
}

func TestAReaderWithoutATokenTellsItsSetsAgain(t *testing.T) {
	t.Parallel()
	s := serve(t)
	r := run(t, s, client.Config{Follow: []string{"tech"}})
	c := s.accept()
	if hello := c.read("hello"); hello.Token != "" || !slices.Equal(hello.Follow, []string{"tech"}) {
		t.Errorf("hello = %+v", hello)
	}
	if err := c.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"welcome","reader":"","follow":["tech"],"mute":[],"resume":"none","expires":""}`)); err != nil {
		t.Fatal(err)
	}
	r.until(client.Online)
	c.send(frame{Type: "subscriptions", Follow: []string{"ai", "tech"}}, news(1, 1))
	c.acked(id(1))
	c.end(1012, "draining")
	if hello := s.accept().welcome(); !slices.Equal(hello.Follow, []string{"ai", "tech"}) {
		t.Errorf("second hello follows %v", hello.Follow)
	}
}

func TestAStopEndsIt(t *testing.T) {
	t.Parallel()
	for _, code := range []int{4500, 4501, 4503, 4529} {
		s := serve(t)
		r := run(t, s, client.Config{})
		c := s.accept()
		c.read("hello")
		c.end(code, "enough")
		var closed *client.CloseError
		if err := receive(t, r.ended, "the end"); !errors.As(err, &closed) || closed.Code != code || closed.Reason != "enough" {
			t.Errorf("code %d ends it with %v", code, err)
		}
	}
	s := serve(t)
	r := run(t, s, client.Config{})
	c := s.accept()
	c.welcome()
	c.send(frame{Type: "bye", Code: 4510, Reason: "forgotten"})
	c.end(4510, "forgotten")
	if err := receive(t, r.ended, "the end"); err == nil {
		t.Error("a forgotten reader ends without a reason")
	}
	logout := fmt.Errorf("logged out: %w", client.ErrStop)
	r = run(t, s, client.Config{Token: func(context.Context) (string, error) { return "", logout }})
	if err := receive(t, r.ended, "the end"); !errors.Is(err, logout) {
		t.Errorf("a stop of Token ends it with %v", err)
	}
}

func TestItWaitsAsLongAsTheServerAsks(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.refusals.Store(1)
	var asked atomic.Int32
	r := run(t, s, client.Config{Token: func(context.Context) (string, error) {
		if asked.Add(1) == 3 {
			return "", errors.New("the login is down")
		}
		return "t", nil
	}})
	off := r.until(client.Offline)
	var refused *client.HandshakeError
	if !errors.As(off.Err, &refused) || refused.Status != 503 || !strings.Contains(refused.Detail, "as many sessions") || off.Retry < time.Second {
		t.Errorf("offline with %+v, %v; want 503 and at least the second of Retry-After", off, off.Err)
	}
	c := s.accept()
	c.welcome()
	c.send(frame{Type: "bye", Code: 1012, Reason: "draining", Retry: 700})
	c.end(1012, "draining")
	if off := r.until(client.Offline); off.Retry < 700*time.Millisecond {
		t.Errorf("the server asked for 700 ms, and it waits %s", off.Retry)
	}
	if off := r.until(client.Offline); off.Err == nil || !strings.Contains(off.Err.Error(), "the login is down") {
		t.Errorf("offline with %v", off.Err)
	}
	s.accept().welcome()
}

func TestChangesSettleWithTheAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t)
	r := run(t, s, client.Config{})
	type outcome struct {
		sets client.Subscriptions
		err  error
	}
	ask := func(change func(context.Context, ...string) (client.Subscriptions, error), tag string) chan outcome {
		c := make(chan outcome, 1)
		go func() { sets, err := change(t.Context(), tag); c <- outcome{sets, err} }()
		return c
	}
	c := s.accept()
	c.read("hello")
	muted := ask(r.Mute, "gossip") // before there is a welcome: said behind it
	c.send(frame{Type: "welcome"})
	f := c.read("mute")
	c.end(4009, "slow_reader") // and lost: said again
	c = s.accept()
	c.welcome()
	again := c.read("mute")
	if again.Ref != f.Ref || !slices.Equal(again.Tags, []string{"gossip"}) {
		t.Errorf("%+v is said again as %+v", f, again)
	}
	c.send(frame{Type: "subscriptions", Ref: again.Ref, Mute: []string{"gossip"}})
	if o := receive(t, muted, "the answer"); o.err != nil || !slices.Equal(o.sets.Mute, []string{"gossip"}) {
		t.Errorf("mute gives %+v", o)
	}
	refused := ask(r.Unmute, "x")
	c.send(frame{Type: "error", Ref: c.read("unmute").Ref, Code: "bad_tag", Message: "no"})
	var why *client.RefusedError
	if o := receive(t, refused, "the answer"); !errors.As(o.err, &why) || why.Code != "bad_tag" || why.Message != "no" {
		t.Errorf("a refused change gives %+v", o)
	}
	if _, err := r.Follow(t.Context(), strings.Repeat("x", 17<<10)); !errors.As(err, &why) || why.Code != "frame_too_big" {
		t.Errorf("a frame over the limit gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Unfollow(ctx, "y"); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context gives %v", err)
	}
}

func TestATokenIsReplacedBeforeItExpires(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var n atomic.Int32
	run(t, s, client.Config{Token: func(context.Context) (string, error) { return fmt.Sprint("t", n.Add(1)), nil }})
	c := s.accept()
	c.read("hello")
	c.send(frame{Type: "welcome", Expires: time.Now().Add(time.Second).Format(time.RFC3339)})
	if f := c.read("token"); f.Token != "t2" { // at least 5 s later
		t.Errorf("replaced with %q", f.Token)
	}
}

// When its context ends, the handler that runs ends first and is acknowledged.
func TestTheEndAcknowledgesWhatWasHandled(t *testing.T) {
	t.Parallel()
	s := serve(t)
	began, release := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	r := run(t, s, client.Config{OnMessage: func(context.Context, *client.Message) error {
		calls.Add(1)
		close(began)
		<-release
		return nil
	}})
	c := s.accept()
	c.welcome()
	c.send(news(1, 1), news(2, 1))
	<-began
	r.stop()
	close(release)
	c.acked(id(1))
	c.ended()
	if err := receive(t, r.ended, "the end"); err != nil {
		t.Errorf("the end gives %v", err)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("%d messages were handled, want the one that was begun", n)
	}
}

// A handler that takes long keeps the connection: the client says that it lives.
func TestASlowHandlerKeepsTheConnection(t *testing.T) {
	t.Parallel()
	s := serve(t)
	release := make(chan struct{})
	r := run(t, s, client.Config{OnMessage: func(ctx context.Context, _ *client.Message) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}})
	c := s.accept()
	pongs := make(chan struct{}, 1)
	c.conn.SetPongHandler(func(string) error {
		select {
		case pongs <- struct{}{}:
		default:
		}
		return nil
	})
	c.read("hello")
	c.send(frame{Type: "welcome", PingMS: 20})
	const many = 1000 // more than wait for a handler
	var ids []string
	for n := range many {
		c.send(news(n, 1))
		ids = append(ids, id(n))
	}
	receive(t, pongs, "a sign of life")
	close(release)
	c.acked(ids...)
	if cursor := r.Cursor(); cursor != id(many-1) {
		t.Errorf("the cursor stands at %s", cursor)
	}
}

func TestASilentServerIsLeft(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes the 10 s that a dead network is waited for")
	}
	s := serve(t)
	r := run(t, s, client.Config{})
	c := s.accept()
	c.read("hello")
	c.send(frame{Type: "welcome", PingMS: 1})
	for range 100 { // what lives is not left
		if err := c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	if off := r.until(client.Offline); off.Err == nil {
		t.Error("offline without a reason")
	}
}

func TestBadConfigurationIsOneSentence(t *testing.T) {
	t.Parallel()
	handler := func(context.Context, *client.Message) error { return nil }
	for _, c := range []struct {
		cfg  client.Config
		want string
	}{
		{client.Config{URL: "https://x"}, "OnMessage is missing"},
		{client.Config{URL: "push.example.com", OnMessage: handler}, "is not the URL of a gateway"},
		{client.Config{URL: "ftp://push.example.com", OnMessage: handler}, "begins with ftp"},
		{client.Config{URL: "wss://push.example.com/v1/ws?token=abc", OnMessage: handler}, "give the token apart"},
	} {
		if _, err := client.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "abc") {
			t.Errorf("%+v gives %v, want %q", c.cfg.URL, err, c.want)
		}
	}
}
