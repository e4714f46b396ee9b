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
	late := func() { session.look(time.Now(), time.Duration(session.heard.Load())+2*session.deps.pingEvery+1) }
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
