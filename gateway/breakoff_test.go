package gateway

import (
	"fmt"
	"testing"

	"newswire/gateway/gatewaytest"
)

// A connection may break off anywhere around an acknowledgement. What the server
// has read of it counts, also if nobody hears so; what it has not read whole does
// not, and the message comes again under the same id.
func TestConnectionsThatBreakAroundAnAcknowledgement(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leave func(r *rig, c *gatewaytest.Reader, id string)
		again bool
	}{
		"before it": {func(_ *rig, c *gatewaytest.Reader, _ string) { c.Close() }, true},
		"in the middle of it": {func(_ *rig, c *gatewaytest.Reader, id string) {
			ack := maskedText(fmt.Sprintf(`{"type":"ack","id":%q}`, id))
			if _, err := c.Raw().Write(ack[:len(ack)-2]); err != nil {
				t.Error(err)
			}
			c.Close()
		}, true},
		"behind it": {func(_ *rig, c *gatewaytest.Reader, id string) {
			c.Send(map[string]any{"type": "ack", "id": id})
			c.Sync()
			c.Close()
		}, false},
		"with a goodbye right behind it": {func(_ *rig, c *gatewaytest.Reader, id string) {
			c.Send(map[string]any{"type": "ack", "id": id})
			c.Leave()
		}, false},
		"and it was sent twice": {func(_ *rig, c *gatewaytest.Reader, id string) {
			for range 2 {
				c.Send(map[string]any{"type": "ack", "id": id})
			}
			c.Leave()
		}, false},
		"and it came over HTTP too": {func(r *rig, c *gatewaytest.Reader, id string) {
			c.Send(map[string]any{"type": "ack", "id": id})
			c.Leave()
			for range 2 {
				if got := r.ask("u1", "POST", "/v1/ack?msg_id="+id, ""); got.status != 204 {
					t.Errorf("an acknowledgement over HTTP: %d %s", got.status, got.body)
				}
			}
		}, false},
		"and another reader forges it": {func(r *rig, c *gatewaytest.Reader, id string) {
			forger := r.join("forger", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
			forger.Send(map[string]any{"type": "ack", "id": id})
			forger.Send(map[string]any{"type": "ack", "upto": id})
			forger.Sync()
			r.ask("forger", "POST", "/v1/ack", `{"upto":"`+id+`"}`)
			c.Close()
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			first := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
			id := r.publish(1, "tech")[0]
			first.WaitMessages(1)
			c.leave(r, first, id)
			first.Ended()
			r.eventually("the connection has ended", func() bool {
				number, _, _ := r.readers.Get("u1")
				return len(r.pools.of(number).sessionsOf(number)) == 0
			})
			second := r.join("u1", gatewaytest.Options{})
			last := r.publish(1, "tech")[0]
			want := []string{last}
			if c.again {
				want = []string{id, last}
			}
			got := second.WaitMessages(len(want))
			for n, m := range got {
				if m.ID != want[n] || m.Attempt != 1 || m.Replay != (m.ID == id) {
					t.Errorf("message %d on the next connection is %s, attempt %d, replay %t; want %s as attempt 1", n, m.ID, m.Attempt, m.Replay, want[n])
				}
			}
			r.wantUnread("u1", nil)
		})
	}
}

// maskedText is a text frame of a client, with a mask of zeros.
func maskedText(text string) []byte {
	return append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
}
