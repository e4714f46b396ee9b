package browser_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"newswire/gateway/browser/browsertest"
)

// openBlocked is openPage where no WebSocket gets through.
func openBlocked(t *testing.T) *page {
	p := openPage(t)
	p.server.blocked.Store(true)
	p.Do(`window.timeScale = 0.01; window.token = "` + tokenOf("ann") + `"`)
	return p
}

func TestItPollsWhereNoWebSocketGetsThrough(t *testing.T) {
	t.Parallel()
	p := openBlocked(t)
	p.Do(`open_({follow: ["tech"]})`)
	online := p.until(`e.state === "online"`)
	if online.Transport != "polling" {
		t.Errorf("online by %q", online.Transport)
	}
	if n := p.count(`e.state === "offline"`); n != 2 {
		t.Errorf("it polls after %d attempts without success, want 2", n)
	}
	if got := browsertest.Eval[[]string](p.Tab, "client.subscriptions.follow"); !slices.Equal(got, []string{"tech"}) {
		t.Errorf("it follows %q", got)
	}
	p.mailbox.put(news(1, 1), news(2, 1))
	p.mailbox.untilAcked(id(1), id(2))
	for n := range 2 {
		if got := browsertest.Eval[string](p.Tab, `events.filter((e) => e.kind === "message")[`+string(rune('0'+n))+`].id`); got != id(n+1) {
			t.Errorf("message %d is %s", n, got)
		}
	}
	type outcome struct {
		Value *subscriptions
		Code  string
	}
	if got := browsertest.Eval[outcome](p.Tab, `outcome(client.mute(["gossip"]))`); got.Value == nil || !slices.Equal(got.Value.Mute, []string{"gossip"}) {
		t.Errorf("mute settled with %+v", got)
	}
	if got := browsertest.Eval[outcome](p.Tab, `outcome(client.follow(["forbidden"]))`); got.Code != "tag_forbidden" {
		t.Errorf("a forbidden follow settled with %+v", got)
	}
	if n := p.count(`e.kind === "violation"`); n != 0 {
		t.Errorf("%d violations of the page's policy", n)
	}

	// The WebSocket is back.
	p.server.blocked.Store(false)
	p.Do(`window.timeScale = 1; events.length = 0; window.dispatchEvent(new Event("online"))`)
	s := p.server.accept()
	if hello := s.welcome(); hello.After != id(2) || hello.Follow != nil {
		t.Errorf("hello = %+v, want after %s and no sets", hello, id(2))
	}
	if online := p.until(`e.state === "online"`); online.Transport != "websocket" {
		t.Errorf("online by %q", online.Transport)
	}
	if n := p.count(`e.state === "offline"`); n != 0 {
		t.Errorf("it was offline %d times on the way", n)
	}
	s.acked(id(1), id(2)) // again: the last connection may have lost them
	s.send(news(3, 1))
	s.acked(id(3))
}

func TestPollingSeeksAWebSocketFromTimeToTime(t *testing.T) {
	t.Parallel()
	p := openBlocked(t)
	p.Do(`window.waits = []; const set = window.setTimeout; window.setTimeout = (fire, ms) => { waits.push(ms); return set(fire, ms); }; open_({})`)
	p.until(`e.state === "online" && e.transport === "polling"`)
	for _, wait := range []int{2_000, 60_000, 120_000, 240_000} { // the first soon: perhaps the server was just away
		if !browsertest.Until(p.Tab, func() bool { return browsertest.Eval[bool](p.Tab, fmt.Sprintf("waits.includes(%d)", wait)) }) {
			t.Fatalf("it does not look after %d ms", wait)
		}
	}
	p.server.blocked.Store(false)
	p.server.accept().welcome()
	p.until(`e.state === "online" && e.transport === "websocket"`)
}

func TestWithoutWebSocketsItPollsAtOnce(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`delete window.WebSocket; window.token = "` + tokenOf("ann") + `"; open_({follow: ["tech"], mute: ["gossip"]})`)
	p.until(`e.state === "online" && e.transport === "polling"`)
	p.mailbox.put(news(1, 1))
	p.mailbox.untilAcked(id(1))
	p.mailbox.until("one replacement of the sets", func() bool {
		return slices.Equal(p.mailbox.requests, []string{"GET /v1/subscriptions", "PUT /v1/subscriptions"})
	})
	p.Do(`client.close()`)

	p.Do(`events.length = 0; open_({getToken: undefined})`)
	if stopped := p.until(`e.state === "stopped"`); stopped.Reason == "" {
		t.Errorf("stopped with %+v", stopped)
	}
}

func TestPollingShowsAgainWhatFailed(t *testing.T) {
	t.Parallel()
	p := openBlocked(t)
	p.Do(`let n = 0; open_({onMessage: (m) => { record({kind: "message", id: m.id}); if (m.id === "` + id(1) + `" && ++n < 2) throw new Error("page fault"); }})`)
	p.until(`e.transport === "polling"`)
	p.mailbox.put(news(1, 1), news(2, 1))
	p.mailbox.untilAcked(id(2))
	p.mailbox.put(news(3, 1)) // a failed one holds nothing up
	p.mailbox.untilAcked(id(2), id(3))
	if n := p.count(`e.id === "` + id(1) + `"`); n != 1 {
		t.Errorf("the failed one was shown %d times at once", n)
	}
	p.Do(`const now = Date.now; Date.now = () => now() + 30000`)
	p.mailbox.untilAcked(id(2), id(3), id(1))
	if got := browsertest.Eval[string](p.Tab, "client.transport"); got != "polling" {
		t.Errorf("transport %q", got)
	}
}

func TestPollingAsksForAFreshTokenOrStops(t *testing.T) {
	t.Parallel()
	p := openBlocked(t)
	p.Do(`open_({})`)
	p.until(`e.transport === "polling"`)
	p.mailbox.refusing(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer fresh" {
			return false
		}
		problem(w, http.StatusUnauthorized, "unauthorized", "token has expired")
		return true
	})
	p.Do(`events.length = 0; window.token = "fresh"`)
	p.mailbox.put(news(1, 1)) // ends the poll that waits
	p.mailbox.untilAcked(id(1))
	if off := p.until(`e.state === "offline"`); off.Code != 4001 {
		t.Errorf("offline with %+v, want 4001", off)
	}
	p.Do(`events.length = 0; window.token = "refused"; client.follow(["a"]).catch(() => {})`)
	p.mailbox.refusing(func(w http.ResponseWriter, _ *http.Request) bool {
		problem(w, http.StatusUnauthorized, "unauthorized", "token is not valid here")
		return true
	})
	p.mailbox.put(news(2, 1))
	if stopped := p.until(`e.state === "stopped"`); stopped.Code != 4501 || stopped.Reason != "unauthorized" {
		t.Errorf("stopped with %+v", stopped)
	}
}

func TestARevokedReaderStopsPolling(t *testing.T) {
	t.Parallel()
	p := openBlocked(t)
	p.mailbox.refusing(func(w http.ResponseWriter, _ *http.Request) bool {
		problem(w, http.StatusForbidden, "forbidden", "revoked")
		return true
	})
	p.Do(`open_({})`)
	if stopped := p.until(`e.state === "stopped"`); stopped.Code != 4503 {
		t.Errorf("stopped with %+v, want 4503", stopped)
	}
}

// A server that is away altogether is not taken for a blocked WebSocket.
func TestNothingGettingThroughIsBackoff(t *testing.T) {
	t.Parallel()
	p := openBlocked(t)
	p.mailbox.refusing(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	p.Do(`open_({})`)
	p.until(`e.reason === "polling: HTTP status 502"`)
	p.server.blocked.Store(false)
	s := p.server.accept() // which it tries in turn
	s.welcome()
	p.until(`e.state === "online" && e.transport === "websocket"`)
}
