package gateway

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
)

// Every session is told within the window; nobody new comes in; then Run returns.
func TestDrainSendsEverybodyAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Drain = 2 * time.Second })
	var all []*gatewaytest.Reader
	for i := range 60 {
		all = append(all, r.dial(fmt.Sprint("u", i), gatewaytest.Options{Follow: []string{"tech"}}))
	}
	for _, c := range all {
		c.Welcome()
	}
	id := r.publish(1, "tech")[0]
	for _, c := range all {
		c.WaitMessages(1)
	}
	idle := r.dial("idle", gatewaytest.Options{NoHello: true})
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- r.close() }()
	r.eventually("it is not ready", func() bool { return r.gateway.Ready() != nil })
	_, got := handshake(t, r, "/v1/ws", nil, subprotocol)
	wantProblem(t, got, 503, "draining")
	wantRetryAfter(t, got)
	for _, c := range all {
		endsWith(t, c, endDraining)
		bye := c.Until("bye", func(f gatewaytest.Frame) bool { return f.Type == "bye" })
		if late := bye.At.Sub(began); late > 2*time.Second {
			t.Errorf("a session was told after %s, want within the window of 2 s", late)
		}
		if !strings.Contains(string(bye.Raw), `"retry_after_ms":`) {
			t.Errorf("bye says nothing about when to come back: %s", bye.Raw)
		}
	}
	endsWith(t, idle, endDraining) // who has not said hello is told, too
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("Run returned after %s", took)
	}
	r.wantUnread("u0", nil) // the acks that came before are kept
	if n := r.metric("newswire_gateway_closed_total", "draining"); n != 61 {
		t.Errorf("%v sessions counted as draining, want 61 (message %s)", n, id)
	}
	if c, err := net.DialTimeout("tcp", r.gateway.Addr().String(), time.Second); err == nil {
		c.Close()
		t.Error("the gateway still listens")
	}
}

// Who says hello in the very moment when the drain begins is sent away too, and
// Run does not wait for it for ever.
func TestHelloDuringTheDrainIsSentAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var late []*gatewaytest.Reader
	for range 20 {
		late = append(late, r.dial("u1", gatewaytest.Options{NoHello: true}))
	}
	r.eventually("all are in", func() bool { return r.gateway.door.held() == 20 })
	done := make(chan error, 1)
	go func() { done <- r.close() }()
	for i, c := range late {
		hello, err := json.Marshal(map[string]any{"type": "hello", "token": r.token(fmt.Sprint("u", i), nil)})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SendKind(websocket.TextMessage, hello) // the goodbye may have come before it
	}
	for _, c := range late {
		if code, _ := c.Ended(); code != 1012 {
			t.Errorf("a hello during the drain ends with %d, want 1012", code)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A client that does not read its goodbye is cut off.
func TestDrainDoesNotWaitForWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.writeTimeout = time.Second })
	r.dial("u1", gatewaytest.Options{Follow: []string{"tech"}, Stalled: true, ReceiveBuffer: 4096})
	r.eventually("it is attached", func() bool { return r.pools.Count() == 1 })
	squeeze(t, r.pools.sessions()[0])
	for range 500 {
		r.commit(article, "tech")
	}
	began := time.Now()
	if err := r.close(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("Run returned after %s, want some 10 s behind the window", took)
	}
}

// Long polls do not hold the drain up, and what they would have brought stays
// unread.
func TestDrainCutsLongPollsOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if got := r.ask("u1", "PUT", "/v1/subscriptions", `{"follow":["tech"]}`); got.status != 200 {
		t.Fatalf("subscribe: %d", got.status)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		conn, err := net.Dial("tcp", r.gateway.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /v1/poll?wait=25 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", r.token("u1", nil))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, _ = conn.Read(make([]byte, 1024))
	}()
	number, _, _ := r.readers.Get("u1")
	r.eventually("the poll waits", func() bool { return r.waits(number) == 1 })
	began := time.Now()
	if err := r.close(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("Run returned after %s", took)
	}
	<-answered
	r.eventually("the poll has gone", func() bool { return r.waits(number) == 0 })
	ids := r.publish(1, "tech")
	r.routed()
	r.wantUnread("u1", ids)
}
