package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
)

func TestSubscriptionsAnswerCarriesRefAndSets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{Follow: []string{"b"}})
	other := r.join("u1", gatewaytest.Options{})
	for i, step := range []struct {
		kind         string
		tags         []string
		follow, mute string
		changed      bool
	}{
		{"follow", []string{"a", "c"}, "[a b c]", "[]", true},
		{"follow", []string{"a"}, "[a b c]", "[]", false},
		{"follow", nil, "[a b c]", "[]", false},
		{"unfollow", []string{"b", "none"}, "[a c]", "[]", true},
		{"mute", []string{"c", "x"}, "[a c]", "[c x]", true},
		{"unmute", []string{"c"}, "[a c]", "[x]", true},
		{"unmute", []string{"c"}, "[a c]", "[x]", false},
		{"follow", []string{"*"}, "[* a c]", "[x]", true},
		{"follow", []string{strings.Repeat("ä", 64)}, "[* a c " + strings.Repeat("ä", 64) + "]", "[x]", true},
	} {
		ref := fmt.Sprint("r", i)
		told := subscriptions(other)
		f := c.Ask(ref, map[string]any{"type": step.kind, "tags": step.tags})
		if f.Type != "subscriptions" || fmt.Sprint(f.Follow) != step.follow || fmt.Sprint(f.Mute) != step.mute {
			t.Errorf("%s %v is answered %s, want follow %s and mute %s", step.kind, step.tags, f.Raw, step.follow, step.mute)
		}
		if step.changed {
			r.eventually("the other session is told", func() bool { return subscriptions(other) > told })
			frames := other.Frames()
			if news := frames[len(frames)-1]; news.Ref != "" || fmt.Sprint(news.Follow) != step.follow || fmt.Sprint(news.Mute) != step.mute {
				t.Errorf("%s %v tells the other session %s", step.kind, step.tags, news.Raw)
			}
			continue
		}
		other.Sync()
		if n := subscriptions(other); n != told {
			t.Errorf("%s %v changed nothing, and the other session is told", step.kind, step.tags)
		}
	}
	if n := subscriptions(c); n != 9 {
		t.Errorf("the session that asked got %d answers, want 9", n)
	}
	r.join("u1", gatewaytest.Options{Follow: []string{"z"}})
	c.Until("news of the other hello", func(f gatewaytest.Frame) bool { return fmt.Sprint(f.Follow) == "[z]" && f.Ref == "" })
}

func subscriptions(c *gatewaytest.Reader) (n int) {
	for _, f := range c.Frames() {
		if f.Type == "subscriptions" {
			n++
		}
	}
	return n
}

func TestOneBadTagChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.TagsPerReader = 5 })
	c := r.join("u1", gatewaytest.Options{
		Token: r.token("u1", gatewaytest.Claims{"tags": []string{"tech", "sport:*", "x:*"}}), Follow: []string{"tech"}, Mute: []string{"m"},
	})
	for i, bad := range []struct {
		kind string
		tags []string
		code string
	}{
		{"follow", []string{"sport:ski", "secret"}, "tag_forbidden"},
		{"follow", []string{"sport"}, "tag_forbidden"},
		{"follow", []string{"sport:ski", "sport:\n"}, "bad_tag"},
		{"mute", []string{"fine", ""}, "bad_tag"},
		{"mute", []string{"fine", strings.Repeat("x", 129)}, "bad_tag"},
		{"unfollow", []string{"tech", "a\x00b"}, "bad_tag"},
		{"unmute", []string{"m", "\u009f"}, "bad_tag"},
		{"follow", []string{"x:1", "x:2", "x:3", "x:4"}, "too_many_tags"},
		{"mute", []string{"1", "2", "3", "4"}, "too_many_tags"},
	} {
		f := c.Ask(fmt.Sprint("bad", i), map[string]any{"type": bad.kind, "tags": bad.tags})
		if f.Type != "error" || string(f.Code) != `"`+bad.code+`"` {
			t.Errorf("%s %q is answered %s, want error %s", bad.kind, bad.tags, f.Raw, bad.code)
		}
		now := c.Ask(fmt.Sprint("see", i), map[string]any{"type": "follow"})
		if fmt.Sprint(now.Follow, now.Mute) != "[tech] [m]" {
			t.Errorf("%s %q left follow %v and mute %v", bad.kind, bad.tags, now.Follow, now.Mute)
		}
	}
	if f := c.Ask("full", map[string]any{"type": "follow", "tags": []string{"x:1", "x:2", "x:3"}}); f.Type != "subscriptions" {
		t.Errorf("the fifth tag is refused: %s", f.Raw)
	}
}

func TestUnknownFramesAreErrorsAndTheSessionGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{})
	for ref, frame := range map[string]map[string]any{
		"unknown":         {"type": "teleport"},
		"of other fields": {"type": "teleport", "tags": map[string]any{"a": 1}, "id": []int{4}},
		"hello again":     {"type": "hello", "token": r.token("u1", nil)},
		"no type":         {},
		"tags a string":   {"type": "follow", "tags": "tech"},
		"tags of numbers": {"type": "follow", "tags": []int{1}},
		"token a number":  {"type": "token", "token": 1},
	} {
		if f := c.Ask(ref, frame); f.Type != "error" || len(f.Code) < 3 {
			t.Errorf("%s: answer is %s, want an error", ref, f.Raw)
		}
	}
	if f := c.Ask("grown", map[string]any{"type": "ping", "new": []int{1}}); f.Type != "pong" {
		t.Errorf("a ping with an unknown field is answered %s", f.Raw)
	}
	c.Send([]byte(`{"type":"ping"`))
	endsWith(t, c, endBadFrame)
}

func TestFrameOver16KiBIsTooBig(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	frame := func(size int) []byte {
		const head, tail = `{"type":"ping","ref":"fits","pad":"`, `"}`
		return []byte(head + strings.Repeat("x", size-len(head)-len(tail)) + tail)
	}
	c := r.join("u1", gatewaytest.Options{})
	c.Send(frame(16 << 10))
	c.Until("the pong", func(f gatewaytest.Frame) bool { return f.Ref == "fits" })
	c.Send(frame(16<<10 + 1))
	endsWith(t, c, endTooBig)
	early := r.dial("u1", gatewaytest.Options{NoHello: true})
	_ = early.SendKind(websocket.TextMessage, frame(100<<10)) // the goodbye may come before it is out
	endsWith(t, early, endTooBig)
	if n := r.metric("newswire_gateway_closed_total", "frame_too_big"); n != 2 {
		t.Errorf("%v sessions counted as frame_too_big, want 2", n)
	}
}

func TestPings(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.PingEvery = time.Second })
	c := r.join("u1", gatewaytest.Options{})
	if f := c.Ask("p1", map[string]any{"type": "ping"}); string(f.Raw) != `{"type":"pong","ref":"p1"}` {
		t.Errorf("ping is answered %s", f.Raw)
	}
	pongs := make(chan string, 1)
	asks := r.dial("u1", gatewaytest.Options{Stalled: true})
	asks.Pongs(func(data string) { pongs <- data })
	asks.Resume()
	if err := asks.SendKind(websocket.PingMessage, []byte("are you there")); err != nil {
		t.Fatal(err)
	}
	select {
	case data := <-pongs:
		if data != "are you there" {
			t.Errorf("pong carries %q", data)
		}
	case <-time.After(patience):
		t.Error("a WebSocket ping is not answered")
	}
	began := time.Now()
	silent := r.join("u2", gatewaytest.Options{OnFrame: func(c *gatewaytest.Reader, f *gatewaytest.Frame) {
		if f.Type == "welcome" { // from here on it reads nothing, so it answers no ping
			select {
			case <-pongs:
			case <-time.After(4 * time.Second):
			}
		}
	}})
	r.eventually("the silent session is ended", func() bool { return r.metric("newswire_gateway_closed_total", "silent") == 1 })
	if took := time.Since(began); took < 2*time.Second || took > time.Minute {
		t.Errorf("a silent session was ended after %s, want two pings' time", took)
	}
	pongs <- ""
	silent.Ended()
	c.Sync() // answers pings, so it lives
	if n := r.metric("newswire_gateway_closed_total", "silent"); n != 1 {
		t.Errorf("%v sessions ended as silent, want 1", n)
	}
}

func TestAckForms(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	old := r.publish(2, "tech")
	c.WaitMessages(2)
	late := r.join("u1", gatewaytest.Options{After: old[1], Silent: true})
	r.join("u2", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	ids := r.publish(6, "tech")
	foreign := r.publish(1, "sport")[0]
	late.WaitMessages(6)
	c.WaitMessages(8)
	all := slices.Concat(old, ids)
	r.wantUnread("u1", all)

	late.Send(map[string]any{"type": "ack", "upto": ids[1]}) // its own, not the two that only c was sent
	r.wantUnread("u1", slices.Concat(old, ids[2:]))
	c.Send(map[string]any{"type": "ack", "id": ids[3]})
	r.wantUnread("u1", []string{old[0], old[1], ids[2], ids[4], ids[5]})
	c.Send(map[string]any{"type": "ack", "ids": []string{ids[5], foreign, ids[3], "nonsense", farID, old[1]}, "id": "x"})
	r.wantUnread("u1", []string{old[0], ids[2], ids[4]})
	c.Send(map[string]any{"type": "ack", "id": foreign})
	c.Send(map[string]any{"type": "ack", "id": "nonsense"})
	c.Send(map[string]any{"type": "ack", "upto": "nonsense"})
	c.Send(map[string]any{"type": "ack"})
	c.Sync()
	r.wantUnread("u1", []string{old[0], ids[2], ids[4]})
	c.Send(map[string]any{"type": "ack", "upto": ids[2]})
	r.wantUnread("u1", []string{ids[4]})
	c.Send(map[string]any{"type": "ack", "upto": farID})
	r.wantUnread("u1", nil)
	r.wantUnread("u2", ids) // nobody acks for another
	for _, f := range c.Frames() {
		if f.Type == "error" {
			t.Errorf("an ack is answered %s", f.Raw)
		}
	}
}

// An "upto" reaches as far back as there is something unread on its session, and
// leaves what another one alone was written.
func TestUptoReachesBackHoweverMuchThereIs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const many = 10 * maxUnacked
	other := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	before := r.publish(2, "tech")
	other.WaitMessages(2)
	c := r.join("u1", gatewaytest.Options{After: before[1], Silent: true})
	var ids []string
	for n := 0; n < many; n += 100 {
		ids = append(ids, r.publish(100, "tech")...)
		c.WaitMessages(len(ids)) // it does not fall behind
	}
	r.wantUnread("u1", slices.Concat(before, ids))
	c.Send(map[string]any{"type": "ack", "upto": ids[many-2]})
	r.wantUnread("u1", slices.Concat(before, ids[many-1:]))
}

func TestMessageThatWasNotSentCannotBeAcked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	r.join("u2", gatewaytest.Options{Follow: []string{"sport"}})
	away := r.join("u3", gatewaytest.Options{Follow: []string{"sport"}})
	away.Leave()
	r.eventually("it has left", func() bool { return r.pools.Count() == 2 })
	id := r.publish(1, "sport")[0]
	r.routed()
	back := r.join("u3", gatewaytest.Options{After: id, Silent: true})
	for _, reader := range []*gatewaytest.Reader{c, back} {
		reader.Send(map[string]any{"type": "ack", "id": id})
		reader.Send(map[string]any{"type": "ack", "upto": id})
		reader.Sync()
	}
	r.wantUnread("u3", []string{id})
}
