//go:build unix

package journal

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// hold takes the lock that Badger takes on a directory, until release is
// called. The error wraps ErrHeld when another process has it.
func hold(dir string) (release func() error, err error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(held(dir), f.Close())
	}
	return func() error { // a process that was begun meanwhile may have f too for a moment, and with it the lock
		return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
	}, nil
}
