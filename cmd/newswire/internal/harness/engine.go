package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"newswire/cdc/pgtest"
)

// Options say how an engine is configured; what they leave out is the default
// that CONTRACT.md names.
type Options struct {
	DB          *pgtest.DB
	DSN         string // instead of DB.DSN
	Slot        string // instead of DB.Slot
	Publication string // instead of DB.Publication
	AckTimeout  time.Duration
	Drain       time.Duration
	Brokers     []string // nil: the embedded one
	Env         []string // NEWSWIRE_… variables over the configuration file
	Unready     bool     // Start does not wait until it is ready
}

// Engine is `newswire serve` on a directory of its own. It is used by the
// test's goroutine alone.
type Engine struct {
	Dir     string   // holds newswire.yaml, secret and journal
	Gateway string   // host:port
	Admin   string   // host:port
	Brokers []string // of the topic news-offline
	Damaged bool     // the test has damaged the journal: it need not add up at the end

	t        testing.TB
	env      []string
	faults   string // of the next process
	secret   []byte
	child    *child      // the latest process
	printed  *transcript // by it
	earlier  []string    // what the processes before it printed
	notReady time.Time   // when it was last asked and said that it was not ready
}

// Start configures an engine, starts it and waits until it is ready. When the
// test ends it is stopped as an operator stops it, which must succeed, and an
// audit of what it has left must add up.
func Start(t testing.TB, o Options) *Engine {
	t.Helper()
	e := Configure(t, o)
	e.Launch()
	if !o.Unready {
		e.AwaitReady()
	}
	return e
}

// Configure is Start that starts nothing.
func Configure(t testing.TB, o Options) *Engine {
	t.Helper()
	e := &Engine{
		Dir: t.TempDir(), Gateway: freeAddress(t), Admin: freeAddress(t), Brokers: o.Brokers,
		t: t, env: o.Env, secret: []byte("0123456789abcdef0123456789abcdef"),
	}
	brokers, kafka := "embedded", freeAddress(t)
	if o.Brokers == nil {
		e.Brokers = []string{kafka}
	} else {
		brokers = strings.Join(o.Brokers, `", "`)
	}
	e.write("secret", string(e.secret)+"\n")
	e.write("newswire.yaml", configuration(e, o, brokers, kafka))
	t.Cleanup(e.finish)
	return e
}

// Sibling is a second engine with the same configuration, directory included.
func (e *Engine) Sibling() *Engine {
	second := &Engine{
		Dir: e.Dir, Gateway: e.Gateway, Admin: e.Admin, Brokers: e.Brokers,
		t: e.t, env: e.env, secret: e.secret,
	}
	e.t.Cleanup(second.finish)
	return second
}

func configuration(e *Engine, o Options, brokers, kafka string) string {
	dsn, slot, publication := o.DSN, o.Slot, o.Publication
	if o.DB != nil {
		if dsn == "" {
			dsn = o.DB.DSN
		}
		if slot == "" {
			slot = o.DB.Slot
		}
		if publication == "" {
			publication = o.DB.Publication
		}
	}
	text := fmt.Sprintf(`postgres:
  dsn: %q
  slot: %q
  publication: %q
  tables:
    - name: public.articles
      tags: {column: tags}
      data: [id, title, summary, url, published_at]
journal: {dir: journal}
gateway:
  listen: %q
  admin: %q
  origins: ["https://news.example.com"]
  auth: {hs256_secret_file: secret}
`, dsn, slot, publication, e.Gateway, e.Admin)
	if o.Drain != 0 {
		text += fmt.Sprintf("  drain: %s\n", o.Drain)
	}
	if o.AckTimeout != 0 {
		text += fmt.Sprintf("ack: {timeout: %s}\n", o.AckTimeout)
	}
	return text + fmt.Sprintf("offline: {brokers: [\"%s\"], embedded_listen: %q}\n", brokers, kafka)
}

func (e *Engine) write(name, text string) {
	if err := os.WriteFile(filepath.Join(e.Dir, name), []byte(text), 0o600); err != nil {
		e.t.Fatalf("harness: %v", err)
	}
}

// Setenv adds variables to the environment of the processes to come.
func (e *Engine) Setenv(env ...string) { e.env = append(e.env[:len(e.env):len(e.env)], env...) }

// JournalDir is where the journal lies.
func (e *Engine) JournalDir() string { return filepath.Join(e.Dir, "journal") }

// WipeJournal removes the journal of an engine that does not run.
func (e *Engine) WipeJournal() {
	e.t.Helper()
	if err := os.RemoveAll(e.JournalDir()); err != nil {
		e.t.Fatalf("harness: %v", err)
	}
}

// Run runs another command with this engine's configuration.
func (e *Engine) Run(args ...string) Result {
	e.t.Helper()
	return Run(e.t, e.Dir, e.env, args...)
}

// Launch starts the process and does not wait for it.
func (e *Engine) Launch() {
	e.t.Helper()
	if e.Running() {
		e.t.Fatal("harness: the engine runs already")
	}
	if e.printed != nil {
		e.earlier = append(e.earlier, e.printed.String())
	}
	e.printed = new(transcript)
	env := e.env
	if e.faults != "" {
		env, e.faults = append(slices.Clone(env), "NEWSWIRE_FAULTS="+e.faults), ""
	}
	cmd := command(Binary(e.t), e.Dir, env, "serve")
	cmd.Stdout, cmd.Stderr = e.printed, e.printed
	var err error
	if e.child, err = launch(cmd); err != nil {
		e.t.Fatalf("harness: start engine: %v", err)
	}
}

// AwaitReady waits until /readyz says so.
func (e *Engine) AwaitReady() {
	e.t.Helper()
	Eventually(e.t, "the engine to be ready", func() (bool, any) {
		if !e.child.running() {
			e.t.Fatalf("the engine ended (%v) before it was ready", e.child.err)
		}
		asked := time.Now()
		status, body, err := e.ask(e.Admin, "GET", "/readyz", "", nil)
		if err == nil && status == 200 {
			return true, nil
		}
		e.notReady = asked
		return false, fmt.Sprint(status, body, err)
	})
}

// LastNotReady is a moment before readiness, by at most the time between two
// looks.
func (e *Engine) LastNotReady() time.Time { return e.notReady }

// Kill ends the process as a power switch would end it, and returns when it
// has gone.
func (e *Engine) Kill() {
	e.t.Helper()
	if !e.child.running() {
		e.t.Fatalf("the engine ended by itself: %v", e.child.err)
	}
	e.child.kill()
	e.inspect()
}

// Arm switches faults on for the next process that is launched, in the words of
// NEWSWIRE_FAULTS.
func (e *Engine) Arm(faults string) { e.faults = faults }

// Died tells whether the process ends within a time as a fault point ends it.
func (e *Engine) Died(within time.Duration) bool {
	e.t.Helper()
	select {
	case <-e.child.done:
	case <-time.After(within):
		return false
	}
	if how := fmt.Sprint(e.child.err); how != "signal: killed" {
		e.t.Errorf("the engine ended with %s, want it killed by its fault point\n%s", how, e.Logs())
	}
	e.inspect()
	return true
}

// Suspend stops the process where it is, as a machine that is paused; Resume
// lets it go on.
func (e *Engine) Suspend() { e.signal(syscall.SIGSTOP) }

// Resume lets a suspended process go on.
func (e *Engine) Resume() { e.signal(syscall.SIGCONT) }

func (e *Engine) signal(s syscall.Signal) {
	e.t.Helper()
	if err := e.child.os.Signal(s); err != nil {
		e.t.Fatalf("the engine ended by itself: %v", errors.Join(err, e.child.err))
	}
}

// Terminate sends SIGTERM and returns at once.
func (e *Engine) Terminate() {
	e.t.Helper()
	e.signal(syscall.SIGTERM)
}

// AwaitExit waits until the process has ended by itself, which must be with
// code 0.
func (e *Engine) AwaitExit() {
	e.t.Helper()
	select {
	case <-e.child.done:
	case <-time.After(Patience):
		_ = e.child.os.Signal(syscall.SIGQUIT) // its goroutines tell where it hangs
		<-e.child.done
		e.t.Errorf("the engine did not end within %s of SIGTERM", Patience)
	}
	if e.child.err != nil {
		e.t.Errorf("the engine's end: %v, want exit code 0\n%s", e.child.err, e.Logs())
	}
	e.inspect()
}

// AwaitDeath waits until the process has been ended by the signal that it was
// sent, in whatever state it was.
func (e *Engine) AwaitDeath(by syscall.Signal) {
	e.t.Helper()
	select {
	case <-e.child.done:
	case <-time.After(Patience):
		e.t.Fatalf("the engine did not end within %s of the signal", Patience)
	}
	var exit *exec.ExitError
	if !errors.As(e.child.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != by {
		e.t.Errorf("the engine's end: %v, want it ended by the signal: %v", e.child.err, by)
	}
	e.inspect()
}

// Stop ends the process as an operator does.
func (e *Engine) Stop() {
	e.t.Helper()
	e.Terminate()
	e.AwaitExit()
}

// Restart starts the process again on what the one before has left, and waits
// until it is ready.
func (e *Engine) Restart() {
	e.t.Helper()
	e.Launch()
	e.AwaitReady()
}

// Running tells whether the process lives.
func (e *Engine) Running() bool { return e.child != nil && e.child.running() }

// Logs is what the latest process printed.
func (e *Engine) Logs() string { return e.printed.String() }

// inspect judges what an ended process printed.
func (e *Engine) inspect() {
	e.t.Helper()
	for _, fault := range crashes(e.printed.String()) {
		e.t.Errorf("the engine's output: %s", fault)
	}
}

// audit recounts what the process has left, whatever the test was about.
func (e *Engine) audit() {
	e.t.Helper()
	if e.Damaged {
		return
	}
	r := e.Run("audit")
	if r.Code != 0 && !strings.Contains(r.Stderr, "held by another process") {
		e.t.Errorf("audit of what the engine has left: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// finish ends what still runs, and tells a failed test what was printed.
func (e *Engine) finish() {
	if e.child == nil {
		return
	}
	if e.child.running() {
		e.Stop()
	}
	e.audit()
	if !e.t.Failed() {
		return
	}
	for n, text := range append(e.earlier, e.printed.String()) {
		e.t.Logf("process %d of the engine printed:\n%s", n+1, text)
	}
}

// taken are the ports that this process has given away.
var taken struct {
	mu    sync.Mutex // guards the rest
	ports map[int]bool
	next  int
}

// Ports are taken below those that kernels give to outgoing connections, so
// that none of a test's many connections can sit on one before it is used.
const firstPort, lastPort = 12000, 31999

// freeAddress gives a loopback address that nobody listens on, and no other
// test of this process gets.
func freeAddress(t testing.TB) string {
	t.Helper()
	taken.mu.Lock()
	defer taken.mu.Unlock()
	if taken.ports == nil {
		taken.ports = make(map[int]bool)
		taken.next = os.Getpid() * 97 // apart from other test processes
	}
	for range lastPort - firstPort {
		taken.next++
		port := firstPort + taken.next%(lastPort-firstPort+1)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if taken.ports[port] {
			continue
		}
		ln, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = ln.Close()
		taken.ports[port] = true
		return address
	}
	t.Fatal("harness: no free port")
	return ""
}
