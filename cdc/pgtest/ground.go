package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ground is a directory for a server. A lock on a file in it says that its
// process lives: `go test -timeout` ends a process without a chance to tidy up,
// so the next one removes the directories that nobody holds any more.
type ground struct {
	dir  string
	lock *os.File // held until remove
}

const (
	groundPattern = "newswire-pgtest-"
	lockName      = "held"
)

func newGround() (*ground, error) {
	sweep()
	dir, err := os.MkdirTemp("", groundPattern)
	if err != nil {
		return nil, fmt.Errorf("make a directory for PostgreSQL: %w", err)
	}
	// The server may run as another OS user than we do, and must get through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, fmt.Errorf("open %s to the server: %w", dir, err)
	}
	// Locked first and named then: a sweep never sees it unlocked.
	lock, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return nil, fmt.Errorf("make a lock in %s: %w", dir, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := os.Rename(lock.Name(), filepath.Join(dir, lockName)); err != nil {
		return nil, fmt.Errorf("name the lock in %s: %w", dir, err)
	}
	return &ground{dir: dir, lock: lock}, nil
}

func (g *ground) remove() error {
	return errors.Join(os.RemoveAll(g.dir), g.lock.Close())
}

// sweep removes what killed test processes have left. It is a courtesy: what
// cannot be removed stays, and no test depends on it.
func sweep() {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), groundPattern+"*", lockName))
	for _, path := range locks {
		lock, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		_ = lock.Close()
	}
}
