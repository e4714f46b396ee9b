package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Freeze suspends the process and returns once none of its threads runs any
// more, in the kernel neither.
func (e *Engine) Freeze() {
	e.t.Helper()
	e.Suspend()
	Eventually(e.t, "every thread to stand still", func() (bool, any) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", e.PID()))
		if err != nil || len(threads) == 0 {
			return false, fmt.Sprint("no threads: ", err)
		}
		for _, path := range threads {
			stat, err := os.ReadFile(path)
			_, state, _ := bytes.Cut(stat, []byte(") ")) // behind the name, which may hold anything
			if err == nil && len(state) > 0 && state[0] != 'T' {
				return false, string(stat)
			}
		}
		return true, nil
	})
}

// PID is the process's number.
func (e *Engine) PID() int { return e.child.os.Pid }

// Failed waits until the process has ended by itself with code 1, as it must
// when it cannot go on; false where it lives on.
func (e *Engine) Failed(within time.Duration) bool {
	e.t.Helper()
	select {
	case <-e.child.done:
	case <-time.After(within):
		return false
	}
	if how := fmt.Sprint(e.child.err); how != "exit status 1" {
		e.t.Errorf("the engine ended with %s, want exit status 1\n%s", how, e.Logs())
	}
	e.inspect()
	return true
}
