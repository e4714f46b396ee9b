package gateway

import (
	"fmt"
	"net/http"
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
