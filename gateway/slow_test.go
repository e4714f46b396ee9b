package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
)

// article is data that makes frames large enough to fill sockets.
var article = fmt.Sprintf(`{"body":%q}`, strings.Repeat("news ", 200))

// squeeze makes the kernel hold little for a session, so that it is soon full.
func squeeze(t testing.TB, s *session) {
	t.Helper()
	if err := s.writeBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
}

// stuck waits until a session writes and gets no further.
func (r *rig) stuck(s *session) {
	r.t.Helper()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(patience)
	for before := -1; ; {
		select {
		case <-look.C:
		case <-deadline:
			r.t.Fatal("the session is not stuck")
		}
		s.mu.Lock()
		writing, now := s.writing, len(s.unacked)
		s.mu.Unlock()
		if writing && now == before {
			return
		}
		before = now
	}
}

// A reader that stops reading costs others nothing and loses nothing: it gets
// all of it in order when it reads on.
func TestSlowReaderDelaysNobodyAndLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.writeTimeout, s.ack.Timeout = patience, patience })
	quick := r.join("quick", gatewaytest.Options{Follow: []string{"tech"}})
	slow := r.dial("slow", gatewaytest.Options{Follow: []string{"tech"}, Stalled: true, ReceiveBuffer: 4096, Silent: true})
	r.eventually("both are attached", func() bool { return r.pools.Count() == 2 })
	for _, s := range r.pools.sessions() {
		if s.name == "slow" {
			squeeze(t, s)
		}
	}
	var ids []string
	for range 5000 {
		ids = append(ids, r.commit(article, "tech"))
	}
	got := quick.WaitMessages(len(ids))
	for i, m := range got {
		if m.ID != ids[i] {
			t.Fatalf("the quick reader's message %d is %s, want %s", i, m.ID, ids[i])
		}
		if m.Replay {
			t.Fatalf("the quick reader's message %d is a replay", i)
		}
	}
	r.eventually("the slow one lags", func() bool { return r.metric("newswire_gateway_lagging_sessions", "") >= 1 })
	for _, s := range r.pools.sessions() {
		if s.name == "slow" {
			s.mu.Lock()
			if s.queued > 2*maxQueue {
				t.Errorf("%d bytes are queued for the slow reader", s.queued)
			}
			s.mu.Unlock()
		}
	}
	slow.Resume()
	slow.WaitMessages(len(ids))
	if !slices.Equal(slow.IDs(), ids) || len(slow.Messages()) != len(ids) {
		t.Errorf("the slow reader got %d messages, want %d once and in order", len(slow.Messages()), len(ids))
	}
	for _, m := range slow.Messages() {
		if m.Replay || m.Attempt != 1 {
			t.Fatalf("a message that the slow reader never had says attempt %d, replay %v", m.Attempt, m.Replay)
		}
	}
	r.eventually("it keeps up", func() bool { return r.metric("newswire_gateway_lagging_sessions", "") == 0 })
	live := r.publish(3, "tech")
	slow.WaitMessages(len(ids) + 3)
	if got := slow.IDs()[len(ids):]; !slices.Equal(got, live) {
		t.Errorf("then it got %v live, want %v", got, live)
	}
}

// An answer stands behind the messages before its change also for a session
// that reads from the journal.
func TestAnswerWaitsForALaggingSession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	slow := r.dial("slow", gatewaytest.Options{Follow: []string{"tech"}, Stalled: true, ReceiveBuffer: 4096, Silent: true})
	r.eventually("it is attached", func() bool { return r.pools.Count() == 1 })
	squeeze(t, r.pools.sessions()[0])
	before := make([]string, 0, 2000)
	for range cap(before) {
		before = append(before, r.commit(article, "tech"))
	}
	r.routed()
	slow.Send(map[string]any{"type": "unfollow", "tags": []string{"tech"}, "ref": "off"})
	r.eventually("the change is made", func() bool { _, sets, _ := r.readers.Get("slow"); return len(sets.Follow) == 0 })
	r.publish(10, "tech")
	r.routed()
	slow.Resume()
	slow.Until("the answer", func(f gatewaytest.Frame) bool { return f.Ref == "off" })
	slow.Sync()
	if got := slow.IDs(); !slices.Equal(got, before) {
		t.Errorf("got %d messages, want the %d before the change and none behind it", len(got), len(before))
	}
	frames := slow.Frames()
	for _, f := range frames[len(frames)-1:] {
		if f.Type == "message" {
			t.Errorf("a message comes behind the answer")
		}
	}
	at := slices.IndexFunc(frames, func(f gatewaytest.Frame) bool { return f.Ref == "off" })
	if n := len(slices.DeleteFunc(frames[:at:at], func(f gatewaytest.Frame) bool { return f.Type != "message" })); n != len(before) {
		t.Errorf("%d messages came before the answer, want %d", n, len(before))
	}
}

// A write that misses its deadline ends the session; what was not written was
// not sent, and the next session gets it.
func TestMissedWriteDeadlineEndsTheSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.writeTimeout = 300 * time.Millisecond })
	slow := r.dial("slow", gatewaytest.Options{Follow: []string{"tech"}, Stalled: true, ReceiveBuffer: 4096, Silent: true})
	r.eventually("it is attached", func() bool { return r.pools.Count() == 1 })
	session := r.pools.sessions()[0]
	squeeze(t, session)
	var ids []string
	for range 2000 {
		ids = append(ids, r.commit(article, "tech"))
	}
	r.eventually("the session is ended", func() bool { return r.metric("newswire_gateway_closed_total", "slow_reader") == 1 })
	r.eventually("it is gone", func() bool { return r.pools.Count() == 0 })
	written := int(r.metric("newswire_gateway_deliveries_total", ""))
	if written == 0 || written == len(ids) {
		t.Fatalf("%d of %d messages were written: the test tells nothing", written, len(ids))
	}
	// Who was sent what shows in what can be acknowledged.
	if err := r.ledger.Ack(session.reader, parseIDs(ids)); err != nil {
		t.Fatal(err)
	}
	r.wantUnread("slow", ids[written:])
	slow.Resume()
	slow.Ended()
	back := r.join("slow", gatewaytest.Options{})
	back.WaitMessages(len(ids) - written)
	if got := back.IDs(); !slices.Equal(got, ids[written:]) {
		t.Errorf("the next session got %d messages, want the %d that were not written", len(got), len(ids)-written)
	}
	for _, m := range back.Messages() {
		if m.Attempt != 1 {
			t.Fatalf("a message that was never written comes as attempt %d", m.Attempt)
		}
	}
	r.wantUnread("slow", nil)
}

// A client that pings while the network is slow is not slower for it: a pong
// has no deadline of its own that would cut short the write before it.
func TestPingsDoNotShortenTheWriteDeadline(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	slow := r.dial("slow", gatewaytest.Options{Follow: []string{"tech"}, Stalled: true, ReceiveBuffer: 4096, Silent: true})
	r.eventually("it is attached", func() bool { return r.pools.Count() == 1 })
	session := r.pools.sessions()[0]
	squeeze(t, session)
	for range 2000 {
		r.commit(article, "tech")
	}
	r.stuck(session)
	if err := slow.SendKind(websocket.PingMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	over := time.NewTimer(2 * time.Second) // twice what a pong of gorilla's own would have
	defer over.Stop()
	<-over.C
	if n := r.metric("newswire_gateway_closed_total", "slow_reader"); n != 0 {
		t.Error("the session was ended before its write deadline because the client sent a ping")
	}
	slow.Resume()
	slow.WaitMessages(2000)
}

// What a session holds while it reads from the journal is bounded in bytes,
// also when articles are large.
func TestCatchingUpHoldsFewBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.join("slow", gatewaytest.Options{Follow: []string{"tech"}}).Leave()
	r.eventually("it has left", func() bool { return r.pools.Count() == 0 })
	large := fmt.Sprintf(`{"body":%q}`, strings.Repeat("x", 200<<10))
	var ids []string
	for range 16 {
		ids = append(ids, r.commit(large, "tech"))
	}
	r.routed()
	slow := r.dial("slow", gatewaytest.Options{Stalled: true, ReceiveBuffer: 4096})
	r.eventually("it is attached", func() bool { return r.pools.Count() == 1 })
	session, most := r.pools.sessions()[0], 0
	r.eventually("it writes", func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		most = max(most, session.queued)
		return len(session.unacked) > 2
	})
	if most > 2*maxQueue {
		t.Errorf("%d bytes are queued, want at most about %d", most, maxQueue)
	}
	slow.Resume()
	slow.WaitMessages(len(ids))
	if !slices.Equal(slow.IDs(), ids) {
		t.Error("the large articles did not come in order")
	}
}
