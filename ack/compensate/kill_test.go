package compensate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/sms"
	"newswire/ack/compensate/channel/webhook"
	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
	"newswire/cdc/pgtest"
	"newswire/fanout/journal/fault"
)

// childSpec asks a process of this test to be one instance of the service.
const childSpec = "NEWSWIRE_TEST_INSTANCE"

// instanceSpec is what such a process needs to know.
type instanceSpec struct {
	DSN     string
	Brokers []string
	SMS     string
	Webhook string
	Secret  string // file
	Faults  string
	Session time.Duration
	Backlog int
}

// beInstance serves until the parent closes stdin's pipe, or a fault ends it.
func beInstance(text string) int {
	var spec instanceSpec
	err := json.Unmarshal([]byte(text), &spec)
	if err == nil {
		err = fault.Switch(spec.Faults)
	}
	if err == nil {
		err = serveInstance(spec)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveInstance(spec instanceSpec) error {
	text, err := sms.New(sms.Config{URL: spec.SMS, AllowHTTP: true, Body: `{"to":{{json .To}},"text":{{json .Text}},"id":{{json .ID}}}`})
	if err != nil {
		return err
	}
	hook, err := webhook.New(webhook.Config{URL: spec.Webhook, AllowHTTP: true, SecretFiles: []string{spec.Secret}})
	if err != nil {
		return err
	}
	s, err := New(Config{
		Kafka: Kafka{Brokers: spec.Brokers, Topic: testTopic, Group: "newswire-compensate", Session: spec.Session},
		DSN:   spec.DSN, Channels: map[string]channel.Channel{"sms": text, "webhook": hook},
		Policy: policy.Config{Routes: []policy.Route{{Tags: []string{"*"}, Steps: [][]string{{"sms", "webhook"}}}}},
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Verify: func(string) (Caller, error) { return Caller{}, errors.New("nobody calls") },
		Lease: 2 * time.Second, Backlog: spec.Backlog, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		OnReady: func(Addresses) { fmt.Println("ready") },
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return errors.Join(s.Run(ctx), s.Close())
}

// child is an instance in a process of its own.
type child struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan error // of Wait
}

func startInstance(t testing.TB, spec instanceSpec) *child {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childSpec+"="+string(text))
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd, done: make(chan error, 1)}
	lines := bufio.NewScanner(out)
	ready := make(chan bool, 1)
	go func() {
		ready <- lines.Scan()
		for lines.Scan() {
		}
		c.done <- cmd.Wait()
	}()
	t.Cleanup(c.kill)
	if !<-ready {
		t.Fatal("the instance did not start")
	}
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended already
	select {
	case err := <-c.done:
		c.done <- err
	case <-time.After(patience):
		c.t.Error("an instance does not die")
	}
}

// providers play the SMS gateway and the webhook's receiver: they are fast, and
// remember every id that they have seen.
type providers struct {
	*httptest.Server
	mu   sync.Mutex // guards the rest
	seen map[string]map[string]int
	down bool // answers 503
}

// fail makes them answer 503, or serve again.
func (p *providers) fail(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func newProviders(t testing.TB) *providers {
	p := &providers{seen: map[string]map[string]int{"sms": {}, "hook": {}}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sms", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.ID == "" {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		p.count("sms", body.ID)
	})
	mux.HandleFunc("POST /hook", func(_ http.ResponseWriter, r *http.Request) { p.count("hook", r.Header.Get("webhook-id")) })
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *providers) count(who, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[who][id]++
}

// repeats is the most often that one id was seen, and how many ids there are.
func (p *providers) repeats(who string) (most, ids int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.seen[who] {
		most = max(most, n)
	}
	return most, len(p.seen[who])
}

// spec is an instance's on this ground.
func (g *ground) spec(p *providers) instanceSpec {
	secret := g.t.(*testing.T).TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("a-secret-of-more-than-24-bytes"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return instanceSpec{DSN: g.db.SuperDSN, Brokers: g.brokers, SMS: p.URL + "/sms", Webhook: p.URL + "/hook", Secret: secret, Session: 2 * time.Second}
}

// phones registers a telephone for each reader.
func (g *ground) phones(readers int) {
	g.t.Helper()
	st, err := store.New(store.Config{DSN: g.db.SuperDSN})
	if err != nil {
		g.t.Fatal(err)
	}
	defer st.Close()
	for n := range readers {
		_, err := st.Register(g.t.Context(), store.Device{Channel: "sms", Device: channel.Device{
			Reader: fmt.Sprintf("u%d", n), Address: fmt.Sprintf("+4366012%05d", n),
		}})
		if err != nil {
			g.t.Fatal(err)
		}
	}
}

// load produces so many records for so many readers.
func (g *ground) load(first, n, readers int) {
	g.t.Helper()
	var records []record
	for i := range n {
		records = append(records, record{n: first + i, reader: fmt.Sprintf("u%d", i%readers)})
		if len(records) == 1000 || i == n-1 {
			g.records(records...)
			records = records[:0]
		}
	}
}

// check holds what must be true when everything is settled: one outcome for each
// record and channel, no id twice at the SMS gateway, nothing lost.
func (g *ground) check(p *providers, n int) (doubtful int) {
	g.t.Helper()
	count := func(sql string) int {
		return pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.`+sql)
	}
	if got := count(`records WHERE outcome IS NULL OR outcome = 'next'`); got != 0 {
		g.t.Errorf("%d records are open", got)
	}
	for _, name := range []string{"sms", "webhook"} {
		if got := count(`deliveries WHERE channel = '` + name + `' AND state IN ('sent', 'doubtful')`); got != n {
			g.t.Errorf("channel %s has %d outcomes, want %d", name, got, n)
		}
	}
	doubtful = count(`deliveries WHERE state = 'doubtful'`)
	if onHook := count(`deliveries WHERE state = 'doubtful' AND channel = 'webhook'`); onHook != 0 {
		g.t.Errorf("%d are in doubt on the channel that dedupes", onHook)
	}
	most, ids := p.repeats("sms")
	if most > 1 {
		g.t.Errorf("the SMS gateway saw an id %d times", most)
	}
	if sent := n - doubtful; ids < sent || ids > n {
		g.t.Errorf("the SMS gateway saw %d ids; %d are down as sent, %d in doubt", ids, sent, doubtful)
	}
	if _, ids := p.repeats("hook"); ids != n {
		g.t.Errorf("the webhook saw %d ids, want %d", ids, n)
	}
	return doubtful
}

// amount reads a test's size from the environment.
func amount(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func TestKilledAtEveryPointSendsNothingTwice(t *testing.T) {
	g := newGround(t)
	p := newProviders(t)
	n := amount("NEWSWIRE_TEST_KILL_RECORDS", 2_000)
	const readers = 500
	g.phones(readers)
	g.load(1, n, readers)
	points := []string{
		"compensate.stored=kill@1", "compensate.committed=kill@2", "compensate.taken=kill@200", "compensate.claimed=kill@300",
		"compensate.answered=kill@300", "compensate.settled=kill@300", "compensate.claimed=kill@700", "compensate.answered=kill@900",
	}
	for _, at := range points {
		spec := g.spec(p)
		spec.Faults = at
		c := startInstance(t, spec)
		select {
		case err := <-c.done:
			c.done <- err
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Exited() {
				t.Fatalf("%s: the instance ended with %v, want it killed", at, err)
			}
		case <-time.After(stillPatience):
			t.Fatalf("%s was never passed; group: %s", at, g.group())
		}
	}
	last := startInstance(t, g.spec(p))
	g.longUntil("all settled", g.settled(n))
	doubtful := g.check(p, n)
	t.Logf("%d kills, %d records, %d in doubt", len(points), n, doubtful)
	if doubtful == 0 {
		t.Error("kills between claim and outcome left nothing in doubt: were they there?")
	}
	if err := last.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-last.done; err != nil {
		t.Errorf("the last instance ended with %v", err)
	}
	last.done <- nil
}

func TestTheOtherInstanceTakesOver(t *testing.T) {
	g := newGround(t)
	p := newProviders(t)
	n := amount("NEWSWIRE_TEST_TAKEOVER_RECORDS", 2_000)
	const readers = 200
	g.phones(readers)
	first, second := startInstance(t, g.spec(p)), startInstance(t, g.spec(p))
	g.load(1, n/2, readers)
	g.longUntil("a part is sent", func() bool { _, ids := p.repeats("sms"); return ids > n/10 })
	first.kill()
	g.load(1+n/2, n-n/2, readers)
	g.longUntil("all settled", g.settled(n))
	t.Logf("%d records, %d in doubt", n, g.check(p, n))
	second.kill()
}

// A machine that sleeps, or a process that is stopped, wakes up believing that it
// still has what others have taken over.
func TestAnInstanceThatSleptSendsNothingTwice(t *testing.T) {
	g := newGround(t)
	p := newProviders(t)
	n := amount("NEWSWIRE_TEST_SLEEP_RECORDS", 2_000)
	const readers = 100
	g.phones(readers)
	sleeper := startInstance(t, g.spec(p))
	g.load(1, n, readers)
	for round := range 3 {
		part := n * (round + 1) / 10
		g.longUntil("a part is sent", func() bool { _, ids := p.repeats("sms"); return ids > part })
		if err := sleeper.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			startInstance(t, g.spec(p))
		}
		// Its lease is over when the other has taken from it whatever it had.
		g.longUntil("its deliveries are taken over", func() bool {
			return pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.deliveries d JOIN newswire_compensate.instances i ON i.id = d.owner
				WHERE d.state IN ('taken', 'claimed') AND i.seen_at < now() - interval '2 seconds'`) == 0 &&
				pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.instances WHERE seen_at < now() - interval '2 seconds'`) > 0
		})
		if err := sleeper.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	g.longUntil("all settled", g.settled(n))
	t.Logf("%d records, %d in doubt", n, g.check(p, n))
}

const (
	stillPatience = 2 * time.Minute  // ends a wait during which nothing at all happens
	progressEvery = 10 * time.Second // how often it is asked whether something does
)

// longUntil is until for loads: it waits for as long as there is progress.
func (g *ground) longUntil(what string, holds func() bool) {
	g.t.Helper()
	const progress = `SELECT concat_ws(' ', count(*), count(d.settled_at), sum(d.attempts)) FROM newswire_compensate.records LEFT JOIN newswire_compensate.deliveries d USING (ce_id)`
	last, since, asked := "", time.Now(), time.Time{}
	for !holds() {
		if time.Since(asked) > progressEvery {
			asked = time.Now()
			if at := pgtest.Value[string](g.db, progress); at != last {
				last, since = at, asked
			}
		}
		if time.Since(since) > stillPatience {
			g.until(what, holds) // which tells how things stand
		}
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
	}
}
