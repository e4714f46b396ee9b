// Package torture runs the built program against a PostgreSQL and a Kafka,
// under a random load and random faults, with readers that record what they see,
// and lets package checker judge the whole. A run is made of its seed: the same
// seed makes the same editors, readers and faults, though not the same moments.
package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sync/errgroup"

	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/checker"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// patience is how long a run waits for what should come, without any progress.
const patience = 2 * time.Minute

// Plan says what a run is like.
type Plan struct {
	Seed      uint64
	Readers   int
	Pollers   int
	Editors   int
	Most      int               // rows in a transaction
	Pace      time.Duration     // of each editor, between transactions
	Steps     int               // faults, one after the other
	Faults    []Fault           // to choose from
	Quiet     time.Duration     // at most, before each fault
	Retention time.Duration     // of the journal, in which nothing is so large that it is kept apart; 0: longer than the run
	Disk      bool              // the journal lies on a file system of its own, for PowerCut
	Armed     string            // faults of every process, in the words of NEWSWIRE_FAULTS
	Server    map[string]string // settings of PostgreSQL over those of tests
	Unsaid    []string          // what no process of the engine may say
}

const (
	ackTimeout = time.Second
	retries    = 1
)

// run is one in progress. It is owned by the test's goroutine, unless a field
// says otherwise.
type run struct {
	t      *testing.T
	plan   Plan
	random *rand.Rand
	db     *pgtest.DB
	kafka  *kafkatest.Cluster
	engine *harness.Engine
	lives  []checker.Life
	disk   *disk  // nil: none of its own
	armed  string // faults of the next process; "": those of the plan

	witness *witness
	book    *book
	readers []*reader
	pollers []*poller

	positions []checker.Position
	outages   []checker.Outage
	left      []Fault  // to strike before any a second time
	struck    []string // faults, in order
	bounds    checker.Bounds

	wrongMu sync.Mutex // guards wrong
	wrong   []string   // what no engine may say
}

// Run carries a plan out and fails the test for every invariant that is broken.
func Run(t *testing.T, p Plan) {
	t.Helper()
	t.Logf("replay: %s", replay(t, p.Seed))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("this run can be had again: %s", replay(t, p.Seed))
		}
	})
	r := start(t, p)
	stopReaders := r.startReaders()
	stopEditors := r.startEditors()
	for range p.Steps {
		harness.Pause(t, time.Duration(r.random.Int64N(int64(p.Quiet)+1)))
		f := r.next()
		if !strings.HasPrefix(f.Name, "at ") { // those start the engine by themselves
			r.back()
		}
		r.struck = append(r.struck, f.Name)
		f.strike(r)
	}
	r.back()
	stopEditors()
	r.settle()
	stopReaders()
	r.settle()
	r.cancelled()
	r.judge()
}

// next gives the next fault: each once, in random order, before any a second
// time.
func (r *run) next() Fault {
	if len(r.left) == 0 {
		r.left = slices.Clone(r.plan.Faults)
		r.random.Shuffle(len(r.left), func(a, b int) { r.left[a], r.left[b] = r.left[b], r.left[a] })
	}
	f := r.left[0]
	r.left = r.left[1:]
	return f
}

// SeedVariable names the environment variable with the seed of a run to be had
// again.
const SeedVariable = "SEED"

// StepsVariable names the environment variable with how many faults strike.
const StepsVariable = "STEPS"

// LongVariable names the environment variable that asks for the long runs.
const LongVariable = "TORTURE"

// Long tells whether the long runs were asked for.
func Long() bool { return os.Getenv(LongVariable) != "" }

// replay is the command that runs a seed again.
func replay(t *testing.T, seed uint64) string {
	command := fmt.Sprintf("%s=%d go test -count=1 -run '^%s$' ./cmd/newswire", SeedVariable, seed, t.Name())
	for _, name := range []string{StepsVariable, LongVariable} {
		if value := os.Getenv(name); value != "" {
			command = name + "=" + value + " " + command
		}
	}
	return command
}

// start brings up the server, the broker and the engine.
func start(t *testing.T, p Plan) *run {
	t.Helper()
	r := &run{t: t, plan: p, random: rand.New(rand.NewPCG(p.Seed, 1)), book: newBook()}
	server := pgtest.NewCluster(t, p.Server)
	r.db = pgtest.New(t, pgtest.On(server), pgtest.WithSchema(schema), pgtest.WithPublication("FOR TABLE articles"))
	r.witness = newWitness(r.db)
	r.kafka = kafkatest.New(t, kfake.SeedTopics(4, harness.OfflineTopic, harness.CancelledTopic))
	if p.Disk {
		r.disk = newDisk(t)
	}
	env := []string{tables, fmt.Sprintf("NEWSWIRE_ACK_RETRIES=%d", retries), "NEWSWIRE_ACK_BACKOFF=1"}
	if p.Retention > 0 {
		env = append(env, "NEWSWIRE_JOURNAL_RETENTION="+p.Retention.String())
	}
	r.engine = harness.Configure(t, harness.Options{DB: r.db, AckTimeout: ackTimeout, Brokers: r.kafka.Addrs, Env: env})
	if p.Disk {
		r.disk.carry(r.engine)
	}
	r.launch()
	r.engine.AwaitReady()
	r.bounds = checker.Bounds{
		Goroutines: int(r.engine.Metric("go_goroutines")) + 40,
		Files:      int(r.engine.Metric("process_open_fds")) + 60, // tables of the journal
		Memory:     1 << 30,
		Retained:   4 << 20,
	}
	return r
}

// launch begins a life.
func (r *run) launch() {
	r.t.Helper()
	r.lives = append(r.lives, checker.Life{Start: time.Now()})
	if r.armed == "" {
		r.armed = r.plan.Armed
	}
	r.engine.Arm(r.armed)
	r.armed = ""
	r.engine.Launch()
}

// ended ends the present life.
func (r *run) ended(killed bool) {
	l := &r.lives[len(r.lives)-1]
	l.End, l.Killed = time.Now(), killed
	for _, text := range r.plan.Unsaid {
		if said := r.engine.Logs(); strings.Contains(said, text) {
			r.t.Errorf("the engine said %q:\n%s", text, said)
		}
	}
}

// broken notes what no engine may say. Any goroutine may call it.
func (r *run) broken(format string, args ...any) {
	r.wrongMu.Lock()
	defer r.wrongMu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// own gives a source of random numbers for one goroutine.
func (r *run) own() *rand.Rand { return rand.New(rand.NewPCG(r.random.Uint64(), 2)) }

// startReaders lets the readers come; the function lets them go.
func (r *run) startReaders() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var going sync.WaitGroup
	d := door{r.engine.Gateway, r.book, r.broken}
	for n := range r.plan.Readers {
		one := &reader{door: d, name: fmt.Sprintf("r%d", n)}
		var claims gatewaytest.Claims
		if n%4 == 3 {
			one.claim = vocabulary[:len(vocabulary)/2]
			claims = gatewaytest.Claims{"tags": one.claim}
		}
		one.token = r.engine.Token(one.name, claims)
		r.readers = append(r.readers, one)
		for device := range 1 + n%2 {
			random := r.own()
			going.Go(func() { one.device(ctx, random, device == 0) })
		}
	}
	for n := range r.plan.Pollers {
		one := &poller{door: d, name: fmt.Sprintf("p%d", n), manual: n%2 == 0, leaves: n == r.plan.Pollers-1}
		one.token = r.engine.Token(one.name, nil)
		r.pollers = append(r.pollers, one)
		random := r.own()
		going.Go(func() { one.run(ctx, random) })
	}
	stop = sync.OnceFunc(func() { cancel(); going.Wait() })
	r.t.Cleanup(stop)
	return stop
}

// startEditors lets the editors begin; the function lets them finish.
func (r *run) startEditors() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	for n := range r.plan.Editors {
		e := &editor{dsn: r.db.SuperDSN, number: int64(n), of: int64(r.plan.Editors), most: r.plan.Most, pace: r.plan.Pace, small: r.plan.Retention > 0, random: r.own()}
		g.Go(func() error { return e.run(ctx) })
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := g.Wait(); err != nil {
			r.t.Errorf("%v", err)
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// settle waits until the engine has read everything and everything has come to
// an end, for as long as there is progress. Where there is none, the checker
// says what is left.
func (r *run) settle() {
	r.t.Helper()
	end := r.db.CurrentLSN()
	r.db.Exec("SELECT pg_logical_emit_message(true, 'torture', 'end')")
	r.progress("everything to come to an end", func() (done bool, state any) {
		s, err := r.engine.TryStatus()
		if err != nil {
			return false, err
		}
		s.Journal.Head = 0 // readers change their sets
		s.Journal.Synced = 0
		confirmed := r.db.ConfirmedFlush()
		return s.Ready && s.Ledger.Pairs == 0 && s.Ledger.Backlog == 0 && confirmed >= end, fmt.Sprint(s, confirmed >= end)
	})
}

// still is how long no cancellation must have come for there to be no more: they
// have no count of their own.
const still = 2 * time.Second

// cancelled waits until all cancellations are in Kafka.
func (r *run) cancelled() {
	r.t.Helper()
	before, since := -1, time.Now()
	r.progress("the cancellations to end", func() (done bool, state any) {
		n := len(harness.Records(r.t, r.kafka.Addrs, harness.CancelledTopic))
		if n != before {
			before, since = n, time.Now()
		}
		return time.Since(since) > still, n
	})
}

// progress waits until look is content, for as long as what it sees changes.
func (r *run) progress(what string, look func() (done bool, state any)) {
	r.t.Helper()
	var last string
	for moved := time.Now(); time.Since(moved) < patience; harness.Pause(r.t, 100*time.Millisecond) {
		done, state := look()
		if done {
			return
		}
		if text := fmt.Sprint(state); text != last {
			last, moved = text, time.Now()
		}
	}
	r.t.Errorf("waiting for %s: no progress for %s; it stands at %s", what, patience, last)
}
