package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/fanout"
	"newswire/gateway/gatewaytest"
)

func anonymous(s *settings) { s.Anonymous = true }

// visit connects a guest and waits for the welcome.
func (r *rig) visit(o gatewaytest.Options) (*gatewaytest.Reader, gatewaytest.Frame) {
	r.t.Helper()
	o.URL, o.NoHello = r.url("ws", "/v1/ws"), true
	c := gatewaytest.Dial(r.t, o)
	hello := map[string]any{"type": "hello"}
	if o.Follow != nil {
		hello["follow"] = o.Follow
	}
	if o.Mute != nil {
		hello["mute"] = o.Mute
	}
	if o.After != "" {
		hello["after"] = o.After
	}
	c.Send(hello)
	if o.Stalled {
		return c, gatewaytest.Frame{}
	}
	return c, c.Welcome()
}

func TestGuestsComeInOnlyWhereTheyMay(t *testing.T) {
	t.Parallel()
	closed := newRig(t)
	c := closed.dial("", gatewaytest.Options{NoHello: true})
	c.Send(map[string]any{"type": "hello"})
	endsWith(t, c, endUnauthorized)

	r := newRig(t, anonymous, func(s *settings) { s.Limits.TagsPerReader = 3; s.Limits.SessionsPerReader = 1 })
	guest, welcome := r.visit(gatewaytest.Options{Follow: []string{"tech"}})
	if welcome.Reader != "" || welcome.Expires != "" || welcome.Resume != "none" || !slices.Equal(welcome.Follow, []string{"tech"}) {
		t.Errorf("a guest is welcomed with %s", welcome.Raw)
	}
	second, _ := r.visit(gatewaytest.Options{}) // guests are not one reader
	guest.Sync()
	second.Sync()
	wrong := r.dial("", gatewaytest.Options{NoHello: true})
	wrong.Send(map[string]any{"type": "hello", "token": "wrong"})
	endsWith(t, wrong, endUnauthorized)
	for _, path := range []string{"/v1/poll", "/v1/subscriptions"} {
		wantProblem(t, r.ask("", "GET", path, ""), 401, "unauthorized")
	}
	for name, c := range map[string]struct {
		frame map[string]any
		code  string
	}{
		"a token":       {map[string]any{"type": "token", "token": r.token("u1", nil)}, `"unauthorized"`},
		"no tag":        {map[string]any{"type": "follow", "tags": []string{""}}, `"bad_tag"`},
		"too many tags": {map[string]any{"type": "mute", "tags": []string{"a", "b", "c"}}, `"too_many_tags"`},
	} {
		if f := guest.Ask(name, c.frame); f.Type != "error" || string(f.Code) != c.code {
			t.Errorf("%s is answered %s, want an error %s", name, f.Raw, c.code)
		}
	}
	if f := guest.Ask("more", map[string]any{"type": "follow", "tags": []string{"sport"}}); !slices.Equal(f.Follow, []string{"sport", "tech"}) {
		t.Errorf("following more is answered %s", f.Raw)
	}
	malformed := r.dial("", gatewaytest.Options{NoHello: true})
	malformed.Send(map[string]any{"type": "hello", "after": "yesterday"})
	endsWith(t, malformed, endBadFrame)
	odd, welcome := r.visit(gatewaytest.Options{Follow: []string{"a\nb"}})
	if len(welcome.Follow) != 0 {
		t.Errorf("a malformed tag is followed: %s", welcome.Raw)
	}
	odd.Until("why", func(f gatewaytest.Frame) bool { return f.Type == "error" && string(f.Code) == `"bad_tag"` })
}

// Guests get what matches, in commit order, and nothing of theirs is kept.
func TestGuestsGetNewsAndLeaveNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, anonymous)
	reader := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	before := r.publish(3, "tech")
	guest, _ := r.visit(gatewaytest.Options{Follow: []string{"tech", "sport"}, Mute: []string{"gossip"}})
	var want []string
	for range 5 {
		want = append(want, r.publish(1, "tech")...)
		r.publish(1, "tech", "gossip")
		r.publish(1, "other")
		want = append(want, r.publish(1, "sport")...)
	}
	got := guest.WaitMessages(len(want))
	if !slices.Equal(ids(got), want) {
		t.Errorf("the guest got %v, want %v", ids(got), want)
	}
	for _, m := range got {
		if m.Attempt != 1 || m.Replay {
			t.Errorf("live news says attempt %d, replay %t", m.Attempt, m.Replay)
		}
	}
	guest.Send(map[string]any{"type": "ack", "upto": want[len(want)-1]})
	guest.Send(map[string]any{"type": "ack", "ids": before})
	guest.Sync()

	// Who comes back says where it was; without that it begins with what is new.
	guest.Close()
	missed := r.publish(2, "tech")
	r.routed()
	again, welcome := r.visit(gatewaytest.Options{Follow: []string{"tech"}, After: want[len(want)-1]})
	replay := again.WaitMessages(2)
	if welcome.Resume != "complete" || !slices.Equal(ids(replay), missed) || !replay[0].Replay {
		t.Errorf("coming back brings %s and %v, want %v", welcome.Raw, ids(replay), missed)
	}
	fresh, _ := r.visit(gatewaytest.Options{Follow: []string{"tech"}})
	live := r.publish(1, "tech")
	if got := ids(fresh.WaitMessages(1)); !slices.Equal(got, live) {
		t.Errorf("a new guest gets %v first, want %v", got, live)
	}
	if _, welcome := r.visit(gatewaytest.Options{After: farID}); welcome.Resume != "gap" {
		t.Errorf("a place in another journal is answered %s", welcome.Raw)
	}

	// The reader's account is its own, whatever guests acknowledged.
	reader.Sync()
	number, _, err := r.readers.Get("u1")
	if err != nil {
		t.Fatal(err)
	}
	if unread := r.unread("u1"); number != 1 || len(unread) == 0 || unread[0] != before[0] {
		t.Errorf("reader number %d has not read %v, want all since %v", number, unread, before)
	}
	if here := r.pools.Connected(); !here.Equals(bitmapOf(number)) {
		t.Errorf("connected are %v, want the reader alone", here)
	}
	again.Close()
	fresh.Close()
	r.eventually("guests have gone", func() bool { return r.pools.Count() <= 2 })
	r.publish(1, "tech")
	r.routed()
	if n := r.metric("newswire_readers_expired_total", ""); n != 0 {
		t.Errorf("%v readers were forgotten", n)
	}
	if _, ok, err := r.readers.Name(fanout.FirstGuest); ok || err != nil {
		t.Errorf("a guest has a name (%v)", err)
	}
}

// What is kept comes behind a gap too, and where nothing is, nobody waits for it.
func TestGuestsGetWhatIsKeptBehindAGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, anonymous)
	gone := r.publish(3, "tech")
	r.routed()
	r.eventually("nothing is kept", func() bool { // once their routing is on the disk
		if _, err := r.ledger.Expire(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		return r.journal.Oldest() > r.journal.Head()
	})
	comes := func(after, resume string, want []string) {
		t.Helper()
		guest, welcome := r.visit(gatewaytest.Options{Follow: []string{"tech"}, After: after})
		if welcome.Resume != resume {
			t.Errorf("behind %s resume is %q, want %q", after, welcome.Resume, resume)
		}
		if got := guest.WaitMessages(len(want)); !slices.Equal(ids(got), want) {
			t.Errorf("behind %s came %v, want %v", after, ids(got), want)
		}
		guest.Sync()
		if n := len(guest.Messages()); n != len(want) {
			t.Errorf("behind %s came %d messages, want %d", after, n, len(want))
		}
	}
	var kept []string
	for range 2 {
		comes(gone[2], "complete", kept) // it has gone itself, and nothing behind it
		comes(gone[0], "gap", kept)
		comes(farID, "gap", kept)
		kept = r.publish(2, "tech")
		r.routed()
	}
}

// A change of a guest's tags takes effect at one place of the order, while news
// is published all the time: nothing is missed behind the answer to a follow, and
// nothing comes behind that to an unfollow.
func TestGuestsChangesTakeEffectAtOnePlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, anonymous)
	guest, _ := r.visit(gatewaytest.Options{Follow: []string{"never"}})
	stop := r.writeOn("tech")
	frames := func(behind string) (messages []string) {
		all := guest.Frames()
		at := slices.IndexFunc(all, func(f gatewaytest.Frame) bool { return f.Ref == behind })
		for _, f := range all[at+1:] {
			if f.Type == "message" {
				messages = append(messages, f.ID)
			}
		}
		return messages
	}
	passed := func() (id string) { // something that is published now has gone by
		id = r.publish(1, "tech")[0]
		r.routed()
		guest.Sync()
		return id
	}
	for n := range 20 {
		on, off := fmt.Sprint("on", n), fmt.Sprint("off", n)
		guest.Ask(on, map[string]any{"type": "follow", "tags": []string{"tech"}})
		if id := passed(); !slices.Contains(frames(on), id) {
			t.Fatalf("round %d: message %s, published behind the answer to follow, did not come", n, id)
		}
		guest.Ask(off, map[string]any{"type": "unfollow", "tags": []string{"tech"}})
		passed()
		if late := frames(off); len(late) > 0 {
			t.Fatalf("round %d: behind the answer to unfollow came %v", n, late)
		}
	}
	stop()
	if got := ids(guest.Messages()); !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("messages are not in commit order, or came twice")
	}
}

// A guest who does not read for a while is caught up from the journal, without
// a hole.
func TestSlowGuestCatchesUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, anonymous)
	guest, _ := r.visit(gatewaytest.Options{Follow: []string{"tech"}, Stalled: true, ReceiveBuffer: 4096})
	r.eventually("it is here", func() bool { return r.pools.Count() == 1 })
	body := `{"text":"` + strings.Repeat("x", 3000) + `"}`
	var want []string
	for n := range 600 {
		tag := []string{"tech", "other"}[n%2]
		if id := r.commit(body, tag); tag == "tech" {
			want = append(want, id)
		}
	}
	r.routed()
	guest.Resume()
	if got := ids(guest.WaitMessagesFor(len(want), 2*time.Minute)); !slices.Equal(got, want) {
		t.Errorf("got %d messages, want %d in their order", len(got), len(want))
	}
	guest.Sync()
	if n := len(guest.Messages()); n != len(want) {
		t.Errorf("%d messages came, want %d, none twice", n, len(want))
	}
}

// Behind a restart guests find what was routed before it.
func TestGuestsGoOnBehindARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.publish(5, "tech")
	r.routed()
	d := r.pools.deps
	next := NewPools(Config{Anonymous: true}, d.ledger, d.journal, r.gateway.log, nil)
	if at := next.crowd.At(); at != d.ledger.Opened() || at == 0 {
		t.Errorf("a crowd begins at %d, want %d, where routing goes on", at, d.ledger.Opened())
	}
}
