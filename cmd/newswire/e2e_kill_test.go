package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// moment is a random one within a second of when it is asked for.
func moment(random *rand.Rand) time.Duration {
	return time.Duration(random.IntN(1000)) * time.Millisecond
}

// TestKilledEngineSettlesEveryPair kills the engine at random moments while
// readers of every kind are there, and Kafka, which lives in it, dies with it:
// whoever followed an article has acknowledged it in the end or is handed over.
func TestKilledEngineSettlesEveryPair(t *testing.T) {
	t.Parallel()
	const commits, kills = 600, 4
	random := seeded(t)
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: 300 * time.Millisecond, Env: []string{"NEWSWIRE_ACK_RETRIES=1"}})
	e.Follow("away", []string{"load"}, nil)
	e.Follow("muted", []string{"*"}, []string{"load"})
	var eager, silent, fickle []*gatewaytest.Reader
	connect := func() {
		eager = append(eager, e.Dial("eager", gatewaytest.Options{Follow: []string{"load"}}))
		silent = append(silent, e.Dial("silent", gatewaytest.Options{Follow: []string{"load"}, Silent: true}))
		fickle = append(fickle, e.Dial("fickle", gatewaytest.Options{Follow: []string{"load"}, Silent: random.IntN(2) == 0}))
		fickle[len(fickle)-1].Welcome()
		silent[len(silent)-1].Welcome()
		eager[len(eager)-1].Welcome()
	}
	connect()
	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Rate: commits / 6, Tag: "load"})
	for range kills {
		harness.Pause(t, moment(random))
		fickle[len(fickle)-1].Close()
		harness.Pause(t, moment(random))
		e.Kill()
		if slot, held := e.AtRest(db); held < slot {
			t.Errorf("the slot stands at %s, and the journal holds everything up to %s only", slot, held)
		}
		e.Restart()
		connect()
	}
	done()
	articles := witness.Articles(t)
	awaitAll(t, len(articles), eager)
	awaitAll(t, len(articles), silent)
	e.AwaitSettled()
	wants, nothing := harness.Follows("load"), harness.Follows()
	reader := func(name string, wants func(harness.Article) bool, connections ...*gatewaytest.Reader) harness.Reader {
		return harness.Reader{Name: name, Wants: wants, Connections: harness.Connections(connections...), Acked: harness.Acked(connections...)}
	}
	verify(t, harness.History{
		Articles: articles,
		Offline:  harness.Records(t, e.Brokers, harness.OfflineTopic),
		Readers: []harness.Reader{
			reader("eager", wants, eager...), reader("silent", wants, silent...), reader("fickle", wants, fickle...),
			reader("away", wants), reader("muted", nothing),
		},
	})
}
