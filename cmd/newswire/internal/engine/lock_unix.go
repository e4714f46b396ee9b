//go:build unix

package engine

import (
	"os"
	"syscall"
)

// lock keeps others from writing to a file, until it is closed.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
