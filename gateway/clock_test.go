package gateway

import (
	"testing"
	"time"

	"newswire/gateway/gatewaytest"
)

// A wall clock that jumps ends no session for silence, and delays no ping; it
// only counts for tokens, whose end is a time of the wall clock.
func TestJumpsOfTheClockEndNobodyButExpiredTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}}) // its token is good for an hour
	vienna, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Round(0)
	session := r.gateway.present.all()[0]
	for _, jump := range []time.Duration{-24 * time.Hour, -time.Hour, 0, 50 * time.Minute, -50 * 365 * 24 * time.Hour} {
		session.look(now.Add(jump), uptime())
		session.look(now.Add(jump).In(vienna), uptime())
		r.publish(1, "tech")
		c.Sync()
	}
	c.WaitMessages(5)
	session.look(now.Add(61*time.Minute).In(vienna), uptime())
	endsWith(t, c, endTokenExpired)
}

// A process that was paused for long ends nobody for what it could not hear or
// write meanwhile; who stays silent behind that goes.
func TestAPauseOfTheProcessEndsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.PingEvery = 10 * time.Minute }) // the rig's own looks do nothing
	c := r.join("u1", gatewaytest.Options{})
	s := r.gateway.present.all()[0]
	r.eventually("it is idle", s.holdStill) // as one whose socket takes no more
	const pause = time.Hour
	up := uptime() + pause
	s.mu.Lock()
	s.due, s.lingers = up-time.Second, up-time.Second
	s.batch = []*frame{pingFrame}
	s.blocked.Store(true)
	s.mu.Unlock()
	r.gateway.lookAfter(time.Now(), up, pause)
	s.mu.Lock()
	if s.ending.code != 0 || s.due < up || s.lingers < up || time.Duration(s.heard.Load()) > up {
		t.Errorf("behind a pause: ended with %q, a write is due in %s, a goodbye in %s", s.ending.reason, s.due-up, s.lingers-up)
	}
	s.blocked.Store(false)
	s.due, s.lingers, s.batch, s.writing = 0, 0, nil, false
	s.mu.Unlock()
	r.gateway.lookAfter(time.Now(), up+10*time.Minute, lookEvery)
	r.gateway.lookAfter(time.Now(), up+21*time.Minute, lookEvery)
	if code, _ := c.Ended(); code != 0 || s.ending != endSilent {
		t.Errorf("who is silent behind a pause ends with %d and %q, want %q", code, s.ending.reason, endSilent.reason)
	}
}
