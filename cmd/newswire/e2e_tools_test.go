package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// lines decodes what tail has printed so far.
func lines(t *testing.T, text string) (all []gatewaytest.Frame) {
	t.Helper()
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break // not whole yet
		}
		var f gatewaytest.Frame
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("tail printed %q: %v", line, err)
		}
		f.Raw = []byte(line)
		all = append(all, f)
	}
	return all
}

func TestTailPrintsTheJournal(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	witness := e.Dial("witness", gatewaytest.Options{Follow: []string{"*"}})
	witness.Welcome()
	for n := range 5 {
		article(db, fmt.Sprint(n), []string{"tech", "sport"}[n%2])
	}
	sent := witness.WaitMessages(5)
	all, from, tagged := e.Background("tail", "--from", sent[0].ID), e.Background("tail", "--from", sent[3].ID), e.Background("tail", "--from", sent[0].ID, "--tag", "sport")
	whole := e.Background("tail")
	printed := func(b *harness.Background, want ...string) {
		t.Helper()
		harness.Eventually(t, "tail to print "+strings.Join(want, ", "), func() (bool, any) {
			var got []string
			for _, f := range lines(t, b.Stdout()) {
				got = append(got, fmt.Sprint(f.Data["title"]))
			}
			return slices.Equal(got, want), got
		})
	}
	printed(all, "0", "1", "2", "3", "4")
	printed(from, "3", "4")
	printed(tagged, "1", "3")
	article(db, "5", "sport")
	printed(all, "0", "1", "2", "3", "4", "5")
	printed(from, "3", "4", "5")
	printed(tagged, "1", "3", "5")
	printed(whole, "0", "1", "2", "3", "4", "5")
	for n, f := range lines(t, all.Stdout())[:5] {
		var line, frame map[string]any
		if err := json.Unmarshal(f.Raw, &line); err != nil {
			t.Fatal(err)
		}
		frame = asSent(t, sent[n].Raw)
		if fmt.Sprint(line) != fmt.Sprint(frame) {
			t.Errorf("tail prints %v, readers got %v", line, frame)
		}
	}
	for _, b := range []*harness.Background{all, from, tagged, whole} {
		b.Interrupt()
	}
	e.Stop() // and the journal is read at rest
	r := e.Run("tail", "--from", sent[4].ID)
	if got := lines(t, r.Stdout); r.Code != exitDone || len(got) != 2 || got[0].ID != sent[4].ID {
		t.Errorf("tail of a stopped engine: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// poll gives the titles that one poll brought, and the id for an ack.
func poll(t *testing.T, e *harness.Engine, reader, query string) (got []string, next string) {
	t.Helper()
	status, body := e.HTTP(reader, "GET", "/v1/poll"+query, nil)
	if status == http.StatusNoContent {
		return nil, ""
	}
	var answer struct {
		Messages []gatewaytest.Frame `json:"messages"`
		Next     string              `json:"next"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		t.Fatalf("poll: %d %v\n%s", status, err, body)
	}
	for _, f := range answer.Messages {
		got = append(got, fmt.Sprint(f.Data["title"]))
		if !f.Replay {
			t.Errorf("poll brought %s as live", f.ID)
		}
	}
	return got, answer.Next
}

func TestPolledIsReadAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	want := func(query string, titles ...string) (next string) {
		t.Helper()
		got, next := poll(t, e, "u1", query)
		if !slices.Equal(got, titles) {
			t.Errorf("poll%s brought %q, want %q", query, got, titles)
		}
		return next
	}
	e.Follow("u1", []string{"tech"}, []string{"gossip"})
	want("")
	article(db, "one", "tech")
	want("?wait=20", "one")
	article(db, "two", "tech")
	article(db, "muted", "tech", "gossip")
	article(db, "three", "tech")
	want("?wait=20&limit=1&ack=manual", "two")
	next := want("?wait=20&limit=1&ack=manual", "two") // unread still
	if status, body := e.HTTP("u1", "POST", "/v1/ack", map[string]string{"upto": next}); status != http.StatusNoContent {
		t.Errorf("ack: %d %s", status, body)
	}
	want("?wait=20", "three")
	want("")
	e.Stop()
	article(db, "four", "tech")
	e.Restart()
	want("?wait=20", "four")
	want("")

	// Forgotten readers get nothing, and come back as strangers.
	if status, body := e.HTTP("u1", "DELETE", "/v1/subscriptions", nil); status != http.StatusNoContent {
		t.Errorf("forget: %d %s", status, body)
	}
	witness := e.Dial("witness", gatewaytest.Options{Follow: []string{"tech"}})
	witness.Welcome()
	article(db, "five", "tech")
	wantTitles(t, witness, "five") // the journal has it
	if status, body := e.HTTP("u1", "GET", "/v1/subscriptions", nil); status != http.StatusOK || strings.TrimSpace(body) != `{"follow":[],"mute":[]}` {
		t.Errorf("subscriptions of a forgotten reader: %d %s", status, body)
	}
	e.Follow("u1", []string{"tech"}, nil)
	article(db, "six", "tech")
	want("?wait=20", "six")
	e.AwaitSettled()
}

func TestForgottenReaderIsSentAway(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	r := e.Dial("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	r.Welcome()
	article(db, "unread", "tech")
	r.WaitMessages(1)
	if status, body := e.HTTP("u1", "DELETE", "/v1/subscriptions", nil); status != http.StatusNoContent {
		t.Errorf("forget: %d %s", status, body)
	}
	if code, reason := r.Ended(); code != 4510 {
		t.Errorf("closed with %d %q, want 4510", code, reason)
	}
	again := e.Dial("u1", gatewaytest.Options{})
	if w := again.Welcome(); len(w.Follow) != 0 {
		t.Errorf("welcome: %s", w.Raw)
	}
	wantTitles(t, again)
}
