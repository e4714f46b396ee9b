package gateway

import (
	"slices"
	"strings"
	"testing"

	"newswire/fanout"
	"newswire/gateway/gatewaytest"
)

// narrow is a token of a reader that covers these tags only.
func (r *rig) narrow(reader string, tags ...string) string {
	r.t.Helper()
	return r.token(reader, gatewaytest.Claims{"tags": tags})
}

// pollAs is a poll with a token.
func (r *rig) pollAs(token, query string) (p poll) {
	r.t.Helper()
	if got := r.ask("", "GET", "/v1/poll"+query, "", "Authorization", "Bearer "+token); got.status == 200 {
		got.json(r.t, &p)
	} else if got.status != 204 {
		r.t.Errorf("poll: %d %s", got.status, got.body)
	}
	return p
}

func wantIDs(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s got %v, want %v", what, got, want)
	}
}

// What the one session's token covers reaches that session, whichever of them
// was the last to show its token.
func TestEachSessionGetsWhatItsOwnTokenCovers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	narrow := r.join("u1", gatewaytest.Options{Token: r.narrow("u1", "ok", "none"), Follow: []string{"ok"}, Silent: true})
	full := r.join("u1", gatewaytest.Options{Silent: true})
	full.Ask("secret", map[string]any{"type": "follow", "tags": []string{"secret"}})
	secret := r.publish(1, "secret")
	both := r.publish(1, "secret", "ok")
	for name, show := range map[string]func(){
		"poll":  func() { r.pollAs(r.narrow("u1", "none"), "?ack=manual") },
		"hello": func() { r.join("u1", gatewaytest.Options{Token: r.narrow("u1", "none"), Silent: true}) },
		"edit": func() {
			narrow.Ask("mute", map[string]any{"type": "mute", "tags": []string{"m"}})
		},
		"token": func() {
			narrow.Ask("again", map[string]any{"type": "token", "token": r.narrow("u1", "ok")})
		},
	} {
		show()
		t.Log("shown by", name)
		secret = append(secret, r.publish(1, "secret")...)
		both = append(both, r.publish(1, "ok")...)
	}
	full.WaitMessages(len(secret) + len(both))
	narrow.WaitMessages(len(both))
	narrow.Sync()
	wantIDs(t, "the narrow session", narrow.IDs(), both...)
}

// A narrow session, or one whose token was narrowed, gets nothing else from the
// journal or a second time.
func TestReplayAndRetryKeepToTheToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{Follow: []string{"ok", "secret"}, Silent: true})
	secret, ok := r.publish(1, "secret")[0], r.publish(1, "ok")[0]
	c.WaitMessages(2)
	c.Ask("less", map[string]any{"type": "token", "token": r.narrow("u1", "ok")})
	back := r.join("u1", gatewaytest.Options{Token: r.narrow("u1", "ok"), Silent: true})
	back.WaitMessages(1)
	number, _, err := r.readers.Get("u1")
	if err != nil {
		t.Fatal(err)
	}
	unread, _, err := r.ledger.Unread(number, 0, 10)
	if err != nil || len(unread) != 2 {
		t.Fatalf("unread are %v, %v; want two", unread, err)
	}
	for _, a := range unread { // as when the acknowledgements are due
		r.pools.Resend(a.Seq, 2, bitmapOf(number))
	}
	again := func() []gatewaytest.Frame { return c.Messages()[2:] }
	r.eventually("the other one came again", func() bool { return len(again()) >= 1 })
	c.Sync()
	back.Sync()
	for _, m := range again() {
		if m.ID != ok {
			t.Error("the narrowed session was sent again what its token does not cover")
		}
	}
	for _, id := range back.IDs() {
		if id == secret {
			t.Error("the narrow session was replayed what its token does not cover")
		}
	}
}

// What a poll's token does not cover stays unread, and hides nothing behind it.
func TestPollLeavesUnreadWhatItsTokenDoesNotCover(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if got := r.ask("u1", "PUT", "/v1/subscriptions", `{"follow":["ok","secret","team:a"]}`); got.status != 200 {
		t.Fatal(got.body)
	}
	secret := r.publish(5, "secret")
	ok := r.publish(1, "ok")
	ok = append(ok, r.publish(1, "team:a", "secret")...)
	r.routed()
	token := r.narrow("u1", "ok", "team:*")
	wantIDs(t, "the narrow poll", r.pollAs(token, "?limit=2").ids(), ok[0])
	wantIDs(t, "the second narrow poll", r.pollAs(token, "?limit=2").ids(), ok[1])
	wantIDs(t, "the third narrow poll", r.pollAs(token, "").ids())
	r.wantUnread("u1", secret)
	wantIDs(t, "the full poll", r.poll("u1", "").ids(), secret...)
}

// A poll that waits counts as a session: its token goes on covering.
func TestNarrowTokenTakesNothingFromAPollThatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow("u1", "secret")
	number, _, err := r.readers.Get("u1")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan poll, 1)
	go func() { got <- r.poll("u1", "?wait=25") }()
	r.eventually("the poll waits", func() bool { return r.waits(number) == 1 })
	r.join("u1", gatewaytest.Options{Token: r.narrow("u1", "ok")})
	ids := r.publish(1, "secret")
	wantIDs(t, "the poll", (<-got).ids(), ids...)
}

// With the wide session gone the next narrow token decides what matches.
func TestPermitNarrowsOnceTheWideSessionHasGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	full := r.join("u1", gatewaytest.Options{Follow: []string{"ok", "secret"}})
	full.Leave()
	r.eventually("it has left", func() bool { return r.pools.Count() == 0 })
	narrow := r.join("u1", gatewaytest.Options{Token: r.narrow("u1", "ok"), Silent: true})
	r.publish(1, "secret")
	ok := r.publish(1, "ok")
	narrow.WaitMessages(1)
	r.wantUnread("u1", ok)
}

func TestSessionWithoutAClaimHasNoPermit(t *testing.T) {
	t.Parallel()
	var s session
	for _, permit := range []fanout.Permit{{"a"}, {}, nil} {
		s.limit(permit)
		if has := s.permit.Load() != nil; has != (permit != nil) {
			t.Errorf("under %s the session has one: %t", strings.Join(permit, ","), has)
		}
	}
}
