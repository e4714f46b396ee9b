package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"newswire/ack"
	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/engine"
	"newswire/cmd/newswire/internal/harness"
	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"
)

// audit runs the command and decodes what it prints.
func audit(t *testing.T, e *harness.Engine, code int, to any, args ...string) harness.Result {
	t.Helper()
	r := e.Run(append([]string{"audit", "--json"}, args...)...)
	if r.Code != code {
		t.Fatalf("audit %v: code %d, want %d\n%s%s", args, r.Code, code, r.Stdout, r.Stderr)
	}
	if err := json.Unmarshal([]byte(r.Stdout), to); to != nil && err != nil {
		t.Fatalf("audit %v printed %q: %v", args, r.Stdout, err)
	}
	return r
}

// TestAuditProvesWhatBecameOfEverything: the counts add up in a running engine
// and in one at rest, every story can be told, and damage is not overlooked.
func TestAuditProvesWhatBecameOfEverything(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: time.Second, Env: []string{"NEWSWIRE_ACK_RETRIES=1", "NEWSWIRE_ACK_BACKOFF=1"}})
	ann := e.Dial("ann", gatewaytest.Options{Follow: []string{"tech"}})
	ann.Welcome()
	silent := e.Dial("silent", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	silent.Welcome()
	e.Follow("away", []string{"tech"}, nil)
	key := article(db, "To be withdrawn", "tech")
	article(db, "For nobody", "art")
	first := ann.WaitMessages(1)[0]
	e.AwaitSettled()

	var r ack.Report
	audit(t, e, exitDone, &r)
	if !r.AddsUp || r.Messages != 2 || r.Nobody != 1 || r.Pairs != 3 || r.Acked != 1 || r.Handed != 2 || r.Pending != 0 {
		t.Errorf("audit: %+v", r)
	}
	var status engine.Status
	resp, err := http.Get("http://" + e.Admin + "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if odd := regexp.MustCompile(`"[^"]*[^a-z_"][^"]*":`).FindAll(body, -1); len(odd) > 0 {
		t.Errorf("status: names %q are not like the others", odd)
	}
	if err := json.Unmarshal(body, &status); err != nil || status.Audit == nil || status.Audit.Report.Handed != 2 {
		t.Errorf("status: %v, %+v", err, status)
	}
	if n := e.Metric("newswire_audit_pairs"); n != 3 {
		t.Errorf("newswire_audit_pairs is %v in all, want 3", n)
	}
	var story ack.Story
	audit(t, e, exitDone, &story, "--message", first.ID)
	if story.ID != first.ID || story.Pairs != 3 || story.Routed.Before(story.Committed.Add(-time.Second)) || len(story.Sends) < 2 || story.HandedAt == nil || story.AckedAt == nil {
		t.Errorf("story of the message: %+v", story)
	}
	for reader, want := range map[string]string{"ann": ack.StateAcked, "silent": ack.StateHanded, "away": ack.StateHanded} {
		var s engine.ReaderStory
		audit(t, e, exitDone, &s, "--reader", reader)
		if len(s.Copies) != 1 || s.Copies[0].State != want || len(s.Follow) != 1 {
			t.Errorf("story of %s: %+v", reader, s)
		}
		ended := s.Copies[0].AckedAt
		if want == ack.StateHanded {
			ended = s.Copies[0].HandedAt
		}
		if ended == nil || ended.First.Before(*s.Copies[0].Routed) || ended.Last.After(time.Now()) {
			t.Errorf("%s: %s between %+v", reader, want, ended)
		}
		if attempts := map[string]int{"ann": 1, "silent": 2, "away": 0}[reader]; len(s.Copies[0].Attempts) != attempts {
			t.Errorf("story of %s: %+v, want %d attempts", reader, s.Copies[0], attempts)
		}
	}

	// The withdrawal takes back what was handed over, from both.
	db.Exec("DELETE FROM articles WHERE id = $1", key)
	cancelled := kafkatest.Collect(t, e.Brokers, harness.CancelledTopic, kafkatest.Count(2))
	for _, c := range cancelled {
		if want := fmt.Sprintf(`{"ce_id":"%s","cause":"retracted"}`, c.Key); !strings.HasPrefix(c.Key, first.ID+":") || string(c.Value) != want {
			t.Errorf("cancelled: %s %s", c.Key, c.Value)
		}
	}
	if status, body := e.HTTP("away", "DELETE", "/v1/subscriptions", nil); status != http.StatusNoContent {
		t.Errorf("DELETE: %d %s", status, body)
	}
	article(db, "For those who are left", "tech")
	e.AwaitSettled()
	audit(t, e, exitFailed, nil, "--reader", "away")
	audit(t, e, exitFailed, nil, "--message", "0009000000000000000100000000")
	audit(t, e, exitUsage, nil, "--message", "nonsense")

	e.Stop()
	audit(t, e, exitDone, &r)
	if !r.AddsUp || r.Messages != 4 || r.Acked+r.Handed+r.Forgotten != r.Pairs || r.Retracted != 1 {
		t.Errorf("audit at rest: %+v", r)
	}
	if text := e.Run("audit"); text.Code != exitDone || !strings.Contains(text.Stdout, "It adds up.") {
		t.Errorf("audit printed %s%s", text.Stdout, text.Stderr)
	}
	e.Damaged = true
	damage(t, e.JournalDir(), func(u *journal.Update) { u.Delete(journal.SpaceProgress.Seq(story.Seq)) })
	if out := audit(t, e, exitFailed, &r); !strings.Contains(out.Stderr, first.ID) || r.AddsUp {
		t.Errorf("audit of damage: %s\n%+v", out.Stderr, r)
	}
}

// damage changes records of a journal at rest.
func damage(t *testing.T, dir string, change func(u *journal.Update)) {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: dir}, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	var u journal.Update
	change(&u)
	err = j.ApplySync(t.Context(), u)
	stop()
	if run := <-done; err != nil || run != nil {
		t.Fatal(err, run)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReadersWhoDoNotComeAreForgotten: those who stay away for ack.reader_ttl,
// and nobody else.
func TestReadersWhoDoNotComeAreForgotten(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: 200 * time.Millisecond, Env: []string{"NEWSWIRE_ACK_READER_TTL=3s"}})
	stays := e.Dial("stays", gatewaytest.Options{Follow: []string{"tech"}})
	stays.Welcome()
	e.Follow("away", []string{"tech"}, nil)
	harness.Eventually(t, "the reader who stays away to be forgotten", func() (bool, any) {
		n := e.Metric("newswire_readers_expired_total")
		return n == 1, n
	})
	article(db, "For who has stayed", "tech")
	stays.WaitMessages(1)
	e.AwaitSettled()
	if all := harness.Records(t, e.Brokers, harness.OfflineTopic); len(all) != 0 {
		t.Errorf("handed over to who is forgotten: %+v", all)
	}
	if _, body := e.HTTP("away", "GET", "/v1/subscriptions", nil); strings.Contains(body, "tech") {
		t.Errorf("who is forgotten follows %s", body)
	}
	if _, body := e.HTTP("stays", "GET", "/v1/subscriptions", nil); !strings.Contains(body, "tech") {
		t.Errorf("who has stayed follows %s", body)
	}
}
