// Package harness runs the built program as users run it: a child process on a
// directory of its own, told what to do by a configuration file and signals,
// and judged by what comes out of its sockets. A child is killed, restarted on
// what it left behind, and watched: a race report, a panic or a stack trace in
// its output fails the test, and so does one that does not end when told to.
//
// Check, which judges a whole run, knows the promises from the outside only.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"newswire/cdc/pgtest"
)

// Patience is how long a test waits for what should come at once; far more
// than it takes on a busy machine.
const Patience = 2 * time.Minute

// Main runs a package's tests with pgtest's server and removes the built
// program. Use it so:
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
func Main(m *testing.M) int {
	code := pgtest.Main(m)
	program.mu.Lock()
	defer program.mu.Unlock()
	if program.dir == "" {
		return code
	}
	if err := os.RemoveAll(program.dir); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return max(code, 1)
	}
	return code
}

// program is the built binary of this test process.
var program struct {
	mu   sync.Mutex // guards the rest
	dir  string     // "" before the first Binary
	path string
	err  error
}

// Binary builds the program once for each test process, race-checked when the
// tests are, and gives its path.
func Binary(t testing.TB) string {
	t.Helper()
	program.mu.Lock()
	defer program.mu.Unlock()
	if program.dir == "" {
		program.path, program.err = build()
	}
	if program.err != nil {
		t.Fatalf("harness: %v", program.err)
	}
	return program.path
}

// build needs program.mu.
func build() (path string, err error) {
	if program.dir, err = os.MkdirTemp("", "newswire-binary-"); err != nil {
		return "", err
	}
	path = filepath.Join(program.dir, "newswire")
	args := []string{"build", "-o", path}
	if raceChecked {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "newswire/cmd/newswire")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build newswire/cmd/newswire: %w\n%s", err, out)
	}
	return path, nil
}

// Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a command of the program in dir until it ends by itself; env comes
// over the environment of the tests.
func Run(t testing.TB, dir string, env []string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience) // also when a test cleans up
	defer cancel()
	cmd := command(Binary(t), dir, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	child, err := launch(cmd)
	if err != nil {
		t.Fatalf("harness: newswire %v: %v", args, err)
	}
	select {
	case <-child.done:
	case <-ctx.Done():
		child.kill()
		t.Fatalf("harness: newswire %v has not ended after %s; it said\n%s%s", args, Patience, &stdout, &stderr)
	}
	r := Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	for _, fault := range crashes(r.Stdout + r.Stderr) {
		t.Errorf("newswire %v: %s", args, fault)
	}
	return r
}

// Eventually waits until look is content; it is called every few milliseconds.
// What it gives otherwise is told when patience ends.
func Eventually(t testing.TB, what string, look func() (ok bool, state any)) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for {
		ok, state := look()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for %s: not after %s; it stands at %v", what, Patience, state)
		}
	}
}

// Pause waits for d, or until the test's context ends.
func Pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// Background is a command that goes on until it is interrupted.
type Background struct {
	t              testing.TB
	child          *child
	stdout, stderr transcript
}

// Background starts a command with this engine's configuration.
func (e *Engine) Background(args ...string) *Background {
	e.t.Helper()
	b := &Background{t: e.t}
	cmd := command(Binary(e.t), e.Dir, e.env, args...)
	cmd.Stdout, cmd.Stderr = &b.stdout, &b.stderr
	var err error
	if b.child, err = launch(cmd); err != nil {
		e.t.Fatalf("harness: newswire %v: %v", args, err)
	}
	e.t.Cleanup(b.child.kill)
	return b
}

// Stdout is what it has printed so far.
func (b *Background) Stdout() string { return b.stdout.String() }

// Interrupt ends it as Ctrl-C does, which must succeed.
func (b *Background) Interrupt() {
	b.t.Helper()
	if err := b.child.os.Signal(os.Interrupt); err != nil {
		b.t.Errorf("harness: the command ended by itself: %v\n%s", errors.Join(err, b.child.err), b.stderr.String())
	}
	select {
	case <-b.child.done:
	case <-time.After(Patience):
		b.child.kill()
	}
	if b.child.err != nil || b.stderr.String() != "" {
		b.t.Errorf("harness: the interrupted command's end: %v\n%s", b.child.err, b.stderr.String())
	}
}
