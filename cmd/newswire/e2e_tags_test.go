package main

import (
	"fmt"
	"slices"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// titles are those of the messages that came, in order.
func titles(frames []gatewaytest.Frame) (all []string) {
	for _, f := range frames {
		if f.Type == "message" {
			all = append(all, fmt.Sprint(f.Data["title"]))
		}
	}
	return all
}

// wantTitles waits for as many messages as are wanted, and for what may still
// be on its way behind them.
func wantTitles(t *testing.T, r *gatewaytest.Reader, want ...string) {
	t.Helper()
	r.WaitMessages(len(want))
	r.Sync()
	if got := titles(r.Messages()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMuteBeatsFollowAndManyTagsMakeOneMessage(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	tech := e.Dial("tech", gatewaytest.Options{Follow: []string{"tech", "sport"}})
	muted := e.Dial("muted", gatewaytest.Options{Follow: []string{"*"}, Mute: []string{"tech"}})
	tech.Welcome()
	muted.Welcome()
	article(db, "both", "tech", "sport")
	article(db, "none")
	article(db, "last", "sport")
	wantTitles(t, tech, "both", "last")
	wantTitles(t, muted, "none", "last")
	if tags := muted.Messages()[0].Tags; !slices.Equal(tags, []string{"general"}) {
		t.Errorf("an article without tags came with %q, want the default tag", tags)
	}
}

// TestChangesTakeEffectAtOnePlace follows, unfollows, mutes and unmutes between
// articles of which a witness tells that the journal has them: those before the
// request go by the old sets, those behind the answer by the new.
func TestChangesTakeEffectAtOnePlace(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	witness := e.Dial("witness", gatewaytest.Options{Follow: []string{"*"}})
	witness.Welcome()
	r := e.Dial("u1", gatewaytest.Options{})
	r.Welcome()
	other := e.Dial("u1", gatewaytest.Options{}) // the same reader's second device
	other.Welcome()
	var want []string
	saved := 0
	save := func(title string, wanted bool) {
		article(db, title, "tech")
		saved++
		witness.WaitMessages(saved)
		if wanted {
			want = append(want, title)
		}
	}
	wanted := false
	steps := []struct {
		change       string
		follow, mute []string
		wanted       bool // afterwards
	}{
		{"follow", []string{"tech"}, []string{}, true},
		{"mute", []string{"tech"}, []string{"tech"}, false},
		{"unmute", []string{"tech"}, []string{}, true},
		{"unfollow", []string{}, []string{}, false},
		{"follow", []string{"tech"}, []string{}, true},
	}
	for n, step := range steps {
		save(fmt.Sprintf("before change %d", n), wanted)
		answer := r.Ask(fmt.Sprint(n), map[string]any{"type": step.change, "tags": []string{"tech"}})
		if answer.Type != "subscriptions" || !slices.Equal(answer.Follow, step.follow) || !slices.Equal(answer.Mute, step.mute) {
			t.Fatalf("answer to %s: %s", step.change, answer.Raw)
		}
		wanted = step.wanted
		save(fmt.Sprintf("after change %d", n), wanted)
	}
	wantTitles(t, r, want...)
	wantTitles(t, other, want...)
	var told []gatewaytest.Frame
	for _, f := range other.Frames() {
		if f.Type == "subscriptions" {
			told = append(told, f)
		}
	}
	if len(told) != len(steps) {
		t.Errorf("the second device was told of %d changes, want %d", len(told), len(steps))
	}
}

// TestAnswerStandsBehindWhatCameBefore changes subscriptions in the middle of a
// load. Behind the answer that ends a following nothing of it comes any more,
// and while it lasts nothing is missing: what came first after the change may
// stand before the answer, and what came last before it must.
func TestAnswerStandsBehindWhatCameBefore(t *testing.T) {
	t.Parallel()
	const commits = 1200
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	r := e.Dial("u1", gatewaytest.Options{Follow: []string{"load"}})
	witness := e.Dial("witness", gatewaytest.Options{Follow: []string{"*"}})
	r.Welcome()
	witness.Welcome()
	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Rate: commits, Tag: "load"})
	begins, ends := []int{0}, []int{} // of each following: messages from begins to ends are surely in it
	for n, change := range []string{"unfollow", "follow", "mute", "unmute", "unfollow"} {
		witness.WaitMessages((n + 1) * commits / 8)
		ending := n%2 == 0
		if ending {
			ends = append(ends, len(witness.IDs()))
		}
		r.Ask(fmt.Sprint(n), map[string]any{"type": change, "tags": []string{"load"}})
		if !ending {
			witness.Sync()
			begins = append(begins, len(witness.IDs()))
		}
	}
	done()
	witness.WaitMessages(commits)
	r.Sync()

	place := make(map[string]int)
	for n, id := range witness.IDs() {
		place[id] = n
	}
	answers, previous, came := 0, -1, 0
	for _, f := range r.Frames() {
		switch {
		case f.Type == "subscriptions" && f.Ref != "":
			if answers++; answers%2 == 0 {
				continue // it follows again
			}
			if least := ends[answers/2] - 1; least >= begins[answers/2] && previous < least {
				t.Errorf("answer %d came behind message %d, though message %d was journaled before the request", answers, previous, least)
			}
			previous = -1
		case f.Type != "message":
		case answers == 5:
			t.Errorf("message %d came behind the last answer", place[f.ID])
		case previous >= 0 && place[f.ID] != previous+1:
			t.Errorf("message %d came after %d: what lies between is missing", place[f.ID], previous)
		default:
			previous = place[f.ID]
			came++
		}
	}
	if answers != 5 || came < commits/8 {
		t.Errorf("%d answers and %d of %d messages came", answers, came, commits)
	}
}

func TestForbiddenAndMalformedTagsChangeNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	token := e.Token("u1", gatewaytest.Claims{"tags": []string{"tech", "sport:*"}})
	r := e.Dial("u1", gatewaytest.Options{Token: token, Follow: []string{"tech"}})
	r.Welcome()
	for n, c := range []struct {
		frame map[string]any
		code  string
	}{
		{map[string]any{"type": "follow", "tags": []string{"sport:golf", "politics"}}, `"tag_forbidden"`},
		{map[string]any{"type": "follow", "tags": []string{"sport:golf", "bad\ntag"}}, ""},
		{map[string]any{"type": "mute", "tags": []string{"gossip", ""}}, ""},
	} {
		answer := r.Ask(fmt.Sprint("wrong", n), c.frame)
		if answer.Type != "error" || len(answer.Code) == 0 || c.code != "" && string(answer.Code) != c.code {
			t.Errorf("answer to %v: %s", c.frame, answer.Raw)
		}
	}
	answer := r.Ask("right", map[string]any{"type": "follow", "tags": []string{"sport:golf"}})
	if !slices.Equal(answer.Follow, []string{"sport:golf", "tech"}) && !slices.Equal(answer.Follow, []string{"tech", "sport:golf"}) || len(answer.Mute) != 0 {
		t.Errorf("after three refused changes: %s", answer.Raw)
	}
	article(db, "politics", "politics")
	article(db, "golf", "politics", "sport:golf") // one permitted tag suffices
	wantTitles(t, r, "golf")
}
