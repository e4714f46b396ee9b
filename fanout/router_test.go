package fanout

import (
	"context"
	"slices"
	"testing"

	"newswire/fanout/journal"
)

func TestAudienceIsFollowsLessMutes(t *testing.T) {
	for name, test := range map[string]struct {
		edit Edit
		tags []string
		in   bool
	}{
		"follows the tag":              {Edit{Follow: []string{"tech"}}, []string{"tech"}, true},
		"follows another":              {Edit{Follow: []string{"sport"}}, []string{"tech"}, false},
		"follows one of several":       {Edit{Follow: []string{"ai"}}, []string{"tech", "ai", "art"}, true},
		"follows all of several":       {Edit{Follow: []string{"ai", "tech"}}, []string{"tech", "ai"}, true},
		"follows everything":           {Edit{Follow: []string{"*"}}, []string{"tech"}, true},
		"follows everything and one":   {Edit{Follow: []string{"*", "tech"}}, []string{"tech"}, true},
		"follows and mutes the tag":    {Edit{Follow: []string{"tech"}, Mute: []string{"tech"}}, []string{"tech"}, false},
		"mutes another of its tags":    {Edit{Follow: []string{"tech"}, Mute: []string{"gossip"}}, []string{"tech", "gossip"}, false},
		"everything but a muted tag":   {Edit{Follow: []string{"*"}, Mute: []string{"gossip"}}, []string{"gossip", "tech"}, false},
		"mutes what it does not have":  {Edit{Follow: []string{"tech"}, Mute: []string{"gossip"}}, []string{"tech"}, true},
		"mutes everything":             {Edit{Follow: []string{"tech"}, Mute: []string{"*"}}, []string{"tech"}, false},
		"only mutes":                   {Edit{Mute: []string{"gossip"}}, []string{"gossip"}, false},
		"follows nothing, mutes none":  {Edit{}, []string{"tech"}, false},
		"tags differ by letter case":   {Edit{Follow: []string{"Tech"}}, []string{"tech"}, false},
		"the message repeats its tags": {Edit{Follow: []string{"tech"}}, []string{"tech", "tech"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, t.TempDir())
			e.route()
			e.edit("somebody", Edit{Follow: []string{"unrelated"}})
			number := uint32(e.edit("ann", test.edit).Reader)
			var want []uint32
			if test.in {
				want = []uint32{number}
			}
			if got := e.audienceOf(e.publish(test.tags...)); !slices.Equal(got, want) {
				t.Errorf("audience %v, want %v", got, want)
			}
		})
	}
}

func TestChangeTakesEffectAtItsPlace(t *testing.T) {
	e := open(t, t.TempDir())
	e.route()
	before := e.publish("tech")
	e.edit("ann", Edit{Follow: []string{"tech"}})
	during := e.publish("tech")
	e.forget("ann")
	after := e.publish("tech")
	e.edit("ann", Edit{Follow: []string{"tech"}})
	again := e.publish("tech")
	for seq, want := range map[journal.Seq][]uint32{before: nil, during: {1}, after: nil, again: {2}} {
		if got := e.audienceOf(seq); !slices.Equal(got, want) {
			t.Errorf("audience of %d is %v, want %v", seq, got, want)
		}
	}
}

func TestDeliverIsInSeqOrderBehindOpen(t *testing.T) {
	e := open(t, t.TempDir())
	e.edit("ann", Edit{Follow: []string{"*"}})
	e.route()
	tags := []string{"a", "b", "c", "d", "e", "f"}
	for i := range 2000 {
		e.publish(tags[i%3 : 3+i%4]...)
	}
	e.routed()
	if got := len(e.seen.delivered); got != 2000 {
		t.Fatalf("%d messages were delivered, want 2000", got)
	}
	for i, d := range e.seen.delivered {
		if d.Seq != journal.Seq(i+2) || e.seen.opened[i].Seq != d.Seq || e.seen.opened[i].Audience != d.Audience {
			t.Fatalf("delivery %d has Seq %d, and %d was opened in its place", i, d.Seq, e.seen.opened[i].Seq)
		}
	}
}

func TestCleanStopRoutesNothingTwice(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	e.route()
	e.edit("ann", Edit{Follow: []string{"tech"}})
	for range 50 {
		e.publish("tech")
	}
	e.routed()
	head := e.j.Head()
	e.end()

	e = open(t, dir)
	e.route()
	if !e.router.CaughtUp() || e.router.Routed() != head {
		t.Errorf("after a clean stop it is routed up to %d, want %d", e.router.Routed(), head)
	}
	seq := e.publish("tech")
	if got := e.audienceOf(seq); !slices.Equal(got, []uint32{1}) {
		t.Errorf("audience %v, want [1]", got)
	}
	if n := len(e.seen.deliveries()); n != 1 {
		t.Errorf("%d messages were routed after the restart, want 1", n)
	}
}

// What was journaled and not routed is routed with the sets as they stood at
// its place, although the readers' records are ahead of it.
func TestUnroutedChangesAreUndoneThenRedone(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	e.route()
	e.edit("ann", Edit{Follow: []string{"tech"}})
	e.edit("bob", Edit{Follow: []string{"tech"}, Mute: []string{"gossip"}})
	e.routed()
	e.stopRouter() // as a crash would: the rest is journaled and never routed
	first := e.publish("tech")
	e.edit("ann", Edit{Unfollow: []string{"tech"}, Mute: []string{"tech"}})
	e.forget("bob")
	e.edit("cid", Edit{Follow: []string{"tech"}})
	second := e.publish("tech", "gossip")
	e.edit("ann", Edit{Follow: []string{"gossip"}, Unmute: []string{"tech"}})
	e.edit("bob", Edit{Follow: []string{"*"}})
	third := e.publish("tech", "gossip")
	e.synced()
	e.end()

	e = open(t, dir)
	e.route()
	if e.router.start != third {
		t.Errorf("the router starts at %d, want %d", e.router.start, third)
	}
	for seq, want := range map[journal.Seq][]uint32{first: {1, 2}, second: {3}, third: {1, 3, 4}} {
		if got := e.audienceOf(seq); !slices.Equal(got, want) {
			t.Errorf("audience of %d is %v, want %v", seq, got, want)
		}
	}
	if !e.router.CaughtUp() {
		t.Error("not caught up behind what the journal held")
	}
}

// What the router has read is handed on, not thrown away, when it is stopped.
func TestStopHandsOnWhatWasTaken(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	e.edit("ann", Edit{Follow: []string{"*"}})
	for range 3000 {
		e.publish("tech")
	}
	e.synced()
	e.route()
	e.stopRouter()
	routed := e.router.Routed()
	n := len(e.seen.deliveries())
	e.end()

	e = open(t, dir)
	e.route()
	e.routed()
	if total := n + len(e.seen.deliveries()); total != 3000 {
		t.Errorf("%d and %d messages were delivered (routed %d), want 3000 together",
			n, len(e.seen.deliveries()), routed)
	}
}

func TestRouterEndsWithTheJournalsFault(t *testing.T) {
	e := open(t, t.TempDir())
	e.edit("ann", Edit{Follow: []string{"*"}})
	e.publish("tech")
	e.synced()
	e.stopJournal() // takes no more writes
	r, err := NewRouter(8, e.j, InJournal(e.j), e.seen, e.seen, silent, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := deadline()
	defer cancel()
	if err := r.Run(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("Run = %v, want the journal's error", err)
	}
}

func TestWaitRoutedEndsWithItsContext(t *testing.T) {
	e := open(t, t.TempDir())
	e.route()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.router.WaitRouted(ctx, 1); err == nil {
		t.Error("WaitRouted of what is not there returned nil")
	}
}

// The ledger learns that a reader was deleted behind the messages that it was in
// the audience of.
func TestLedgerForgetsInOrder(t *testing.T) {
	e := open(t, t.TempDir())
	ann := e.edit("ann", Edit{Follow: []string{"t"}})
	seq := e.publish("t")
	e.forget("ann")
	e.publish("t")
	e.route()
	e.routed()
	e.seen.mu.Lock()
	defer e.seen.mu.Unlock()
	if len(e.seen.forgotten) != 1 || e.seen.forgotten[0] != ann.Reader {
		t.Errorf("forgotten: %v, want %d", e.seen.forgotten, ann.Reader)
	}
	if n := len(e.seen.opened); n != 2 || e.seen.opened[0].Seq != seq || !e.seen.opened[0].Audience.Contains(uint32(ann.Reader)) {
		t.Errorf("opened %+v", e.seen.opened)
	}
}
