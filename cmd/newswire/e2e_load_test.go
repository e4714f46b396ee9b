package main

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// loadPatience is how long a whole load may take to arrive.
const loadPatience = 4 * time.Minute

// verify judges a run by its witness and fails the test for each promise broken.
func verify(t *testing.T, h harness.History) {
	t.Helper()
	found := h.Check()
	for n, violation := range found {
		if n == 10 {
			t.Errorf("… and %d more", len(found)-n)
			return
		}
		t.Error(violation)
	}
}

// seedVariable names the environment variable with the seed of a run to be had
// again.
const seedVariable = "TEST_SEED"

// seeded gives random numbers, and tells how to have them again.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func TestEveryCommitArrivesOnceInCommitOrder(t *testing.T) {
	t.Parallel()
	const commits = 5000
	db := pgtest.New(t, pgtest.WithPublication(""))
	role := "e2e_" + db.Name // not there yet, as on a user's server
	e := harness.Configure(t, harness.Options{DSN: db.Server().DSN(db.Name, role), Slot: role, Publication: role})
	if r := e.Run("setup", "--apply", "--admin-dsn", db.SuperDSN); r.Code != exitDone {
		t.Fatalf("setup --apply: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	t.Cleanup(func() {
		if !e.Running() {
			return // it has failed already, and said so
		}
		e.Stop()
		if r := e.Run("teardown", "--apply", "--admin-dsn", db.SuperDSN); r.Code != exitDone {
			t.Errorf("teardown --apply: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
	witness := harness.NewWitness(db)
	e.Restart()
	reader := e.Dial("u1", gatewaytest.Options{Follow: []string{"load"}})
	reader.Welcome()

	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Tag: "load"})
	reader.WaitMessagesFor(commits, loadPatience)
	done()
	e.AwaitSettled()
	reader.Sync()
	articles := witness.Articles(t)
	if len(articles) != commits {
		t.Fatalf("the witness saw %d articles, want %d", len(articles), commits)
	}
	verify(t, harness.History{
		Articles: articles, Once: true,
		Offline: harness.Records(t, e.Brokers, harness.OfflineTopic),
		Readers: []harness.Reader{{
			Name: "u1", Wants: harness.Follows("load"), Connections: harness.Connections(reader), Acked: harness.Acked(reader),
		}},
	})
	if sent := e.Metric("newswire_gateway_deliveries_total"); sent != commits {
		t.Errorf("newswire_gateway_deliveries_total = %v, want %d", sent, commits)
	}
}

// TestKilledEngineLosesNothing kills the engine at random moments under load.
func TestKilledEngineLosesNothing(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	kills, commits := 5, 5000
	if testing.Short() {
		kills, commits = 2, 1000
	}
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db})
	e.Follow("sports", []string{"sport"}, nil) // nothing is tagged so
	connect := func() *gatewaytest.Reader {
		return e.Dial("u1", gatewaytest.Options{Follow: []string{"load"}})
	}
	reader, bystander := connect(), e.Dial("sports", gatewaytest.Options{})
	reader.Welcome()
	connections, others := []*gatewaytest.Reader{reader}, []*gatewaytest.Reader{bystander}

	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Rate: commits / 8, Tag: "load"})
	for range kills {
		reader.WaitMessages(1 + random.IntN(commits/(2*kills)))
		harness.Pause(t, time.Duration(random.IntN(300))*time.Millisecond)
		e.Kill()
		if slot, held := e.AtRest(db); held < slot {
			t.Errorf("the slot stands at %s, and the journal holds everything up to %s only", slot, held)
		}
		e.Restart()
		reader, bystander = connect(), e.Dial("sports", gatewaytest.Options{})
		connections, others = append(connections, reader), append(others, bystander)
	}
	done()
	articles := witness.Articles(t)
	awaitAll(t, len(articles), connections)
	e.AwaitSettled()
	if len(articles) != commits {
		t.Fatalf("the witness saw %d articles, want %d", len(articles), commits)
	}
	verify(t, harness.History{
		Articles: articles,
		Offline:  harness.Records(t, e.Brokers, harness.OfflineTopic),
		Readers: []harness.Reader{
			{Name: "u1", Wants: harness.Follows("load"), Connections: harness.Connections(connections...), Acked: harness.Acked(connections...)},
			{Name: "sports", Wants: harness.Follows("sport"), Connections: harness.Connections(others...)},
		},
	})
}

// awaitAll waits until the connections together have brought n messages.
func awaitAll(t *testing.T, n int, connections []*gatewaytest.Reader) {
	t.Helper()
	harness.Eventually(t, "all messages", func() (bool, any) {
		ids := make(map[string]bool)
		for _, c := range connections {
			for _, id := range c.IDs() {
				ids[id] = true
			}
		}
		return len(ids) >= n, len(ids)
	})
}

// TestCrashedDatabaseLosesNothing crashes PostgreSQL under load, after which it
// sends again what was confirmed.
func TestCrashedDatabaseLosesNothing(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	server := pgtest.NewCluster(t, nil)
	db := pgtest.New(t, pgtest.On(server))
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db})
	reader := e.Dial("u1", gatewaytest.Options{Follow: []string{"load"}})
	reader.Welcome()
	for range 2 {
		before := len(reader.IDs())
		done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: 8000, Rate: 1000, Tag: "load", Breaks: true})
		reader.WaitMessages(before + 200 + random.IntN(600))
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		done()
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.AwaitReady()
	}
	db.Exec("INSERT INTO articles (title, tags) VALUES ('after the crash', '{load}')")
	articles := witness.Articles(t)
	awaitAll(t, len(articles), []*gatewaytest.Reader{reader})
	e.AwaitSettled()
	reader.Sync()
	verify(t, harness.History{
		Articles: articles, Once: true, // the journal drops what PostgreSQL sends again
		Offline: harness.Records(t, e.Brokers, harness.OfflineTopic),
		Readers: []harness.Reader{{
			Name: "u1", Wants: harness.Follows("load"), Connections: harness.Connections(reader), Acked: harness.Acked(reader),
		}},
	})
}
