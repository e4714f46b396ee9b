package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// TestReturningReaderGetsWhatItHasNotRead comes back again and again in the
// middle of a load, having acknowledged every other message: the unread comes
// as replays, then the live, without a hole, and nothing that was acknowledged.
func TestReturningReaderGetsWhatItHasNotRead(t *testing.T) {
	t.Parallel()
	const commits, returns = 2000, 5
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db})
	e.Follow("u1", []string{"load"}, nil)
	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Rate: commits / 4, Tag: "load"})
	var connections []*gatewaytest.Reader
	var acked []string
	for range returns {
		r := e.Dial("u1", gatewaytest.Options{Silent: true})
		connections = append(connections, r)
		var some []string
		for n, f := range r.WaitMessages(100) {
			if slices.Contains(acked, f.ID) {
				t.Errorf("message %s came again after it was acknowledged", f.ID)
			}
			if n%2 == 0 {
				some = append(some, f.ID)
			}
		}
		r.Send(map[string]any{"type": "ack", "ids": some})
		r.Sync() // the engine has read the acknowledgement
		r.Close()
		acked = append(acked, some...)
	}
	final := e.Dial("u1", gatewaytest.Options{})
	done()
	final.WaitMessages(commits - len(acked))
	e.AwaitSettled()
	live := false
	for _, f := range final.Messages() {
		if slices.Contains(acked, f.ID) {
			t.Errorf("message %s came again after it was acknowledged", f.ID)
		}
		if live && f.Replay {
			t.Errorf("message %s is a replay behind live ones", f.ID)
		}
		live = !f.Replay
	}
	verify(t, harness.History{
		Articles: witness.Articles(t),
		Readers: []harness.Reader{{
			Name: "u1", Wants: harness.Follows("load"),
			Connections: harness.Connections(append(connections, final)...), Acked: append(acked, harness.Acked(final)...),
		}},
	})
}

func TestCursorSkipsButAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	first := e.Dial("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	if w := first.Welcome(); w.Resume != "none" || w.Reader != "u1" || w.Session == "" || !slices.Equal(w.Follow, []string{"tech"}) {
		t.Errorf("welcome: %s", w.Raw)
	}
	for _, title := range []string{"one", "two", "three"} {
		article(db, title, "tech")
	}
	seen := first.WaitMessages(3)
	first.Close()

	resumed := e.Dial("u1", gatewaytest.Options{After: seen[1].ID, Silent: true})
	if w := resumed.Welcome(); w.Resume != "complete" {
		t.Errorf("welcome: %s", w.Raw)
	}
	wantTitles(t, resumed, "three")
	if f := resumed.Messages()[0]; !f.Replay || f.Attempt != 1 {
		t.Errorf("replay %t, attempt %d; want a replay of attempt 1", f.Replay, f.Attempt)
	}
	resumed.Close()

	everything := e.Dial("u1", gatewaytest.Options{})
	wantTitles(t, everything, "one", "two", "three")
	e.AwaitSettled()
	everything.Close()
	nothing := e.Dial("u1", gatewaytest.Options{})
	wantTitles(t, nothing)
	article(db, "four", "tech")
	wantTitles(t, nothing, "four")

	ahead := e.Dial("u1", gatewaytest.Options{After: "ffff" + seen[2].ID[4:]})
	if w := ahead.Welcome(); w.Resume != "gap" {
		t.Errorf("an id newer than the journal: %s", w.Raw)
	}
	for _, malformed := range []string{"yesterday", strings.ToUpper("00ab" + seen[0].ID[4:]), seen[0].ID[1:]} {
		r := e.Dial("u1", gatewaytest.Options{After: malformed})
		if code, _ := r.Ended(); code != 4500 {
			t.Errorf("after %q: closed with %d, want 4500", malformed, code)
		}
	}
}

func TestAllSessionsOfAReaderGetItAndOneAckSettles(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: timeout})
	phone := e.Dial("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	phone.Welcome()
	laptop := e.Dial("u1", gatewaytest.Options{Silent: true})
	laptop.Welcome()
	article(db, "both", "tech")
	id := phone.WaitMessages(1)[0].ID
	laptop.WaitMessages(1)
	laptop.Send(map[string]any{"type": "ack", "upto": id})
	e.AwaitSettled()
	article(db, "second", "tech") // which nobody acknowledges in time
	phone.WaitMessages(2)
	records := kafkatest.Collect(t, e.Brokers, harness.OfflineTopic, kafkatest.Count(1))
	if r, _ := recordFor(t, records, "u1"); r.ID == id || r.Attempts != 3 {
		t.Errorf("handed over: %s, %d attempts; want only the second, %s was acknowledged", r.ID, r.Attempts, id)
	}
	for name, r := range map[string]*gatewaytest.Reader{"phone": phone, "laptop": laptop} {
		if got := titles(r.Messages()); !slices.Equal(got, []string{"both", "second", "second", "second"}) {
			t.Errorf("%s got %q", name, got)
		}
	}
}
