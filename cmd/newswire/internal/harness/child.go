package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// child is one process of the program.
type child struct {
	os   *os.Process   // fixed by launch
	done chan struct{} // launch's goroutine closes it when the process has ended
	err  error         // how it ended; readable once done is closed
}

// command prepares a process. What the tests' environment says about Newswire
// or PostgreSQL is not meant for it.
func command(path, dir string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = attributes()
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "NEWSWIRE_") && !strings.HasPrefix(variable, "PG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	// A race-checked process would otherwise linger for a second at its end.
	cmd.Env = append(append(cmd.Env, "GORACE=atexit_sleep_ms=0"), env...)
	return cmd
}

// launch starts a process. The kernel ties the signal for a dead parent to the
// thread that forked, so that thread stays until the process has ended.
func launch(cmd *exec.Cmd) (*child, error) {
	c := &child{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		c.os = cmd.Process
		started <- nil
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, <-started
}

// kill ends the process at once, as a fault would, and returns when it has
// gone.
func (c *child) kill() {
	_ = c.os.Signal(syscall.SIGKILL) // it may have ended already
	<-c.done
}

func (c *child) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// transcript keeps what a process prints. It may be read while it grows.
type transcript struct {
	mu   sync.Mutex // guards the rest
	text bytes.Buffer
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var crash = regexp.MustCompile(`(?m)^.*(WARNING: DATA RACE|^panic: |^fatal error: |^goroutine \d+ \[|^SIGSEGV|runtime error:).*$`)

// crashes finds in the output of a process what no output may hold.
func crashes(output string) (found []string) {
	if at := crash.FindStringIndex(output); at != nil {
		const enough = 4000
		found = append(found, fmt.Sprintf("it printed a fault of the program:\n%s", output[at[0]:min(len(output), at[0]+enough)]))
	}
	return found
}
