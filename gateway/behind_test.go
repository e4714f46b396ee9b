package gateway

import (
	"testing"
	"time"

	"newswire/gateway/gatewaytest"
)

// A session that waits for its turn to read from the journal cannot be pinged.
// That its client says nothing meanwhile is no sign that it has gone.
func TestWhoWaitsForTheJournalIsNotSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}})
	c.Sync()
	session := r.gateway.present.all()[0]
	late := func() {
		session.pinged.Store(session.heard.Load() + 1)
		session.look(time.Now(), time.Duration(session.pinged.Load())+session.deps.pingEvery+1)
	}
	session.queues.Store(true)
	late()
	if session.ended() {
		t.Fatal("a session that waits for its turn is ended as silent")
	}
	session.queues.Store(false)
	late()
	if !session.ended() {
		t.Error("a silent session goes on")
	}
}

// A client answers pings, so none has to say anything that was not pinged: not
// even where each look met its session at work.
func TestWhoWasNotPingedIsNotSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.PingEvery = 10 * time.Minute }) // the rig's own looks do nothing
	r.join("u1", gatewaytest.Options{})
	s := r.gateway.present.all()[0]
	r.eventually("it is idle", s.holdStill) // as one that is written to
	at := time.Duration(s.heard.Load())
	look := func(by time.Duration) {
		at += by
		s.look(time.Now(), at)
	}
	look(10 * time.Minute)
	look(10 * time.Minute)
	look(time.Minute)
	if s.ended() || time.Duration(s.pinged.Load()) == at {
		t.Fatal("a session that was not pinged counts as silent, or as pinged")
	}
	s.mu.Lock()
	s.writing = false
	s.mu.Unlock()
	look(time.Minute)
	look(10 * time.Minute)
	if s.ended() {
		t.Fatal("a ping had no time to be answered")
	}
	look(time.Minute)
	if !s.ended() {
		t.Error("a silent session goes on")
	}
}
