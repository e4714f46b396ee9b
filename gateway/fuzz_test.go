package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
)

// Whatever a client says behind its hello, the session goes on or ends with a
// code of the contract.
func FuzzClientFrame(f *testing.F) {
	r := newRig(f, func(s *settings) { s.Limits.TagsPerReader = 50 })
	for _, seed := range []string{
		`{"type":"follow","tags":["tech"],"ref":"7"}`, `{"type":"unfollow","tags":["tech","*"]}`,
		`{"type":"mute","tags":["gossip"],"ref":"8"}`, `{"type":"unmute","tags":[""]}`, `{"type":"follow","tags":null}`,
		`{"type":"ack","id":"0001000000000196a3b000000000"}`, `{"type":"ack","ids":["x",""],"upto":"` + farID + `"}`,
		`{"type":"token","token":"a.b.c"}`, `{"type":"ping","ref":"1"}`, `{"type":"hello","token":"x"}`, `{"type":"bye"}`,
		`{}`, `[]`, `null`, `7`, `"`, ``, `{"type":{}}`, `{"type":"follow","tags":[7]}`, `{"type":"ack","id":7}`, "\x00\xff",
		`{"type":"follow","tags":["\u0000"],"ref":"\ud800"}`, strings.Repeat(`[`, 12_000), strings.Repeat(" ", 17_000),
	} {
		f.Add([]byte(seed))
	}
	address, token := r.url("ws", "/v1/ws"), r.token("u1", gatewaytest.Claims{"exp": time.Now().Add(24 * time.Hour).Unix()})
	documented := []int{1009, 4500}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := gatewaytest.Dial(t, gatewaytest.Options{URL: address, Token: token})
		c.Welcome()
		_ = c.SendKind(websocket.TextMessage, raw)
		_ = c.SendKind(websocket.TextMessage, []byte(`{"type":"ping","ref":"still here"}`)) // it may be closed by now
		_, err := c.Await(func(f gatewaytest.Frame) bool { return f.Type == "pong" && f.Ref == "still here" })
		if err == nil {
			return // the session goes on
		}
		if code, reason := c.Ended(); !slices.Contains(documented, code) {
			t.Errorf("%.80q ends the session with %d %q", raw, code, reason)
		}
	})
}

// A poll's query is refused or asks for what may be given.
func FuzzParsePoll(f *testing.F) {
	for _, seed := range []string{
		"", "limit=100&wait=0", "limit=1000&wait=25&ack=manual", "limit=-1", "wait=NaN", "wait=1e999", "wait=0x1p-2",
		"limit=+7", "limit=1_0", "wait=%2525", "ack=manual&ack=auto", "limit=5;wait=7", "%zz", "limit", "wait=-0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		p, err := parsePoll(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/v1/poll", RawQuery: query}})
		if err != nil {
			if text := err.Error(); len(text) > 200 {
				t.Errorf("refusal of %d bytes", len(text))
			}
			return
		}
		if p.limit < 1 || p.limit > 1000 || p.wait < 0 || p.wait > 25*time.Second {
			t.Errorf("%q is taken as %+v", query, fmt.Sprint(p))
		}
	})
}

// Whatever is asked over HTTP, the answer is one of the contract's, says nothing
// of the token, and leaves another reader's account alone.
func FuzzHTTP(f *testing.F) {
	r := newRig(f, func(s *settings) { s.Limits.TagsPerReader = 50 })
	r.ask("victim", "PUT", "/v1/subscriptions", `{"follow":["tech"]}`)
	stolen := r.publish(1, "tech")
	r.routed()
	victim, _, err := r.readers.Get("victim")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][4]string{
		{"GET", "/v1/poll?limit=1&wait=0", "", ""}, {"GET", "/v1/poll?limit=x&ack=manual", "", ""}, {"HEAD", "/v1/poll", "", ""},
		{"POST", "/v1/ack?msg_id=" + stolen[0], "", ""}, {"POST", "/v1/ack", `{"ids":["` + stolen[0] + `"],"upto":"` + farID + `"}`, "application/json"},
		{"PUT", "/v1/subscriptions", `{"follow":["a"],"mute":["b"]}`, ""}, {"PATCH", "/v1/subscriptions", `{"follow":["\u0000"]}`, ""},
		{"DELETE", "/v1/subscriptions", "", ""}, {"OPTIONS", "/v1/poll", "", ""}, {"GET", "/newswire.js", "", ""}, {"GET", "/v1/ws", "", ""},
		{"GET", "/v1/../v1/poll", "", ""}, {"GET", "//v1//poll", "", ""}, {"POST", "/v1/ack", `[[[[`, ""}, {"PUT", "/v1/subscriptions", `{"follow":{}}`, ""},
		{"GET", "/v1/poll?token=x", "", ""}, {"BREW", "/v1/poll", "\x00", "\xff"}, {"PATCH", "/v1/subscriptions", strings.Repeat("[", 10_000), ""},
	} {
		f.Add(seed[0], seed[1], []byte(seed[2]), seed[3])
	}
	token := r.token("u1", gatewaytest.Claims{"exp": time.Now().Add(24 * time.Hour).Unix()})
	handler := r.gateway.Handler()
	statuses := []int{200, 204, 301, 304, 307, 308, 400, 401, 403, 404, 405, 408, 413, 422}
	f.Fuzz(func(t *testing.T, method, target string, body []byte, kind string) {
		u, err := url.Parse(target)
		if err != nil || u.Query().Get("wait") != "" { // a poll that waits only waits
			return
		}
		req := httptest.NewRequest(http.MethodGet, "/", bytes.NewReader(body))
		req.Method, req.URL, req.RequestURI = method, u, target
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", kind)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, req)
		if !slices.Contains(statuses, answer.Code) {
			t.Errorf("%s %q: status %d %s", method, target, answer.Code, answer.Body)
		}
		if said := answer.Body.String() + fmt.Sprint(answer.Header()); strings.Contains(said, token[len(token)-20:]) {
			t.Errorf("%s %q: the answer has the token", method, target)
		}
		if answer.Code >= 400 && strings.HasPrefix(u.Path, "/v1/") && answer.Code != 405 && !json.Valid(answer.Body.Bytes()) {
			t.Errorf("%s %q: status %d without a problem: %q", method, target, answer.Code, answer.Body)
		}
		if unread, _, err := r.ledger.Unread(victim, 0, 10); err != nil || len(unread) != 1 {
			t.Errorf("%s %q %q: the victim has %v unread (%v), want its one message", method, target, body, unread, err)
		}
	})
}
