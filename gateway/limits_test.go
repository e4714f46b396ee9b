package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
)

// One reader's newest sessions stay, also when many come at once and the old
// ones are slow to go.
func TestTooManySessionsEndTheOldest(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.SessionsPerReader = 2 })
	var all []*gatewaytest.Reader
	seen := map[*session]bool{}
	for range 6 {
		// Stalled: it does not answer the goodbye, so it stays attached a while.
		all = append(all, r.dial("u1", gatewaytest.Options{Stalled: true}))
		r.eventually("it is attached", func() bool {
			for _, s := range r.pools.sessions() {
				seen[s] = true
			}
			return len(seen) == len(all) && r.attached("u1") == min(2, len(all))
		})
	}
	other := r.join("u2", gatewaytest.Options{})
	for i, c := range all {
		c.Resume()
		if i < 4 {
			c.Welcome()
			endsWith(t, c, endTooManySessions)
			continue
		}
		c.Welcome()
		c.Sync()
	}
	other.Sync()
	if n := r.metric("newswire_gateway_closed_total", "too_many_sessions"); n != 4 {
		t.Errorf("%v sessions counted as too_many_sessions, want 4", n)
	}
}

// attached tells how many of a reader's sessions go on.
func (r *rig) attached(reader string) (n int) {
	for _, s := range r.pools.sessions() {
		if s.name == reader && !s.ended() {
			n++
		}
	}
	return n
}

func TestTooManyFramesEndTheSessionAndAcksAreNotCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.FramesPerSecond = 5 })
	acks := r.join("u1", gatewaytest.Options{})
	for range 500 {
		acks.Send(map[string]any{"type": "ack", "id": farID})
	}
	acks.Sync()
	for what, flood := range map[string]func(*gatewaytest.Reader) error{
		"frames":  func(c *gatewaytest.Reader) error { return c.SendKind(websocket.TextMessage, []byte(`{"type":"ping"}`)) },
		"unknown": func(c *gatewaytest.Reader) error { return c.SendKind(websocket.TextMessage, []byte(`{"type":"x"}`)) },
		"odd":     func(c *gatewaytest.Reader) error { return c.SendKind(websocket.TextMessage, []byte(`{"type":5}`)) },
		"pings":   func(c *gatewaytest.Reader) error { return c.SendKind(websocket.PingMessage, nil) },
	} {
		c := r.join("u2", gatewaytest.Options{})
		for range 50 {
			if flood(c) != nil {
				break // it is closed already
			}
		}
		code, reason := c.Ended()
		if code != 4029 || reason != "rate_limited" {
			t.Errorf("%s: closed with %d %q, want 4029 rate_limited", what, code, reason)
		}
	}
	acks.Sync()
}

func TestSessionsInAllAreLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.Sessions = 2 })
	a := r.join("u1", gatewaytest.Options{})
	r.dial("u2", gatewaytest.Options{NoHello: true}) // who has not said hello counts too
	r.eventually("both have a place", func() bool { return r.gateway.door.held() == 2 })
	_, got := handshake(t, r, "/v1/ws", nil, subprotocol)
	wantProblem(t, got, 503, "sessions")
	wantRetryAfter(t, got)
	if got := r.ask("u3", "GET", "/v1/poll", ""); got.status != 204 {
		t.Errorf("a poll is answered %d when the sessions are many, want 204", got.status)
	}
	a.Close()
	r.eventually("a place is free", func() bool { return r.gateway.door.held() == 1 })
	r.join("u3", gatewaytest.Options{})
}

func wantRetryAfter(t testing.TB, got reply) {
	t.Helper()
	if n, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
		t.Errorf("Retry-After is %q, want 1 to 60 seconds", got.header.Get("Retry-After"))
	}
}

func TestSessionsOfOneAddressAreLimited(t *testing.T) {
	t.Parallel()
	direct := newRig(t, func(s *settings) { s.Limits.SessionsPerIP = 2 })
	for i := range 2 {
		direct.join("u1", gatewaytest.Options{Header: http.Header{"X-Forwarded-For": {fmt.Sprint("10.0.0.", i)}}})
	}
	// Without trusted proxies a header cannot make another address of it.
	_, got := handshake(t, direct, "/v1/ws", http.Header{"X-Forwarded-For": {"10.9.9.9"}}, subprotocol)
	wantProblem(t, got, 429, "sessions_per_ip")
	wantRetryAfter(t, got)

	proxied := newRig(t, func(s *settings) {
		s.Limits.SessionsPerIP = 1
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	via := func(chain ...string) http.Header { return http.Header{"X-Forwarded-For": chain} }
	proxied.join("u1", gatewaytest.Options{Header: via("203.0.113.1")})
	proxied.join("u1", gatewaytest.Options{Header: via("203.0.113.2, 10.1.1.1")})
	for name, header := range map[string]http.Header{
		"the same client":          via("203.0.113.1"),
		"with a spoofed first hop": via("8.8.8.8, 203.0.113.1"),
		"in two headers":           via("8.8.8.8", "203.0.113.1"),
		"through another proxy":    via("198.51.100.7, 203.0.113.2, 10.2.2.2"),
		"mapped to IPv6":           via("::ffff:203.0.113.1"),
	} {
		_, got := handshake(t, proxied, "/v1/ws", header, subprotocol)
		if got.status != 429 {
			t.Errorf("%s: status %d, want 429", name, got.status)
		}
	}
	if conn, got := handshake(t, proxied, "/v1/ws", via("203.0.113.3"), subprotocol); conn == nil {
		t.Errorf("another client is refused: %d %s", got.status, got.body)
	}
}

// What stands in X-Forwarded-For is believed from the right, and only as far as
// trusted proxies wrote it.
func TestClientAddressBehindProxies(t *testing.T) {
	t.Parallel()
	d := newDoor(Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}, nil)
	for _, c := range []struct {
		remote, header, want string
	}{
		{"192.0.2.1:999", "", "192.0.2.1"},
		{"192.0.2.1:999", "203.0.113.1", "192.0.2.1"},
		{"10.0.0.1:999", "", "10.0.0.1"},
		{"10.0.0.1:999", "203.0.113.1", "203.0.113.1"},
		{"[::ffff:10.0.0.1]:999", "203.0.113.1", "203.0.113.1"},
		{"[fd00::1]:999", "2001:db8::7", "2001:db8::7"},
		{"10.0.0.1:999", "1.1.1.1, 203.0.113.1, 10.0.0.2", "203.0.113.1"},
		{"10.0.0.1:999", "10.0.0.3, 10.0.0.2", "10.0.0.3"},
		{"10.0.0.1:999", "203.0.113.1:4711", "203.0.113.1"},
		{"10.0.0.1:999", "[2001:db8::7]:4711", "2001:db8::7"},
		{"10.0.0.1:999", "[2001:db8::7]", "2001:db8::7"},
		{"10.0.0.1:999", "203.0.113.1, unknown", "10.0.0.1"},
		{"10.0.0.1:999", "203.0.113.1,", "10.0.0.1"},
		{"10.0.0.1:999", "<script>", "10.0.0.1"},
		{"not an address", "203.0.113.1", "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/v1/ws", nil)
		r.RemoteAddr = c.remote
		if c.header != "" {
			r.Header.Set("X-Forwarded-For", c.header)
		}
		if got := d.client(r).String(); got != c.want {
			t.Errorf("from %s with %q: client %s, want %s", c.remote, c.header, got, c.want)
		}
	}
}

func TestHandshakesAreLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.HandshakesPerSecond = 3 })
	admitted, refused := 0, 0
	for range 20 {
		conn, got := handshake(t, r, "/v1/ws", nil, subprotocol)
		if conn != nil {
			admitted++
			continue
		}
		refused++
		wantProblem(t, got, 429, "handshakes")
		wantRetryAfter(t, got)
	}
	if admitted < 3 || refused < 5 {
		t.Errorf("of 20 connections at once %d came in and %d were refused, with 3 a second allowed", admitted, refused)
	}
	r.eventually("there is room again", func() bool {
		conn, _ := handshake(t, r, "/v1/ws", nil, subprotocol)
		return conn != nil
	})
}

// An upgrade that fails behind the door gives its place back.
func TestFailedUpgradeGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.Sessions = 1; s.Limits.SessionsPerIP = 1 })
	for name, header := range map[string][]string{
		"no upgrade":     {"Sec-WebSocket-Protocol", subprotocol},
		"wrong version":  {"Connection", "upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "7", "Sec-WebSocket-Protocol", subprotocol},
		"no key":         {"Connection", "upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Protocol", subprotocol},
		"another thing":  {"Connection", "upgrade", "Upgrade", "h2c", "Sec-WebSocket-Protocol", subprotocol},
		"short of bytes": {"Connection", "upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "eA==", "Sec-WebSocket-Protocol", subprotocol},
	} {
		got := r.ask("", "GET", "/v1/ws", "", header...)
		if got.status < 400 || got.status > 499 {
			t.Errorf("%s: status %d, want a 4xx", name, got.status)
		}
		if n := r.gateway.door.held(); n != 0 {
			t.Errorf("%s: %d places are held", name, n)
		}
	}
	r.join("u1", gatewaytest.Options{})
}

func TestReaderIsPresentWhileItHasASession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.join("u1", gatewaytest.Options{}), r.join("u1", gatewaytest.Options{})
	number, _, err := r.readers.Get("u1")
	if err != nil {
		t.Fatal(err)
	}
	of := bitmapOf(number)
	present := func() bool {
		connected, _ := r.pools.Presence(of, time.Hour)
		return connected.Contains(uint32(number))
	}
	a.Close()
	r.eventually("one is left", func() bool { return r.pools.Count() == 1 })
	if !present() {
		t.Error("the reader counts as gone though one of its two sessions is left")
	}
	b.Close()
	r.eventually("both are gone", func() bool { return r.pools.Count() == 0 })
	if _, changed := r.pools.Presence(of, time.Hour); present() || time.Since(changed[number]) > patience {
		t.Errorf("the reader counts as connected (%v) or left at %v", present(), changed[number])
	}
}
