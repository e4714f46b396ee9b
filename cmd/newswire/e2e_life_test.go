package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// TestTerminatedEngineSaysGoodbye ends the engine in good order under load.
func TestTerminatedEngineSaysGoodbye(t *testing.T) {
	t.Parallel()
	const commits, drain = 1500, time.Second
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db, Drain: drain})
	var before, after []*gatewaytest.Reader
	for n := range 8 {
		r := e.Dial(fmt.Sprint("u", n), gatewaytest.Options{Follow: []string{"load"}})
		r.Welcome()
		before = append(before, r)
	}
	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Rate: commits / 3, Tag: "load"})
	before[0].WaitMessages(commits / 5)
	asked := time.Now()
	e.Terminate()
	for n, r := range before {
		if code, reason := r.Ended(); code != 1012 || reason != "draining" {
			t.Errorf("reader %d was closed with %d %q, want 1012 draining", n, code, reason)
		}
		frames := r.Frames()
		if bye := frames[len(frames)-1]; bye.Type != "bye" || string(bye.Code) != "1012" || bye.Reason != "draining" || !strings.Contains(string(bye.Raw), `"retry_after_ms":`) {
			t.Errorf("reader %d: last frame %s, want the goodbye", n, bye.Raw)
		}
	}
	e.AwaitExit()
	if took := time.Since(asked); took > drain+time.Minute {
		t.Errorf("the engine took %s to end, want %s at most", took, drain+time.Minute)
	}
	if slot, held := e.AtRest(db); held < slot {
		t.Errorf("the slot stands at %s, and the journal holds everything up to %s only", slot, held)
	}
	e.Restart()
	for n := range before {
		after = append(after, e.Dial(fmt.Sprint("u", n), gatewaytest.Options{}))
	}
	done()
	articles := witness.Articles(t)
	h := harness.History{Articles: articles}
	for n := range before {
		acked := harness.Acked(before[n])
		awaitAll(t, len(articles), []*gatewaytest.Reader{before[n], after[n]})
		h.Readers = append(h.Readers, harness.Reader{
			Name: fmt.Sprint("u", n), Wants: harness.Follows("load"),
			Connections: harness.Connections(before[n], after[n]), Acked: append(acked, harness.Acked(after[n])...),
		})
	}
	e.AwaitSettled()
	verify(t, h)
}

// TestAcknowledgedIsNotRepeatedAfterTheEnd gives the engine time to read the
// acknowledgements, ends it and starts it again.
func TestAcknowledgedIsNotRepeatedAfterTheEnd(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	r := e.Dial("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	r.Welcome()
	for n := range 10 {
		article(db, fmt.Sprint(n), "tech")
	}
	r.WaitMessages(10)
	read := r.IDs()[:7]
	r.Send(map[string]any{"type": "ack", "ids": read})
	r.Sync()
	e.Stop()
	article(db, "while away", "tech")
	e.Restart()
	again := e.Dial("u1", gatewaytest.Options{})
	wantTitles(t, again, "7", "8", "9", "while away")
}

// TestEngineWaitsForTheDatabase starts before PostgreSQL, and later finds the
// slot in somebody else's hands.
func TestEngineWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, nil)
	db := pgtest.New(t, pgtest.On(server))
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	e := harness.Start(t, harness.Options{DB: db, Unready: true})
	awaitReason(t, e, "PostgreSQL cannot be reached")
	e.Stop() // who waits can be sent away
	e.Launch()
	awaitReason(t, e, "PostgreSQL cannot be reached")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.AwaitReady()
	reader := e.Dial("u1", gatewaytest.Options{Follow: []string{"tech"}})
	reader.Welcome()
	article(db, "at last", "tech")
	wantTitles(t, reader, "at last")
	e.Stop()
	e.AtRest(db)

	thief, err := pgconn.Connect(t.Context(), db.DSN+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	err = pglogrepl.StartReplication(t.Context(), thief, db.Slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + db.Publication + "'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Launch()
	pid := pgtest.Value[int](db, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", db.Slot)
	awaitReason(t, e, fmt.Sprintf(`replication slot "%s" is being read by the PostgreSQL process %d`, db.Slot, pid))
	if err := thief.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.AwaitReady()
	article(db, "got it back", "tech")
	wantTitles(t, e.Dial("u1", gatewaytest.Options{}), "got it back")
}

// awaitReason waits until the engine serves, is not ready, and says why.
func awaitReason(t *testing.T, e *harness.Engine, why string) {
	t.Helper()
	harness.Eventually(t, "the reason "+why, func() (bool, any) {
		if !e.Running() {
			t.Fatal("the engine has ended")
		}
		s, err := e.TryStatus()
		if err != nil {
			return false, err
		}
		return !s.Ready && slices.ContainsFunc(s.Reasons, func(r string) bool { return strings.Contains(r, why) }), s.Reasons
	})
}

// TestSecondEngineStandsByAndTakesOver kills the first of two engines on one
// journal under load.
func TestSecondEngineStandsByAndTakesOver(t *testing.T) {
	t.Parallel()
	const commits = 1000
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	first := harness.Start(t, harness.Options{DB: db})
	second, third := first.Sibling(), first.Sibling()
	for _, sibling := range []*harness.Engine{second, third} {
		sibling.Launch()
		harness.Eventually(t, "the engine to stand by", func() (bool, any) {
			return strings.Contains(sibling.Logs(), "standing by"), sibling.Logs()
		})
	}
	third.Stop() // who stands by can be sent away
	before := first.Dial("u1", gatewaytest.Options{Follow: []string{"load"}})
	before.Welcome()
	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Rate: commits / 2, Tag: "load"})
	before.WaitMessages(commits / 4)
	first.Kill()
	second.AwaitReady()
	after := second.Dial("u1", gatewaytest.Options{})
	done()
	articles := witness.Articles(t)
	both := []*gatewaytest.Reader{before, after}
	awaitAll(t, len(articles), both)
	second.AwaitSettled()
	verify(t, harness.History{
		Articles: articles,
		Readers: []harness.Reader{{
			Name: "u1", Wants: harness.Follows("load"), Connections: harness.Connections(both...), Acked: harness.Acked(both...),
		}},
	})
}
