package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"
)

// A session is found by retries and by changes of its reader's sets as soon as it
// is attached, which is before its welcome is written. Nothing comes before that.
func TestNothingStandsBeforeTheWelcome(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.dial("u1", gatewaytest.Options{NoHello: true, Silent: true})
	var s *session
	r.eventually("it is there", func() bool {
		for _, s = range r.gateway.present.all() {
			return true
		}
		return false
	})
	s.hello.Stop()
	s.reader, s.cursor = 1, 10 // its hello said after
	s.expires.Store(time.Now().Add(time.Hour).Unix())
	r.pools.of(1).attach(s, 0)
	id := journal.ID{Epoch: 1, LSN: 7}
	again := messageFrame(&journal.Message{ID: id}, journal.Attempt{Seq: 9, N: 2})
	if s.retry(again) {
		t.Error("a retry is to be written before the welcome")
	}
	s.answer(8, controlFrame(subscriptionsFrame{Type: "subscriptions", Follow: []string{}, Mute: []string{}}))
	s.begin(controlFrame(welcomeFrame{Type: "welcome", Follow: []string{}, Mute: []string{}}))
	c.Until("both", func(f gatewaytest.Frame) bool { return f.Type == "subscriptions" })
	var kinds []string
	for _, f := range c.Frames() {
		kinds = append(kinds, f.Type)
	}
	if got, want := fmt.Sprint(kinds), "[welcome message subscriptions]"; got != want {
		t.Errorf("frames %s, want %s", got, want)
	}
}

// An acknowledgement that was read counts, also if it waits for its turn when the
// server ends the session.
func TestAnAcknowledgementThatWaitsOutlivesItsSession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	id := r.publish(1, "tech")[0]
	c.WaitMessages(1)
	unknown := make([]string, 400)
	for i := range unknown {
		unknown[i] = fmt.Sprintf("%028x", i)
	}
	for range 2 * ackRate / len(unknown) { // a second's worth more than is taken at once
		c.Send(map[string]any{"type": "ack", "ids": unknown})
	}
	c.Send(map[string]any{"type": "ack", "id": id})
	r.pools.sessions()[0].end(endDraining, time.Second)
	endsWith(t, c, endDraining)
	r.wantUnread("u1", nil)
}

// Who is sent away before its socket is watched leaves no trace in the poller:
// its descriptor is another's by then.
func TestSessionsThatEndWhileTheyAreAccepted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-stop:
				return
			default:
				for _, s := range r.gateway.present.all() {
					s.drop(endLost)
				}
			}
		}
	}()
	for range 300 {
		c, _, err := gatewaytest.TryDial(t, gatewaytest.Options{URL: r.url("ws", "/v1/ws"), NoHello: true})
		if err == nil {
			c.Close()
		}
	}
	close(stop)
	<-gone
	if logs := r.logs.String(); strings.Contains(logs, "watch socket") {
		t.Errorf("a socket was watched that was closed:\n%.300s", logs)
	}
	r.join("u1", gatewaytest.Options{})
}
