//go:build unix

package cluster

import (
	"errors"
	"syscall"
)

// alive reports whether there is a process of this PID, ours or not.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
