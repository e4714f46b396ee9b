package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"
)

// A row committed after the welcome was received is pushed, however quickly it
// comes and whatever else happens.
func TestWelcomeMeansThatTheRouteIsLive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	noise := r.writeOn("other")
	for i := range 200 {
		tag := fmt.Sprint("t", i)
		c := r.join(fmt.Sprint("u", i%40), gatewaytest.Options{Follow: []string{tag}})
		id := r.publish(1, tag)[0]
		m := c.Until("the message", func(f gatewaytest.Frame) bool { return f.ID == id })
		if m.Attempt != 1 || m.Replay {
			t.Fatalf("round %d: attempt %d, replay %v; want the first and live", i, m.Attempt, m.Replay)
		}
		c.Close()
	}
	noise()
}

// writeOn commits articles with a tag, one behind the other, until the function is
// called; it gives their ids.
func (r *rig) writeOn(tag string) (stop func() []string) {
	var ids []string
	var ends atomic.Bool
	var writing sync.WaitGroup
	writing.Go(func() {
		pace := time.NewTicker(500 * time.Microsecond) // so that the tests stay small
		defer pace.Stop()
		for !ends.Load() {
			ids = append(ids, r.publish(1, tag)...)
			<-pace.C
		}
	})
	end := sync.OnceFunc(func() {
		ends.Store(true)
		writing.Wait()
	})
	r.t.Cleanup(end)
	return func() []string { end(); return ids }
}

// Messages before a change are on the wire before its answer, and the change
// takes effect at one point: no message behind the answer belongs to the old
// sets, none before it to the new.
func TestChangeTakesEffectAtOnePointOfTheOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{})
	stop := r.writeOn("tech")
	for i := range 40 {
		on, off := fmt.Sprint("on", i), fmt.Sprint("off", i)
		how, undo := "follow", "unfollow"
		if i%2 == 1 {
			how, undo = "unmute", "mute"
		}
		c.Ask(on, map[string]any{"type": how, "tags": []string{"tech"}})
		want := len(c.IDs()) + 3
		c.WaitMessages(want)
		c.Ask(off, map[string]any{"type": undo, "tags": []string{"tech"}})
		answered := slices.IndexFunc(c.Frames(), func(f gatewaytest.Frame) bool { return f.Ref == off })
		if i%2 == 0 { // an odd round begins with a mute
			c.Ask("m"+on, map[string]any{"type": "mute", "tags": []string{"tech"}})
			c.Ask("f"+on, map[string]any{"type": "follow", "tags": []string{"tech"}})
		} else {
			c.Ask("u"+on, map[string]any{"type": "unfollow", "tags": []string{"tech"}})
			c.Ask("x"+on, map[string]any{"type": "unmute", "tags": []string{"tech"}})
		}
		c.Sync()
		for _, f := range c.Frames()[answered:] {
			if f.Type == "message" {
				t.Fatalf("round %d: a message came behind the answer to %s", i, undo)
			}
		}
	}
	all := stop()
	c.Sync()
	place := make(map[string]int)
	for i, id := range all {
		place[id] = i
	}
	previous, wasOff, times := -1, true, 0
	for _, f := range c.Frames() {
		switch f.Type {
		case "subscriptions":
			wasOff = wasOff || !slices.Contains(f.Follow, "tech") || slices.Contains(f.Mute, "tech")
		case "message":
			at := place[f.ID]
			if at <= previous {
				t.Fatalf("message %d of the order came behind %d", at, previous)
			}
			if at > previous+1 && !wasOff {
				t.Fatalf("message %d followed %d: what lies between is missing", at, previous)
			}
			if wasOff {
				times++
			}
			previous, wasOff = at, false
		}
	}
	if times != 40 {
		t.Errorf("messages came in %d stretches, want one for each of 40 times on", times)
	}
}

// Connections come and go while articles are committed: after dedupe every
// message is there, first deliveries are in commit order, and what a session
// has acknowledged is not sent on a later one.
func TestReconnectHasNoSeam(t *testing.T) {
	t.Parallel()
	for _, resume := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%v", resume), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			first := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
			stop := r.writeOn("tech")
			seam := &seam{t: t, seen: make(map[string]bool), acked: make(map[string]bool)}
			seam.take(first, 5)
			for range 100 {
				o := gatewaytest.Options{Silent: true}
				if resume {
					o.After = seam.last
				}
				seam.take(r.dial("u1", o), rand.IntN(8))
			}
			want := stop()
			o := gatewaytest.Options{Silent: true}
			if resume {
				o.After = seam.last
			}
			seam.take(r.join("u1", o), len(want)-seam.count(want))
			if !slices.Equal(seam.order, want) {
				t.Errorf("got %d messages, want the %d that were committed, in their order", len(seam.order), len(want))
			}
		})
	}
}

// seam is what a reader keeps over its connections.
type seam struct {
	t     *testing.T
	seen  map[string]bool
	acked map[string]bool // on a connection that had answered since
	order []string
	last  string
}

func (s *seam) count(ids []string) (n int) {
	for _, id := range ids {
		if s.seen[id] {
			n++
		}
	}
	return n
}

// take reads at least n new messages on a connection, acknowledges some of all
// that came, and breaks the connection.
func (s *seam) take(c *gatewaytest.Reader, n int) {
	c.Welcome()
	fresh := make(map[string]bool)
	c.Until(fmt.Sprint(n, " new messages"), func(f gatewaytest.Frame) bool {
		if f.Type == "message" && !s.seen[f.ID] {
			fresh[f.ID] = true
		}
		return len(fresh) >= n
	})
	got := c.Messages()
	here := make(map[string]bool)
	for _, m := range got {
		if s.acked[m.ID] {
			s.t.Errorf("message %s came again though it was acknowledged", m.ID)
		}
		if here[m.ID] {
			s.t.Errorf("message %s came twice on one connection", m.ID)
		}
		here[m.ID] = true
		if !s.seen[m.ID] {
			s.seen[m.ID] = true
			s.order, s.last = append(s.order, m.ID), m.ID
		}
	}
	if len(got) > 0 {
		s.ack(c, got[rand.IntN(len(got))], rand.IntN(4))
	}
	for _, m := range c.Messages() { // what came meanwhile counts too
		if !s.seen[m.ID] {
			s.seen[m.ID] = true
			s.order, s.last = append(s.order, m.ID), m.ID
		}
	}
	c.Close()
}

// ack acknowledges nothing, one message or all up to it, and waits until the
// server has it.
func (s *seam) ack(c *gatewaytest.Reader, upto gatewaytest.Frame, how int) {
	switch how {
	case 0:
		return
	case 1:
		c.Send(map[string]any{"type": "ack", "id": upto.ID})
		s.acked[upto.ID] = true
	default:
		c.Send(map[string]any{"type": "ack", "upto": upto.ID})
		for _, m := range c.Messages() {
			if m.ID <= upto.ID {
				s.acked[m.ID] = true
			}
		}
	}
	c.Sync()
}

// Two devices of one reader both get everything; the first ack settles it.
func TestTwoSessionsOneAck(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	b := r.join("u1", gatewaytest.Options{Silent: true})
	ids := r.publish(20, "tech")
	a.WaitMessages(20)
	b.WaitMessages(20)
	if !slices.Equal(a.IDs(), ids) || !slices.Equal(b.IDs(), ids) {
		t.Error("the two sessions did not both get all in order")
	}
	a.Send(map[string]any{"type": "ack", "ids": ids[:10]})
	b.Send(map[string]any{"type": "ack", "ids": ids[10:]})
	r.wantUnread("u1", nil)
	if counts := r.ledger.Counts(); counts.Pairs != 0 {
		t.Errorf("%d pairs are pending, want 0", counts.Pairs)
	}
	third := r.join("u1", gatewaytest.Options{Silent: true})
	third.Sync()
	if n := len(third.Messages()); n != 0 {
		t.Errorf("a third session gets %d messages again", n)
	}
}

// A message that several tags of a reader match comes once, and a mute beats
// every follow.
func TestMessageComesOnceHoweverManyTagsMatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	all := r.join("u1", gatewaytest.Options{Follow: []string{"*", "tech", "ai"}})
	muted := r.join("u2", gatewaytest.Options{Follow: []string{"*"}, Mute: []string{"tech"}})
	id := r.publish(1, "tech", "ai", "sport")[0]
	end := r.publish(1, "end")[0]
	all.WaitMessages(2)
	muted.WaitMessages(1)
	if got := all.Messages(); len(got) != 2 || got[0].ID != id {
		t.Errorf("the follower got %d messages, want 2", len(got))
	}
	if got := muted.IDs(); !slices.Equal(got, []string{end}) {
		t.Errorf("who mutes tech got %v, want %v", got, []string{end})
	}
}
