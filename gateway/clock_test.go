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
