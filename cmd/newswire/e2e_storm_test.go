package main

import (
	"fmt"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// TestReconnectStormsLoseNothing breaks all connections at once, in the middle of
// a load, again and again; then the engine is ended and started, with readers who
// come back without any jitter to one that admits only so many a second.
func TestReconnectStormsLoseNothing(t *testing.T) {
	t.Parallel()
	const readers, commits, storms, admitted = 60, 400, 3, 30
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: 10 * time.Second, Drain: time.Second})
	all := crowd(t, e, readers, "load")
	done := harness.StartLoad(t, db, harness.Load{Clients: 2, Commits: commits, Rate: commits / 4, Tag: "load"})
	for range storms {
		past := passed(all)
		for _, r := range all {
			r.cut()
		}
		awaitWelcomes(t, all, past)
	}
	e.Setenv("NEWSWIRE_GATEWAY_LIMITS_HANDSHAKES_PER_SECOND=30")
	past := passed(all)
	e.Stop()
	e.Restart()
	awaitWelcomes(t, all, past)
	turned := 0
	for _, r := range all {
		turned += r.refusals(429) + r.refusals(503)
	}
	if turned == 0 {
		t.Errorf("%d readers came back at once, and none was told to wait by a gateway that admits %d a second", readers, admitted)
	}
	done()
	verifyCrowd(t, e, witness, all, "load")
}

// TestRollingRestartsLoseNothing starts the next engine while the one before it
// sends its readers away, three times under load.
func TestRollingRestartsLoseNothing(t *testing.T) {
	t.Parallel()
	const readers, commits, rollouts = 20, 600, 3
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: 10 * time.Second, Drain: time.Second})
	all := crowd(t, e, readers, "load")
	done := harness.StartLoad(t, db, harness.Load{Clients: 2, Commits: commits, Rate: commits / 6, Tag: "load"})
	for range rollouts {
		past := passed(all)
		next := e.Sibling()
		next.Launch()
		e.Terminate()
		next.AwaitReady()
		e.AwaitExit()
		e = next
		awaitWelcomes(t, all, past)
	}
	done()
	verifyCrowd(t, e, witness, all, "load")
}

// TestPausedEngineSendsNothingTwice stops the process for three ack timeouts, as
// a paused machine is stopped, and lets readers acknowledge meanwhile what they
// got just before: when it goes on, every deadline has passed, and yet nothing is
// sent again and nothing handed over.
func TestPausedEngineSendsNothingTwice(t *testing.T) {
	t.Parallel()
	const readers, articles, timeout = 20, 100, 4 * time.Second
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: timeout})
	var all []*gatewaytest.Reader
	for n := range readers {
		r := e.Dial(fmt.Sprint("u", n), gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
		r.Welcome()
		all = append(all, r)
	}
	db.Exec(`INSERT INTO articles (title, tags) SELECT 'article ' || n, '{tech}' FROM generate_series(1, $1::int) AS t (n)`, articles)
	for _, r := range all {
		r.WaitMessages(articles)
	}
	e.Suspend()
	harness.Pause(t, 3*timeout)
	for _, r := range all {
		for _, id := range r.IDs() {
			r.Send(map[string]any{"type": "ack", "id": id})
		}
	}
	e.Resume()
	e.AwaitSettled()
	for _, r := range all {
		r.Sync()
		if n := len(r.Messages()); n != articles {
			t.Errorf("a reader got %d messages, want each of %d once", n, articles)
		}
	}
	if handed := harness.Records(t, e.Brokers, harness.OfflineTopic); len(handed) > 0 {
		t.Errorf("%d messages were handed over, though every reader acknowledged all of them", len(handed))
	}
}
