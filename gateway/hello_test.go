package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
)

// farID is newer than any journal of these tests.
const farID = "ffff00000000ffffffff00000000"

func TestWelcomeSaysWhatTheContractLists(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.AckTimeout = 12 * time.Second; s.PingEvery = 7 * time.Second })
	exp := time.Now().Add(90 * time.Minute).Unix()
	c := r.join("u1", gatewaytest.Options{
		Token: r.token("u1", gatewaytest.Claims{"exp": exp}), Follow: []string{"tech", "ai", "tech"}, Mute: []string{"gossip"},
	})
	var got map[string]any
	if err := json.Unmarshal(c.Welcome().Raw, &got); err != nil {
		t.Fatal(err)
	}
	if session, _ := got["session"].(string); session == "" {
		t.Errorf("welcome names no session: %v", got)
	}
	delete(got, "session")
	want := fmt.Sprint(map[string]any{
		"type": "welcome", "reader": "u1", "follow": []any{"ai", "tech"}, "mute": []any{"gossip"}, "resume": "none",
		"ack_timeout_ms": 12000.0, "ping_ms": 7000.0, "expires": time.Unix(exp, 0).UTC().Format(time.RFC3339),
	})
	if fmt.Sprint(got) != want {
		t.Errorf("welcome is\n%v, want\n%v", got, want)
	}
	again := r.join("u1", gatewaytest.Options{}).Welcome()
	if !slices.Equal(again.Follow, []string{"ai", "tech"}) || !slices.Equal(again.Mute, []string{"gossip"}) {
		t.Errorf("a hello without sets gives %v and %v, want the stored ones", again.Follow, again.Mute)
	}
	empty := r.join("nobody", gatewaytest.Options{}).Welcome()
	if !strings.Contains(string(empty.Raw), `"follow":[],"mute":[]`) {
		t.Errorf("empty sets are not []: %s", empty.Raw)
	}
}

func TestHelloAfterSkipsWhatIsNotNewer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	if f := first.Welcome(); f.Resume != "none" {
		t.Errorf("resume without after is %q, want none", f.Resume)
	}
	ids := r.publish(5, "tech")
	first.WaitMessages(5)
	for i, id := range ids {
		c := r.join("u1", gatewaytest.Options{After: id, Silent: true})
		if f := c.Welcome(); f.Resume != "complete" {
			t.Errorf("after the %d. id: resume is %q, want complete", i, f.Resume)
		}
		c.WaitMessages(4 - i)
		c.Sync()
		if got := c.IDs(); !slices.Equal(got, ids[i+1:]) {
			t.Errorf("after the %d. id: got %v, want %v", i, got, ids[i+1:])
		}
		for _, m := range c.Messages() {
			if !m.Replay || m.Attempt != 1 {
				t.Errorf("replayed message says attempt %d, replay %v; want 1, true", m.Attempt, m.Replay)
			}
		}
	}
	r.wantUnread("u1", ids) // after is no ack
	ahead := r.join("u1", gatewaytest.Options{After: farID, Silent: true})
	if f := ahead.Welcome(); f.Resume != "gap" {
		t.Errorf("after an id of the future: resume is %q, want gap", f.Resume)
	}
	ahead.WaitMessages(5) // an id of another journal hides nothing
}

func TestEmptyJournalMeetsAnAfterWithGap(t *testing.T) {
	t.Parallel()
	c := newRig(t).join("u1", gatewaytest.Options{After: "0001000000000196a3b000000000"})
	if f := c.Welcome(); f.Resume != "gap" {
		t.Errorf("resume is %q, want gap", f.Resume)
	}
}

func TestMalformedAfterIsABadFrame(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, after := range []string{"0", "0001000000000196A3B000000000", "zz01000000000196a3b000000000", farID + "0"} {
		endsWith(t, r.dial("u1", gatewaytest.Options{After: after}), endBadFrame)
	}
}

func TestAnythingButHelloFirstIsABadFrame(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token("u1", nil)
	cases := map[string]string{
		"not JSON":        `hello`,
		"empty":           ``,
		"half an object":  `{"type":"hello"`,
		"two objects":     `{"type":"hello","token":"` + token + `"}{}`,
		"null":            `null`,
		"a list":          `["hello"]`,
		"ping first":      `{"type":"ping","ref":"1"}`,
		"follow first":    `{"type":"follow","tags":["tech"]}`,
		"ack first":       `{"type":"ack","upto":"` + farID + `"}`,
		"no type":         `{"token":"` + token + `"}`,
		"type of no kind": `{"type":7}`,
	}
	for name, raw := range cases {
		c := r.dial("u1", gatewaytest.Options{NoHello: true})
		c.Send([]byte(raw))
		code, reason := c.Ended()
		if code != 4500 || reason != "bad_frame" {
			t.Errorf("%s: closed with %d %q, want 4500 bad_frame", name, code, reason)
		}
	}
	c := r.dial("u1", gatewaytest.Options{NoHello: true})
	if err := c.SendKind(websocket.BinaryMessage, []byte(`{"type":"hello","token":"`+token+`"}`)); err != nil {
		t.Fatal(err)
	}
	endsWith(t, c, endBadFrame)
}

func TestNoHelloInFiveSecondsEndsTheConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	began := time.Now()
	c := r.dial("u1", gatewaytest.Options{NoHello: true})
	endsWith(t, c, endHelloTimeout)
	if took := time.Since(began); took < 4900*time.Millisecond || took > time.Minute {
		t.Errorf("closed after %s, want 5 s", took)
	}
	if n := r.metric("newswire_gateway_closed_total", "hello_timeout"); n != 1 {
		t.Errorf("%v sessions counted as hello_timeout, want 1", n)
	}
}

func TestForbiddenTagInHelloLeavesTheSetsAsTheyAre(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.join("u1", gatewaytest.Options{Follow: []string{"tech"}}).Leave()
	c := r.join("u1", gatewaytest.Options{
		Token: r.token("u1", gatewaytest.Claims{"tags": []string{"tech", "sport"}}), Follow: []string{"sport", "secret"},
	})
	if f := c.Welcome(); !slices.Equal(f.Follow, []string{"tech"}) {
		t.Errorf("welcome says follow %v, want the stored [tech]", f.Follow)
	}
	f := c.Until("an error", func(f gatewaytest.Frame) bool { return f.Type == "error" })
	if string(f.Code) != `"tag_forbidden"` {
		t.Errorf("the error says %s, want tag_forbidden", f.Code)
	}
	c.Sync()
}

// handshake is an upgrade request of its own; it gives the answer's status,
// headers and body.
func handshake(t testing.TB, r *rig, path string, header http.Header, protocols ...string) (*websocket.Conn, reply) {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: patience}
	conn, resp, err := dialer.Dial(r.url("ws", path), header)
	if resp == nil {
		t.Fatalf("upgrade %s: %v", path, err)
	}
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		return conn, reply{resp.StatusCode, resp.Header, ""}
	}
	body := make([]byte, 4096)
	n, _ := resp.Body.Read(body)
	return nil, reply{resp.StatusCode, resp.Header, string(body[:n])}
}

func TestUpgradeIsRefusedBeforeItHappens(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.Sessions = 1 })
	token := r.token("u1", nil)
	cases := []struct {
		name, path string
		header     http.Header
		protocols  []string
		status     int
		code       string
	}{
		{"token in the URL", "/v1/ws?token=" + token, nil, []string{subprotocol}, 400, "token_in_url"},
		{"access_token in the URL", "/v1/ws?a=b&access_token=", nil, []string{subprotocol}, 400, "token_in_url"},
		{"no subprotocol", "/v1/ws", nil, nil, 400, "subprotocol"},
		{"another subprotocol", "/v1/ws", nil, []string{"newswire.v2"}, 400, "subprotocol"},
		{"another origin", "/v1/ws", http.Header{"Origin": {"https://evil.example.com"}}, []string{subprotocol}, 403, "origin"},
		{"an origin that begins alike", "/v1/ws", http.Header{"Origin": {"https://news.example.com.evil.org"}}, []string{subprotocol}, 403, "origin"},
		{"the origin with a port", "/v1/ws", http.Header{"Origin": {"https://news.example.com:443"}}, []string{subprotocol}, 403, "origin"},
		{"the origin over http", "/v1/ws", http.Header{"Origin": {"http://news.example.com"}}, []string{subprotocol}, 403, "origin"},
		{"an opaque origin", "/v1/ws", http.Header{"Origin": {"null"}}, []string{subprotocol}, 403, "origin"},
	}
	for _, c := range cases {
		_, got := handshake(t, r, c.path, c.header, c.protocols...)
		if got.status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, got.status, c.status)
		}
		wantProblem(t, got, c.status, c.code)
	}
	// None of them has kept the only place there is.
	for _, origin := range []string{"https://news.example.com", ""} {
		c := r.join("u1", gatewaytest.Options{Origin: origin})
		c.Close()
		r.eventually("the place is free again", func() bool { return r.gateway.door.held() == 0 })
	}
	if strings.Contains(r.logs.String(), token[len(token)-20:]) {
		t.Error("a token stands in the log")
	}
}

// wantProblem checks a problem document.
func wantProblem(t testing.TB, got reply, status int, code string) {
	t.Helper()
	var p struct {
		Type, Title, Code, Detail string
		Status                    int
	}
	if kind := got.header.Get("Content-Type"); got.status != status || kind != "application/problem+json" {
		t.Errorf("status %d with %s, want %d with application/problem+json", got.status, kind, status)
	}
	if err := json.Unmarshal([]byte(got.body), &p); err != nil {
		t.Errorf("problem %q: %v", got.body, err)
	}
	if p.Status != status || p.Code != code || p.Type == "" || p.Title == "" || p.Detail == "" {
		t.Errorf("problem is %s, want status %d and code %s", got.body, status, code)
	}
}
