package channeltest

import (
	"context"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
)

func gone(t *testing.T, s Subject) {
	s.Server.Next(Gone)
	want(t, send(t, s, s.Channel, Note(0)), channel.Gone)
	want(t, send(t, s, s.Channel, Note(1)), channel.Sent)
}

func throttled(t *testing.T, s Subject) {
	s.Server.Next(Throttle)
	r := send(t, s, s.Channel, Note(0))
	want(t, r, channel.Throttled)
	if r.RetryAfter != RetryAfter {
		t.Errorf("retry after %s, want %s", r.RetryAfter, RetryAfter)
	}
}

func refused(t *testing.T, s Subject) {
	s.Server.Next(Refuse)
	want(t, send(t, s, s.Channel, Note(0)), channel.Permanent)
}

// down is a provider that cannot be reached, and then can.
func down(t *testing.T, s Subject) {
	want(t, send(t, s, s.Channel, Note(0)), channel.Sent)
	s.Server.Down()
	for n := range 5 {
		// The first may find its connection ended only after it has written.
		allowed := []channel.Outcome{channel.Temporary}
		if n == 0 {
			allowed = append(allowed, channel.Doubtful)
		}
		want(t, send(t, s, s.Channel, Note(1)), allowed...)
	}
	s.Server.Up()
	want(t, send(t, s, s.Channel, Note(1)), channel.Sent)
	if got := s.Server.Shown(); got != 2 {
		t.Errorf("readers see %d, want 2", got)
	}
}

func unavailable(t *testing.T, s Subject) {
	s.Server.Next(Unavailable)
	want(t, send(t, s, s.Channel, Note(0)), channel.Temporary, channel.Throttled)
}

// answerLost is the case that compensation turns on. On a new connection and on
// one that was used before, on which net/http is quick to repeat a request.
func answerLost(t *testing.T, s Subject) {
	allowed := []channel.Outcome{channel.Doubtful}
	if s.Channel.Properties().Dedupes {
		allowed = append(allowed, channel.Sent) // net/http repeats what carries an Idempotency-Key
	}
	for n := range 2 {
		before := s.Server.Shown()
		s.Server.Next(HangUp)
		want(t, send(t, s, s.Channel, Note(n)), allowed...)
		if got := s.Server.Shown() - before; got != 1 {
			t.Fatalf("readers see %d behind one attempt, want 1", got)
		}
		if s.Channel.Properties().Dedupes {
			want(t, send(t, s, s.Channel, Note(n)), channel.Sent)
			if got := s.Server.Shown() - before; got != 1 {
				t.Errorf("the channel says that it dedupes, and readers see %d", got)
			}
		}
		want(t, send(t, s, s.Channel, Note(n+10)), channel.Sent) // a connection in use again
	}
}

// noAnswer waits for the end of the caller's patience, which is shorter than
// the channel's own.
func noAnswer(t *testing.T, s Subject) {
	want(t, send(t, s, s.Channel, Note(0)), channel.Sent)
	s.Server.Next(Hang)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	r := s.Channel.Send(ctx, s.Device, Note(1))
	wellFormed(t, s, r)
	want(t, r, channel.Doubtful)
	if r.Reason != "timeout" {
		t.Errorf("reason %q, want timeout", r.Reason)
	}
	if took := time.Since(start); took > 9*time.Second {
		t.Errorf("Send returned after %s, the caller waited 1s", took)
	}
	if got := s.Server.Shown(); got != 2 {
		t.Errorf("readers see %d, want 2", got)
	}
}

func garbled(t *testing.T, s Subject) {
	s.Server.Next(Garbage)
	expected := channel.Doubtful
	if s.Shows {
		expected = channel.Sent
	}
	want(t, send(t, s, s.Channel, Note(0)), expected)
}

func endless(t *testing.T, s Subject) {
	s.Server.Next(Endless)
	want(t, send(t, s, s.Channel, Note(0)), channel.Sent, channel.Doubtful)
	want(t, send(t, s, s.Channel, Note(1)), channel.Sent)
}

func broken(t *testing.T, s Subject) {
	s.Server.Next(Broken)
	want(t, send(t, s, s.Channel, Note(0)), channel.Doubtful)
}

func redirected(t *testing.T, s Subject) {
	s.Server.Next(Redirect)
	want(t, send(t, s, s.Channel, Note(0)), channel.Permanent, channel.Temporary)
	if got := s.Server.Strayed(); got != 0 {
		t.Errorf("the channel followed a redirect")
	}
}

func untrusted(t *testing.T, s Subject) {
	if s.Stray == nil {
		t.Skip("the channel does not connect by itself")
	}
	r := send(t, s, s.Stray, Note(0))
	want(t, r, channel.Temporary)
	if !strings.HasSuffix(r.Reason, "tls") {
		t.Errorf("reason %q, want tls", r.Reason)
	}
	if got := s.Server.Requests(); got != 0 {
		t.Errorf("the provider has %d requests over a connection that is not trusted", got)
	}
}

// nothingSecret lets the provider repeat headers, address and body in its
// words; send looks whether anything of it is in the result.
func nothingSecret(t *testing.T, s Subject) {
	s.Server.Next(Echo)
	want(t, send(t, s, s.Channel, Note(0)), channel.Permanent)
	s.Server.Down()
	want(t, send(t, s, s.Channel, Note(0)), channel.Temporary, channel.Doubtful)
}
