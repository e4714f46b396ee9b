// Package fault has the places where tests end the program: each is named, costs
// one atomic load, and does nothing unless switched on. It lies at the head of
// the flow, so that every hop may have such places.
package fault

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// hook is what every point calls; nil while faults are off.
var hook atomic.Pointer[func(point string)]

// Point is a place where a fault may happen.
func Point(name string) {
	if f := hook.Load(); f != nil {
		(*f)(name)
	}
}

// Hook lets f see every point that is passed, from any goroutine, until undo is
// called.
func Hook(f func(point string)) (undo func()) {
	before := hook.Swap(&f)
	return func() { hook.Store(before) }
}

// Switch turns on the faults that spec names, for the process's life:
// "compensate.claimed=kill@17" ends it, as kill -9 would, when that point is
// passed for the 17th time. Several are separated by commas; none means off.
func Switch(spec string) error {
	if spec == "" {
		return nil
	}
	left := make(map[string]*atomic.Int64)
	for one := range strings.SplitSeq(spec, ",") {
		point, action, _ := strings.Cut(one, "=")
		count, ok := strings.CutPrefix(action, "kill@")
		n, err := strconv.ParseInt(count, 10, 64)
		if point == "" || !ok || err != nil || n < 1 {
			return fmt.Errorf("fault %q is not of the form point=kill@N, N from 1", one)
		}
		left[point] = new(atomic.Int64)
		left[point].Store(n)
	}
	Hook(func(point string) {
		if n := left[point]; n != nil && n.Add(-1) == 0 {
			kill()
		}
	})
	return nil
}

// kill ends the process without a chance to tidy up, and does not return.
func kill() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		os.Exit(137)
	}
	select {}
}
