package gateway

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"
)

// eachWay gives two rigs: one whose sockets are polled, where the system can,
// and one with a goroutine for each connection.
func eachWay(t testing.TB, changes ...func(*settings)) []*rig {
	unpolled := func(s *settings) { s.unpolled = true }
	return []*rig{newRig(t, changes...), newRig(t, append(changes, unpolled)...)}
}

// What holds for polled sockets holds where a goroutine waits for each.
func TestUnpolled(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"slow reader":      TestSlowReaderDelaysNobodyAndLosesNothing,
		"missed deadline":  TestMissedWriteDeadlineEndsTheSession,
		"answer waits":     TestAnswerWaitsForALaggingSession,
		"fragments":        TestFragmentsAreOneFrame,
		"too big":          TestFrameOver16KiBIsTooBig,
		"acks":             TestAckForms,
		"too many":         TestHellosAtOnceLeaveTheLimit,
		"drain":            TestDrainSendsEverybodyAway,
		"hello and drain":  TestHelloDuringTheDrainIsSentAway,
		"retries":          TestRetriesCountTheirAttempts,
		"changes in order": TestChangeTakesEffectAtOnePointOfTheOrder,
	} {
		t.Run(name, test) // newRig knows the name
	}
}

// Whoever comes while another reads is heard: the one that reads looks again.
func TestNobodyIsForgottenAtTheTurnstile(t *testing.T) {
	t.Parallel()
	var turn turnstile
	var come, heard, inside atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20_000 {
				come.Add(1)
				if !turn.take() {
					continue
				}
				for {
					if inside.Add(1) != 1 {
						t.Error("two read at once")
					}
					heard.Store(come.Load())
					inside.Add(-1)
					if turn.give() {
						break
					}
				}
			}
		})
	}
	all.Wait()
	if heard.Load() != come.Load() {
		t.Errorf("%d came and %d were heard", come.Load(), heard.Load())
	}
}

// Nothing runs for a session while nothing happens on it.
func TestIdleSessionsAreNobodysWork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if len(r.gateway.pollers) == 0 {
		t.Skip("this system's connections are not polled")
	}
	for i := range 20 {
		r.join(fmt.Sprint("u", i), gatewaytest.Options{Follow: []string{"tech"}})
	}
	r.publish(3, "tech")
	r.routed()
	r.eventually("nobody uses a session", func() bool {
		return !slices.ContainsFunc(r.gateway.present.all(), func(s *session) bool { return s.users.Load() != 1 || s.hello != nil })
	})
}

// Sessions of a few readers stall and read on all the time, with sockets that
// hold little, so that they go from live to full to catching up and back; each
// gets everything once and in order, whatever the others do.
func TestStallingSessionsGetEverythingOnceInOrder(t *testing.T) {
	t.Parallel()
	for _, r := range eachWay(t) {
		const readers, sessions, messages = 3, 3, 1500
		var all []*gatewaytest.Reader
		var pauses sync.WaitGroup
		for i := range readers {
			for range sessions {
				seen := 0
				all = append(all, r.join(fmt.Sprint("u", i), gatewaytest.Options{
					Follow: []string{"tech"}, Silent: i > 0, ReceiveBuffer: 4096,
					OnFrame: func(c *gatewaytest.Reader, f *gatewaytest.Frame) {
						if seen++; rand.IntN(200) == 0 {
							<-r.pause(&pauses)
						}
					},
				}))
			}
		}
		for _, s := range r.pools.sessions() {
			squeeze(t, s)
		}
		var ids []string
		for i := range messages {
			ids = append(ids, r.commit(article, "tech"))
			if i%300 == 299 {
				r.routed()
			}
		}
		for i, c := range all {
			if i < sessions { // the others of this reader may be spared what one has acknowledged
				continue
			}
			got := c.WaitMessages(messages)
			if len(c.Messages()) != messages {
				t.Errorf("session %d got %d messages, want %d", i, len(c.Messages()), messages)
			}
			for k, m := range got {
				if m.ID != ids[k] {
					t.Fatalf("message %d of session %d is %s, want %s", k, i, m.ID, ids[k])
				}
			}
		}
		r.wantUnread("u0", nil)
		for _, c := range all[:sessions] {
			if got := c.IDs(); !slices.IsSorted(got) {
				t.Errorf("a session of the reader that acknowledges got its messages out of order")
			}
		}
		pauses.Wait()
	}
}

// Sessions that missed the same messages are written the same frames.
func TestReplaysAreEncodedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 3 {
		r.join(fmt.Sprint("u", i), gatewaytest.Options{Follow: []string{"tech"}}).Close()
	}
	r.eventually("all have left", func() bool { return r.pools.Count() == 0 })
	ids := r.publish(10, "tech")
	r.routed()
	kept := &r.pools.deps.replays
	var first map[journal.Attempt]*frame
	for i := range 3 {
		c := r.join(fmt.Sprint("u", i), gatewaytest.Options{})
		c.WaitMessages(len(ids))
		if !slices.Equal(c.IDs(), ids) {
			t.Errorf("session %d got %v, want %v", i, c.IDs(), ids)
		}
		kept.mu.Lock()
		if i == 0 {
			first = maps.Clone(kept.frames)
		}
		if len(first) != len(ids) || !maps.Equal(kept.frames, first) {
			t.Errorf("behind session %d there are %d frames, want the %d that the first one was written", i, len(kept.frames), len(ids))
		}
		kept.mu.Unlock()
	}
	full := replays{frames: first, size: mostReplays + 1}
	if full.put(messageFrame(&journal.Message{}, journal.Attempt{Seq: 99, N: 1})); len(full.frames) != 1 {
		t.Errorf("%d frames are kept beyond the bound, want the last one", len(full.frames))
	}
}
